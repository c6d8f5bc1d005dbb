"""Pooling into a given number of bins, and its gradients. Oracle: ``kernels/reference/adaptive_pool2d.py``.

Bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉), as in PyTorch: bins overlap if P does not divide h. The bins that
contain a pixel are given by the same formula with pixels and bins exchanged. Each thread owns a range of rows of
outputs.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import AdaptiveGeometry
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store, where_equal, where_greater
from numbacnn.kernels.cpu.sums import window_sum
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.formulas import windows
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

MINUS_INFINITY = np.float32(-np.inf)
ZERO = np.float32(0)
LARGE = 1024  # pixels: larger bins are summed with their rounding errors
bin_range = inlined(windows.bin_range)


@inlined
def _share(p, q, g):
    """1 / the number of pixels of bin (p, q)."""
    first_h, last_h = bin_range(p, g.h, g.p)
    first_w, last_w = bin_range(q, g.w, g.q)
    return np.float32(1.0) / np.float32((last_h - first_h) * (last_w - first_w))


@launcher
@cpu_kernel(float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over bin (p, q)."""
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        first_h, last_h = bin_range(p, g.h, g.p)
        for q in range(g.q):
            first_w, last_w = bin_range(q, g.w, g.q)
            share = splat(_share(p, q, g))
            large = (last_h - first_h) * (last_w - first_w) > LARGE
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                if large:
                    total = window_sum(total, at(x, n, 0, 0) + 4 * c, x, (first_h, last_h, first_w, last_w), g.c - c)
                else:
                    for h in range(first_h, last_h):
                        in_row = splat(ZERO)
                        for w in range(first_w, last_w):
                            in_row += load(at(x, n, h, w) + 4 * c, g.c - c)
                        total += in_row
                store(at(y, n, p, q) + 4 * c, total * share, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / pixels of the bin, over the bins that contain (h, w)."""
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = bin_range(h, g.p, g.h)
        for w in range(g.w):
            first_q, last_q = bin_range(w, g.q, g.w)
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    for q in range(first_q, last_q):
                        total += load(at(dy, n, p, q) + 4 * c, g.c - c) * splat(_share(p, q, g))
                store(at(dx, n, h, w) + 4 * c, total, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_max_pool_forward(y, argmax, x, g):
    """y[n,p,q,c] = maximum of x over bin (p, q); argmax: its index h·W + w in the image, the first of equals.

    argmax has no images if no gradient will be needed. A NaN in the bin wins. Indices are exact below 2²⁴.
    """
    keep = len(argmax) > 0
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        first_h, last_h = bin_range(p, g.h, g.p)
        for q in range(g.q):
            first_w, last_w = bin_range(q, g.w, g.q)
            for c in range(0, g.c, WIDTH):
                best, index = splat(MINUS_INFINITY), splat(np.float32(first_h * g.w + first_w))
                for h in range(first_h, last_h):
                    for w in range(first_w, last_w):
                        value = load(at(x, n, h, w) + 4 * c, g.c - c)
                        index = where_greater(value, best, splat(np.float32(h * g.w + w)), index)
                        best = where_greater(value, best, value, best)
                store(at(y, n, p, q) + 4 * c, best, g.c - c)
                if keep:
                    store(at(argmax, n, p, q) + 4 * c, index, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def adaptive_max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the bins whose maximum is at (h, w)."""
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = bin_range(h, g.p, g.h)
        for w in range(g.w):
            first_q, last_q = bin_range(w, g.q, g.w)
            here = splat(np.float32(h * g.w + w))
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    for q in range(first_q, last_q):
                        chosen = load(at(argmax, n, p, q) + 4 * c, g.c - c)
                        value = load(at(dy, n, p, q) + 4 * c, g.c - c)
                        total += where_equal(chosen, here, value, splat(ZERO))
                store(at(dx, n, h, w) + 4 * c, total, g.c - c)
