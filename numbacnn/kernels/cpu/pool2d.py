"""Max and average pooling and their gradients, channels side by side. Oracle: ``tests/reference.py``.

Windows are clipped to the input: padding counts as −∞ for the maximum, and no halo is ever read. The gradients gather:
each pixel of dx adds what the windows that cover it hand back. Both walk a window, or the windows of a pixel, for a
block of channels at a time, and channels that fill no block a vector at a time: what is found once for a window is
then found for four registers, which took two thirds of the time.
"""

from functools import partial

import numpy as np
from numba import prange

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.cpu.gemm.rows import clear_row
from numbacnn.kernels.cpu.simd.memory import address, goes_past_caches
from numbacnn.kernels.cpu.simd.vector import (
    BLOCK,
    LANES,
    load,
    load_block,
    load_like,
    splat,
    splat_block,
    splat_like,
    store,
    stream,
    where_equal,
    where_greater,
)
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

MINUS_INFINITY = np.float32(-np.inf)
ZERO = np.float32(0)

within = partial(inlined, always=True)  # a call for each block would cost as much as a window


@launcher
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
    keep, past, blocks = len(argmax) > 0, goes_past_caches(y), g.c // BLOCK * BLOCK
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            target, window = p_y + n * y_image + p * y_row + q * y_pixel, p_x + n * x_image + h * x_row + w * x_pixel
            rows, columns = (max(0, -h), min(g.r, g.h - h)), (max(0, -w), min(g.s, g.w - w))
            if keep:
                place = p_argmax + n * a_image + p * a_row + q * a_pixel
                for c in range(0, blocks, BLOCK):
                    lowest, source = splat_block(MINUS_INFINITY), window + 4 * c
                    best, where = _max_and_place(lowest, source, x_row, x_pixel, rows, columns, g.s, BLOCK)
                    stream(target + 4 * c, best, BLOCK, past)
                    stream(place + 4 * c, where, BLOCK, past)
                for c in range(blocks, g.c, LANES):
                    lowest, source, left = splat(MINUS_INFINITY), window + 4 * c, g.c - c
                    best, where = _max_and_place(lowest, source, x_row, x_pixel, rows, columns, g.s, left)
                    store(target + 4 * c, best, left)
                    store(place + 4 * c, where, left)
            else:
                for c in range(0, blocks, BLOCK):
                    best = _max(splat_block(MINUS_INFINITY), window + 4 * c, x_row, x_pixel, rows, columns, BLOCK)
                    stream(target + 4 * c, best, BLOCK, past)
                for c in range(blocks, g.c, LANES):
                    best = _max(splat(MINUS_INFINITY), window + 4 * c, x_row, x_pixel, rows, columns, g.c - c)
                    store(target + 4 * c, best, g.c - c)


@within
def _max_and_place(best, x, x_row, x_pixel, rows, columns, s_count, left):
    """Of one window, whose rows and columns inside of the input are given, from −∞ in ``best``."""
    place = splat_like(best, np.float32(rows[0] * s_count + columns[0]))
    for r in range(rows[0], rows[1]):
        for s in range(columns[0], columns[1]):
            value = load_like(best, x + r * x_row + s * x_pixel, left)
            place = where_greater(value, best, splat_like(best, np.float32(r * s_count + s)), place)
            best = where_greater(value, best, value, best)
    return best, place


@within
def _max(best, x, x_row, x_pixel, rows, columns, left):
    """The same without the place, for inference."""
    for r in range(rows[0], rows[1]):
        for s in range(columns[0], columns[1]):
            value = load_like(best, x + r * x_row + s * x_pixel, left)
            best = where_greater(value, best, value, best)
    return best


@launcher
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
    past, blocks = goes_past_caches(dx), g.c // BLOCK * BLOCK
    gaps = g.stride_w > g.s or (g.q - 1) * g.stride_w - g.pad_left + g.s < g.w
    for item in prange(len(dx) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h, image = p * g.stride_h - g.pad_top, p_dx + n * dx_image
        first, last = (max(0, h) if p else 0), (min(g.h, h + g.stride_h) if p < g.p - 1 else g.h)
        for row in range(first, last):
            covered = h <= row < h + g.r
            if gaps or not covered:
                _clear_between(image + row * dx_row, dx_pixel, covered, g)
        gradient, place = p_dy + n * dy_image + p * dy_row, p_argmax + n * a_image + p * a_row
        rows = max(0, -h), min(g.r, g.h - h)
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            columns, target = (max(0, -w), min(g.s, g.w - w)), image + h * dx_row + w * dx_pixel
            source, chosen = gradient + q * dy_pixel, place + q * a_pixel
            for c in range(0, blocks, BLOCK):
                value, where = load_block(source + 4 * c), load_block(chosen + 4 * c)
                _spread(target + 4 * c, dx_row, dx_pixel, value, where, rows, columns, g.s, BLOCK, past)
            for c in range(blocks, g.c, LANES):
                value, where = load(source + 4 * c, g.c - c), load(chosen + 4 * c, g.c - c)
                _spread(target + 4 * c, dx_row, dx_pixel, value, where, rows, columns, g.s, g.c - c, False)


@inlined
def _clear_between(dx, dx_pixel, covered, g):
    """Zeros in the pixels of a row that no window covers."""
    done = 0
    for q in range(g.q if covered else 0):
        w = q * g.stride_w - g.pad_left
        clear_row(dx + done * dx_pixel, (w - done) * g.c)
        done = min(g.w, w + g.s)
    clear_row(dx + done * dx_pixel, (g.w - done) * g.c)


@within
def _spread(dx, dx_row, dx_pixel, value, place, rows, columns, s_count, left, past):
    """``value`` at its place in one window, zeros at the others."""
    for r in range(rows[0], rows[1]):
        for s in range(columns[0], columns[1]):
            here = splat_like(value, np.float32(r * s_count + s))
            chosen = where_equal(place, here, value, splat_like(value, ZERO))
            stream(dx + r * dx_row + s * dx_pixel, chosen, left, past)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def _gather_maxima(dx, dy, argmax, g):
    """``max_pool_gradient`` of any windows. Each thread owns a range of rows (n, h) of dx."""
    p_dx, p_dy, p_argmax = address(dx), address(dy), address(argmax)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    steps, past, blocks = (dy_row, dy_pixel, a_row, a_pixel), goes_past_caches(dx), g.c // BLOCK * BLOCK
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        gradient, places, pixel = p_dy + n * dy_image, p_argmax + n * a_image, p_dx + n * dx_image + h * dx_row
        rows = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
        columns = (0, 0)
        for w in range(g.w):
            columns = _advance(w + g.pad_left, columns[0], columns[1], g)
            target, top, left = pixel + w * dx_pixel, h + g.pad_top, w + g.pad_left
            for c in range(0, blocks, BLOCK):
                source, chosen = gradient + 4 * c, places + 4 * c
                total = _chosen(splat_block(ZERO), source, chosen, steps, rows, columns, top, left, BLOCK, g)
                stream(target + 4 * c, total, BLOCK, past)
            for c in range(blocks, g.c, LANES):
                source, chosen = gradient + 4 * c, places + 4 * c
                total = _chosen(splat(ZERO), source, chosen, steps, rows, columns, top, left, g.c - c, g)
                store(target + 4 * c, total, g.c - c)


@within
def _chosen(total, dy, argmax, steps, rows, columns, top, left, count, g):
    """total + Σ dy over windows, those that chose the pixel at (top, left), counted from the padded edge."""
    zero = total
    for p in range(rows[0], rows[1]):
        for q in range(columns[0], columns[1]):
            place = splat_like(total, np.float32((top - p * g.stride_h) * g.s + left - q * g.stride_w))
            value = load_like(total, dy + p * steps[0] + q * steps[1], count)
            chosen = load_like(total, argmax + p * steps[2] + q * steps[3], count)
            total += where_equal(chosen, place, value, zero)
    return total


@launcher
@cpu_kernel(float32_4d, float32_4d, PoolGeometry)
def average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over the window. Each thread owns a range of rows (n, p).

    With ``count_include_pad`` the padding counts as zeros, else the mean is over the pixels of the input alone.
    """
    p_y, p_x = address(y), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    past, blocks = goes_past_caches(y), g.c // BLOCK * BLOCK
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            share = _share(h, w, g)
            window = p_x + n * x_image + h * x_row + w * x_pixel
            pixel = p_y + n * y_image + p * y_row + q * y_pixel
            rows, columns = (max(0, -h), min(g.r, g.h - h)), (max(0, -w), min(g.s, g.w - w))
            for c in range(0, blocks, BLOCK):
                total = _sum(splat_block(ZERO), window + 4 * c, x_row, x_pixel, rows, columns, BLOCK)
                stream(pixel + 4 * c, total * splat_block(share), BLOCK, past)
            for c in range(blocks, g.c, LANES):
                total = _sum(splat(ZERO), window + 4 * c, x_row, x_pixel, rows, columns, g.c - c)
                store(pixel + 4 * c, total * splat(share), g.c - c)


@within
def _sum(total, x, x_row, x_pixel, rows, columns, left):
    """total + Σ of one window."""
    for r in range(rows[0], rows[1]):
        for s in range(columns[0], columns[1]):
            total += load_like(total, x + r * x_row + s * x_pixel, left)
    return total


@launcher
@cpu_kernel(float32_4d, float32_4d, PoolGeometry)
def average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / count over the windows that cover (h, w). Each thread owns rows (n, h)."""
    p_dx, p_dy = address(dx), address(dy)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    past, blocks, same = goes_past_caches(dx), g.c // BLOCK * BLOCK, _common_share(g)
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        gradient, pixel = p_dy + n * dy_image, p_dx + n * dx_image + h * dx_row
        rows = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
        columns = (0, 0)
        for w in range(g.w):
            columns = _advance(w + g.pad_left, columns[0], columns[1], g)
            target = pixel + w * dx_pixel
            for c in range(0, blocks, BLOCK):
                total = _shares(splat_block(ZERO), gradient + 4 * c, dy_row, dy_pixel, rows, columns, same, BLOCK, g)
                stream(target + 4 * c, total, BLOCK, past)
            for c in range(blocks, g.c, LANES):
                total = _shares(splat(ZERO), gradient + 4 * c, dy_row, dy_pixel, rows, columns, same, g.c - c, g)
                store(target + 4 * c, total, g.c - c)


@within
def _shares(total, dy, dy_row, dy_pixel, rows, columns, same, left, g):
    """total + Σ dy / count over windows; ``same`` as ``_common_share`` has it."""
    for p in range(rows[0], rows[1]):
        for q in range(columns[0], columns[1]):
            share = same
            if share == 0:
                share = _share(p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, g)
            total += load_like(total, dy + p * dy_row + q * dy_pixel, left) * splat_like(total, share)
    return total


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
def _share(h, w, g):
    """What each pixel of the window starting at (h, w) weighs in its mean; beyond the declared padding nothing
    counts."""
    if g.count_include_pad:
        count = (min(h + g.r, g.h + g.pad_bottom) - h) * (min(w + g.s, g.w + g.pad_right) - w)
    else:
        count = (min(h + g.r, g.h) - max(h, 0)) * (min(w + g.s, g.w) - max(w, 0))
    return np.float32(1.0) / np.float32(count)


@inlined
def _common_share(g):
    """``_share`` of all windows, or 0 where it is not the same: a division for each costs more than its sum."""
    last = (g.p - 1) * g.stride_h - g.pad_top, (g.q - 1) * g.stride_w - g.pad_left
    first, end = _share(-g.pad_top, -g.pad_left, g), _share(last[0], last[1], g)
    whole = np.float32(1.0) / np.float32(g.r * g.s)
    return whole if first == whole and end == whole else ZERO
