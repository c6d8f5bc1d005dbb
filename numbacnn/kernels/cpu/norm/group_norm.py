"""Group normalization (Wu and He 2018): each image on its own, over its pixels and the channels of a group.

Statistics as in ``batch_norm``, for each image and channel. Oracle: ``kernels/reference/norm.py``.
"""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.norm.channels import (
    gradient_sums,
    mean_and_variance,
    moments,
    normalize,
    normalize_gradient,
    sets_of,
    total_of,
    write_statistics,
)
from numbacnn.kernels.cpu.sums import plus, sum_pixels
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, int64
from numbacnn.kernels.registry import launcher


@launcher
def group_norm_forward(y, statistics, x, weight, bias, coefficients, partial, groups, eps, ceiling=math.nan):
    """y = (x − mean) / √(variance + eps) · weight + bias, with mean and variance of each image's group of channels.

    y, x: N×H×W×C; weight, bias: C; statistics, coefficients: scratch of ``norm_coefficients_shape``, statistics empty
    if no gradient will be needed; partial: scratch of ``norm_partial_shape``.
    """
    n, h, w, _ = x.shape
    sets, coefficients = sets_of(tuple(range(n + 1)), *x.shape[1:]), coefficients[:n]
    partial = sets.fitting(partial)
    moments(partial, x, sets.starts, sets.groups)
    _group_coefficients(coefficients, statistics[:n], partial, weight, bias, groups, h, w, eps)
    normalize(y, x, coefficients, sets.of_image, ceiling)


@launcher
def group_norm_gradient(
    dx, dweight, dbias, dy, x, weight, statistics, coefficients, partial, sums, groups, ceiling=math.nan
):
    """Write the gradients by x (unless dx is None), weight and bias; ``ceiling`` as in ``batch_norm_gradient``.

    coefficients, partial: scratch of ``norm_coefficients_shape`` and ``norm_partial_shape``; sums: N×1×2×C.
    """
    n, h, w, _ = x.shape
    sets, coefficients, sums = sets_of(tuple(range(n + 1)), *x.shape[1:]), coefficients[:n], sums[:n]
    partial = sets.fitting(partial)
    gradient_sums(partial, dy, x, statistics, sets.starts, sets.groups, ceiling)
    _gradient_coefficients(coefficients, sums, partial, weight, statistics, groups, h, w)
    sum_pixels(dbias.reshape(1, 1, 1, -1), sums[:, :, :1])
    sum_pixels(dweight.reshape(1, 1, 1, -1), sums[:, :, 1:])
    if dx is not None:
        normalize_gradient(dx, dy, x, coefficients, statistics, sets.of_image, ceiling)


@cpu_kernel(float32_4d, float32_4d, float32_4d, *[float32_1d] * 2, int64, int64, int64, types.float64)
def _group_coefficients(coefficients, statistics, partial, weight, bias, groups, h, w, eps):
    """From ``moments``: statistics, and the coefficients of ``normalize``. Each thread owns a range of images."""
    c = len(weight)
    size = c // groups
    for item in prange(len(coefficients)):
        n = np.intp(item)
        for first in range(0, c, size):
            mean, variance = mean_and_variance(partial, n, first, first + size, h, partial.shape[1], w, c)
            inverse = 1 / math.sqrt(variance + eps)
            for channel in range(first, first + size):
                write_statistics(
                    coefficients, statistics, n, channel, (mean, inverse), (c, weight[channel], bias[channel])
                )


@cpu_kernel(*[float32_4d] * 3, float32_1d, float32_4d, int64, int64, int64)
def _gradient_coefficients(coefficients, sums, partial, weight, statistics, groups, h, w):
    """From ``gradient_sums``: the coefficients of ``normalize_gradient``, and each image's terms of the gradients of
    bias and weight. Each thread owns a range of images."""
    c, parts = len(weight), partial.shape[1]
    size = c // groups
    count = np.float64(h * w * size)
    for item in prange(len(coefficients)):
        n = np.intp(item)
        for first in range(0, c, size):
            remainder, inverse = np.float64(statistics[n, 0, 1, first]), np.float64(statistics[n, 0, 2, first])
            total, product = np.float64(0), np.float64(0)
            for channel in range(first, first + size):
                gradient = total_of(partial, n, 0, channel, parts, w, c)
                moment = (total_of(partial, n, 1, channel, parts, w, c) - remainder * gradient) * inverse
                sums[n, 0, 0, channel], sums[n, 0, 1, channel] = gradient, moment
                total = plus(total, weight[channel] * gradient)
                product = plus(product, weight[channel] * moment)
            b = -inverse * inverse * product / count
            d = -inverse * total / count - b * remainder
            for channel in range(first, first + size):
                for i in range(channel, coefficients.shape[3], c):
                    coefficients[n, 0, 0, i] = weight[channel] * inverse
                    coefficients[n, 0, 1, i] = b
                    coefficients[n, 0, 2, i] = d
