"""Convolutions followed by a max-pool: forward computes the maxima too, and backward reads their argmax."""

import random
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from engine import assert_results_close, normals, oracle, output_shapes, randomize, run, run_planned
from graphs import listed

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.geometry import conv_geometry, pool_geometry
from numbacnn.kernels.cpu import sizes
from numbacnn.kernels.cpu.conv import pooled
from numbacnn.kernels.cpu.conv.pool_backward import PoolBackward
from numbacnn.kernels.cpu.conv.single_channel import SingleChannelPooled
from numbacnn.kernels.cpu.gemm.gemm import MR, NR
from numbacnn.layers.algorithms import ConvEpilogue


class Case(NamedTuple):
    """A case: its reason, the shape of an image, the layers, and a batch size."""

    reason: str
    shape: tuple[int, int, int]
    layers: Callable[[], list[nc.layers.Layer]]
    batch: int = 2

    def make(self):
        return listed(nc.Sequential(self.layers(), self.shape))


PICKED = [
    Case("LeNet's first", (12, 12, 1), lambda: [nc.Conv2D(6, 5, padding=2), nc.ReLU(), nc.MaxPool2D(2)]),
    Case("LeNet's second", (9, 9, 6), lambda: [nc.Conv2D(16, 5), nc.ReLU(), nc.MaxPool2D(2)], 3),
    Case("no activation", (8, 6, 4), lambda: [nc.Conv2D(8, 3), nc.MaxPool2D(2)]),
    Case("tanh", (8, 6, 4), lambda: [nc.Conv2D(8, 3), nc.Tanh(), nc.MaxPool2D(2)]),
    Case("rows wider than a tile", (7, 6, 37), lambda: [nc.Conv2D(5, 3, padding=1), nc.ReLU(), nc.MaxPool2D(2)]),
    Case("stride", (13, 12, 5), lambda: [nc.Conv2D(7, 3, stride=(2, 3)), nc.ReLU(), nc.MaxPool2D(2)]),
    Case("dilated rows", (13, 9, 4), lambda: [nc.Conv2D(5, 3, dilation=(2, 1)), nc.ReLU(), nc.MaxPool2D(2)], 1),
    Case("padding on one side", (6, 7, 5), lambda: [nc.Conv2D(9, 4, padding=((3, 0), (0, 2))), nc.MaxPool2D(2)]),
    Case("pool with gaps", (11, 12, 8), lambda: [nc.Conv2D(8, 2), nc.ReLU(), nc.MaxPool2D(2, stride=3)]),
    Case("padded pool", (8, 8, 5), lambda: [nc.Conv2D(4, 3), nc.ReLU(), nc.MaxPool2D((3, 2), padding=1)]),
    Case("pool rounded up", (8, 8, 5), lambda: [nc.Conv2D(4, 2), nc.MaxPool2D(3, ceil_mode=True)]),
    Case("more images than groups", (5, 5, 9), lambda: [nc.Conv2D(3, 2), nc.ReLU(), nc.MaxPool2D(2)], 37),
    Case("windows of 4×4, few filters", (13, 14, 1), lambda: [nc.Conv2D(6, 3), nc.ReLU(), nc.MaxPool2D(4)]),
    Case("windows of 2×4, few filters", (11, 14, 3), lambda: [nc.Conv2D(4, 3), nc.MaxPool2D((2, 4))]),
    Case("windows of 1×8, few filters", (6, 20, 8), lambda: [nc.Conv2D(6, 3), nc.ReLU(), nc.MaxPool2D((1, 8))]),
    Case("windows of 4×2, more filters", (12, 9, 5), lambda: [nc.Conv2D(20, 3), nc.MaxPool2D((4, 2))]),
    Case("one pixel left", (4, 4, 20), lambda: [nc.Conv2D(1, 1, bias=False), nc.ReLU(), nc.MaxPool2D(4)], 1),
]

GRAY = [  # for which ``SingleChannelPooled`` puts pixels in the lanes
    Case("gray", (28, 28, 1), lambda: [nc.Conv2D(6, 5, padding=2), nc.ReLU(), nc.MaxPool2D(2)], 3),
    Case("gray, two filters", (13, 43, 1), lambda: [nc.Conv2D(2, (3, 4), bias=False), nc.MaxPool2D(2)]),
    Case("gray, padding on one side", (9, 17, 1), lambda: [nc.Conv2D(5, 4, padding=((3, 0), (0, 2))), nc.MaxPool2D(2)]),
    Case("gray, rows apart", (23, 33, 1), lambda: [nc.Conv2D(6, 3, (3, 1), 1, (2, 1)), nc.ReLU(), nc.MaxPool2D(2)], 1),
    Case("gray, more rows than items", (80, 32, 1), lambda: [nc.Conv2D(3, 3), nc.ReLU(), nc.MaxPool2D(2)], 67),
]


def drawn(count):
    """Draw cases for which ``PoolBackward`` applies, the same on every machine."""
    draw, found = random.Random(0), []
    while len(found) < count:
        case = draw_case(draw, f"drawn {len(found)}")
        try:
            model = case.make()
        except nc.GeometryError:
            continue
        if accepts_pool_gradient(model):
            found.append(case)
    return found


def draw_case(draw, reason):
    shape = draw.randint(3, 12), draw.randint(3, 12), draw.randint(1, 20)
    filters, window = draw.randint(1, 19), (draw.randint(1, 5), draw.randint(1, 5))
    options = {
        "stride": (draw.randint(1, 2), draw.randint(1, 3)),
        "padding": tuple((draw.randint(0, 2), draw.randint(0, 2)) for _ in range(2)),
        "dilation": (draw.randint(1, 2), 1),
    }
    pool = draw.randint(1, 4), draw.randint(1, 4)
    stride, ceil_mode = (pool[0] + draw.randint(0, 1), pool[1] + draw.randint(0, 1)), draw.random() < 0.5
    activation = draw.choice([[], [nc.ReLU], [nc.Sigmoid]])

    def layers():
        activations = [layer() for layer in activation]
        return [nc.Conv2D(filters, window, **options), *activations, nc.MaxPool2D(pool, stride, ceil_mode=ceil_mode)]

    return Case(reason, shape, layers, draw.randint(1, 4))


def accepts_pool_gradient(model):
    plan = make_plan(model.graph, sizes, 2, training=True)
    return any(step.pool is not None for step in plan.backward)


@pytest.mark.parametrize("case", [*PICKED, *drawn(60)], ids=lambda case: case.reason)
def test_gradients_match_the_oracle_and_the_unfused_plan(case):
    assert accepts_pool_gradient(case.make())
    check_gradients(case)


@pytest.mark.parametrize("case", GRAY, ids=lambda case: case.reason)
def test_gradients_of_gray_images_match_them_too(case):
    assert fuses_pool(case.make())
    check_gradients(case)


def check_gradients(case):
    """Compare all gradients, after a larger batch of NaN has run in the same buffers."""
    model = case.make()
    draw = np.random.default_rng(0)
    randomize(model, draw)
    shapes, batch = model.graph.input_shapes, case.batch
    nan = [np.full((batch + 2, *shape), np.nan, np.float32) for shape in shapes]
    run(model, nan, [np.full((batch + 2, *shape), np.nan, np.float32) for shape in output_shapes(model)])
    xs, dys = normals(draw, shapes, batch), normals(draw, output_shapes(model), batch)
    found = run(model, xs, dys)
    assert_results_close(found, oracle(model, xs, dys), case.reason)
    assert_results_close(found, run_planned(model, xs, dys, fuse=False), f"{case.reason}: unfused", 1e-5)


def test_pool_backward_does_not_apply_if_it_cannot_run_or_would_be_slower():
    """Overlapping windows, groups, dilated columns; few terms; weights or images larger than the cache."""
    plain, pool = {"input_shape": (16, 16, 8), "filters": 8, "window": (3, 3)}, {"window": (2, 2), "stride": (2, 2)}

    def applies(pooling=pool, **changes):
        g = conv_geometry(**plain | changes)
        return PoolBackward().applies("weight_gradient", g, pool_geometry((g.p, g.q, g.k), **pooling))

    assert applies()
    assert not applies({"window": (3, 3), "stride": (2, 2)})
    assert not applies({"window": (7, 7), "stride": (7, 7)})
    assert not applies(groups=2)
    assert not applies(dilation=(1, 2))
    assert not applies(input_shape=(16, 16, 1))
    assert not applies(input_shape=(16, 16, 512), filters=512)
    assert not applies(input_shape=(224, 224, 64))


def test_a_value_with_several_readers_does_not_accept_the_pool_gradient():
    """A second reader of the convolution, or of the activation, adds to its gradient."""
    for second in ("convolution", "activation"):
        x = nc.Input((8, 8, 4))
        h = nc.Conv2D(8, 3)(x)
        a = nc.ReLU()(h)
        model = nc.Model([x], [nc.MaxPool2D(2)(a), nc.Tanh()(h if second == "convolution" else a)])
        assert not accepts_pool_gradient(model)


def fuses_pool(model):
    return any(step.pool is not None for step in make_plan(model.graph, sizes, 2, training=False).forward)


FUSING = [case for case in [*PICKED, *GRAY, *drawn(200)] if fuses_pool(case.make())]


@pytest.mark.parametrize("case", FUSING, ids=lambda case: case.reason)
def test_fused_pools_have_the_bits_of_unfused_ones(case):
    """Compare inference and training, with NaN and infinities among the inputs."""
    model, draw = case.make(), np.random.default_rng(0)
    randomize(model, draw)
    (x,), dys = normals(draw, model.graph.input_shapes, case.batch), normals(draw, output_shapes(model), case.batch)
    for special in (0.0, np.nan, np.inf):
        x.flat[draw.integers(0, x.size)] += special
        expected = run_planned(model, [x], dys, fuse=False).ys
        for ys in (model.forward([x]), model.forward([x], training=True)):
            if case in GRAY and np.isinf(special):  # ``PixelPairs`` makes NaN of a pixel's neighbor too
                ys = [np.where(np.isnan(unfused), np.nan, y) for y, unfused in zip(ys, expected, strict=True)]
            np.testing.assert_array_equal(ys, expected)


def test_lenet_and_the_two_convolution_network_fuse_their_pools():
    """The second convolution of the other network uses Winograd's algorithm."""
    for model, count in ((nc.models.lenet5(), 2), (nc.models.simple_cnn(), 1)):
        steps = make_plan(model.graph, sizes, 2, training=True).forward
        assert sum(step.pool is not None for step in steps) == count


def test_the_single_channel_algorithm_applies_if_pixels_fill_the_lanes_better_than_filters():
    def applies(shape, filters, pool=2, **options):
        g = conv_geometry(shape, filters, **{"window": (3, 3), "padding": "same"} | options)
        return SingleChannelPooled().applies("forward", g, pool_geometry((g.p, g.q, g.k), (pool, pool), (pool, pool)))

    assert applies((28, 28, 1), 6)
    assert applies((28, 32, 1), 1)
    assert not applies((28, 28, 3), 6)
    assert not applies((28, 28, 1), 64)
    assert not applies((28, 28, 1), 6, pool=3)
    assert not applies((28, 28, 1), 6, stride=(1, 2))
    assert not applies((28, 2, 1), 6)


def test_nothing_before_an_indirection_buffer_is_read(monkeypatch, rng):
    """The last block has one 3×3 window, fewer rows than MR; numbers before its buffer could pass for offsets."""
    w, b = rng.standard_normal((3, 3, 1, 8)).astype(np.float32), rng.standard_normal(8).astype(np.float32)
    x, found = rng.standard_normal((4, 8, 8, 1)).astype(np.float32), []
    g, pool = conv_geometry((8, 8, 1), 8, (3, 3)), pool_geometry((6, 6, 8), (2, 2), (2, 2))
    make_gemm, algorithm = pooled.pooled_gemm, pooled.Pooled()

    def gemm_with_prefix(*arguments, value):
        made = make_gemm(*arguments)
        m = made.gemm.m
        table = np.concatenate([np.full(MR, value), m.c])
        return made._replace(gemm=made.gemm._replace(m=m._replace(c=table[MR:])))

    for value in (-1, *range(0, 2 * NR * MR, NR)):
        monkeypatch.setattr(pooled, "pooled_gemm", partial(gemm_with_prefix, value=value))
        y = np.zeros((4, 3, 3, 8), np.float32)
        scratch = {
            name: np.zeros(spec.shape, np.float32) for name, spec in algorithm.scratch("forward", g, 4, pool).items()
        }
        algorithm.forward(y, x, w, b, scratch, g, ConvEpilogue(pool=pool, argmax=y[:0]))
        found.append(y)
    for y in found[1:]:
        np.testing.assert_array_equal(y, found[0])
