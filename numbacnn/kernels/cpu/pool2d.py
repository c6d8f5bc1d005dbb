"""Max and average pooling and their gradients, a vector of channels at a time. Oracle: ``tests/reference.py``.

Windows are clipped to the input: padding counts as −∞ for the maximum, and no halo is ever read. The gradients add, for
each row of dx, what every window that covers it hands back, so that each thread owns whole rows, overlap or not.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.cpu.memory import address
from numbacnn.kernels.cpu.vector import LANES, load, splat, store, where_equal, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined

MINUS_INFINITY = np.float32(-np.inf)
ZERO = np.float32(0)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def max_pool_forward(y, argmax, x, g):
    """y[n,p,q,c] = max of x over the window; argmax: its place r·S + s in the window, the first of equals.

    y, argmax: N×P×Q×C (argmax contiguous, or without images where no gradient will be asked for); x: N×H×W×C.
    A NaN in the window wins. Each thread owns a range of rows (n, p).
    """
    p_y, p_argmax, p_x = address(y), address(argmax), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    keep = len(argmax) > 0
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            _max_window(
                p_y + n * y_image + p * y_row + q * y_pixel,
                p_argmax + n * a_image + p * a_row + q * a_pixel,
                keep,
                p_x + n * x_image + h * x_row + w * x_pixel,
                x_row,
                x_pixel,
                max(0, -h),
                min(g.r, g.h - h),
                max(0, -w),
                min(g.s, g.w - w),
                g,
            )


@inlined
def _max_window(y, argmax, keep, x, x_row, x_pixel, first_r, last_r, first_s, last_s, g):
    for c in range(0, g.c, LANES):
        best, place = splat(MINUS_INFINITY), splat(np.float32(first_r * g.s + first_s))
        for r in range(first_r, last_r):
            for s in range(first_s, last_s):
                value = load(x + r * x_row + s * x_pixel + 4 * c, g.c - c)
                place = where_greater(value, best, splat(np.float32(r * g.s + s)), place)
                best = where_greater(value, best, value, best)
        store(y + 4 * c, best, g.c - c)
        if keep:
            store(argmax + 4 * c, place, g.c - c)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the windows whose maximum is at (h, w). Each thread owns a range of rows (n, h)."""
    p_dx, p_dy, p_argmax = address(dx), address(dy), address(argmax)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        row = p_dx + n * dx_image + h * dx_row
        _clear_row(row, dx_pixel, g)
        first_p, last_p = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
        for p in range(first_p, last_p):
            r = h + g.pad_top - p * g.stride_h
            dy_start, a_start = p_dy + n * dy_image + p * dy_row, p_argmax + n * a_image + p * a_row
            for q in range(g.q):
                w = q * g.stride_w - g.pad_left
                for s in range(max(0, -w), min(g.s, g.w - w)):
                    place = splat(np.float32(r * g.s + s))
                    pixel = row + (w + s) * dx_pixel
                    for c in range(0, g.c, LANES):
                        left = g.c - c
                        gradient = load(dy_start + q * dy_pixel + 4 * c, left)
                        chosen = where_equal(load(a_start + q * a_pixel + 4 * c, left), place, gradient, splat(ZERO))
                        store(pixel + 4 * c, load(pixel + 4 * c, left) + chosen, left)


@cpu_kernel(float32_4d, float32_4d, PoolGeometry)
def average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over the window. Each thread owns a range of rows (n, p).

    With ``count_include_pad`` the padding counts as zeros, else the mean is over the pixels of the input alone.
    """
    p_y, p_x = address(y), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            share = splat(np.float32(1.0) / np.float32(_counted(h, w, g)))
            window = p_x + n * x_image + h * x_row + w * x_pixel
            pixel = p_y + n * y_image + p * y_row + q * y_pixel
            for c in range(0, g.c, LANES):
                total = splat(ZERO)
                for r in range(max(0, -h), min(g.r, g.h - h)):
                    for s in range(max(0, -w), min(g.s, g.w - w)):
                        total += load(window + r * x_row + s * x_pixel + 4 * c, g.c - c)
                store(pixel + 4 * c, total * share, g.c - c)


@cpu_kernel(float32_4d, float32_4d, PoolGeometry)
def average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / count over the windows that cover (h, w). Each thread owns a range of rows (n, h)."""
    p_dx, p_dy = address(dx), address(dy)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        row = p_dx + n * dx_image + h * dx_row
        _clear_row(row, dx_pixel, g)
        first_p, last_p = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
        for p in range(first_p, last_p):
            for q in range(g.q):
                w = q * g.stride_w - g.pad_left
                share = splat(np.float32(1.0) / np.float32(_counted(p * g.stride_h - g.pad_top, w, g)))
                gradient = p_dy + n * dy_image + p * dy_row + q * dy_pixel
                for c in range(0, g.c, LANES):
                    left = g.c - c
                    part = load(gradient + 4 * c, left) * share
                    for s in range(max(0, -w), min(g.s, g.w - w)):
                        pixel = row + (w + s) * dx_pixel + 4 * c
                        store(pixel, load(pixel, left) + part, left)


@inlined
def _clear_row(row, pixel_step, g):
    for w in range(g.w):
        for c in range(0, g.c, LANES):
            store(row + w * pixel_step + 4 * c, splat(ZERO), g.c - c)


@inlined
def _covering(place, window, stride, outputs):
    """The range of outputs whose windows cover ``place``, counted from the padded edge."""
    return max(0, (place - window) // stride + 1), min(outputs, place // stride + 1)


@inlined
def _counted(h, w, g):
    """Pixels that the mean of the window starting at (h, w) divides by; beyond the declared padding nothing counts."""
    if g.count_include_pad:
        return (min(h + g.r, g.h + g.pad_bottom) - h) * (min(w + g.s, g.w + g.pad_right) - w)
    return (min(h + g.r, g.h) - max(h, 0)) * (min(w + g.s, g.w) - max(w, 0))
