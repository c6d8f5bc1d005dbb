"""Concatenation of channels, and gates. Oracle: ``kernels/reference/elementwise.py``.

Arguments are N×H×W×C; a gate is N×1×1×C, one factor for each channel of each image.
"""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.jit import cpu_kernel, float32_4d
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
@cpu_kernel(float32_4d, float32_4d)
def copy_channels(y, x):
    """y = x; either may be a slice of the channels of a wider view. Each thread owns a range of rows (n, h)."""
    images, height, width, channels = x.shape
    for item in prange(images * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        for w in range(width):
            for c in range(0, channels, WIDTH):
                store(at(y, n, h, w) + 4 * c, load(at(x, n, h, w) + 4 * c, channels - c), channels - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d)
def scale_channels(y, x, gate):
    """y[n,h,w,c] = x[n,h,w,c] · gate[n,0,0,c]. Each thread owns a range of rows (n, h)."""
    images, height, width, channels = x.shape
    for item in prange(images * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        for c in range(0, channels, WIDTH):
            factor = load(at(gate, n, 0, 0) + 4 * c, channels - c)
            for w in range(width):
                value = load(at(x, n, h, w) + 4 * c, channels - c)
                store(at(y, n, h, w) + 4 * c, value * factor, channels - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d)
def channel_dots(dgate, dy, x):
    """dgate[n,0,0,c] = Σ_hw dy[n,h,w,c] · x[n,h,w,c], row by row. Each thread owns channels of images."""
    images, height, width, channels = x.shape
    vectors = -(-channels // WIDTH)
    for item in prange(images * vectors):
        n, c = np.intp(item) // vectors, np.intp(item) % vectors * WIDTH
        total = splat(ZERO)
        for h in range(height):
            in_row = splat(ZERO)
            for w in range(width):
                in_row += load(at(dy, n, h, w) + 4 * c, channels - c) * load(at(x, n, h, w) + 4 * c, channels - c)
            total += in_row
        store(at(dgate, n, 0, 0) + 4 * c, total, channels - c)
