"""Batch normalization from sums, for batches in shards: the kernels against those of a whole batch on the reference."""

import numpy as np
import pytest

from numbacnn.engine.device import get_device


@pytest.mark.parametrize("channels", [1, 7])
def test_batch_norm_from_sums_is_batch_norm(channels):
    device, reference = get_device("cuda"), get_device("reference").kernels
    rng, shape = np.random.default_rng(0), (3, 4, 5, channels)
    arrays = {name: rng.normal(size=shape).astype(np.float32) for name in ("x", "dy", "y", "dx")}
    arrays |= {name: rng.normal(size=channels).astype(np.float32) for name in ("weight", "bias")}
    arrays |= {name: np.ones(channels, np.float32) for name in ("mean", "var", "d_weight", "d_bias")}
    on_device = {name: device.zeros(array.shape) for name, array in arrays.items()}
    for name, array in arrays.items():
        device.write(on_device[name], array)
    x, dy, y, dx, weight, bias, mean, var, d_weight, d_bias = on_device.values()
    statistics, coefficients, gradient_coefficients = (
        device.zeros(device.sizes.norm_coefficients_shape(1, numbers, channels)) for numbers in (5, 3, 3)
    )
    partial, partial_gradient = (
        device.zeros(device.sizes.norm_partial_shape(1, 12, numbers, 5, channels)) for numbers in (3, 2)
    )
    sums, gradient_sums = (device.zeros(2 * channels + 1, np.float64) for _ in range(2))
    kernels = device.kernels
    kernels.batch_norm_sums(sums, x, partial)
    kernels.batch_norm_from_sums(y, statistics, mean, var, sums, x, weight, bias, coefficients, 0.1, 1e-5)
    kernels.batch_norm_gradient_sums(gradient_sums, d_weight, d_bias, dy, x, statistics, partial_gradient)
    kernels.batch_norm_gradient_from_sums(dx, gradient_sums, dy, x, weight, statistics, gradient_coefficients)

    moments = np.zeros((1, 4, channels))
    expected = {name: np.array(array, np.float64) for name, array in arrays.items()}
    x, dy, y, dx, weight, bias, mean, var, d_weight, d_bias = expected.values()
    reference.batch_norm_forward(y, moments, mean, var, x, weight, bias, None, None, 0.1, 1e-5)
    reference.batch_norm_gradient(dx, d_weight, d_bias, dy, x, weight, moments, None, None, None, True)
    for name, truth in expected.items():
        np.testing.assert_allclose(device.host(on_device[name]), truth, rtol=1e-4, atol=1e-5, err_msg=name)
