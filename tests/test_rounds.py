"""Kernels that take a batch in rounds, or pixels in chunks and groups, so that what they read stays in a cache."""

import numpy as np
import pytest
from engine import assert_results_close, assert_same_bits, normals, oracle, output_shapes, randomize, run
from graphs import listed

import numbacnn as nc
from numbacnn.kernels.cpu.conv import blocked, pixel_pairs
from numbacnn.kernels.cpu.conv.direct import loops
from numbacnn.kernels.cpu.conv.winograd import winograd
from numbacnn.kernels.cpu.gemm.gemm import LANES

SHAPE, BATCH = (13, 14, 64), 6
LAYERS = {
    "winograd2": (lambda: nc.Conv2D(66, 3, padding=1, algorithm="winograd2"), winograd),
    "winograd2, 5×5": (lambda: nc.Conv2D(34, 5, algorithm="winograd2"), winograd),
    "winograd4": (lambda: nc.Conv2D(66, 3, padding=1, algorithm="winograd4"), winograd),
    "panels": (lambda: nc.Conv2D(66, 2, stride=2), blocked),
}


LARGE = {  # images that are few: more rows than groups, several chunks, panels and blocks of rows
    "a pixel": (lambda: nc.Conv2D(40, 1), (75, 75, 5)),
    "a pixel of many channels": (lambda: nc.Conv2D(300, 1, stride=(2, 1)), (9, 40, 270)),
    "a window": (lambda: nc.Conv2D(70, 3, stride=2, padding=2), (70, 66, 3)),
    "a wide image": (lambda: nc.Conv2D(9, (1, 2), padding="same"), (1, 1100, 2)),
    "a tall image": (lambda: nc.Conv2D(3, 1), (1100, 1, 2)),
}


def results(model, batch=BATCH):
    draw = np.random.default_rng(0)
    randomize(model, draw)
    xs, dys = normals(draw, model.graph.input_shapes, batch), normals(draw, output_shapes(model), batch)
    return run(model, xs, dys), oracle(model, xs, dys)


def scratch(model):
    """Bytes of each of the layer's buffers."""
    node = model.graph.nodes[0]
    wanted = node.layer.scratch(model.device.sizes, node.geometry, BATCH)
    return {name: np.prod(buffer.trained or buffer.shape) for name, buffer in wanted.items()}


@pytest.mark.parametrize("name", LAYERS)
def test_rounds_of_a_few_images(monkeypatch, name):
    """Bit by bit but for the weights' gradients: their sums are rounded from round to round, and held to float64."""
    make, module = LAYERS[name]
    monkeypatch.setattr(blocked, "WORTH", 0)
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


PACKED = {  # and what of the layer's packed weights goes in rounds
    "dense": (lambda: nc.Dense(150), (133,), ("packed", "packed_gradient")),
    "dense, no bias": (lambda: nc.Dense(193, bias=False), (70,), ("packed", "packed_gradient")),
    "convolution": (lambda: nc.Conv2D(9, 3, stride=2, padding=1), (7, 6, 70), ("packed_gradient",)),
    "transposed": (lambda: nc.Conv2DTranspose(70, 3, stride=2), (4, 5, 9), ("packed_gradient",)),
}


@pytest.mark.parametrize("name", PACKED)
def test_rounds_of_packed_weights(monkeypatch, name):
    """A panel of channels at a time, whose products are added up, or lie side by side."""
    make, shape, buffers = PACKED[name]
    large = scratch(listed(nc.Sequential([make()], shape)))
    monkeypatch.setattr(loops, "ROUND_BYTES", 1)
    model = listed(nc.Sequential([make()], shape))
    small = scratch(model)
    for buffer in buffers:
        assert small[buffer] < large[buffer]
    assert_results_close(*results(model), name)


def test_pairs_of_pixels_take_no_panels(monkeypatch):
    """Not even of many channels: what they are computed from is no image of x, and the scratch is another."""
    monkeypatch.setattr(blocked, "WORTH", 0)
    model = listed(nc.Sequential([nc.Conv2D(LANES // 2, 3, padding=1)], SHAPE))
    assert pixel_pairs.applies(model.graph.nodes[0].geometry)
    assert_results_close(*results(model), "pairs")


@pytest.mark.parametrize("name", LARGE)
def test_few_large_images(name):
    """Held to float64; and after a larger batch, which is cut into groups of images, in the same buffers."""
    make, shape = LARGE[name]
    found, expected = results(listed(nc.Sequential([make()], shape)), batch=2)
    assert_results_close(found, expected, name)
    model = listed(nc.Sequential([make()], shape))
    y = model.forward(normals(np.random.default_rng(1), [shape], 34), training=True)
    model.backward(y)
    again, _ = results(model, batch=2)
    assert_same_bits(again, found, name)
