"""Batch normalization (Ioffe and Szegedy 2015): two passes over the images forward, two backward.

y = (x − mean) / √(variance + eps) · weight + bias, by channel. Backward reads the statistics that ``write_statistics``
stores.
"""

import math

import numpy as np
from numba import types

from numbacnn.kernels.cuda.group_sums import float64_1d
from numbacnn.kernels.cuda.norm import channels
from numbacnn.kernels.cuda.norm.channels import SUM_THREADS
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, device_math
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_2d, float32_4d, int64, over
from numbacnn.kernels.recording import prepare
from numbacnn.kernels.registry import launcher

float64 = types.float64


@launcher
def batch_norm_forward(
    y,
    statistics,
    running_mean,
    running_var,
    x,
    weight,
    bias,
    coefficients,
    partial,
    momentum,
    eps,
    ceiling=math.nan,
    shards=(),
):
    """Training: normalize by the statistics of the batch, and move the running ones towards them by ``momentum``.

    y, x: N×H×W×C; statistics, coefficients: scratch of ``norm_coefficients_shape``; partial: of
    ``norm_partial_shape``; the others: C; shards: none. The running variance is the unbiased one, as in PyTorch.
    """
    n, h, w, c = x.shape
    partial = channels.fitting(partial, x, 1)
    channels.moments(partial, x)
    arrays = coefficients, statistics, running_mean, running_var, partial, weight, bias
    _batch_coefficients[c, SUM_THREADS](*arrays, n * h * w, momentum, eps)
    channels.normalize(y, x, coefficients, ceiling)


@launcher
def batch_norm_inference(
    y, statistics, x, weight, bias, running_mean, running_var, coefficients, eps, ceiling=math.nan
):
    """Normalize by the running statistics; ``statistics`` is empty if no gradient will be needed."""
    _running_coefficients[over(weight.size)](coefficients, statistics, weight, bias, running_mean, running_var, eps)
    channels.normalize(y, x, coefficients, ceiling)


@launcher
def fold_batch_norm(folded_weight, folded_bias, w, b, norm):
    """Fold a normalization, by its running statistics, into the weights and bias of the layer before it.

    folded_weight, w: …×K; folded_bias, b: K, or b None; norm: ``weight bias running_mean running_var``, K, and ``eps``.
    """
    k = w.shape[-1]
    arrays = norm.weight, norm.bias, norm.running_mean, norm.running_var
    bias = w.flat()[:0] if b is None else b
    grid = over(w.size + k)
    prepare(_fold[grid], folded_weight.reshape(-1, k), folded_bias, w.reshape(-1, k), bias, *arrays, norm.eps)


@cuda_kernel(float32_2d, float32_1d, float32_2d, *[float32_1d] * 5, float64)
def _fold(folded_weight, folded_bias, w, b, weight, bias, mean, variance, eps):
    """Each thread owns an element of the weights, or of the bias, as one more row."""
    i = cuda.grid(1)
    rows, columns = w.shape
    m, k = i // columns, i % columns
    if m <= rows:
        scale = np.float64(weight[k]) / device_math.sqrt(np.float64(variance[k]) + eps)
        if m < rows:
            folded_weight[m, k] = np.float32(np.float64(w[m, k]) * scale)
        else:
            old = np.float64(b[k]) if b.size > 0 else np.float64(0)
            folded_bias[k] = np.float32((old - np.float64(mean[k])) * scale + np.float64(bias[k]))


@launcher
def batch_norm_gradient(
    dx,
    dweight,
    dbias,
    dy,
    x,
    weight,
    statistics,
    coefficients,
    partial,
    gradients,
    training,
    ceiling=math.nan,
    shards=(),
):
    """The gradients by x (unless dx is None), weight and bias; mean and variance are constants unless ``training``.

    Where forward had ``ceiling``, dy is the gradient by its y, and the activation's own gradient is applied too.
    coefficients, partial: scratch of ``norm_coefficients_shape`` and ``norm_partial_shape``; gradients: not used;
    shards: none.
    """
    n, h, w, c = x.shape
    partial = channels.fitting(partial, x, 1)
    channels.gradient_sums(partial, dy, x, statistics, ceiling)
    arrays = coefficients, dweight, dbias, partial, weight, statistics
    _gradient_coefficients[c, SUM_THREADS](*arrays, n * h * w, training)
    if dx is not None:
        channels.normalize_gradient(dx, dy, x, coefficients, statistics, ceiling)


# -- a batch in shards: the sums of each shard, 2·C + 1 in float64, are added outside --------------------------------


@launcher
def batch_norm_sums(sums, x, partial):
    """sums = Σ x and Σ x² of each channel, and the number of values. partial: scratch of ``norm_partial_shape``."""
    n, h, w, c = x.shape
    partial = channels.fitting(partial, x, 1)
    channels.moments(partial, x)
    _moment_sums[c, SUM_THREADS](sums, partial, n * h * w)


@launcher
def batch_norm_from_sums(
    y, statistics, running_mean, running_var, sums, x, weight, bias, coefficients, momentum, eps, ceiling=math.nan
):
    """``batch_norm_forward`` of images of a batch whose ``batch_norm_sums`` are given."""
    arrays = coefficients, statistics, running_mean, running_var, sums, weight, bias
    _summed_coefficients[over(weight.size)](*arrays, momentum, eps)
    channels.normalize(y, x, coefficients, ceiling)


@launcher
def batch_norm_gradient_sums(sums, dweight, dbias, dy, x, statistics, partial, ceiling=math.nan):
    """sums = Σ dy and Σ dy · x̂ of each channel, which are also dbias and dweight, and the number of values."""
    n, h, w, c = x.shape
    partial = channels.fitting(partial, x, 1)
    channels.gradient_sums(partial, dy, x, statistics, ceiling)
    _gradient_sums[c, SUM_THREADS](sums, dweight, dbias, partial, statistics, n * h * w)


@launcher
def batch_norm_gradient_from_sums(dx, sums, dy, x, weight, statistics, coefficients, ceiling=math.nan):
    """The input gradient of images of a batch whose ``batch_norm_gradient_sums`` are given."""
    _summed_gradient_coefficients[over(weight.size)](coefficients, sums, weight, statistics)
    channels.normalize_gradient(dx, dy, x, coefficients, statistics, ceiling)


@cuda_kernel(*[float32_4d] * 2, *[float32_1d] * 2, float32_4d, *[float32_1d] * 2, int64, float64, float64)
def _batch_coefficients(
    coefficients, statistics, running_mean, running_var, partial, weight, bias, pixels, momentum, eps
):
    """From ``moments``: statistics, the coefficients of ``normalize``, and the new running statistics.

    Each block owns a channel.
    """
    shared = cuda.shared.array(SUM_THREADS, float64)
    c, count = cuda.blockIdx.x, np.float64(pixels)
    mean, variance = channels.mean_and_variance(shared, partial, 0, c, 1, pixels)
    if cuda.threadIdx.x == 0:
        old_mean, old_var = np.float64(running_mean[c]), np.float64(running_var[c])
        running_mean[c] = np.float32(old_mean + momentum * (mean - old_mean))
        running_var[c] = np.float32(old_var + momentum * (variance * count / (count - 1) - old_var))
        inverse = 1 / device_math.sqrt(variance + eps)
        channels.write_statistics(coefficients, statistics, 0, c, (mean, inverse), (weight[c], bias[c]))


@cuda_kernel(*[float32_4d] * 2, *[float32_1d] * 4, float64)
def _running_coefficients(coefficients, statistics, weight, bias, running_mean, running_var, eps):
    """The coefficients of ``normalize``, and statistics unless empty. Each thread owns a channel."""
    c = cuda.grid(1)
    if c < weight.size:
        moments = np.float64(running_mean[c]), 1 / device_math.sqrt(np.float64(running_var[c]) + eps)
        channels.write_statistics(coefficients, statistics, 0, c, moments, (weight[c], bias[c]))


@device_function
def _gradient_totals(shared, partial, c):
    """Σ dy and Σ dy · (x − center) of a channel, over the groups of ``gradient_sums``; every thread gets them."""
    total, product, g = np.float64(0), np.float64(0), cuda.threadIdx.x
    while g < partial.shape[1]:
        total += np.float64(partial[0, g, 0, c])
        product += np.float64(partial[0, g, 1, c])
        g += cuda.blockDim.x
    return block_sum(shared, total), block_sum(shared, product)


@cuda_kernel(float32_4d, *[float32_1d] * 2, float32_4d, float32_1d, float32_4d, int64, types.boolean)
def _gradient_coefficients(coefficients, dweight, dbias, partial, weight, statistics, pixels, training):
    """From ``gradient_sums``: the parameters' gradients, and the coefficients of ``normalize_gradient``.

    Each block owns a channel.
    """
    shared = cuda.shared.array(SUM_THREADS, float64)
    c, count = cuda.blockIdx.x, np.float64(pixels)
    total, product = _gradient_totals(shared, partial, c)
    if cuda.threadIdx.x == 0:
        remainder, inverse = np.float64(statistics[0, 0, 1, c]), np.float64(statistics[0, 0, 2, c])
        product = (product - remainder * total) * inverse  # Σ dy·(x − mean) / deviation
        dbias[c], dweight[c] = np.float32(total), np.float32(product)
        a = np.float64(weight[c]) * inverse
        b = -a * inverse * product / count if training else np.float64(0)
        d = -a * total / count - b * remainder if training else np.float64(0)
        coefficients[0, 0, 0, c] = np.float32(a)
        coefficients[0, 0, 1, c] = np.float32(b)
        coefficients[0, 0, 2, c] = np.float32(d)


@cuda_kernel(float64_1d, float32_4d, int64)
def _moment_sums(sums, partial, pixels):
    """From ``moments``: Σ x and Σ x². Each block owns a channel."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    c, channels_, count = cuda.blockIdx.x, cuda.gridDim.x, np.float64(pixels)
    mean, variance = channels.mean_and_variance(shared, partial, 0, c, 1, pixels)
    if cuda.threadIdx.x == 0:
        sums[c], sums[channels_ + c] = count * mean, count * (variance + mean * mean)
        if c == 0:
            sums[2 * channels_] = count


@cuda_kernel(*[float32_4d] * 2, *[float32_1d] * 2, float64_1d, *[float32_1d] * 2, float64, float64)
def _summed_coefficients(coefficients, statistics, running_mean, running_var, sums, weight, bias, momentum, eps):
    """``_batch_coefficients`` from ``batch_norm_sums``. Each thread owns a channel."""
    c, size = cuda.grid(1), weight.size
    if c < size:
        count = sums[2 * size]
        mean = sums[c] / count
        variance = channels.at_least_(np.float64(0), sums[size + c] / count - mean * mean)
        old_mean, old_var = np.float64(running_mean[c]), np.float64(running_var[c])
        running_mean[c] = np.float32(old_mean + momentum * (mean - old_mean))
        running_var[c] = np.float32(old_var + momentum * (variance * count / (count - 1) - old_var))
        inverse = 1 / device_math.sqrt(variance + eps)
        channels.write_statistics(coefficients, statistics, 0, c, (mean, inverse), (weight[c], bias[c]))


@cuda_kernel(float64_1d, *[float32_1d] * 2, *[float32_4d] * 2, int64)
def _gradient_sums(sums, dweight, dbias, partial, statistics, pixels):
    """From ``gradient_sums``: Σ dy and Σ dy · x̂. Each block owns a channel."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    c, size = cuda.blockIdx.x, dweight.size
    total, product = _gradient_totals(shared, partial, c)
    if cuda.threadIdx.x == 0:
        product = (product - np.float64(statistics[0, 0, 1, c]) * total) * np.float64(statistics[0, 0, 2, c])
        sums[c], sums[size + c] = total, product
        if c == 0:
            sums[2 * size] = np.float64(pixels)
        dbias[c], dweight[c] = np.float32(total), np.float32(product)


@cuda_kernel(float32_4d, float64_1d, float32_1d, float32_4d)
def _summed_gradient_coefficients(coefficients, sums, weight, statistics):
    """The coefficients of ``normalize_gradient`` from ``batch_norm_gradient_sums``. Each thread owns a channel."""
    c, size = cuda.grid(1), weight.size
    if c < size:
        count, remainder = sums[2 * size], np.float64(statistics[0, 0, 1, c])
        a = np.float64(weight[c]) * np.float64(statistics[0, 0, 2, c])
        b = -a * np.float64(statistics[0, 0, 2, c]) * sums[size + c] / count
        d = -a * sums[c] / count - b * remainder
        coefficients[0, 0, 0, c] = np.float32(a)
        coefficients[0, 0, 1, c] = np.float32(b)
        coefficients[0, 0, 2, c] = np.float32(d)
