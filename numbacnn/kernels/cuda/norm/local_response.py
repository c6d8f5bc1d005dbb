"""Local response normalization (Krizhevsky et al. 2012, section 3.3).

y[c] = x[c] · s[c]^−β with s[c] = k + α/size · Σ x² over the ``size`` channels from c − size//2 on, as in PyTorch. Each
thread owns a channel of a pixel; the loads of its neighbors hit the cache.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.runtime.intrinsics import device_function, device_math
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_4d, int64, over
from numbacnn.kernels.cuda.vectors import owned_vector
from numbacnn.kernels.registry import launcher

float32 = types.float32
ZERO, TWO, THREE_QUARTERS = np.float32(0), np.float32(2), np.float32(0.75)


@launcher
def local_response_norm_forward(y, x, size, alpha, beta, k):
    """y = x · s^−β."""
    _forward[over(x.size)](y, x, size, alpha, beta, k)


@cuda_kernel(float32_4d, float32_4d, int64, float32, float32, float32)
def _forward(y, x, size, alpha, beta, k):
    pixel = owned_vector(x, 1)
    if pixel[0] < len(x):
        y[pixel] = _divide_by_power(x[pixel], _scale(x, pixel, size, alpha, k), beta)


@launcher
def local_response_norm_gradient(dx, dy, x, y, scales, size, alpha, beta, k):
    """dx[c] = dy[c]·s[c]^−β − 2αβ/size · x[c] · Σ dy·y/s over the channels whose windows hold c.

    scales: scratch N×H×W×C.
    """
    ratios = scales[: len(x)]
    _ratios[over(x.size)](dx, ratios, dy, x, y, size, alpha, beta, k)
    _subtract_sums[over(x.size)](dx, ratios, x, size, alpha, beta)


@cuda_kernel(*[float32_4d] * 5, int64, float32, float32, float32)
def _ratios(dx, ratios, dy, x, y, size, alpha, beta, k):
    """dx = dy · s^−β, ratios = dy · y / s."""
    pixel = owned_vector(x, 1)
    if pixel[0] < len(x):
        s, gradient = _scale(x, pixel, size, alpha, k), dy[pixel]
        dx[pixel] = _divide_by_power(gradient, s, beta)
        ratios[pixel] = gradient * y[pixel] / s


@cuda_kernel(*[float32_4d] * 3, int64, float32, float32)
def _subtract_sums(dx, ratios, x, size, alpha, beta):
    n, h, w, c = owned_vector(x, 1)
    if n < len(x):
        total = ZERO
        for i in range(max(0, c - (size - 1) // 2), min(x.shape[3], c + size // 2 + 1)):
            total += ratios[n, h, w, i]
        dx[n, h, w, c] -= TWO * alpha * beta / np.float32(size) * x[n, h, w, c] * total


@device_function
def _scale(x, pixel, size, alpha, k):
    n, h, w, c = pixel
    total = ZERO
    for i in range(max(0, c - size // 2), min(x.shape[3], c + (size + 1) // 2)):
        total += x[n, h, w, i] * x[n, h, w, i]
    return k + alpha / np.float32(size) * total


@device_function
def _divide_by_power(x, s, beta):
    """x · s^−β; by roots if β is the usual 3/4."""
    if beta == THREE_QUARTERS:
        root = device_math.sqrt(s)
        return x / (root * device_math.sqrt(root))
    return x * device_math.pow(s, -beta)
