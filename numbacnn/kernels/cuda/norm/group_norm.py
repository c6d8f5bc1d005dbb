"""Group normalization (Wu and He 2018): each image separately, over its pixels and the channels of a group.

Statistics are stored as in ``batch_norm.py``, for each image and channel.
"""

import math

import numpy as np
from numba import types

from numbacnn.kernels.cuda.norm import channels
from numbacnn.kernels.cuda.norm.channels import SUM_THREADS
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_math
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_4d, int64
from numbacnn.kernels.registry import launcher

float64 = types.float64


@launcher
def group_norm_forward(y, statistics, x, weight, bias, coefficients, partial, groups, eps, ceiling=math.nan):
    """y = (x − mean) / √(variance + eps) · weight + bias, with the mean and variance of each group of channels.

    y, x: N×H×W×C; weight, bias: C; statistics, coefficients: scratch of ``norm_coefficients_shape``, statistics empty
    if no gradient will be needed; partial: scratch of ``norm_partial_shape``.
    """
    n, h, w, _ = x.shape
    partial, coefficients = channels.fitting(partial, x, n), coefficients[:n]
    channels.moments(partial, x)
    _group_coefficients[n * groups, SUM_THREADS](
        coefficients, statistics[:n], partial, weight, bias, groups, h * w, eps
    )
    channels.normalize(y, x, coefficients, ceiling)


@launcher
def group_norm_gradient(
    dx, dweight, dbias, dy, x, weight, statistics, coefficients, partial, sums, groups, ceiling=math.nan
):
    """The gradients by x (unless dx is None), weight and bias; ``ceiling`` as in ``batch_norm_gradient``.

    coefficients, partial: scratch of ``norm_coefficients_shape`` and ``norm_partial_shape``; sums: N×1×2×C.
    """
    n, h, w, c = x.shape
    partial, coefficients, sums = channels.fitting(partial, x, n), coefficients[:n], sums[:n]
    channels.gradient_sums(partial, dy, x, statistics, ceiling)
    _gradient_coefficients[n * groups, SUM_THREADS](coefficients, sums, partial, weight, statistics, groups, h * w)
    _sum_images[c, SUM_THREADS](dweight, dbias, sums)
    if dx is not None:
        channels.normalize_gradient(dx, dy, x, coefficients, statistics[:n], ceiling)


@cuda_kernel(float32_4d, float32_4d, float32_4d, *[float32_1d] * 2, int64, int64, float64)
def _group_coefficients(coefficients, statistics, partial, weight, bias, groups, pixels, eps):
    """From ``moments``: statistics, and the coefficients of ``normalize``. Each block owns a group of an image."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    n, size = cuda.blockIdx.x // groups, weight.size // groups
    first = cuda.blockIdx.x % groups * size
    mean, variance = channels.mean_and_variance(shared, partial, n, first, size, pixels)
    inverse = 1 / device_math.sqrt(variance + eps)
    c = first + cuda.threadIdx.x
    while c < first + size:
        channels.write_statistics(coefficients, statistics, n, c, (mean, inverse), (weight[c], bias[c]))
        c += cuda.blockDim.x


@cuda_kernel(*[float32_4d] * 3, float32_1d, float32_4d, int64, int64)
def _gradient_coefficients(coefficients, sums, partial, weight, statistics, groups, pixels):
    """From ``gradient_sums``: the coefficients of ``normalize_gradient``, and the gradients' terms of bias and weight.

    Each block owns a group of an image.
    """
    shared = cuda.shared.array(SUM_THREADS, float64)
    n, size = cuda.blockIdx.x // groups, weight.size // groups
    first = cuda.blockIdx.x % groups * size
    count = np.float64(pixels * size)
    remainder, inverse = np.float64(statistics[n, 0, 1, first]), np.float64(statistics[n, 0, 2, first])
    total, product, c = np.float64(0), np.float64(0), first + cuda.threadIdx.x
    while c < first + size:
        gradient, moment = np.float64(0), np.float64(0)
        for g in range(partial.shape[1]):
            gradient += np.float64(partial[n, g, 0, c])
            moment += np.float64(partial[n, g, 1, c])
        moment = (moment - remainder * gradient) * inverse
        sums[n, 0, 0, c], sums[n, 0, 1, c] = np.float32(gradient), np.float32(moment)
        total += np.float64(weight[c]) * gradient
        product += np.float64(weight[c]) * moment
        c += cuda.blockDim.x
    total, product = block_sum(shared, total), block_sum(shared, product)
    b = -inverse * inverse * product / count
    d = -inverse * total / count - b * remainder
    c = first + cuda.threadIdx.x
    while c < first + size:
        coefficients[n, 0, 0, c] = np.float32(np.float64(weight[c]) * inverse)
        coefficients[n, 0, 1, c] = np.float32(b)
        coefficients[n, 0, 2, c] = np.float32(d)
        c += cuda.blockDim.x


@cuda_kernel(float32_1d, float32_1d, float32_4d)
def _sum_images(dweight, dbias, sums):
    """dbias, dweight = Σ_n sums[n,0]. Each block owns a channel."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    c, n = cuda.blockIdx.x, cuda.threadIdx.x
    gradient, moment = np.float64(0), np.float64(0)
    while n < len(sums):
        gradient += np.float64(sums[n, 0, 0, c])
        moment += np.float64(sums[n, 0, 1, c])
        n += cuda.blockDim.x
    gradient, moment = block_sum(shared, gradient), block_sum(shared, moment)
    if cuda.threadIdx.x == 0:
        dbias[c], dweight[c] = np.float32(gradient), np.float32(moment)
