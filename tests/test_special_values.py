"""Ties, NaN, infinities and huge numbers: what no random input has."""

import numpy as np
import oracles
import pytest
from cases import CASES
from engine import Result, assert_same_bits, case_arrays, one_layer, oracle, run

import numbacnn as nc

F = nc.functional
MAXIMA = [case for case in CASES if case.layer().op in ("max_pool2d", "global_max_pool2d")]
INF, NAN = np.inf, np.nan


def gradient(layer, x, dy):
    """dx of one layer."""
    model = nc.Sequential([layer], x.shape[1:])
    model.forward(x, training=True)
    return model.backward(dy)


def image(rows):
    """One image of one channel."""
    return np.array(rows, np.float32)[None, :, :, None]


@pytest.mark.parametrize("case", MAXIMA, ids=str)
def test_among_equals_the_first_gets_the_gradient(case):
    """Inputs of three values, full of ties; sums of small integers are exact, so nothing may be off by a bit."""
    model = one_layer(case)
    xs, dys = case_arrays(case, model)
    xs, dys = [np.clip(np.round(x), -1, 1) for x in xs], [np.round(4 * dy) for dy in dys]
    expected = oracle(model, xs, dys)
    expected = Result(*([array.astype(np.float32) for array in arrays] for arrays in expected[:2]), {})
    assert_same_bits(run(model, xs, dys), expected, str(case))


def test_a_window_of_minus_infinities_has_a_maximum_and_a_first():
    x = np.full((1, 2, 2, 1), -INF, np.float32)
    assert F.max_pool2d(x, 2).item() == -INF
    np.testing.assert_array_equal(gradient(nc.MaxPool2D(2), x, image([[5]])), image([[5, 0], [0, 0]]))


@pytest.mark.parametrize("place", range(9))
@pytest.mark.parametrize("channels", [1, 8, 19])
def test_max_pool_hands_on_nan_from_any_place_of_the_window(place, channels):
    x = np.arange(2 * 3 * 6 * channels, dtype=np.float32).reshape(2, 3, 6, channels)
    x[1, place // 3, place % 3, -1] = NAN
    expected = np.zeros((2, 1, 2, channels), bool)
    expected[1, 0, 0, -1] = True
    np.testing.assert_array_equal(np.isnan(F.max_pool2d(x, 3)), expected)


@pytest.mark.parametrize(("value", "expected"), [(NAN, NAN), (INF, INF), (-INF, 0), (-1e30, 0), (1e30, 1e30), (0, 0)])
def test_relu(value, expected):
    x = np.array([[1, value, -1]], np.float32)
    np.testing.assert_array_equal(F.relu(x), np.array([[1, expected, 0]], np.float32))


def test_relu_gradient_passes_where_the_output_is_above_zero_or_nan():
    x = np.array([[INF, -INF, NAN, 0, 1, -1]], np.float32)
    dy = np.array([[2, 3, 4, 5, 6, 7]], np.float32)
    np.testing.assert_array_equal(gradient(nc.ReLU(), x, dy), np.array([[2, 0, 4, 0, 6, 0]], np.float32))


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("filters", [1, 3, 16, 40])
@pytest.mark.parametrize("fused", [False, True])
def test_convolution_hands_on_what_is_not_finite_where_windows_meet_it_alone(value, filters, fused):
    x = np.zeros((2, 6, 7, 3), np.float32)
    x[1, 2, 3, 1] = value
    layers = [nc.Conv2D(filters, 3, padding="same", initializer="ones"), *[nc.ReLU()] * fused]
    y = nc.Sequential(layers, (6, 7, 3)).forward(x)
    expected = np.zeros((2, 6, 7, filters), np.float32)
    expected[1, 1:4, 2:5] = value
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("fused", [False, True])
def test_dense_hands_on_nan_to_its_own_image_alone(fused):
    x = np.ones((3, 5), np.float32)
    x[1, 4] = NAN
    y = nc.Sequential([nc.Dense(37), *[nc.ReLU()] * fused], (5,)).forward(x)
    np.testing.assert_array_equal(np.isnan(y), np.array([[False], [True], [False]]) & np.ones(37, bool))


@pytest.mark.parametrize("place", [0, 3, 5])
def test_softmax_hands_on_nan_to_its_own_row_alone(place):
    x = np.zeros((2, 6), np.float32)
    x[0, place] = NAN
    y = F.softmax(x)
    assert np.isnan(y[0]).all()
    np.testing.assert_allclose(y[1], 1 / 6, rtol=1e-6)


def test_softmax_of_huge_logits():
    x = np.array([[1e4, -1e4, 0], [-1e4, -1e4, -1e4], [3e38, 0, -3e38]], np.float32)
    expected = np.array([[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [1, 0, 0]])
    np.testing.assert_allclose(F.softmax(x), expected, rtol=1e-6)


@pytest.mark.parametrize("as_probabilities", [False, True])
def test_cross_entropy_of_huge_logits(as_probabilities):
    logits, labels = np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32), np.array([1, 1])
    loss, dy = nc.losses.cross_entropy(logits, np.eye(2)[labels] if as_probabilities else labels)
    assert loss == pytest.approx(1e4)  # the mean of 20,000 and 0
    np.testing.assert_array_equal(dy, np.array([[0.5, -0.5], [0, 0]], np.float32))


ACTIVATIONS = [
    nc.ReLU, nc.ReLU6, nc.LeakyReLU, nc.PReLU, nc.ELU, nc.GELU, lambda: nc.GELU("tanh"), nc.SiLU, nc.Hardswish,
    nc.Hardsigmoid, nc.Tanh, nc.Sigmoid,
]  # fmt: skip
LIMITS = {  # at −∞ and ∞: y, and its slope
    "relu": (0, INF, 0, 1), "relu6": (0, 6, 0, 0), "leaky_relu": (-INF, INF, 0.01, 1), "prelu": (-INF, INF, 0.25, 1),
    "elu": (-1, INF, 0, 1), "gelu": (0, INF, 0, 1), "silu": (0, INF, 0, 1), "hardswish": (0, INF, 0, 1),
    "hardsigmoid": (0, 1, 0, 0), "tanh": (-1, 1, 0, 0), "sigmoid": (0, 1, 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_far_from_zero_match_the_oracle(activation):
    """Elementwise, not by a norm that the large ones fill: every bend lies between −8 and 8."""
    layer = activation()
    x = np.linspace(-8, 8, 4098, dtype=np.float32)[None]  # no multiple of 8, and no bend hit
    model = nc.Sequential([layer], x.shape[1:])
    parameters = {"weight": np.full(x.shape[1], 0.25)} if layer.op == "prelu" else {}
    expected = oracles.forward(layer, [x.astype(np.float64)], parameters)
    np.testing.assert_allclose(model.forward(x), expected, rtol=3e-6, atol=3e-7)
    (slope,), _ = oracles.gradients(np.ones(x.shape), layer, [x.astype(np.float64)], parameters)
    np.testing.assert_allclose(gradient(layer, x, np.ones_like(x)), slope, rtol=1e-5, atol=3e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_reach_their_limits_and_hand_on_nan(activation):
    layer = activation()
    x = np.array([[-INF, INF, NAN, 1, -3e38, 3e38]], np.float32)
    y = nc.Sequential([activation()], (6,)).forward(x)
    low, high, low_slope, high_slope = LIMITS[layer.op]
    np.testing.assert_array_equal(y[0, :2], [low, high])
    np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x[0]))
    slopes = gradient(layer, x, np.ones_like(x))[0]
    np.testing.assert_allclose(slopes[[0, 1, 4, 5]], [low_slope, high_slope] * 2, rtol=1e-6)


def test_relu6_has_no_gradient_at_its_bends():
    x = np.array([[0, 6, 3]], np.float32)
    np.testing.assert_array_equal(gradient(nc.ReLU6(), x, np.ones_like(x)), [[0, 0, 1]])


def test_adaptive_max_pool_hands_on_nan_to_all_bins_that_hold_it_and_the_first_of_equals_gets_the_gradient():
    x = np.zeros((1, 3, 3, 9), np.float32)
    x[0, 1, 1, 4] = NAN
    expected = np.zeros((1, 2, 2, 9), bool)
    expected[..., 4] = True  # the middle is in each of the four bins
    np.testing.assert_array_equal(np.isnan(F.adaptive_max_pool2d(x, 2)), expected)
    dx = gradient(nc.AdaptiveMaxPool2D(2), np.zeros((1, 3, 3, 1), np.float32), image([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(dx, image([[1, 2, 0], [3, 4, 0], [0, 0, 0]]))


def test_concat_and_zero_pad_keep_what_is_not_finite_in_its_place():
    x = np.full((1, 2, 2, 3), NAN, np.float32)
    zeros = np.zeros((1, 2, 2, 2), np.float32)
    np.testing.assert_array_equal(F.concat([zeros, x, zeros]), np.concatenate([zeros, x, zeros], -1))
    assert np.nansum(np.isnan(F.zero_pad2d(x, ((1, 0), (0, 2))))) == x.size
    assert not np.isnan(F.zero_pad2d(x, 1)[0, 0]).any()


@pytest.mark.parametrize("function", [F.sigmoid, F.tanh])
def test_saturated_activations(function):
    low = {F.sigmoid: 0, F.tanh: -1}[function]
    x = np.array([[1e4, -1e4, INF, -INF]], np.float32)
    np.testing.assert_array_equal(function(x), np.array([[1, low, 1, low]], np.float32))
    assert np.isnan(function(np.array([[NAN]]))).all()


@pytest.mark.parametrize("layer", [nc.Sigmoid, nc.Tanh])
def test_saturated_activations_have_no_gradient(layer):
    x = np.array([[1e4, -1e4]], np.float32)
    np.testing.assert_array_equal(gradient(layer(), x, np.ones_like(x)), np.zeros_like(x))


def test_average_of_an_infinite_pixel_stays_in_its_window():
    x = np.ones((1, 4, 4, 1), np.float32)
    x[0, 0, 0] = INF
    np.testing.assert_array_equal(F.avg_pool2d(x, 2), image([[INF, 1], [1, 1]]))
