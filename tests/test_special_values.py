"""Activations far from zero, and at NaN and the infinities; tests/ops has those of other ops."""

import numpy as np
import oracles
import pytest
from cases import OPS
from engine import input_gradient

import numbacnn as nc

LIMITS = [limits for op in OPS.values() for limits in op.limits]
every_activation = pytest.mark.parametrize("limits", LIMITS, ids=lambda limits: repr(limits.layer()))


@every_activation
def test_activations_far_from_zero_match_the_oracle(limits):
    """Compare element by element, not by a norm that large values dominate, where every formula changes: −8 to 8."""
    layer = limits.layer()
    x = np.linspace(-8, 8, 4098, dtype=np.float32)[None]  # not a multiple of 8, and no bend is hit
    model = nc.Sequential([layer], x.shape[1:])
    arrays = oracles.custom_arrays(model.graph.nodes[0], model.store.arrays())
    call = oracles.Call(layer, [x], arrays, key=(0, 0, 0))
    np.testing.assert_allclose(model.forward(x), call.y, rtol=3e-6, atol=3e-7)
    (slope,), _ = call.gradients(np.ones(x.shape))
    np.testing.assert_allclose(input_gradient(layer, x, np.ones_like(x)), slope, rtol=1e-5, atol=3e-7)


@every_activation
def test_activations_reach_their_limits_and_nan_stays_nan(limits):
    x = np.array([[-np.inf, np.inf, np.nan, 1, -3e38, 3e38]], np.float32)
    y = nc.Sequential([limits.layer()], (6,)).forward(x)
    np.testing.assert_array_equal(y[0, :2], [limits.low, limits.high])
    np.testing.assert_array_equal(np.isnan(y[0]), np.isnan(x[0]))
    slopes = input_gradient(limits.layer(), x, np.ones_like(x))[0]
    np.testing.assert_allclose(slopes[[0, 1, 4, 5]], [limits.low_slope, limits.high_slope] * 2, rtol=1e-6)
