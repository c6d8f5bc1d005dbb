"""In inference, depthwise separable convolutions and inverted residuals are one step, with the bits of two or three."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
from engine import assert_close, generator_of, randomize
from guards import Guarded
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import numbacnn as nc
from numbacnn.engine.plan import make_plan
from numbacnn.geometry import conv_geometry
from numbacnn.kernels.cpu import sizes
from numbacnn.kernels.cpu.conv import separable
from numbacnn.kernels.cpu.gemm.gemm import NR

BUFFER, EXPANDED_BYTES = separable.BUFFER, separable.EXPANDED_BYTES


@pytest.fixture(autouse=True)
def always_expanding(monkeypatch):
    """Expansions are fused however small the image is."""
    monkeypatch.setattr(separable, "EXPANDED_BYTES", 0)
    forget()
    yield
    forget()


def forget():
    separable.separable.cache_clear()
    separable._layout.cache_clear()


def network(layers, shape, device="cpu"):
    """A chain of layers, after which its input is added if that has the same shape, and then ReLU."""
    x = y = nc.Input(shape)
    for layer in layers:
        y = layer(y)
    model = nc.Model(x, nc.ReLU()(nc.Add()([x, y])) if x.shape == y.shape else y, device=device)
    randomize(model, generator_of("separable"))
    return model


def images(model, count):
    return generator_of("images").standard_normal((count, *model.input_shape)).astype(np.float32)


def run_guarded(model, x):
    """Run inference in buffers with room for more images, between zones of poison."""
    executor = Guarded(make_plan(model.graph, sizes, len(x) + 2, training=False), model.store, model.device)
    np.copyto(executor.bind(len(x)).inputs[0], x)
    y = executor.forward(len(x)).outputs[0]
    return np.array(y)


def one_by_one(model, x):
    """Run each convolution in a step of its own, with its activation."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sizes, "separable", lambda convolutions: None)
        return run_guarded(model, x)


def parts(model):
    """The number of convolutions of each step."""
    return [1 + len(step.then) for step in make_plan(model.graph, sizes, 2, training=False).forward]


class Case(NamedTuple):
    reason: str
    shape: tuple[int, int, int]
    layers: Callable[[], list[nc.Layer]]
    parts: int


def depthwise(kernel_size=3, **options):
    return [nc.DepthwiseConv2D(kernel_size, **options), nc.BatchNorm(), nc.ReLU6()]


def strided():
    return [*depthwise((3, 2), stride=(3, 2), dilation=2), nc.Conv2D(9, 1)]


def inverted_residual():
    return [nc.Conv2D(72, 1), nc.ReLU6(), *depthwise(padding=1), nc.Conv2D(12, 1)]


def stem():
    return [nc.Conv2D(33, 3, stride=2, padding=1), *depthwise(5, padding=2), nc.Conv2D(8, 1)]


def padded():
    first = nc.Conv2D(40, (1, 3), padding=((0, 0), (2, 0)))
    return [first, nc.Hardswish(), *depthwise(padding=((2, 0), (0, 1))), nc.Conv2D(7, 1)]


def sparse():
    return [nc.Conv2D(2 * NR, 1), *depthwise(2, stride=3), nc.Conv2D(5, 1)]


PICKED = [
    Case("odd sizes", (13, 15, 21), lambda: [*depthwise(padding=1), nc.Conv2D(19, 1), nc.BatchNorm()], 2),
    Case("a residual", (9, 11, 24), lambda: [*depthwise(padding="same"), nc.Conv2D(24, 1)], 2),
    Case("one pixel", (3, 3, 5), lambda: [nc.DepthwiseConv2D(3), nc.Conv2D(3, 1, bias=False), nc.ReLU()], 2),
    Case("two channels", (8, 5, 2), lambda: [nc.Conv2D(2, 3, groups=2, bias=False), nc.Conv2D(70, 1)], 2),
    Case("stride and dilation", (17, 18, 8), strided, 2),
    Case("a stride over the window", (16, 15, 33), lambda: [*depthwise(2, stride=3), nc.Conv2D(8, 1)], 2),
    Case("an inverted residual", (14, 16, 12), inverted_residual, 3),
    Case("a stem", (31, 32, 3), stem, 3),
    Case("padding on one side", (11, 16, 7), padded, 3),
    Case("expansion, stride over the window", (23, 24, 4), sparse, 3),
]


@pytest.mark.parametrize("buffer", [BUFFER, 1 << 14], ids=["", "small buffer"])
@pytest.mark.parametrize("case", PICKED, ids=lambda case: case.reason)
def test_the_bits_of_separate_steps(case, buffer, monkeypatch):
    monkeypatch.setattr(separable, "BUFFER", buffer)
    model = network(case.layers(), case.shape)
    assert parts(model) == [case.parts]
    for count in (1, 3):
        x = images(model, count)
        x[-1, 1, 1, 0] = np.nan
        found, expected = run_guarded(model, x), one_by_one(model, x)
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("case", PICKED, ids=lambda case: case.reason)
def test_the_values_of_the_oracle(case):
    model = network(case.layers(), case.shape)
    x = images(model, 2)
    reference = network(case.layers(), case.shape, device="reference")
    reference.set_parameters({**model.parameters, **model.state})
    assert_close(model.forward(x), reference.forward(x), case.reason)


side = st.integers(1, 3)
activations = st.sampled_from([None, nc.ReLU, nc.ReLU6, nc.Hardswish])


@settings(max_examples=60)
@given(st.data())
def test_any_shape_has_the_bits_of_separate_steps(data):
    draw = data.draw
    channels, hidden, filters = draw(st.integers(1, 9)), draw(st.integers(2, 70)), draw(st.integers(1, 40))
    layers = []
    if draw(st.booleans()):
        window, stride, padding = draw(side), draw(side), draw(st.tuples(st.tuples(side, side), st.tuples(side, side)))
        layers = [nc.Conv2D(hidden, window, stride=stride, padding=padding), draw(activations)]
    window, padding = draw(st.tuples(side, side)), draw(st.tuples(st.tuples(side, side), st.tuples(side, side)))
    options = {"stride": draw(st.tuples(side, side)), "dilation": draw(st.tuples(side, side)), "padding": padding}
    layers += [nc.DepthwiseConv2D(window, **options), draw(activations), nc.Conv2D(filters, 1), draw(activations)]
    width = draw(st.sampled_from([7, 8, 15, 16, 24, 31, 32, 40]))  # expansions need almost whole tiles of pixels
    shape = draw(st.integers(7, 20)), width, channels if len(layers) > 4 else hidden
    model = network([layer() if isinstance(layer, type) else layer for layer in layers if layer is not None], shape)
    assume(max(parts(model)) > 1)
    x = images(model, draw(st.integers(1, 3)))
    np.testing.assert_array_equal(run_guarded(model, x), one_by_one(model, x))


def test_where_convolutions_run_one_by_one():
    """A value that another layer reads, a residual in between or computed later, a pool, other kinds, training."""
    x = nc.Input((16, 16, 8))
    y = nc.DepthwiseConv2D(3, padding=1)(x)
    read_twice = nc.Model(x, nc.Concat()([y, nc.Conv2D(4, 1)(y)]))
    between = nc.Model(x, nc.Conv2D(4, 1)(nc.Add()([nc.DepthwiseConv2D(3, padding=1)(x), x])))
    y = nc.DepthwiseConv2D(3, padding=1)(x)
    later = nc.Tanh()(x)
    residual_later = nc.Model(x, nc.Add()([nc.Conv2D(8, 1)(y), later]))
    for model in (
        read_twice,
        between,
        residual_later,
        network([nc.DepthwiseConv2D(3), nc.Conv2D(4, 1, stride=2)], (16, 16, 8)),
        network([nc.DepthwiseConv2D(3), nc.Conv2D(4, 1, groups=2)], (16, 16, 8)),
        network([nc.DepthwiseConv2D(3), nc.Tanh(), nc.Conv2D(4, 1)], (16, 16, 8)),
        network([nc.DepthwiseConv2D(3, depth_multiplier=2), nc.Conv2D(4, 1)], (16, 16, 8)),
    ):
        assert set(parts(model)) == {1}
    model = network([nc.DepthwiseConv2D(3), nc.Conv2D(4, 1)], (16, 16, 8))
    assert parts(model) == [2]
    assert not any(step.then for step in make_plan(model.graph, sizes, 2, training=True).forward)
    assert not any(step.then for step in make_plan(model.graph, sizes, 2, training=False, fuse=False).forward)


def test_a_convolution_of_another_algorithm_is_not_an_expansion():
    layers = [nc.Conv2D(64, 3, padding=1, algorithm="winograd2"), nc.DepthwiseConv2D(3), nc.Conv2D(8, 1)]
    assert parts(network(layers, (16, 16, 64))) == [1, 2]


def test_the_choice_by_size(monkeypatch):
    """All three convolutions of a block of MobileNetV2 where images are large, none where weights are."""
    monkeypatch.setattr(separable, "EXPANDED_BYTES", EXPANDED_BYTES)

    def chosen(size, c, expansion, k, stride):
        hidden = expansion * c
        geometries = (
            conv_geometry((size, size, c), hidden, (1, 1)),
            depthwise := conv_geometry((size, size, hidden), hidden, (3, 3), (stride, stride), 1, groups=hidden),
            conv_geometry((depthwise.p, depthwise.q, hidden), k, (1, 1)),
        )
        return [separable.separable(geometries[first:]) is not None for first in (0, 1)]

    assert chosen(112, 16, 6, 24, 2) == [True, True]
    assert chosen(56, 24, 6, 24, 1) == [True, True]
    assert chosen(14, 64, 6, 96, 1) == [False, True]
    assert chosen(7, 160, 6, 320, 1) == [False, False]
    assert chosen(224, 128, 6, 24, 1) == [False, False]  # a row exceeds the buffer


def test_mobilenet_v2():
    model = nc.models.mobilenet_v2((64, 48, 3), classes=10)
    randomize(model, generator_of("mobilenet"))
    assert max(parts(model)) == 3
    x = images(model, 2)
    np.testing.assert_array_equal(run_guarded(model, x), one_by_one(model, x))
