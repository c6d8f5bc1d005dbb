"""Pooling into a given number of bins, and its gradients. Each thread owns some channels of a pixel of what it writes.

Bin p of P over h pixels is [⌊p·h/P⌋, ⌈(p+1)·h/P⌉), as in PyTorch: bins overlap where P does not divide h. The bins that
hold a pixel are given by the same formula with pixels and bins exchanged.
"""

import numpy as np

from numbacnn.geometry import AdaptiveGeometry
from numbacnn.kernels.cuda.lanes import add, in_lanes, pixel_part, times, width_of
from numbacnn.kernels.cuda.pool2d import MINUS_INFINITY, ONE, ZERO, larger, place_of_larger, where_here
from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d, over
from numbacnn.kernels.registry import launcher


@device_function
def _bin(p, size, bins):
    """First pixel of bin p, and the first behind it."""
    return p * size // bins, ((p + 1) * size + bins - 1) // bins


@device_function
def _share(p, q, g):
    """One over the pixels of bin (p, q)."""
    first_h, last_h = _bin(p, g.h, g.p)
    first_w, last_w = _bin(q, g.w, g.q)
    return ONE / np.float32((last_h - first_h) * (last_w - first_w))


@launcher
def adaptive_average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over bin (p, q)."""
    width = width_of(y, x)
    _average_forward[width][over(y.size // width)](y, x, g)


@in_lanes(float32_4d, float32_4d, AdaptiveGeometry)
def _average_forward(lanes):
    width, load, store, splat = lanes[:4]
    add_, times_ = lanes.lift(add), lanes.lift(times)

    def kernel(y, x, g):
        n, p, q, part = pixel_part(g.p, g.q, g.c // width)
        if n < len(y):
            c, total = part * width, splat(ZERO)
            first_h, last_h = _bin(p, g.h, g.p)
            first_w, last_w = _bin(q, g.w, g.q)
            for h in range(first_h, last_h):
                for w in range(first_w, last_w):
                    total = add_(total, load(x, (n, h, w, c)))
            store(y, (n, p, q, c), times_(total, splat(_share(p, q, g))))

    return kernel


@launcher
def adaptive_average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / pixels of the bin, over the bins that hold (h, w)."""
    width = width_of(dx, dy)
    _average_gradient[width][over(dx.size // width)](dx, dy, g)


@in_lanes(float32_4d, float32_4d, AdaptiveGeometry, launch_bounds=(THREADS, 3))  # four would spill
def _average_gradient(lanes):
    width, load, store, splat = lanes[:4]
    add_, times_ = lanes.lift(add), lanes.lift(times)

    def kernel(dx, dy, g):
        n, h, w, part = pixel_part(g.h, g.w, g.c // width)
        if n < len(dx):
            c, total = part * width, splat(ZERO)
            first_p, last_p = _bin(h, g.p, g.h)
            first_q, last_q = _bin(w, g.q, g.w)
            for p in range(first_p, last_p):
                for q in range(first_q, last_q):
                    total = add_(total, times_(load(dy, (n, p, q, c)), splat(_share(p, q, g))))
            store(dx, (n, h, w, c), total)

    return kernel


@launcher
def adaptive_max_pool_forward(y, argmax, x, g):
    """y[n,p,q,c] = maximum of x over bin (p, q); argmax: its place h·W + w in the image, the first of equals.

    argmax has no images where no gradient will be asked for. A NaN in the bin wins. Places are exact below 2²⁴.
    """
    width = width_of(y, argmax, x)
    _max_forward[width][over(y.size // width)](y, argmax, x, g)


@in_lanes(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def _max_forward(lanes):
    width, load, store, splat = lanes[:4]
    best_of, place_of = lanes.lift(larger), lanes.lift(place_of_larger, 4)

    def kernel(y, argmax, x, g):
        n, p, q, part = pixel_part(g.p, g.q, g.c // width)
        if n < len(y):
            c = part * width
            first_h, last_h = _bin(p, g.h, g.p)
            first_w, last_w = _bin(q, g.w, g.q)
            best, place = splat(MINUS_INFINITY), splat(np.float32(first_h * g.w + first_w))
            for h in range(first_h, last_h):
                for w in range(first_w, last_w):
                    value = load(x, (n, h, w, c))
                    place = place_of(value, best, splat(np.float32(h * g.w + w)), place)
                    best = best_of(value, best)
            store(y, (n, p, q, c), best)
            if len(argmax) > 0:
                store(argmax, (n, p, q, c), place)

    return kernel


@launcher
def adaptive_max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the bins whose maximum is at (h, w)."""
    width = width_of(dx, dy, argmax)
    _max_gradient[width][over(dx.size // width)](dx, dy, argmax, g)


@in_lanes(float32_4d, float32_4d, float32_4d, AdaptiveGeometry)
def _max_gradient(lanes):
    width, load, store, splat = lanes[:4]
    add_, chosen_here = lanes.lift(add), lanes.lift(where_here, 3)

    def kernel(dx, dy, argmax, g):
        n, h, w, part = pixel_part(g.h, g.w, g.c // width)
        if n < len(dx):
            c, total, here = part * width, splat(ZERO), splat(np.float32(h * g.w + w))
            first_p, last_p = _bin(h, g.p, g.h)
            first_q, last_q = _bin(w, g.q, g.w)
            for p in range(first_p, last_p):
                for q in range(first_q, last_q):
                    chosen, value = load(argmax, (n, p, q, c)), load(dy, (n, p, q, c))
                    total = add_(total, chosen_here(chosen, here, value))
            store(dx, (n, h, w, c), total)

    return kernel
