"""Softmax and its gradient: row by row, one row of channels for each pixel or image."""

import math

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined


@inlined
def pixel(x, row, w):
    """The channels of pixel ``w`` of row ``row`` of the rows (n, h) of a view N×H×W×C."""
    n, h = np.intp(row) // x.shape[1], np.intp(row) % x.shape[1]
    return floats(address(x) + n * x.strides[0] + h * x.strides[1] + w * x.strides[2], x.shape[3])


@cpu_kernel(float32_4d, float32_4d)
def softmax_forward(y, x):
    """y[…,c] = exp(x[…,c]) / Σ_c exp(x[…,c]). Each thread owns a range of rows (n, h)."""
    for row in prange(x.shape[0] * x.shape[1]):
        for w in range(x.shape[2]):
            softmax_row(pixel(y, row, w), pixel(x, row, w))


@inlined
def softmax_row(y, x):
    """Returns m = max(x) and log Σ exp(x − m): the largest logit is taken off, so that no exponential overflows."""
    largest = x[0]
    for c in range(1, len(x)):
        largest = max(largest, x[c])
    for c in range(len(x)):
        y[c] = math.exp(x[c] - largest)
    total = np.float32(0)
    for c in range(len(x)):  # a loop of its own: see ``jit.FAST_MATH``
        total += y[c]
    for c in range(len(x)):
        y[c] /= total
    return largest, math.log(total)


@cpu_kernel(float32_4d, float32_4d, float32_4d)
def softmax_gradient(dx, dy, y):
    """dx[…,c] = y[…,c] · (dy[…,c] − Σ_d dy[…,d]·y[…,d]). Each thread owns a range of rows (n, h)."""
    for row in prange(y.shape[0] * y.shape[1]):
        for w in range(y.shape[2]):
            _softmax_gradient_row(pixel(dx, row, w), pixel(dy, row, w), pixel(y, row, w))


@inlined
def _softmax_gradient_row(dx, dy, y):
    mean = np.float32(0)
    for c in range(len(y)):
        mean += dy[c] * y[c]
    for c in range(len(y)):
        dx[c] = y[c] * (dy[c] - mean)
