"""The zoo: numbers of parameters, names, options, and inputs that do not fit. No weights are drawn here."""

import inspect
import json

import numpy as np
import pytest
from command_line import numbacnn

import numbacnn as nc
from numbacnn.errors import ArgumentError, GeometryError
from numbacnn.models import MODELS, make
from numbacnn.tasks import task_of

COUNTS = {
    "lenet5": 61_706,
    "simple_cnn": 421_642,
    "deep_cnn": 77_786,
    "deep_cnn_wide": 298_410,
    "alexnet": 61_100_840,
    "vgg11": 132_863_336,
    "vgg13": 133_047_848,
    "vgg16": 138_357_544,
    "vgg19": 143_667_240,
    "vgg11_bn": 132_868_840,
    "vgg13_bn": 133_053_736,
    "vgg16_bn": 138_365_992,
    "vgg19_bn": 143_678_248,
    "googlenet": 13_004_888,
    "resnet18": 11_689_512,
    "resnet18_small": 831_096,
    "resnet34": 21_797_672,
    "resnet50": 25_557_032,
    "resnet101": 44_549_160,
    "resnet20": 272_474,
    "resnet32": 466_906,
    "resnet56": 855_770,
    "wide_resnet50_2": 68_883_240,
    "wide_resnet16_4": 2_748_890,
    "wide_resnet28_10": 36_479_194,
    "mobilenet_v2": 3_504_872,
    "unet": 31_036_546,
    "unet_small": 482_466,
    "grid_detector": 295_647,
}
every_model = pytest.mark.parametrize("name", MODELS)


@every_model
def test_published_numbers_of_parameters(name):
    model = make(name)
    assert model.store.count == COUNTS[name]
    assert model.store._arenas is None  # nothing is allocated before it is needed
    assert f"{COUNTS[name]:,} parameters" in inspect.getdoc(MODELS[name])


def test_googlenet_without_auxiliary_heads():
    assert make("googlenet", auxiliary=False).store.count == 6_624_904


@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("resnet18", {"stem": "cifar", "input_shape": (32, 32, 3), "classes": 10}, 11_173_962),
        ("lenet5", {"original": True}, 61_706),
        ("mobilenet_v2", {"width": 0.5}, 1_968_680),
        ("mobilenet_v2", {"width": 1.4}, 6_108_776),
    ],
)
def test_options_change_the_network(name, options, count):
    assert make(name, **options).store.count == count


def test_original_lenet_has_tanh_and_average_pools():
    ops = [node.layer.op for node in nc.models.lenet5(original=True).graph.nodes]
    assert ops.count("tanh") == 4
    assert ops.count("avg_pool2d") == 2
    assert "relu" not in ops


@every_model
def test_every_model_takes_other_shapes_and_classes(name):
    size = {"alexnet": 63}.get(name, 32)
    model = make(name, input_shape=(size, size, 1), classes=7, seed=3)
    assert task_of(model.task, model.input_shape).classes(model.output_shape[-1]) == 7
    assert model.input_shape == (size, size, 1)


def test_layers_have_the_names_of_torchvisions_modules():
    assert {"layer1.0.conv1.weight", "layer2.0.downsample.1.bias", "fc.weight"} <= set(make("resnet18").store.slots)
    assert {"features.0.weight", "classifier.6.bias"} <= set(make("vgg11").store.slots)
    assert {"features.1.conv.0.0.weight", "features.18.1.weight"} <= set(make("mobilenet_v2").store.slots)
    assert "inception4d.branch2.1.bn.running_var" in make("googlenet").store.state_slots


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("alexnet", {"input_shape": (32, 32, 3)}, r'images of 32×32 do not fit .*"features.12": window 3×3 exceeds'),
        ("vgg16", {"input_shape": (28, 28, 1)}, r'images of 28×28 do not fit .*"features.30": window 2×2 exceeds'),
        ("lenet5", {"input_shape": (8, 8, 1)}, r"images of 8×8 do not fit"),
        ("unet", {"input_shape": (100, 96, 3)}, r"100×96 do not fit .*: unet halves images 4 times; .* of 16"),
        ("resnet18", {"input_shape": (10,)}, r"input must be an image \(height, width, channels\), not \(10,\)"),
        ("resnet18", {"stem": "7x7"}, "stem='7x7': choose \"imagenet\""),
        ("resnet18", {"classes": 0}, "classes=0: pass a whole number of at least 1"),
        ("googlenet", {"auxiliary": 1}, "auxiliary=1: choose True or False"),
        ("unet", {"depth": 0}, "depth=0: pass a whole number"),
        ("mobilenet_v2", {"width": -1}, "width=-1: pass a number above 0"),
        ("resnet81", {}, "unknown model 'resnet81'; did you mean 'resnet18'"),
    ],
)  # fmt: skip
def test_invalid_arguments(name, options, message):
    with pytest.raises((ArgumentError, GeometryError), match=message):
        make(name, **options)


def test_googlenet_has_three_outputs_in_training(rng):
    model = make("googlenet", input_shape=(32, 32, 3), classes=5)
    x = rng.standard_normal((2, 32, 32, 3)).astype(np.float32)
    assert [y.shape for y in model.forward(x, training=True)] == [(2, 5)] * 3
    assert model.forward(x).shape == (2, 5)


def test_unknown_options_name_the_model():
    with pytest.raises(ArgumentError, match="resnet18 has no argument stm=; did you mean 'stem'"):
        make("resnet18", stm="cifar")


@every_model
def test_summary_command_of_every_model(name):
    assert json.loads(numbacnn("summary", name, "--json").out)["parameters"] == COUNTS[name]
