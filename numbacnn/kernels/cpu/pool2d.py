"""Max and average pooling and their gradients, vectorized over channels. Oracle: ``kernels/reference/pool2d.py``.

Windows are clipped to the input: padding counts as −∞ for the maximum, and no halo is ever read. The gradient of
a max-pool whose windows do not overlap scatters; the others gather: each pixel of dx adds the contributions of the
windows that cover it. Channels are processed in blocks of four vectors, which amortizes the overhead of a window.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.cpu.gemm.rows import clear_row
from numbacnn.kernels.cpu.simd.memory import prefers_nontemporal
from numbacnn.kernels.cpu.simd.vector import (
    BLOCK_WIDTH,
    WIDTH,
    load,
    load_block,
    load_like,
    splat,
    splat_block,
    splat_like,
    store,
    store_nontemporal,
    where_equal,
    where_greater,
)
from numbacnn.kernels.cpu.sums import window_sum
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.formulas import windows
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

MINUS_INFINITY = np.float32(-np.inf)
ZERO = np.float32(0)
LARGE = 64  # pixels: larger windows are summed with their rounding errors

outputs_at, window_share = inlined(windows.outputs_at), inlined(windows.window_share)
compiled_into = partial(inlined, always=True)  # a call for each block would cost as much as a window


class Box(NamedTuple):
    """Rows and columns, as ranges: of a window's taps inside the input, or of the windows that cover a pixel."""

    top: int
    bottom: int
    left: int
    right: int


@compiled_into
def _taps(h, w, g):
    """The taps inside the input of the window that starts at (h, w)."""
    return Box(max(0, -h), min(g.r, g.h - h), max(0, -w), min(g.s, g.w - w))


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def max_pool_forward(y, argmax, x, g):
    """y[n,p,q,c] = maximum of x over the window; argmax: its tap r·S + s in the window, the first of equals.

    y, argmax: N×P×Q×C (argmax contiguous, or without images if no gradient will be needed); x: N×H×W×C.
    A NaN in the window wins. Each thread owns a range of rows (n, p).
    """
    keep, nontemporal, blocks = len(argmax) > 0, prefers_nontemporal(y), g.c // BLOCK_WIDTH * BLOCK_WIDTH
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            target, window, taps = at(y, n, p, q), at(x, n, h, w), _taps(h, w, g)
            if keep:
                chosen = at(argmax, n, p, q)
                for c in range(0, blocks, BLOCK_WIDTH):
                    best, tap = _max_and_tap(splat_block(MINUS_INFINITY), window + 4 * c, x, taps, g, BLOCK_WIDTH)
                    store_nontemporal(target + 4 * c, best, BLOCK_WIDTH, nontemporal)
                    store_nontemporal(chosen + 4 * c, tap, BLOCK_WIDTH, nontemporal)
                for c in range(blocks, g.c, WIDTH):
                    best, tap = _max_and_tap(splat(MINUS_INFINITY), window + 4 * c, x, taps, g, g.c - c)
                    store(target + 4 * c, best, g.c - c)
                    store(chosen + 4 * c, tap, g.c - c)
            else:
                for c in range(0, blocks, BLOCK_WIDTH):
                    best = _max(splat_block(MINUS_INFINITY), window + 4 * c, x, taps, BLOCK_WIDTH)
                    store_nontemporal(target + 4 * c, best, BLOCK_WIDTH, nontemporal)
                for c in range(blocks, g.c, WIDTH):
                    best = _max(splat(MINUS_INFINITY), window + 4 * c, x, taps, g.c - c)
                    store(target + 4 * c, best, g.c - c)


@compiled_into
def _max_and_tap(best, window, x, taps, g, count):
    """The maximum of a window of x at this address, and its tap; ``best``: −∞."""
    tap = splat_like(best, np.float32(taps.top * g.s + taps.left))
    for r in range(taps.top, taps.bottom):
        for s in range(taps.left, taps.right):
            value = load_like(best, window + r * x.strides[1] + s * x.strides[2], count)
            tap = where_greater(value, best, splat_like(best, np.float32(r * g.s + s)), tap)
            best = where_greater(value, best, value, best)
    return best, tap


@compiled_into
def _max(best, window, x, taps, count):
    """``_max_and_tap`` without the tap, for inference."""
    for r in range(taps.top, taps.bottom):
        for s in range(taps.left, taps.right):
            value = load_like(best, window + r * x.strides[1] + s * x.strides[2], count)
            best = where_greater(value, best, value, best)
    return best


@launcher
def max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the windows whose maximum is at (h, w).

    dx: N×H×W×C; dy, argmax: N×P×Q×C as in ``max_pool_forward``.
    """
    if g.stride_h >= g.r and g.stride_w >= g.s:
        _scatter_maxima(dx, dy, argmax, g)
    else:
        _gather_maxima(dx, dy, argmax, g)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def _scatter_maxima(dx, dy, argmax, g):
    """``max_pool_gradient`` of windows that do not overlap.

    Each thread owns the rows of dx from one row of windows to the next; the first and the last row of windows also own
    the rows before and after them.
    """
    nontemporal, blocks = prefers_nontemporal(dx), g.c // BLOCK_WIDTH * BLOCK_WIDTH
    gaps = g.stride_w > g.s or (g.q - 1) * g.stride_w - g.pad_left + g.s < g.w
    for item in prange(len(dx) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        first, last = (max(0, h) if p else 0), (min(g.h, h + g.stride_h) if p < g.p - 1 else g.h)
        for row in range(first, last):
            covered = h <= row < h + g.r
            if gaps or not covered:
                _clear_between(at(dx, n, row, 0), dx.strides[2], covered, g)
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            target, source, chosen, taps = at(dx, n, h, w), at(dy, n, p, q), at(argmax, n, p, q), _taps(h, w, g)
            for c in range(0, blocks, BLOCK_WIDTH):
                value, tap = load_block(source + 4 * c), load_block(chosen + 4 * c)
                _spread(target + 4 * c, dx, value, tap, taps, g, BLOCK_WIDTH, nontemporal)
            for c in range(blocks, g.c, WIDTH):
                value, tap = load(source + 4 * c, g.c - c), load(chosen + 4 * c, g.c - c)
                _spread(target + 4 * c, dx, value, tap, taps, g, g.c - c, False)


@inlined
def _clear_between(row, step, covered, g):
    """Zeros in the pixels of a row of dx, ``step`` bytes apart, that no window covers."""
    done = 0
    for q in range(g.q if covered else 0):
        w = q * g.stride_w - g.pad_left
        clear_row(row + done * step, (w - done) * g.c)
        done = min(g.w, w + g.s)
    clear_row(row + done * step, (g.w - done) * g.c)


@compiled_into
def _spread(window, dx, value, tap, taps, g, count, nontemporal):
    """``value`` at its tap of a window of dx at this address, zeros at the other taps."""
    for r in range(taps.top, taps.bottom):
        for s in range(taps.left, taps.right):
            here = splat_like(value, np.float32(r * g.s + s))
            chosen = where_equal(tap, here, value, splat_like(value, ZERO))
            store_nontemporal(window + r * dx.strides[1] + s * dx.strides[2], chosen, count, nontemporal)


@cpu_kernel(float32_4d, float32_4d, float32_4d, PoolGeometry)
def _gather_maxima(dx, dy, argmax, g):
    """``max_pool_gradient`` of any windows. Each thread owns a range of rows (n, h) of dx."""
    nontemporal, blocks = prefers_nontemporal(dx), g.c // BLOCK_WIDTH * BLOCK_WIDTH
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = outputs_at(h + g.pad_top, g.r, g.stride_h, g.p)
        first_q, last_q = 0, 0
        for w in range(g.w):
            first_q, last_q = _advance(w + g.pad_left, first_q, last_q, g)
            windows, pixel = Box(first_p, last_p, first_q, last_q), (n, h + g.pad_top, w + g.pad_left)
            target = at(dx, n, h, w)
            for c in range(0, blocks, BLOCK_WIDTH):
                total = _chosen(splat_block(ZERO), dy, argmax, pixel, windows, c, BLOCK_WIDTH, g)
                store_nontemporal(target + 4 * c, total, BLOCK_WIDTH, nontemporal)
            for c in range(blocks, g.c, WIDTH):
                store(target + 4 * c, _chosen(splat(ZERO), dy, argmax, pixel, windows, c, g.c - c, g), g.c - c)


@compiled_into
def _chosen(total, dy, argmax, pixel, windows, c, count, g):
    """total + Σ dy over the windows whose maximum is at the pixel (n, h, w), in the coordinates of the padded input."""
    zero, (n, h, w) = total, pixel
    for p in range(windows.top, windows.bottom):
        for q in range(windows.left, windows.right):
            tap = splat_like(total, np.float32((h - p * g.stride_h) * g.s + w - q * g.stride_w))
            value = load_like(total, at(dy, n, p, q) + 4 * c, count)
            total += where_equal(load_like(total, at(argmax, n, p, q) + 4 * c, count), tap, value, zero)
    return total


@launcher
@cpu_kernel(float32_4d, float32_4d, PoolGeometry)
def average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over the window. Each thread owns a range of rows (n, p).

    With ``count_include_pad`` the padding counts as zeros; otherwise the mean is over the pixels of the input only.
    """
    nontemporal, blocks = prefers_nontemporal(y), g.c // BLOCK_WIDTH * BLOCK_WIDTH
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        h = p * g.stride_h - g.pad_top
        for q in range(g.q):
            w = q * g.stride_w - g.pad_left
            share, target, window, taps = window_share(h, w, g), at(y, n, p, q), at(x, n, h, w), _taps(h, w, g)
            for c in range(0, blocks, BLOCK_WIDTH):
                total = _sum(splat_block(ZERO), window + 4 * c, x, taps, BLOCK_WIDTH)
                store_nontemporal(target + 4 * c, total * splat_block(share), BLOCK_WIDTH, nontemporal)
            for c in range(blocks, g.c, WIDTH):
                total = _sum(splat(ZERO), window + 4 * c, x, taps, g.c - c)
                store(target + 4 * c, total * splat(share), g.c - c)


@compiled_into
def _sum(total, window, x, taps, count):
    """The sum of a window of x at this address, added to ``total``, which is zeros."""
    if (taps.bottom - taps.top) * (taps.right - taps.left) > LARGE:
        return window_sum(total, window, x, (taps.top, taps.bottom, taps.left, taps.right), count)
    for r in range(taps.top, taps.bottom):
        for s in range(taps.left, taps.right):
            total += load_like(total, window + r * x.strides[1] + s * x.strides[2], count)
    return total


@launcher
@cpu_kernel(float32_4d, float32_4d, PoolGeometry)
def average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / count over the windows that cover (h, w). Each thread owns rows (n, h)."""
    nontemporal, blocks, common = prefers_nontemporal(dx), g.c // BLOCK_WIDTH * BLOCK_WIDTH, _common_share(g)
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = outputs_at(h + g.pad_top, g.r, g.stride_h, g.p)
        first_q, last_q = 0, 0
        for w in range(g.w):
            first_q, last_q = _advance(w + g.pad_left, first_q, last_q, g)
            windows, target = Box(first_p, last_p, first_q, last_q), at(dx, n, h, w)
            for c in range(0, blocks, BLOCK_WIDTH):
                total = _shares(splat_block(ZERO), at(dy, n, 0, 0) + 4 * c, dy, windows, common, BLOCK_WIDTH, g)
                store_nontemporal(target + 4 * c, total, BLOCK_WIDTH, nontemporal)
            for c in range(blocks, g.c, WIDTH):
                total = _shares(splat(ZERO), at(dy, n, 0, 0) + 4 * c, dy, windows, common, g.c - c, g)
                store(target + 4 * c, total, g.c - c)


@compiled_into
def _shares(total, image, dy, windows, common, count, g):
    """total + Σ dy / count over windows of the image at this address; ``common``: ``_common_share``."""
    for p in range(windows.top, windows.bottom):
        for q in range(windows.left, windows.right):
            share = common
            if share == 0:
                share = window_share(p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, g)
            total += load_like(total, image + p * dy.strides[1] + q * dy.strides[2], count) * splat_like(total, share)
    return total


@inlined
def _advance(w, first_q, last_q, g):
    """``outputs_at`` along a row, from its value at the pixel before: without divisions, which would dominate."""
    while first_q < g.q and first_q * g.stride_w + g.s <= w:
        first_q += 1
    while last_q < g.q and last_q * g.stride_w <= w:
        last_q += 1
    return first_q, last_q


@inlined
def _common_share(g):
    """The ``window_share`` of all windows, or 0 if they differ: a division for each would cost more than its sum."""
    last = (g.p - 1) * g.stride_h - g.pad_top, (g.q - 1) * g.stride_w - g.pad_left
    first, end = window_share(-g.pad_top, -g.pad_left, g), window_share(last[0], last[1], g)
    whole = np.float32(1.0) / np.float32(g.r * g.s)
    return whole if first == whole and end == whole else ZERO
