"""NumPy's scalars, and short arrays of integers, go wherever Python's numbers and tuples go."""

import json

import numpy as np
import pytest

import numbacnn as nc
from numbacnn._checks import python_numbers
from numbacnn.engine.graph_format import to_dict
from numbacnn.saving.format import read_checkpoint


def python(kind):
    return {"int": int, "float": float, "bool": bool}[kind]


def numpy(kind):
    return {"int": np.int64, "float": np.float32, "bool": np.bool_}[kind]


def make(of):
    i, f, b = of("int"), of("float"), of("bool")
    layers = [
        nc.Conv2D(i(4), (i(3), i(3)), stride=i(1), padding=i(1), dilation=i(1), bias=b(False), l2=f(0.25)),
        nc.ZeroPad2D(((i(1), i(0)), (i(0), i(1)))),
        nc.BatchNorm(momentum=f(0.125), eps=f(0.5)),
        nc.MaxPool2D(i(2), padding=i(0), ceil_mode=b(True)),
        nc.DepthwiseConv2D(i(3), depth_multiplier=i(2)),
        nc.GroupNorm(i(2)),
        nc.Upsample2D(i(2)),
        nc.Conv2DTranspose(i(2), i(3), stride=i(2), output_padding=i(1)),
        nc.LeakyReLU(f(0.25)),
        nc.AdaptiveAvgPool2D(i(3)),
        nc.Reshape((i(18),)),
        nc.Dropout(f(0.5)),
        nc.Dense(i(3)),
    ]
    return nc.Sequential(layers, (i(12), i(12), i(1)), seed=i(3))


def test_a_model_of_numpys_numbers_is_that_of_pythons(tmp_path):
    forms = [json.dumps(to_dict(make(of).graph)) for of in (python, numpy)]
    assert forms[0] == forms[1]
    make(numpy).save(tmp_path / "model.safetensors")
    assert json.dumps(to_dict(nc.load(tmp_path / "model.safetensors").graph)) == forms[0]


def test_short_arrays_of_integers_are_tuples():
    model = nc.Sequential([nc.Conv2D(4, np.array([3, 3])), nc.Flatten(), nc.Dense(3)], np.array([12, 12, 1]))
    assert model.input_shape == (12, 12, 1)
    assert nc.schedules.Step(milestones=np.array([2, 3])) == nc.schedules.Step(milestones=(2, 3))


def trained(of, path):
    i, f = of("int"), of("float")
    draw = np.random.default_rng(0)
    data = draw.integers(0, 255, (24, 12, 12, 1), np.uint8), draw.integers(0, 3, 24)
    model = make(of)
    model.fit(
        data,
        epochs=i(2),
        batch_size=i(8),
        seed=i(1),
        accumulate=i(2),
        ema=f(0.5),
        checkpoint=path,
        checkpoint_every=i(2),
        optimizer=nc.SGD(f(0.0625), momentum=f(0.5), clip_norm=f(1)),
        loss=nc.losses.CrossEntropy(label_smoothing=f(0.125), class_weights=np.array([1, 2, 3], np.float32)),
        loss_weights=np.array([1.0], np.float32),
        schedule=nc.schedules.Step(milestones=(i(2), i(3))),
        augment=[nc.augment.Rotate(f(10)), nc.augment.Crop(i(1))],
        resume=True,
    )
    state, arrays = read_checkpoint(path)
    for record in state["history"]:
        del record["seconds"], record["images_per_second"]
    del state["position"]["seconds"]
    return json.dumps(state), {name: array.tobytes() for name, array in arrays.items()}


def test_a_training_with_numpys_numbers_is_that_with_pythons(tmp_path):
    expected = trained(python, tmp_path / "python.safetensors")
    assert trained(numpy, tmp_path / "numpy.safetensors") == expected
    assert trained(numpy, tmp_path / "python.safetensors") == expected  # resumes what Python's numbers have trained


@pytest.mark.parametrize("value", [np.arange(3.0), np.arange(100), np.zeros((2, 2), int), [np.zeros(3)], "text", None])
def test_other_values_are_not_converted(value):
    found = python_numbers(value, arrays=True)
    assert found is value or found[0] is value[0]
