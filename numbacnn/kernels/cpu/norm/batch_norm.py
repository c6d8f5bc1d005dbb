"""Batch normalization (Ioffe and Szegedy 2015): two passes over the images forward, two backward.

The images are one set, or one for each shard of the batch; each set has statistics of its own.

y = (x − mean) / √(variance + eps) · weight + bias, by channel. Backward reads the statistics that ``write_statistics``
stores. Oracle: ``kernels/reference/norm.py``.
"""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.norm.channels import (
    CHANNELS,
    MIN_SHARD_GROUPS,
    channel_blocks,
    gradient_sums,
    mean_and_variance,
    means_and_variances,
    moments,
    normalize,
    normalize_gradient,
    sets_of,
    stack_numbers,
    total_of,
    totals_of,
    write_statistics,
)
from numbacnn.kernels.cpu.simd.memory import doubles
from numbacnn.kernels.cpu.sums import sum_shards
from numbacnn.kernels.jit import (
    cpu_kernel,
    float32_1d,
    float32_2d,
    float32_4d,
    float32_rows,
    float64_1d,
    int64,
    int64_1d,
)
from numbacnn.kernels.recording import prepare
from numbacnn.kernels.registry import launcher

float64 = types.float64
NO_BIAS = np.empty(0, np.float32)


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
    ``norm_partial_shape``; the others: C, or of the running ones a row for each of the ``shards``, first images and the
    number of all, which are then normalized apart. The running variance is the unbiased one, as in PyTorch.
    """
    sets, (_, h, w, c) = _sets(x, shards), x.shape
    partial, running = sets.fitting(partial), (running_mean.reshape(-1, c), running_var.reshape(-1, c))
    moments(partial, x, sets.starts, sets.groups)
    arrays = coefficients, statistics, *running, partial, weight, bias, sets.starts, sets.groups
    _batch_coefficients(*arrays, h, w, momentum, eps)
    normalize(y, x, coefficients, sets.of_image, ceiling)


def _sets(x, shards=()):
    """The sets of images: the shards, or all of them as one."""
    return sets_of(shards, *x.shape[1:], MIN_SHARD_GROUPS) if shards else sets_of((0, len(x)), *x.shape[1:])


@launcher
def batch_norm_inference(
    y, statistics, x, weight, bias, running_mean, running_var, coefficients, eps, ceiling=math.nan
):
    """Normalize by the running statistics; ``statistics`` is empty if no gradient will be needed."""
    _running_coefficients(coefficients, statistics, weight, bias, running_mean, running_var, eps)
    normalize(y, x, coefficients, _sets(x).of_image, ceiling)


@launcher
def fold_batch_norm(folded_weight, folded_bias, w, b, norm):
    """Fold a normalization, by its running statistics, into the weights and bias of the layer before it.

    folded_weight, w: …×K; folded_bias, b: K, or b None; norm: ``weight bias running_mean running_var``, K, and ``eps``.
    """
    k = w.shape[-1]
    arrays = norm.weight, norm.bias, norm.running_mean, norm.running_var
    bias = NO_BIAS if b is None else b
    prepare(_fold, folded_weight.reshape(-1, k), folded_bias, w.reshape(-1, k), bias, *arrays, norm.eps)


@cpu_kernel(float32_2d, float32_1d, float32_2d, *[float32_1d] * 5, float64)
def _fold(folded_weight, folded_bias, w, b, weight, bias, mean, variance, eps):
    """Each thread owns a range of rows of the weights, and of the bias, as one more row."""
    rows = len(w)
    for m in prange(rows + 1):
        for k in range(w.shape[1]):
            scale = weight[k] / math.sqrt(float64(variance[k]) + eps)
            if m < rows:
                folded_weight[m, k] = w[m, k] * scale
            else:
                own = float64(b[k]) if b.size else 0.0
                folded_bias[k] = (own - mean[k]) * scale + bias[k]


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
    """Write the gradients by x (unless dx is None), weight and bias, those of ``shards`` added in a binary tree.

    Mean and variance are constants unless ``training``. Where forward had ``ceiling``, dy is the gradient by its y, and
    the activation's own gradient is applied too. coefficients, partial: scratch of ``norm_coefficients_shape`` and
    ``norm_partial_shape``; gradients: of bias and weight by set, M×1×2×C.
    """
    sets, (_, h, w, _) = _sets(x, shards), x.shape
    partial, gradients = sets.fitting(partial), gradients[: len(sets.groups)]
    gradient_sums(partial, dy, x, statistics, sets.starts, sets.groups, ceiling)
    arrays = coefficients, gradients, partial, weight, statistics, sets.starts, sets.groups
    _gradient_coefficients(*arrays, h, w, training)
    sum_shards(dbias.reshape(1, 1, 1, -1), gradients[:, :, :1])
    sum_shards(dweight.reshape(1, 1, 1, -1), gradients[:, :, 1:])
    if dx is not None:
        normalize_gradient(dx, dy, x, coefficients, statistics, sets.of_image, ceiling)


# -- shards normalized by the statistics of the batch: the sums of each, 2·C + 1 in float64, are added outside --------


@launcher
def batch_norm_sums(sums, x, partial):
    """sums = Σ x and Σ x² of each channel, and the number of values. partial: scratch of ``norm_partial_shape``.

    The variance from these loses digits if the mean is large, but fewer than rounding x to float32 did.
    """
    sets, (n, h, w, _) = _sets(x), x.shape
    partial = sets.fitting(partial)
    moments(partial, x, sets.starts, sets.groups)
    _moment_sums(sums, partial, n * h, w)


@launcher
def batch_norm_from_sums(
    y, statistics, running_mean, running_var, sums, x, weight, bias, coefficients, momentum, eps, ceiling=math.nan
):
    """``batch_norm_forward`` of images of a batch whose ``batch_norm_sums`` are given."""
    _summed_coefficients(coefficients, statistics, running_mean, running_var, sums, weight, bias, momentum, eps)
    normalize(y, x, coefficients, _sets(x).of_image, ceiling)


@launcher
def batch_norm_gradient_sums(sums, dweight, dbias, dy, x, statistics, partial, ceiling=math.nan):
    """sums = Σ dy and Σ dy · x̂ of each channel, which are also dbias and dweight, and the number of values."""
    sets, (n, h, w, _) = _sets(x), x.shape
    partial = sets.fitting(partial)
    gradient_sums(partial, dy, x, statistics, sets.starts, sets.groups, ceiling)
    _gradient_sums(sums, dweight, dbias, partial, statistics, n * h, w)


@launcher
def batch_norm_gradient_from_sums(dx, sums, dy, x, weight, statistics, coefficients, ceiling=math.nan):
    """The input gradient of images of a batch whose ``batch_norm_gradient_sums`` are given."""
    _summed_gradient_coefficients(coefficients, sums, weight, statistics)
    normalize_gradient(dx, dy, x, coefficients, statistics, _sets(x).of_image, ceiling)


# -- per-channel numbers: each thread owns a range of channels --------------------------------------------------------


@cpu_kernel(
    *[float32_4d] * 2, *[float32_rows] * 2, float32_4d, *[float32_1d] * 2, *[int64_1d] * 2, *[int64] * 2, *[float64] * 2
)
def _batch_coefficients(
    coefficients, statistics, running_mean, running_var, partial, weight, bias, starts, groups, h, w, momentum, eps
):
    """From ``moments``: statistics, the coefficients of ``normalize``, and the new running statistics."""
    c = len(weight)
    blocks = channel_blocks(c)
    for item in prange(len(groups) * blocks):
        m, block = np.intp(item) // blocks, np.intp(item) % blocks
        rows = (starts[m + 1] - starts[m]) * h
        count, memory = np.float64(rows * w), stack_numbers()
        moments = doubles(memory, CHANNELS), doubles(memory + 8 * CHANNELS, CHANNELS)
        means_and_variances(moments, partial, m, block, rows, groups[m], w, c)
        for i in range(min(CHANNELS, c - block * CHANNELS)):
            channel, mean, variance = block * CHANNELS + i, moments[0][i], moments[1][i]
            running_mean[m, channel] += momentum * (mean - running_mean[m, channel])
            running_var[m, channel] += momentum * (variance * count / (count - 1) - running_var[m, channel])
            inverse = 1 / math.sqrt(variance + eps)
            write_statistics(coefficients, statistics, m, channel, (mean, inverse), (c, weight[channel], bias[channel]))


@cpu_kernel(*[float32_4d] * 2, *[float32_1d] * 4, float64, parallel=False)
def _running_coefficients(coefficients, statistics, weight, bias, running_mean, running_var, eps):
    """The coefficients of ``normalize``, and statistics unless empty. Serial: a few numbers for each channel."""
    for c in range(len(weight)):
        inverse = 1 / math.sqrt(np.float64(running_var[c]) + eps)
        mean = np.float64(running_mean[c])
        write_statistics(coefficients, statistics, 0, c, (mean, inverse), (len(weight), weight[c], bias[c]))


@cpu_kernel(*[float32_4d] * 3, float32_1d, float32_4d, *[int64_1d] * 2, *[int64] * 2, types.boolean)
def _gradient_coefficients(coefficients, gradients, partial, weight, statistics, starts, groups, h, w, training):
    """From ``gradient_sums``: each set's gradients of bias and weight, and the coefficients of ``normalize_gradient``.

    Each thread owns a range of sets and channels.
    """
    c = len(weight)
    blocks = channel_blocks(c)
    for item in prange(len(groups) * blocks):
        m, block = np.intp(item) // blocks, np.intp(item) % blocks
        count, memory = np.float64((starts[m + 1] - starts[m]) * h * w), stack_numbers()
        totals = doubles(memory, CHANNELS), doubles(memory + 8 * CHANNELS, CHANNELS)
        totals_of(totals, partial, m, block, groups[m], w, c)
        for channel in range(block * CHANNELS, min((block + 1) * CHANNELS, c)):
            remainder, inverse = np.float64(statistics[m, 0, 1, channel]), np.float64(statistics[m, 0, 2, channel])
            total, moment = totals[0][channel - block * CHANNELS], totals[1][channel - block * CHANNELS]
            product = (moment - remainder * total) * inverse  # Σ dy·(x − mean) / deviation
            gradients[m, 0, 0, channel], gradients[m, 0, 1, channel] = total, product
            a = weight[channel] * inverse
            b = -a * inverse * product / count if training else np.float64(0)
            d = -a * total / count - b * remainder if training else np.float64(0)
            for i in range(channel, coefficients.shape[3], c):
                coefficients[m, 0, 0, i] = a
                coefficients[m, 0, 1, i] = b
                coefficients[m, 0, 2, i] = d


@cpu_kernel(float64_1d, float32_4d, int64, int64)
def _moment_sums(sums, partial, rows, w):
    """From ``moments``: Σ x and Σ x²."""
    c, count = len(sums) // 2, np.float64(rows * w)
    sums[2 * c] = count
    for item in prange(c):
        channel = np.intp(item)
        mean, variance = mean_and_variance(partial, 0, channel, channel + 1, rows, partial.shape[1], w, c)
        sums[channel], sums[c + channel] = count * mean, count * (variance + mean * mean)


@cpu_kernel(*[float32_4d] * 2, *[float32_1d] * 2, float64_1d, *[float32_1d] * 2, float64, float64, parallel=False)
def _summed_coefficients(coefficients, statistics, running_mean, running_var, sums, weight, bias, momentum, eps):
    """``_batch_coefficients`` from ``batch_norm_sums``. Serial: a few numbers for each channel."""
    c = len(weight)
    count = sums[2 * c]
    for channel in range(c):
        mean = sums[channel] / count
        variance = max(sums[c + channel] / count - mean * mean, np.float64(0))
        running_mean[channel] += momentum * (mean - running_mean[channel])
        running_var[channel] += momentum * (variance * count / (count - 1) - running_var[channel])
        inverse = 1 / math.sqrt(variance + eps)
        write_statistics(coefficients, statistics, 0, channel, (mean, inverse), (c, weight[channel], bias[channel]))


@cpu_kernel(float64_1d, *[float32_1d] * 2, *[float32_4d] * 2, int64, int64)
def _gradient_sums(sums, dweight, dbias, partial, statistics, rows, w):
    """From ``gradient_sums``: Σ dy and Σ dy · x̂."""
    c, parts = len(dweight), partial.shape[1]
    sums[2 * c] = np.float64(rows * w)
    for item in prange(c):
        channel = np.intp(item)
        remainder, inverse = np.float64(statistics[0, 0, 1, channel]), np.float64(statistics[0, 0, 2, channel])
        total = total_of(partial, 0, 0, channel, parts, w, c)
        product = (total_of(partial, 0, 1, channel, parts, w, c) - remainder * total) * inverse
        sums[channel], sums[c + channel] = total, product
        dbias[channel], dweight[channel] = total, product


@cpu_kernel(float32_4d, float64_1d, float32_1d, float32_4d, parallel=False)
def _summed_gradient_coefficients(coefficients, sums, weight, statistics):
    """The coefficients of ``normalize_gradient`` from ``batch_norm_gradient_sums``. Serial: a few per channel."""
    c = len(weight)
    count = sums[2 * c]
    for channel in range(c):
        remainder, inverse = np.float64(statistics[0, 0, 1, channel]), np.float64(statistics[0, 0, 2, channel])
        a = weight[channel] * inverse
        b = -a * inverse * sums[c + channel] / count
        d = -a * sums[channel] / count - b * remainder
        for i in range(channel, coefficients.shape[3], c):
            coefficients[0, 0, 0, i] = a
            coefficients[0, 0, 1, i] = b
            coefficients[0, 0, 2, i] = d
