"""Device "reference" trains and evaluates as the CPU does, runs each layer as a step of its own, and needs no Numba."""

import json
import math

import numpy as np
import pytest
from architectures import each_architecture
from command_line import numbacnn
from convolutions import CALLS as CONVOLUTIONS
from engine import assert_close
from PIL import Image
from processes import run_python
from rules import RULES
from twins import CALLS, Arrays, assert_same

import numbacnn as nc
from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.cpu import sizes as cpu_sizes
from numbacnn.kernels.reference import launchers, sizes

DEVICES = ("cpu", "reference")


def digits(rng, count):
    """Noise that a network can learn by heart: images of 28×28 bytes, and labels."""
    return rng.integers(0, 256, (count, 28, 28, 1), np.uint8), rng.integers(0, 10, count)


def test_training_lenet_agrees_with_the_cpu(rng):
    models = [nc.models.lenet5(seed=3, device=device) for device in DEVICES]
    optimizers = [nc.SGD(0.01, momentum=0.9) for _ in models]
    for step in range(5):
        x, labels = rng.standard_normal((4, 28, 28, 1)).astype(np.float32), rng.integers(0, 10, 4)
        given = zip(models, optimizers, strict=True)
        expected, loss = [model.train_step(x, labels, optimizer) for model, optimizer in given]
        assert loss == pytest.approx(expected, rel=1e-4), f"step {step + 1}"
    cpu, reference = (model.parameters for model in models)
    for name, array in reference.items():
        assert_close(array, cpu[name], name, 1e-4)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.kind.name)
def test_fit_evaluate_and_predict_agree_with_the_cpu(rule, rng):
    """With augmentation, dropout, accumulation and an average of the weights, from the same random numbers."""
    images, labels = rng.integers(0, 256, (12, 9, 8, 3), np.uint8), rng.integers(0, 4, 12)
    chain = "hflip, rotate=20, elastic=10:2, crop=1, noise=0.05, color=0.2:0.2:0.2, cutout=3, mixup@0.5, cutmix@0.5"
    results = []
    for device in DEVICES:
        layers = [
            nc.Conv2D(6, 3, bias=False),
            nc.BatchNorm(),
            nc.ReLU(),
            nc.SpatialDropout(0.2),
            nc.Flatten(),
            nc.Dropout(0.3),
        ]
        model = nc.Sequential([*layers, nc.Dense(4, l2=0.01)], (9, 8, 3), device=device)
        options = {"batch_size": 5, "augment": chain, "accumulate": 2, "ema": 0.9}
        history = model.fit((images, labels), validation=(images, labels), optimizer=rule.make(), epochs=2, **options)
        losses = [loss for epoch in history.epochs for loss in (epoch.loss, epoch.validation_loss)]
        results.append((losses, model.evaluate((images, labels))["loss"], model.predict(images), model.parameters))
    (losses, loss, scores, parameters), (found, found_loss, found_scores, found_parameters) = results
    np.testing.assert_allclose(found, losses, rtol=1e-4)
    assert found_loss == pytest.approx(loss, rel=1e-4)
    assert_close(found_scores, scores, "predictions", 1e-4)
    for name, array in found_parameters.items():
        assert_close(array, parameters[name], name, 1e-4)


ONE = np.float32(1)


def swish(x):
    return x / (ONE + math.exp(-x))


def swish_gradient(dy, x):
    s = ONE / (ONE + math.exp(-x))
    return dy * s * (ONE + x * (ONE - s))


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_custom_activation_agrees_with_the_cpu(rng):
    layer = nc.custom_activation("swish", swish, swish_gradient)
    x = np.append(rng.standard_normal(20), [-1000, 1000]).astype(np.float32)[None]
    models = [nc.Sequential([layer()], x.shape[1:], device=device) for device in DEVICES]
    expected, found = ((model.forward(x, training=True), model.backward(x)) for model in models)
    for ours, theirs, what in zip(found, expected, ("y", "dx"), strict=True):
        assert_close(ours, theirs, what)


QUICK = ("googlenet", "grid_detector", "mobilenet_v2", "resnet20", "unet_small")


@each_architecture(QUICK)
def test_every_model_of_the_zoo_agrees_with_the_cpu(name, rng):
    size = {"alexnet": 63}.get(name, 32)
    x = rng.standard_normal((1, size, size, 1)).astype(np.float32)
    models = [nc.models.make(name, input_shape=(size, size, 1), classes=7, device=device) for device in DEVICES]
    expected, found = (model.forward(x) for model in models)
    assert_close(found, expected, name, 1e-4)


@pytest.mark.parametrize("call", [*CALLS, *CONVOLUTIONS], ids=str)
def test_launchers_write_what_those_of_the_cpu_do(call):
    expected = Arrays(cpu_sizes, np.array).run(cpu, call)
    found = Arrays(sizes, np.array).run(launchers, call)
    for ours, theirs in zip(found, expected, strict=True):
        assert_same(ours, theirs, call._replace(exact=False))  # sums are in float64


def test_every_layer_runs_in_a_step_of_its_own():
    model = nc.models.lenet5(device="reference")
    model.forward(np.zeros((1, 28, 28, 1), np.float32), training=True)
    plan = model._executors[True, True, None].plan
    names = [node.name for node in model.graph.nodes if not node.layer.is_view]
    assert [step.node.name for step in plan.forward] == names
    assert len(plan.backward) == len(plan.forward)


WITHOUT_NUMBA = """
import sys
sys.modules["numba"] = sys.modules["llvmlite"] = None  # importing them fails
import numpy as np, numbacnn as nc
model = nc.models.lenet5(device="reference")
images, labels = np.zeros((2, 28, 28, 1), np.float32), np.array([0, 1])
model.fit((images, labels), epochs=1, augment="rotate=10, noise=0.1")
print(model.predict(images).shape)
"""


def test_it_needs_no_numba():
    assert run_python("-c", WITHOUT_NUMBA).strip() == "(2, 10)"


def test_overflow_warns_in_the_line_where_it_arises():
    model = nc.Sequential([nc.Dense(1, initializer="ones")], (2,), device="reference")
    with pytest.warns(RuntimeWarning, match="overflow"):
        model.forward(np.full((1, 2), 3e38, np.float32))


def test_the_command_line_trains_and_evaluates_on_it(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    for split in ("train", "test"):
        for label in ("a", "b"):
            (tmp_path / "images" / split / label).mkdir(parents=True)
            for i in range(3):
                pixels = rng.integers(0, 256, (28, 28), np.uint8)
                Image.fromarray(pixels).save(tmp_path / "images" / split / label / f"{i}.png")
    options = ("--data", "images", "--out", "run", "--epochs", 1, "--batch-size", 3, "--device", "reference")
    outcome = numbacnn("train", *options, "--json")
    assert outcome.code == 0, outcome.err
    found = [json.loads(numbacnn("eval", "run", "--json", "--device", device).out)["loss"] for device in DEVICES]
    assert found[1] == pytest.approx(found[0], rel=1e-4)
