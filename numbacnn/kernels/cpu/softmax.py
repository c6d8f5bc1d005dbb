"""Softmax over the channels of each pixel, its logarithm, and their gradients. Features are images of one pixel."""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd import math as simd_math
from numbacnn.kernels.cpu.simd.memory import floats, stack_floats
from numbacnn.kernels.cpu.views import pixel, row_address
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)
PIXELS = 64  # processed together: enough to fill vectors, few enough for the first-level cache
pixel_memory = stack_floats(2 * PIXELS)


@launcher
@cpu_kernel(float32_4d, float32_4d)
def softmax_forward(y, x):
    """y[…,c] = exp(x[…,c]) / Σ_c exp(x[…,c]). Each thread owns a range of rows (n, h)."""
    width, channels = x.shape[2], x.shape[3]
    for row in prange(x.shape[0] * x.shape[1]):
        p_y, p_x, memory = row_address(y, row), row_address(x, row), pixel_memory()
        for w in range(0, width, PIXELS):
            log_sum_exp(p_y, p_x, w, width, channels, memory)


@inlined
def log_sum_exp(y, x, w, width, channels, memory):
    """Return (m, log Σ exp(x − m)) of the logits x of pixel ``w`` of a row, with their maximum m; softmax goes to y.

    y, x: addresses of the row; ``memory``: from ``pixel_memory``. Call it for the pixels one after the other: every
    ``PIXELS``-th call computes the next ``PIXELS`` of them together, so that exponentials and logarithms fill vectors
    for any number of channels.
    """
    largest, log_total = floats(memory, PIXELS), floats(memory + 4 * PIXELS, PIXELS)
    if w % PIXELS == 0:
        start = 4 * w * channels
        _softmax(y + start, x + start, min(PIXELS, width - w), channels, largest, log_total)
    return largest[w % PIXELS], log_total[w % PIXELS]


@inlined
def _softmax(y, x, count, channels, largest, total):
    """The softmax of ``count`` pixels. Their maximum is subtracted, so that no exponential overflows."""
    for p in range(count):
        logits, below = floats(x + 4 * p * channels, channels), floats(y + 4 * p * channels, channels)
        maximum = logits[0]
        for c in range(1, channels):
            maximum = max(maximum, logits[c])
        for c in range(channels):
            below[c] = logits[c] - maximum
        largest[p] = maximum
    below = floats(y, count * channels)
    for i in range(len(below)):
        below[i] = simd_math.exp(below[i])
    for p in range(count):
        exponentials, sum_ = floats(y + 4 * p * channels, channels), ZERO
        for c in range(channels):  # a loop of its own: see ``jit.FAST_MATH``
            sum_ += exponentials[c]
        for c in range(channels):
            exponentials[c] /= sum_
        total[p] = sum_
    for p in range(count):
        total[p] = simd_math.log(total[p])


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d)
def softmax_gradient(dx, dy, y):
    """dx[…,c] = y[…,c] · (dy[…,c] − Σ_d dy[…,d]·y[…,d]). Each thread owns a range of rows (n, h)."""
    for row in prange(y.shape[0] * y.shape[1]):
        for w in range(y.shape[2]):
            _softmax_gradient_pixel(pixel(dx, row, w), pixel(dy, row, w), pixel(y, row, w))


@inlined
def _softmax_gradient_pixel(dx, dy, y):
    mean = ZERO
    for c in range(len(y)):
        mean += dy[c] * y[c]
    for c in range(len(y)):
        dx[c] = y[c] * (dy[c] - mean)


@launcher
@cpu_kernel(float32_4d, float32_4d)
def log_softmax_forward(y, x):
    """y[…,c] = x[…,c] − log Σ_d exp(x[…,d]). Each thread owns a range of rows (n, h)."""
    width, channels = x.shape[2], x.shape[3]
    for row in prange(x.shape[0] * x.shape[1]):
        p_y, p_x, memory = row_address(y, row), row_address(x, row), pixel_memory()
        for w in range(width):
            largest, log_total = log_sum_exp(p_y, p_x, w, width, channels, memory)
            _subtract(pixel(y, row, w), pixel(x, row, w), largest, log_total)


@inlined
def _subtract(y, x, largest, log_total):
    for c in range(len(y)):
        y[c] = (x[c] - largest) - log_total


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d)
def log_softmax_gradient(dx, dy, y):
    """dx[…,c] = dy[…,c] − exp(y[…,c]) · Σ_d dy[…,d]. Each thread owns a range of rows (n, h)."""
    for row in prange(y.shape[0] * y.shape[1]):
        for w in range(y.shape[2]):
            _log_softmax_gradient_pixel(pixel(dx, row, w), pixel(dy, row, w), pixel(y, row, w))


@inlined
def _log_softmax_gradient_pixel(dx, dy, y):
    total = ZERO
    for c in range(len(y)):
        total += dy[c]
    for c in range(len(y)):
        dx[c] = dy[c] - simd_math.exp(y[c]) * total
