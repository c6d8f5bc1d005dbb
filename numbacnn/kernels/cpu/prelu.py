"""ReLU with a slope for each channel (He et al. 2015, section 2.1). Each thread owns a range of rows (n, h)."""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store, where_greater
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_1d)
def prelu_forward(y, x, w):
    """y = x where x > 0 (or NaN), else w[c] · x. y, x: N×H×W×C; w: C."""
    images, height, width, channels = x.shape
    for item in prange(images * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        for c in range(0, channels, WIDTH):
            slope, count = load(address(w) + 4 * c, channels - c), channels - c
            for i in range(width):
                value = load(at(x, n, h, i) + 4 * c, count)
                store(at(y, n, h, i) + 4 * c, where_greater(value, splat(ZERO), value, slope * value), count)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_1d)
def prelu_gradient_in_place(dy, dw_parts, x, w):
    """dy becomes dx = dy where x > 0 (or NaN), else w[c] · dy; dw_parts = dy · x where x ≤ 0, else 0: terms of dw[c].

    dy, dw_parts, x: N×H×W×C; w: C.
    """
    images, height, width, channels = x.shape
    for item in prange(images * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        for c in range(0, channels, WIDTH):
            slope, count = load(address(w) + 4 * c, channels - c), channels - c
            for i in range(width):
                gradient, value = load(at(dy, n, h, i) + 4 * c, count), load(at(x, n, h, i) + 4 * c, count)
                part = where_greater(value, splat(ZERO), splat(ZERO), gradient * value)
                store(at(dw_parts, n, h, i) + 4 * c, part, count)
                gradient = where_greater(value, splat(ZERO), gradient, slope * gradient)
                store(at(dy, n, h, i) + 4 * c, gradient, count)
