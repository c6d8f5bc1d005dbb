"""Softmax, and the losses with their gradients: row by row, one row of channels for each pixel or image."""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined


@inlined
def pixel(x, item):
    """The channels of pixel ``item`` of a view N×H×W×C."""
    w = np.intp(item) % x.shape[2]
    h = np.intp(item) // x.shape[2] % x.shape[1]
    n = np.intp(item) // (x.shape[1] * x.shape[2])
    return floats(address(x) + n * x.strides[0] + h * x.strides[1] + w * x.strides[2], x.shape[3])


@cpu_kernel(float32_4d, float32_4d)
def softmax_forward(y, x):
    """y[…,c] = exp(x[…,c]) / Σ_c exp(x[…,c]). Each thread owns a range of pixels (n, h, w)."""
    for item in prange(x.shape[0] * x.shape[1] * x.shape[2]):
        _softmax_row(pixel(y, item), pixel(x, item))


@inlined
def _softmax_row(y, x):
    """Returns log Σ exp(x); the largest logit is taken off first, so that no exponential overflows."""
    largest = x[0]
    for c in range(1, len(x)):
        largest = max(largest, x[c])
    total = np.float32(0)
    for c in range(len(x)):
        y[c] = math.exp(x[c] - largest)
        total += y[c]
    for c in range(len(x)):
        y[c] /= total
    return largest + math.log(total)


@cpu_kernel(float32_4d, float32_4d, float32_4d)
def softmax_gradient(dx, dy, y):
    """dx[…,c] = y[…,c] · (dy[…,c] − Σ_d dy[…,d]·y[…,d]). Each thread owns a range of pixels (n, h, w)."""
    for item in prange(y.shape[0] * y.shape[1] * y.shape[2]):
        _softmax_gradient_row(pixel(dx, item), pixel(dy, item), pixel(y, item))


@inlined
def _softmax_gradient_row(dx, dy, y):
    mean = np.float32(0)
    for c in range(len(y)):
        mean += dy[c] * y[c]
    for c in range(len(y)):
        dx[c] = y[c] * (dy[c] - mean)


@cpu_kernel(float32_1d, float32_4d, float32_4d, types.Array(types.int64, 1, "C"))
def cross_entropy_labels(losses, dx, x, labels):
    """losses[i] = log Σ_c exp(x[i,c]) − x[i, labels[i]]; dx = (softmax(x) − onehot) / count.

    losses: one for each pixel i = (n, h, w); x, dx: N×H×W×C logits and their gradient for the mean of the losses;
    labels: class of each pixel, as many as losses. Each thread owns a range of pixels.
    """
    share = np.float32(1) / np.float32(losses.size)
    for item in prange(losses.size):
        losses[item] = _cross_entropy_label_row(pixel(dx, item), pixel(x, item), labels[item], share)


@inlined
def _cross_entropy_label_row(dx, x, label, share):
    loss = _softmax_row(dx, x) - x[label]
    for c in range(len(x)):
        dx[c] *= share
    dx[label] -= share
    return loss


@cpu_kernel(float32_1d, float32_4d, float32_4d, float32_4d)
def cross_entropy_probabilities(losses, dx, x, target):
    """losses[i] = Σ_c target[i,c] · (log Σ_d exp(x[i,d]) − x[i,c]), and its gradient as in ``cross_entropy_labels``."""
    share = np.float32(1) / np.float32(losses.size)
    for item in prange(losses.size):
        losses[item] = _cross_entropy_row(pixel(dx, item), pixel(x, item), pixel(target, item), share)


@inlined
def _cross_entropy_row(dx, x, target, share):
    log_total = _softmax_row(dx, x)
    loss, weight = np.float32(0), np.float32(0)
    for c in range(len(x)):
        weight += target[c]
        if target[c] != 0:  # 0 · ∞ counts as 0
            loss += target[c] * (log_total - x[c])
    for c in range(len(x)):
        dx[c] = (dx[c] * weight - target[c]) * share
    return loss


@cpu_kernel(float32_1d, float32_4d, float32_4d, float32_4d)
def mean_squared_error(losses, dx, x, target):
    """losses[i] = mean_c (x − target)², dx = 2·(x − target) / (count · C). Each thread owns a range of pixels."""
    share = np.float32(2) / np.float32(losses.size * x.shape[3])
    for item in prange(losses.size):
        losses[item] = _squared_error_row(pixel(dx, item), pixel(x, item), pixel(target, item), share)


@inlined
def _squared_error_row(dx, x, target, share):
    total = np.float32(0)
    for c in range(len(x)):
        difference = x[c] - target[c]
        total += difference * difference
        dx[c] = share * difference
    return total / np.float32(len(x))
