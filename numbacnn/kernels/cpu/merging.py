"""Channels of several inputs side by side, and gates. Oracle: ``tests/reference.py``.

Arguments are N×H×W×C; a gate is N×1×1×C and holds one factor for each channel of each image.
"""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
@cpu_kernel(float32_4d, float32_4d)
def copy_channels(y, x):
    """y = x, where either may be some of the channels of a wider view. Each thread owns a range of rows (n, h)."""
    p_y, p_x = address(y), address(x)
    _, height, width, channels = x.shape
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(x) * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        target, source = p_y + n * y_image + h * y_row, p_x + n * x_image + h * x_row
        for w in range(width):
            for c in range(0, channels, LANES):
                value = load(source + w * x_pixel + 4 * c, channels - c)
                store(target + w * y_pixel + 4 * c, value, channels - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d)
def scale_channels(y, x, gate):
    """y[n,h,w,c] = x[n,h,w,c] · gate[n,0,0,c]. Each thread owns a range of rows (n, h)."""
    p_y, p_x, p_gate = address(y), address(x), address(gate)
    _, height, width, channels = x.shape
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    gate_image = gate.strides[0]
    for item in prange(len(x) * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        target, source, factors = p_y + n * y_image + h * y_row, p_x + n * x_image + h * x_row, p_gate + n * gate_image
        for c in range(0, channels, LANES):
            factor = load(factors + 4 * c, channels - c)
            for w in range(width):
                value = load(source + w * x_pixel + 4 * c, channels - c)
                store(target + w * y_pixel + 4 * c, value * factor, channels - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d)
def channel_dots(dgate, dy, x):
    """dgate[n,0,0,c] = Σ_hw dy[n,h,w,c] · x[n,h,w,c], row by row. Each thread owns channels of images."""
    p_dgate, p_dy, p_x = address(dgate), address(dy), address(x)
    images, height, width, channels = x.shape
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    gate_image = dgate.strides[0]
    blocks = -(-channels // LANES)
    for item in prange(images * blocks):
        n, c = np.intp(item) // blocks, np.intp(item) % blocks * LANES
        total = splat(ZERO)
        for h in range(height):
            in_row = splat(ZERO)
            for w in range(width):
                gradient = load(p_dy + n * dy_image + h * dy_row + w * dy_pixel + 4 * c, channels - c)
                value = load(p_x + n * x_image + h * x_row + w * x_pixel + 4 * c, channels - c)
                in_row += gradient * value
            total += in_row
        store(p_dgate + n * gate_image + 4 * c, total, channels - c)
