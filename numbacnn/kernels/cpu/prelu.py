"""ReLU with a slope for each channel (He et al. 2015, section 2.1). Each thread owns a range of rows (n, h)."""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_1d)
def prelu_forward(y, x, w):
    """y = x where x > 0 (or NaN), else w[c] · x. y, x: N×H×W×C; w: C."""
    p_y, p_x, p_w = address(y), address(x), address(w)
    _, height, width, channels = x.shape
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(x) * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        for c in range(0, channels, LANES):
            slope, count = load(p_w + 4 * c, channels - c), channels - c
            for i in range(width):
                value = load(p_x + n * x_image + h * x_row + i * x_pixel + 4 * c, count)
                value = where_greater(value, splat(ZERO), value, slope * value)
                store(p_y + n * y_image + h * y_row + i * y_pixel + 4 * c, value, count)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_1d)
def prelu_gradient_in_place(dy, dw_parts, x, w):
    """dy becomes dx = dy where x > 0, else w[c] · dy; dw_parts = dy · x where x ≤ 0, else 0, to be summed for each c.

    dy, dw_parts, x: N×H×W×C; w: C.
    """
    p_dy, p_parts, p_x, p_w = address(dy), address(dw_parts), address(x), address(w)
    _, height, width, channels = x.shape
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    part_image, part_row, part_pixel = dw_parts.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(x) * height):
        n, h = np.intp(item) // height, np.intp(item) % height
        for c in range(0, channels, LANES):
            slope, count = load(p_w + 4 * c, channels - c), channels - c
            for i in range(width):
                gradient_at = p_dy + n * dy_image + h * dy_row + i * dy_pixel + 4 * c
                gradient = load(gradient_at, count)
                value = load(p_x + n * x_image + h * x_row + i * x_pixel + 4 * c, count)
                part = where_greater(value, splat(ZERO), splat(ZERO), gradient * value)
                store(p_parts + n * part_image + h * part_row + i * part_pixel + 4 * c, part, count)
                store(gradient_at, where_greater(value, splat(ZERO), gradient, slope * gradient), count)
