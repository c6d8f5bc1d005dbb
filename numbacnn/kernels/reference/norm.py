"""Normalization: over the batch, over groups of channels, over neighboring channels.

x̂ = (x − mean) / √(variance + eps), y = x̂ · weight + bias. Layers differ in the axes of mean and variance; the form of
the gradient is the same:  dx = (g − mean(g) − x̂ · mean(g · x̂)) / √(variance + eps),  g = dy · weight.
"""

import math

import numpy as np

from numbacnn.kernels.reference.arrays import PIXELS, float64
from numbacnn.kernels.registry import launcher

MEAN, INVERSE, WEIGHT, BIAS = range(4)  # of ``statistics``: mean, 1 / √(variance + eps), and the parameters


def _normalized_gradient(g, x_hat, inverse, axes):
    """dx from the gradient g by x̂."""
    return inverse * (g - g.mean(axes, keepdims=True) - x_hat * (g * x_hat).mean(axes, keepdims=True))


def _clamp(value, ceiling):
    """The value between 0 and ``ceiling``, unless that is NaN."""
    return value if math.isnan(ceiling) else np.minimum(np.maximum(value, 0), ceiling)


def _clamp_gradient(dy, x_hat, statistics, ceiling):
    """The gradient of ``_clamp``: dy where 0 < y < ceiling, y is NaN, or infinite as the ceiling; else 0."""
    if math.isnan(ceiling):
        return dy
    value = x_hat * float64(statistics[0, WEIGHT]) + float64(statistics[0, BIAS])
    return np.where((value <= 0) | ((value >= ceiling) & (ceiling < math.inf)), 0, dy)


# -- batch normalization (Ioffe and Szegedy 2015): over images and pixels, for each channel ---------------------------


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
    """Training: normalize by the batch's mean and biased variance, and move the running statistics, of the unbiased
    variance, toward the batch's by the factor ``momentum``. statistics: 1×4×C; coefficients, partial: not used;
    shards: none."""
    x = float64(x)
    mean, variance = x.mean(PIXELS), x.var(PIXELS)
    count = x[..., 0].size
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance * count / (count - 1) - running_var)
    _normalize(y, statistics, x, weight, bias, mean, variance, eps, ceiling)


@launcher
def batch_norm_inference(
    y, statistics, x, weight, bias, running_mean, running_var, coefficients, eps, ceiling=math.nan
):
    """Normalize by the running statistics. ``statistics`` is empty if no gradient will be needed."""
    _normalize(y, statistics, float64(x), weight, bias, float64(running_mean), float64(running_var), eps, ceiling)


def _normalize(y, statistics, x, weight, bias, mean, variance, eps, ceiling):
    inverse = 1 / np.sqrt(variance + eps)
    total = (x - mean) * inverse * weight + bias
    y[...] = _clamp(total, ceiling)
    if len(statistics):
        statistics[0] = mean, inverse, weight, bias


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
    """dweight = Σ dy · x̂, dbias = Σ dy, and dx, unless it is None; if not ``training``, mean and variance are
    constants, and dx = dy · weight / √(variance + eps). With ``ceiling``, dy is first multiplied by the derivative of
    the clamp. coefficients, partial, gradients: not used; shards: none."""
    dy, x, weight, inverse = float64(dy), float64(x), float64(weight), float64(statistics[0, INVERSE])
    mean = x.mean(PIXELS) if training else statistics[0, MEAN]  # a batch's mean need not be a float32
    x_hat = (x - mean) * inverse
    dy = _clamp_gradient(dy, x_hat, statistics, ceiling)
    dweight[...], dbias[...] = (dy * x_hat).sum(PIXELS), dy.sum(PIXELS)
    if dx is not None:
        dx[...] = _normalized_gradient(dy * weight, x_hat, inverse, PIXELS) if training else dy * weight * inverse


@launcher
def batch_norm_sums(sums, x, partial):
    """sums = Σ x and Σ x² of each channel of one shard of a batch, and the number of values. partial: not used."""
    x = float64(x)
    sums[:] = np.concatenate([x.sum(PIXELS), (x**2).sum(PIXELS), [x[..., 0].size]])


@launcher
def batch_norm_from_sums(
    y, statistics, running_mean, running_var, sums, x, weight, bias, coefficients, momentum, eps, ceiling=math.nan
):
    """``batch_norm_forward`` of images of a batch whose ``batch_norm_sums`` are given."""
    (mean, square), count = sums[:-1].reshape(2, -1) / sums[-1], sums[-1]
    variance = np.maximum(square - mean**2, 0)
    running_mean += momentum * (mean - running_mean)
    running_var += momentum * (variance * count / (count - 1) - running_var)
    _normalize(y, statistics, float64(x), weight, bias, mean, variance, eps, ceiling)


@launcher
def batch_norm_gradient_sums(sums, dweight, dbias, dy, x, statistics, partial, ceiling=math.nan):
    """sums = Σ dy and Σ dy · x̂ of each channel, which are also dbias and dweight, and the number of values."""
    x_hat = (float64(x) - statistics[0, MEAN]) * float64(statistics[0, INVERSE])
    dy = _clamp_gradient(float64(dy), x_hat, statistics, ceiling)
    total, product = dy.sum(PIXELS), (dy * x_hat).sum(PIXELS)
    dbias[...], dweight[...] = total, product
    sums[:] = np.concatenate([total, product, [x[..., 0].size]])


@launcher
def batch_norm_gradient_from_sums(dx, sums, dy, x, weight, statistics, coefficients, ceiling=math.nan):
    """The input gradient of images of a batch whose ``batch_norm_gradient_sums`` are given."""
    (total, product), inverse = sums[:-1].reshape(2, -1) / sums[-1], float64(statistics[0, INVERSE])
    x_hat = (float64(x) - statistics[0, MEAN]) * inverse
    dy = _clamp_gradient(float64(dy), x_hat, statistics, ceiling)
    dx[...] = float64(weight) * inverse * (dy - total - x_hat * product)


@launcher
def fold_batch_norm(folded_weight, folded_bias, w, b, norm):
    """Fold a batch normalization, by its running statistics, into weights and bias of the layer before it:
    w · s and (b − running_mean) · s + bias, s = weight / √(running_var + eps)."""
    scale = norm.weight / np.sqrt(float64(norm.running_var) + norm.eps)
    folded_weight[...] = w * scale
    folded_bias[...] = ((0 if b is None else float64(b)) - norm.running_mean) * scale + norm.bias


# -- group normalization (Wu and He 2018): over the pixels and channels of a group, for each image --------------------


@launcher
def group_norm_forward(y, statistics, x, weight, bias, coefficients, partial, groups, eps, ceiling=math.nan):
    """Normalize each image's groups of channels. statistics: N×4×C, or empty if no gradient will be
    needed; coefficients, partial: not used."""
    grouped = _by_group(float64(x), groups)
    mean, inverse = grouped.mean((1, 3)), 1 / np.sqrt(grouped.var((1, 3)) + eps)
    total = ((grouped - mean[:, None, :, None]) * inverse[:, None, :, None]).reshape(x.shape) * weight + bias
    y[...] = _clamp(total, ceiling)
    if len(statistics):
        statistics[: len(x), WEIGHT], statistics[: len(x), BIAS] = weight, bias
        statistics[: len(x), MEAN, :groups], statistics[: len(x), INVERSE, :groups] = mean, inverse


@launcher
def group_norm_gradient(
    dx, dweight, dbias, dy, x, weight, statistics, coefficients, partial, sums, groups, ceiling=math.nan
):
    """dweight = Σ dy · x̂, dbias = Σ dy, and dx, unless it is None; ``ceiling`` as in ``batch_norm_gradient``.
    coefficients, partial, sums: not used."""
    dy, grouped = float64(dy), _by_group(float64(x), groups)
    inverse = float64(statistics[: len(x), INVERSE, :groups])[:, None, :, None]
    x_hat = (grouped - grouped.mean((1, 3), keepdims=True)) * inverse
    dy = _clamp_gradient(dy, x_hat.reshape(x.shape), statistics, ceiling)
    dweight[...], dbias[...] = (dy * x_hat.reshape(x.shape)).sum(PIXELS), dy.sum(PIXELS)
    if dx is not None:
        dx[...] = _normalized_gradient(_by_group(dy * weight, groups), x_hat, inverse, (1, 3)).reshape(x.shape)


def _by_group(x, groups):
    """Reshape x to images × pixels × groups × channels of a group."""
    return x.reshape(len(x), -1, groups, x.shape[-1] // groups)


# -- local response normalization (Krizhevsky et al. 2012, section 3.3): over neighboring channels --------------------


@launcher
def local_response_norm_forward(y, x, size, alpha, beta, k):
    """y[c] = x[c] · s[c]^−beta, s[c] = k + alpha/size · Σ x² over the channels c − size//2 … c + (size − 1)//2."""
    x = float64(x)
    y[...] = x * _scales(x, size, alpha, k) ** -beta


@launcher
def local_response_norm_gradient(dx, dy, x, y, scales, size, alpha, beta, k):
    """Each output adds dy · s^−beta to the gradient of its own channel, and −2·alpha·beta/size · dy · y / s · x to that
    of every channel of its window. scales: not used."""
    dy, x, y = float64(dy), float64(x), float64(y)
    s, total = _scales(x, size, alpha, k), np.zeros(x.shape)
    for c in range(x.shape[-1]):
        total[..., c] += dy[..., c] * s[..., c] ** -beta
        window = slice(max(0, c - size // 2), c + (size - 1) // 2 + 1)
        pull = 2 * alpha * beta / size * dy[..., c] * y[..., c] / s[..., c]
        total[..., window] -= pull[..., None] * x[..., window]
    dx[...] = total


def _scales(x, size, alpha, k):
    squares = np.pad(x**2, [(0, 0)] * 3 + [(size // 2, (size - 1) // 2)])
    return k + alpha / size * sum(squares[..., d : d + x.shape[-1]] for d in range(size))
