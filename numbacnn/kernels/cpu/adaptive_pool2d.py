"""Pooling into a given number of bins, and its gradients. Oracle: ``tests/reference.py``.

Bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉), as in PyTorch: bins overlap where P does not divide h. The bins that
hold a pixel are given by the same formula with pixels and bins exchanged. Each thread owns a range of rows of outputs.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import AdaptiveGeometry
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store, where_equal, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

MINUS_INFINITY = np.float32(-np.inf)
ZERO = np.float32(0)


@inlined
def _bin(p, size, bins):
    """First pixel of bin p, and the first behind it."""
    return p * size // bins, ((p + 1) * size + bins - 1) // bins


@inlined
def _share(p, q, g):
    """One over the pixels of bin (p, q)."""
    first_h, last_h = _bin(p, g.h, g.p)
    first_w, last_w = _bin(q, g.w, g.q)
    return np.float32(1.0) / np.float32((last_h - first_h) * (last_w - first_w))


@launcher
@cpu_kernel(float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over bin (p, q)."""
    p_y, p_x = address(y), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        first_h, last_h = _bin(p, g.h, g.p)
        for q in range(g.q):
            first_w, last_w = _bin(q, g.w, g.q)
            share = splat(_share(p, q, g))
            for c in range(0, g.c, LANES):
                total = splat(ZERO)
                for h in range(first_h, last_h):
                    in_row = splat(ZERO)
                    for w in range(first_w, last_w):
                        in_row += load(p_x + n * x_image + h * x_row + w * x_pixel + 4 * c, g.c - c)
                    total += in_row
                store(p_y + n * y_image + p * y_row + q * y_pixel + 4 * c, total * share, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / pixels of the bin, over the bins that hold (h, w)."""
    p_dx, p_dy = address(dx), address(dy)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = _bin(h, g.p, g.h)
        for w in range(g.w):
            first_q, last_q = _bin(w, g.q, g.w)
            for c in range(0, g.c, LANES):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    for q in range(first_q, last_q):
                        value = load(p_dy + n * dy_image + p * dy_row + q * dy_pixel + 4 * c, g.c - c)
                        total += value * splat(_share(p, q, g))
                store(p_dx + n * dx_image + h * dx_row + w * dx_pixel + 4 * c, total, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_max_pool_forward(y, argmax, x, g):
    """y[n,p,q,c] = maximum of x over bin (p, q); argmax: its place h·W + w in the image, the first of equals.

    argmax has no images where no gradient will be asked for. A NaN in the bin wins. Places are exact below 2²⁴.
    """
    p_y, p_argmax, p_x = address(y), address(argmax), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    keep = len(argmax) > 0
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        first_h, last_h = _bin(p, g.h, g.p)
        for q in range(g.q):
            first_w, last_w = _bin(q, g.w, g.q)
            for c in range(0, g.c, LANES):
                best, place = splat(MINUS_INFINITY), splat(np.float32(first_h * g.w + first_w))
                for h in range(first_h, last_h):
                    for w in range(first_w, last_w):
                        value = load(p_x + n * x_image + h * x_row + w * x_pixel + 4 * c, g.c - c)
                        place = where_greater(value, best, splat(np.float32(h * g.w + w)), place)
                        best = where_greater(value, best, value, best)
                store(p_y + n * y_image + p * y_row + q * y_pixel + 4 * c, best, g.c - c)
                if keep:
                    store(p_argmax + n * a_image + p * a_row + q * a_pixel + 4 * c, place, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the bins whose maximum is at (h, w)."""
    p_dx, p_dy, p_argmax = address(dx), address(dy), address(argmax)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    a_image, a_row, a_pixel = argmax.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = _bin(h, g.p, g.h)
        for w in range(g.w):
            first_q, last_q = _bin(w, g.q, g.w)
            here = splat(np.float32(h * g.w + w))
            for c in range(0, g.c, LANES):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    for q in range(first_q, last_q):
                        chosen = load(p_argmax + n * a_image + p * a_row + q * a_pixel + 4 * c, g.c - c)
                        value = load(p_dy + n * dy_image + p * dy_row + q * dy_pixel + 4 * c, g.c - c)
                        total += where_equal(chosen, here, value, splat(ZERO))
                store(p_dx + n * dx_image + h * dx_row + w * dx_pixel + 4 * c, total, g.c - c)
