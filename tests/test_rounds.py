"""Kernels that take a batch in rounds, so that their scratch stays in a cache: the same results as in one round."""

import numpy as np
import pytest
from engine import assert_results_close, assert_same_bits, normals, oracle, output_shapes, randomize, run
from graphs import listed

import numbacnn as nc
from numbacnn.kernels.cpu import conv2d_panels, conv2d_winograd

SHAPE, BATCH = (13, 14, 64), 6
LAYERS = {
    "winograd2": (lambda: nc.Conv2D(66, 3, padding=1, algorithm="winograd2"), conv2d_winograd),
    "winograd2, 5×5": (lambda: nc.Conv2D(34, 5, algorithm="winograd2"), conv2d_winograd),
    "winograd4": (lambda: nc.Conv2D(66, 3, padding=1, algorithm="winograd4"), conv2d_winograd),
    "panels": (lambda: nc.Conv2D(66, 2, stride=2), conv2d_panels),
}


def results(model):
    draw = np.random.default_rng(0)
    randomize(model, draw)
    xs, dys = normals(draw, model.graph.input_shapes, BATCH), normals(draw, output_shapes(model), BATCH)
    return run(model, xs, dys), oracle(model, xs, dys)


def scratch(model):
    """Bytes of each of the layer's buffers."""
    node = model.graph.nodes[0]
    wanted = node.layer.scratch(model.device.sizes, node.geometry, BATCH)
    return {name: np.prod(buffer.shape) for name, buffer in wanted.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_rounds_of_a_few_images(monkeypatch, name):
    """Bit by bit but for the weights' gradients: their sums are rounded from round to round, and held to float64."""
    make, module = LAYERS[name]
    model = listed(nc.Sequential([make()], SHAPE))
    monkeypatch.setattr(module, "ROUND_BYTES", 1 << 30)
    whole, _ = results(model)
    large = scratch(model)
    monkeypatch.setattr(module, "ROUND_BYTES", 1)
    model = listed(nc.Sequential([make()], SHAPE))
    found, expected = results(model)
    small = scratch(model)
    for buffer in ("partial_weight",) if name == "panels" else ("tiles", "tiles_gradient", "x_tiles", "dy_tiles"):
        assert small[buffer] < large[buffer]
    assert_same_bits(found._replace(gradients={}), whole._replace(gradients={}), name)
    assert_results_close(found, expected, name)
