"""Local response normalization (Krizhevsky et al. 2012, section 3.3). Oracle: ``kernels/reference/norm.py``.

y[c] = x[c] · s[c]^−β with s[c] = k + α/size · Σ x² over the ``size`` channels from c − size//2 on, as in PyTorch.
"""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.views import pixel
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64
from numbacnn.kernels.registry import launcher

float32 = types.float32
THREE_QUARTERS = np.float32(0.75)


@launcher
@cpu_kernel(float32_4d, float32_4d, int64, float32, float32, float32)
def local_response_norm_forward(y, x, size, alpha, beta, k):
    """y = x · s^−β. Each thread owns a range of rows (n, h)."""
    for row in prange(x.shape[0] * x.shape[1]):
        for w in range(x.shape[2]):
            _forward_pixel(pixel(y, row, w), pixel(x, row, w), size, alpha, beta, k)


@launcher
@cpu_kernel(*[float32_4d] * 5, int64, float32, float32, float32)
def local_response_norm_gradient(dx, dy, x, y, scales, size, alpha, beta, k):
    """dx[c] = dy[c]·s[c]^−β − 2αβ/size · x[c] · Σ dy·y/s over the channels whose windows contain c.

    scales: scratch N×H×W×C. Each thread owns a range of rows (n, h).
    """
    for row in prange(x.shape[0] * x.shape[1]):
        for w in range(x.shape[2]):
            inputs = pixel(dy, row, w), pixel(x, row, w), pixel(y, row, w)
            _gradient_pixel(pixel(dx, row, w), pixel(scales, row, w), inputs, size, alpha, beta, k)


@inlined
def _write_scales(s, x, size, alpha, k):
    share = alpha / np.float32(size)
    for c in range(len(x)):
        s[c] = 0
    for d in range(-(size // 2), (size + 1) // 2):
        for c in range(max(0, -d), min(len(x), len(x) - d)):
            neighbor = x[np.uintp(c + d)]  # unsigned: LLVM does not vectorize indices that might be negative
            s[c] += neighbor * neighbor
    for c in range(len(x)):
        s[c] = k + share * s[c]


@inlined
def _multiply_by_power(y, x, s, beta):
    """y = x · s^−β; for the usual β = 3/4, by square roots, which are vectorized."""
    if beta == THREE_QUARTERS:
        for c in range(len(x)):
            root = math.sqrt(s[c])
            y[c] = x[c] / (root * math.sqrt(root))
    else:
        for c in range(len(x)):
            y[c] = x[c] * s[c] ** -beta


@inlined
def _forward_pixel(y, x, size, alpha, beta, k):
    _write_scales(y, x, size, alpha, k)
    _multiply_by_power(y, x, y, beta)


@inlined
def _gradient_pixel(dx, s, inputs, size, alpha, beta, k):
    dy, x, y = inputs
    _write_scales(s, x, size, alpha, k)
    _multiply_by_power(dx, dy, s, beta)
    for c in range(len(x)):
        s[c] = dy[c] * y[c] / s[c]
    factor = 2 * alpha * beta / np.float32(size)
    for d in range(-((size - 1) // 2), size // 2 + 1):
        for c in range(max(0, -d), min(len(x), len(x) - d)):
            dx[c] -= factor * x[c] * s[np.uintp(c + d)]
