"""Softmax and its gradient: row by row, one row of channels for each pixel or image."""

import math

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined


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
        softmax_row(pixel(y, item), pixel(x, item))


@inlined
def softmax_row(y, x):
    """Returns m = max(x) and log Σ exp(x − m): the largest logit is taken off, so that no exponential overflows."""
    largest = x[0]
    for c in range(1, len(x)):
        largest = max(largest, x[c])
    total = np.float32(0)
    for c in range(len(x)):
        y[c] = math.exp(x[c] - largest)
        total += y[c]
    for c in range(len(x)):
        y[c] /= total
    return largest, math.log(total)


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
