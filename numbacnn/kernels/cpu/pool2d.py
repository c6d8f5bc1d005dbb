"""Max and average pooling and their gradients, a vector of channels at a time. Oracle: ``tests/reference.py``.

Windows are clipped to the input: padding counts as −∞ for the maximum, and no halo is ever read. The gradients gather:
each pixel of dx adds what the windows that cover it hand back, all its channels window by window: they lie in the first
cache, and what a window needs is found once for all of them.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.cpu.memory import address
from numbacnn.kernels.cpu.rows import clear_row
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
            target, window = p_y + n * y_image + p * y_row + q * y_pixel, p_x + n * x_image + h * x_row + w * x_pixel
            rows, columns = (max(0, -h), min(g.r, g.h - h)), (max(0, -w), min(g.s, g.w - w))
            if keep:
                place = p_argmax + n * a_image + p * a_row + q * a_pixel
                _max_and_place(target, place, window, x_row, x_pixel, rows, columns, g)
            else:
                _max(target, window, x_row, x_pixel, rows, columns, g)


@inlined
def _max_and_place(y, argmax, x, x_row, x_pixel, rows, columns, g):
    """Of one window, whose rows and columns inside of the input are given."""
    for c in range(0, g.c, LANES):
        best, place = splat(MINUS_INFINITY), splat(np.float32(rows[0] * g.s + columns[0]))
        for r in range(rows[0], rows[1]):
            for s in range(columns[0], columns[1]):
                value = load(x + r * x_row + s * x_pixel + 4 * c, g.c - c)
                place = where_greater(value, best, splat(np.float32(r * g.s + s)), place)
                best = where_greater(value, best, value, best)
        store(y + 4 * c, best, g.c - c)
        store(argmax + 4 * c, place, g.c - c)


@inlined
def _max(y, x, x_row, x_pixel, rows, columns, g):
    """The same without the place, for inference."""
    for c in range(0, g.c, LANES):
        best = splat(MINUS_INFINITY)
        for r in range(rows[0], rows[1]):
            for s in range(columns[0], columns[1]):
                value = load(x + r * x_row + s * x_pixel + 4 * c, g.c - c)
                best = where_greater(value, best, value, best)
        store(y + 4 * c, best, g.c - c)


def max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the windows whose maximum is at (h, w).

    dx: N×H×W×C; dy, argmax: N×P×Q×C as ``max_pool_forward`` has them.
    """
    if g.stride_h >= g.r and g.stride_w >= g.s:
        _scatter_maxima(dx, dy, argmax, g)
    else:
        _gather_maxima(dx, dy, argmax, g)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def _scatter_maxima(dx, dy, argmax, g):
    """``max_pool_gradient`` of windows that do not overlap. Each thread owns the rows of dx from a row of windows to
    the next, the first and the last row of windows also those before and behind."""
    p_dx, p_dy, p_argmax = address(dx), address(dy), address(argmax)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    for item in prange(len(dx) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        image = p_dx + n * dx_image
        first, last = (max(0, h) if p else 0), (min(g.h, h + g.stride_h) if p < g.p - 1 else g.h)
        for row in range(first, last):
            for i in range(0, g.w * g.c, LANES):
                store(image + row * dx_row + 4 * i, splat(ZERO), g.w * g.c - i)
        gradient, place = p_dy + n * dy_image + p * dy_row, p_argmax + n * a_image + p * a_row
        first_r, last_r = max(0, -h), min(g.r, g.h - h)
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            first_s, last_s = max(0, -w), min(g.s, g.w - w)
            for c in range(0, g.c, LANES):
                left = g.c - c
                value = load(gradient + q * dy_pixel + 4 * c, left)
                chosen = load(place + q * a_pixel + 4 * c, left)
                for r in range(first_r, last_r):
                    pixel = image + (h + r) * dx_row + w * dx_pixel + 4 * c
                    for s in range(first_s, last_s):
                        here = splat(np.float32(r * g.s + s))
                        store(pixel + s * dx_pixel, where_equal(chosen, here, value, splat(ZERO)), left)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def _gather_maxima(dx, dy, argmax, g):
    """``max_pool_gradient`` of any windows. Each thread owns a range of rows (n, h) of dx."""
    p_dx, p_dy, p_argmax = address(dx), address(dy), address(argmax)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        gradient, place, pixel = p_dy + n * dy_image, p_argmax + n * a_image, p_dx + n * dx_image + h * dx_row
        first_p, last_p = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
        first_q, last_q = 0, 0
        for w in range(g.w):
            first_q, last_q = _advance(w + g.pad_left, first_q, last_q, g)
            target = pixel + w * dx_pixel
            clear_row(target, g.c)
            for p in range(first_p, last_p):
                r = h + g.pad_top - p * g.stride_h
                for q in range(first_q, last_q):
                    here = splat(np.float32(r * g.s + w + g.pad_left - q * g.stride_w))
                    source, chosen = gradient + p * dy_row + q * dy_pixel, place + p * a_row + q * a_pixel
                    for c in range(0, g.c, LANES):
                        left = g.c - c
                        value = where_equal(load(chosen + 4 * c, left), here, load(source + 4 * c, left), splat(ZERO))
                        store(target + 4 * c, load(target + 4 * c, left) + value, left)


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
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / count over the windows that cover (h, w). Each thread owns rows (n, h)."""
    p_dx, p_dy = address(dx), address(dy)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        gradient, pixel = p_dy + n * dy_image, p_dx + n * dx_image + h * dx_row
        first_p, last_p = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
        first_q, last_q = 0, 0
        for w in range(g.w):
            first_q, last_q = _advance(w + g.pad_left, first_q, last_q, g)
            target = pixel + w * dx_pixel
            clear_row(target, g.c)
            for p in range(first_p, last_p):
                for q in range(first_q, last_q):
                    count = _counted(p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, g)
                    share, source = splat(np.float32(1.0) / np.float32(count)), gradient + p * dy_row + q * dy_pixel
                    for c in range(0, g.c, LANES):
                        left = g.c - c
                        value = load(source + 4 * c, left) * share
                        store(target + 4 * c, load(target + 4 * c, left) + value, left)


@inlined
def _covering(place, window, stride, outputs):
    """The range of outputs whose windows cover ``place``, counted from the padded edge."""
    return max(0, (place - window) // stride + 1), min(outputs, place // stride + 1)


@inlined
def _advance(place, first_q, last_q, g):
    """``_covering`` along a row, from its value at the pixel before: without divisions, which would cost the most."""
    while first_q < g.q and first_q * g.stride_w + g.s <= place:
        first_q += 1
    while last_q < g.q and last_q * g.stride_w <= place:
        last_q += 1
    return first_q, last_q


@inlined
def _counted(h, w, g):
    """Pixels that the mean of the window starting at (h, w) divides by; beyond the declared padding nothing counts."""
    if g.count_include_pad:
        return (min(h + g.r, g.h + g.pad_bottom) - h) * (min(w + g.s, g.w + g.pad_right) - w)
    return (min(h + g.r, g.h) - max(h, 0)) * (min(w + g.s, g.w) - max(w, 0))
