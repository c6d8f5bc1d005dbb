"""Numbers at the edges of float32, where a plain formula would overflow, cancel or spread, against float64."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest
from engine import input_gradient

import numbacnn as nc
from numbacnn.kernels.cpu import launchers as cpu
from numbacnn.kernels.reference import launchers as reference
from numbacnn.kernels.step_scalars import SUM_GROUPS

NAN, INFINITY = np.nan, np.inf

# -- averages ---------------------------------------------------------------------------------------------------------

AVERAGES = {
    "AvgPool2D": lambda h, w: nc.AvgPool2D((h, w)),
    "AdaptiveAvgPool2D": lambda h, w: nc.AdaptiveAvgPool2D(1),
    "GlobalAvgPool2D": lambda h, w: nc.GlobalAvgPool2D(keepdims=True),
}
every_average = pytest.mark.parametrize("layer", AVERAGES.values(), ids=AVERAGES)


@every_average
@pytest.mark.parametrize(("h", "w", "c"), [(1000, 1000, 1), (300, 257, 3), (2000, 1, 5), (9, 1000, 33), (40, 40, 70)])
def test_large_windows_are_averaged_without_loss(layer, h, w, c):
    x = (np.random.default_rng(0).random((1, h, w, c)) + 0.1).astype(np.float32)
    x[..., 0] = np.float32(0.1)  # the error of a plain sum of equal numbers grows with every term
    y = nc.Sequential([layer(h, w)], (h, w, c)).forward(x)
    np.testing.assert_allclose(y[0, 0, 0], x.mean(axis=(0, 1, 2), dtype=np.float64), rtol=2e-7)


@every_average
@pytest.mark.parametrize(("bad", "mean"), [(INFINITY, INFINITY), (-INFINITY, -INFINITY), (NAN, NAN), (3e38, INFINITY)])
def test_large_windows_keep_infinity_and_nan(layer, bad, mean):
    x = np.ones((1, 64, 65, 2), np.float32)
    x[0, 3:5, 5, 0] = bad
    y = nc.Sequential([layer(64, 65)], (64, 65, 2)).forward(x)
    np.testing.assert_array_equal(y.reshape(-1), [mean, 1])


# -- activations and losses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [1.0, 0.5])
def test_elu_has_a_slope_far_below_zero(alpha):
    x = np.array([[-0.5, -9, -20, -50, -80, 2]], np.float32)
    slope = np.where(x > 0, 1, alpha * np.exp(x.astype(np.float64)))
    np.testing.assert_allclose(input_gradient(nc.ELU(alpha), x, np.ones_like(x)), slope, rtol=1e-6)


@pytest.mark.parametrize("images", [1, 2, 5])
def test_the_gradient_of_the_squared_error_does_not_overflow(images):
    outputs = np.array([[3e38, -3e38, 1], [1, 2, 3]] * 3, np.float32)[:images]
    target = np.array([[0.0, 0.0, 0.5], [3, 1, 2]] * 3)[:images]
    _, gradient = nc.losses.mse(outputs, target)
    np.testing.assert_allclose(gradient, 2 * (outputs.astype(np.float64) - target) / outputs.size, rtol=1e-6)


# -- normalization ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1e15, 1e19, 1e25, 1e37])
@pytest.mark.parametrize(("shape", "layer"), [((4, 5, 6, 3), nc.BatchNorm), ((64, 7), nc.BatchNorm),
                                              ((2, 9, 8, 6), lambda: nc.GroupNorm(2))])  # fmt: skip
def test_normalizations_of_huge_numbers(shape, layer, size):
    """Their squares overflow in float32."""
    x = (np.random.default_rng(0).standard_normal(shape) * size).astype(np.float32)
    model = nc.Sequential([layer()], shape[1:])
    with np.errstate(over="ignore"):
        y = model.forward(x, training=True)
    parts = x.astype(np.float64).reshape(shape[0], -1, 2, shape[-1] // 2) if len(shape) == 4 and shape[-1] == 6 else x
    axes = (1, 3) if parts.ndim == 4 and parts is not x else tuple(range(x.ndim - 1))
    parts = parts.astype(np.float64)
    expected = (parts - parts.mean(axes, keepdims=True)) / parts.std(axes, keepdims=True)
    np.testing.assert_allclose(y, expected.reshape(shape), rtol=1e-5, atol=1e-6)


def test_a_normalization_of_infinity_is_nan_in_its_channel_only():
    x = np.random.default_rng(0).standard_normal((4, 5, 5, 3)).astype(np.float32)
    x[1, 2, 3, 1] = INFINITY
    y = nc.Sequential([nc.BatchNorm()], (5, 5, 3)).forward(x, training=True)
    assert np.isfinite(y[..., [0, 2]]).all()
    assert np.isnan(y[..., 1]).any()


# -- clipping ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("launchers", [cpu, reference], ids=["cpu", "reference"])
@pytest.mark.parametrize(("bad", "rest"), [(NAN, NAN), (INFINITY, 0.0)])
def test_clipping_by_a_norm_that_is_not_finite_scales_every_element(bad, rest, launchers):
    """PyTorch's clip_grad_norm_ does the same."""
    x = np.ones(1000, np.float32)
    x[7] = bad
    with np.errstate(invalid="ignore"):
        launchers.clip_norm_in_place(x, np.empty((2, SUM_GROUPS)), 1.0)
    np.testing.assert_array_equal(np.delete(x, 7), np.full(999, rest, np.float32))
    assert np.isnan(x[7])


# -- convolutions -----------------------------------------------------------------------------------------------------

DIRECT = {"direct", "col2im", "blocked", "single channel"}
FEW_FILTERS = {"filters": 6, "kernel_size": 5, "padding": 2}


def seen(conv, x, at, algorithm):
    """Return whether each output pixel is not finite, if the input pixel ``at`` is NaN."""
    model = nc.Sequential([nc.Conv2D(**conv, algorithm=algorithm)], x.shape[1:], seed=1)
    x = x.copy()
    x[0, *at] = NAN
    return ~np.isfinite(model.forward(x)).all(axis=-1)[0]


def covering(conv, shape, at):
    """Return whether the window of each output pixel sees the input pixel ``at``."""
    h, w = np.indices(shape)
    reach = conv["kernel_size"] // 2
    return (abs(h - at[0]) <= reach) & (abs(w - at[1]) <= reach)


@pytest.mark.parametrize("conv", [FEW_FILTERS, {"filters": 32, "kernel_size": 3, "padding": 1}], ids=str)
def test_with_the_direct_algorithm_nan_reaches_only_the_windows_that_see_it(conv):
    """Pixel pairs and Winograd's transforms multiply it by zero for their neighbors, too."""
    x = np.random.default_rng(0).standard_normal((1, 12, 16, 32)).astype(np.float32)
    for at in ((5, 7), (5, 8), (0, 0), (11, 15)):
        expected = covering(conv, (12, 16), at)
        np.testing.assert_array_equal(seen(conv, x, at, "direct"), expected)
        assert (seen(conv, x, at, "auto") >= expected).all()


def test_with_the_direct_algorithm_a_fused_pool_sees_no_neighbor_either():
    x = np.random.default_rng(0).standard_normal((1, 12, 16, 1)).astype(np.float32)
    x[0, 5, 4] = NAN
    layers = lambda: [nc.Conv2D(**FEW_FILTERS), nc.MaxPool2D(2)]  # noqa: E731
    model = nc.Sequential(layers(), (12, 16, 1)).use_algorithm("direct")
    y = np.isnan(model.forward(x)).any(axis=-1)[0]
    expected = covering(FEW_FILTERS, (12, 16), (5, 4)).reshape(6, 2, 8, 2).any(axis=(1, 3))
    np.testing.assert_array_equal(y, expected)


def test_a_model_can_use_the_direct_algorithm_everywhere(tmp_path):
    """One pixel of 10⁶ among ordinary ones costs digits of Winograd's outputs that do not see it."""
    x = np.random.default_rng(0).standard_normal((1, 12, 12, 32)).astype(np.float32)
    bright = x.copy()
    bright[0, 5, 5] = 1e6
    layers = [nc.Conv2D(32, 3, padding=1), nc.Conv2D(6, 5, padding=2)]
    model = nc.Sequential(layers, (12, 12, 32)).use_algorithm("direct")
    model.save(tmp_path / "model.safetensors")
    assert layers[0].algorithm == "auto"
    for made in (model, nc.load(tmp_path / "model.safetensors")):
        assert {name for row in made.summary(show=False).rows for name in row.algorithms.values()} <= DIRECT
        plain, found = made.forward(x), made.forward(bright)
        unseen = ~covering({"kernel_size": 7}, (12, 12), (5, 5))
        np.testing.assert_array_equal(found[0, unseen], plain[0, unseen])
    with pytest.raises(nc.errors.ArgumentError, match=r'algorithm=.*"auto", "latency" or "direct"'):
        model.use_algorithm("winograd4")


def test_a_custom_layers_own_algorithm_is_not_changed():
    @dataclass(eq=False)
    class Transform(nc.Layer):
        op: ClassVar[str] = "transform_with_an_algorithm"
        algorithm: str = "fft"

    layers = [nc.Conv2D(2, 3), Transform()]
    model = nc.Sequential(layers, (5, 5, 1)).use_algorithm("direct")
    assert [node.layer.algorithm for node in model.graph.nodes] == ["direct", "fft"]
    with pytest.raises(nc.errors.ArgumentError, match="algorithm='nonsense'"):
        nc.Sequential([nc.ReLU()], (5, 5, 1)).use_algorithm("nonsense")
