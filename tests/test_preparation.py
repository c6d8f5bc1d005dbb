"""Preparations of inference, such as folded, packed and transformed weights: their results, and when they run."""

import numpy as np
import oracles
import pytest
from engine import assert_close, normals, output_shapes, randomize
from graphs import listed

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.kernels.cpu import sizes

SHAPE = (12, 12, 4)
FOLDING = {
    "3×3": lambda: [nc.Conv2D(6, 3, padding="same"), nc.BatchNorm()],
    "without bias": lambda: [nc.Conv2D(6, 3, bias=False), nc.BatchNorm(eps=0.5)],
    "ReLU": lambda: [nc.Conv2D(6, 3, bias=False), nc.BatchNorm(), nc.ReLU()],
    "another activation": lambda: [nc.Conv2D(6, 3), nc.BatchNorm(), nc.Tanh()],
    "ReLU and pool": lambda: [nc.Conv2D(8, 3), nc.BatchNorm(), nc.ReLU(), nc.MaxPool2D(2)],
    "pool": lambda: [nc.Conv2D(20, 3), nc.BatchNorm(), nc.MaxPool2D(2)],
    "packed": lambda: [nc.Conv2D(200, 1), nc.BatchNorm(), nc.ReLU()],
    "groups": lambda: [nc.Conv2D(8, 3, groups=2), nc.BatchNorm(), nc.ReLU()],
    "depthwise": lambda: [nc.DepthwiseConv2D(3, 2, padding=1), nc.BatchNorm(), nc.ReLU()],
    "winograd2": lambda: [nc.Conv2D(5, 3, algorithm="winograd2"), nc.BatchNorm(), nc.ReLU()],
    "winograd4": lambda: [nc.Conv2D(5, 3, algorithm="winograd4", bias=False), nc.BatchNorm()],
    "dense": lambda: [nc.Flatten(), nc.Dense(9), nc.BatchNorm(), nc.ReLU()],
}


def ops(model, training=False):
    return [step.node.layer.op for step in make_plan(model.graph, sizes, 2, training=training).forward]


def assert_right(model, xs, what):
    """Compare inference with float64."""
    values = oracles.graph_forward(model.graph, xs, model.store.arrays())
    assert_close(model.forward(xs)[0], values[model.graph.outputs[0]], what)


@pytest.mark.parametrize("name", FOLDING)
def test_normalizations_are_folded_into_the_weights_before_them(name):
    model = listed(nc.Sequential(FOLDING[name](), SHAPE))
    assert "batch_norm" not in ops(model)
    assert "batch_norm" in ops(model, training=True)
    draw = np.random.default_rng(0)
    randomize(model, draw)
    assert_right(model, normals(draw, model.graph.input_shapes, 3), name)


def test_normalizations_whose_input_has_other_readers_are_not_folded():
    x = nc.Input(SHAPE)
    h = nc.Conv2D(4, 3)(x)
    assert "batch_norm" in ops(nc.Model(x, [nc.BatchNorm()(h), h]))
    assert "batch_norm" in ops(nc.Sequential([nc.BatchNorm(), nc.Conv2D(4, 3)], SHAPE))
    assert "batch_norm" in ops(nc.Sequential([nc.Conv2D(4, 3), nc.ReLU(), nc.BatchNorm()], SHAPE))


ALL = [
    nc.Conv2D(6, 3, padding=1),  # in pairs
    nc.BatchNorm(),
    nc.ReLU(),
    nc.Conv2D(6, 3, algorithm="winograd4"),
    nc.BatchNorm(),
    nc.Conv2D(200, 1),  # packed
    nc.Flatten(),
    nc.Dense(130),  # packed
    nc.BatchNorm(),
    nc.Dense(5),
]


def test_inference_follows_every_change_of_the_parameters(tmp_path):
    model = listed(nc.Sequential(ALL, SHAPE))
    draw, optimizer = np.random.default_rng(0), nc.SGD(0.1)
    xs, dys = normals(draw, model.graph.input_shapes, 4), normals(draw, output_shapes(model), 4)
    assert_right(model, xs, "at first")
    randomize(model, draw)
    assert_right(model, xs, "set_parameters")
    model.forward(xs, training=True)
    assert_right(model, xs, "running statistics, moved by a training forward")
    model.forward(xs, training=True)
    model.backward(dys)
    assert_right(model, xs, "before the update")
    optimizer.step(model)
    assert_right(model, xs, "after the update")
    optimizer.step(model)
    assert_right(model, xs, "after another from the same gradients")
    model.save(tmp_path / "m.safetensors")
    loaded = nc.load(tmp_path / "m.safetensors")
    assert_right(loaded, xs, "loaded")
    np.testing.assert_array_equal(loaded.forward(xs)[0], model.forward(xs)[0])


def test_inference_follows_a_training_with_averages_resumed(tmp_path):
    """Between evaluations, the averaged weights are swapped in and out, and a checkpoint is read."""
    images, labels = np.random.default_rng(0).integers(0, 255, (40, *SHAPE), np.uint8), np.arange(40) % 5
    options = {"batch_size": 10, "ema": 0.5, "validation": (images, labels), "checkpoint": tmp_path / "c.safetensors"}
    xs = normals(np.random.default_rng(1), [SHAPE], 4)
    for epochs in (1, 2):
        model = nc.Sequential(ALL, SHAPE)
        model.forward(xs[0])
        history = model.fit((images, labels), epochs=epochs, resume=True, **options)
        np.testing.assert_array_equal(model.forward(xs[0]), listed_like(model).forward(xs)[0])
        assert model.evaluate((images, labels))["loss"] == pytest.approx(history.epochs[-1].validation_loss, rel=1e-6)


def listed_like(model):
    """Copy a model to one that takes and returns lists."""
    other = listed(nc.Sequential(ALL, SHAPE))
    names = zip([*other.parameters, *other.state], [*model.parameters, *model.state], strict=True)
    arrays = {**model.parameters, **model.state}
    other.set_parameters({copied: arrays[name] for copied, name in names})
    return other


def test_nothing_is_prepared_twice_without_a_change():
    model = nc.Sequential(ALL, SHAPE)
    x = np.zeros((2, *SHAPE), np.float32)
    model.forward(x)
    (executor,) = model._executors.values()
    preparations, calls = executor.bind(2).preparations, []
    assert len(preparations) >= 6
    preparations[:] = [(lambda *arguments: calls.append(arguments), ()) for _ in preparations]
    model.forward(x)
    assert not calls
    model.set_parameters({"dense_2.bias": np.ones(5)})
    model.forward(x)
    model.forward(x)
    assert len(calls) == len(preparations)
