"""Max and average pooling and their gradients. Each thread owns some channels of a pixel of what it writes.

Windows are clipped to the input: padding counts as −∞ for the maximum, and no halo is ever read. The gradients gather:
each pixel of dx adds what the windows that cover it hand back, and is written once, overlap or not.
"""

import numpy as np

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.cuda.lanes import add, in_lanes, pixel_part, times, width_of
from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d, over
from numbacnn.kernels.registry import launcher

MINUS_INFINITY = np.float32(-np.inf)
ZERO, ONE = np.float32(0), np.float32(1)


@device_function
def larger(value, best):
    """The larger one; a NaN wins, and stays."""
    return best if value <= best or best != best else value


@device_function
def place_of_larger(value, best, here, place):
    """``here`` where ``larger`` takes value, else ``place``."""
    return place if value <= best or best != best else here


@device_function
def where_here(chosen, here, value):
    """``value`` where the chosen place is here, else 0."""
    return value if chosen == here else ZERO


@launcher
def max_pool_forward(y, argmax, x, g):
    """y[n,p,q,c] = max of x over the window; argmax: its place r·S + s in the window, the first of equals.

    y, argmax: N×P×Q×C (argmax contiguous, or without images where no gradient will be asked for); x: N×H×W×C.
    A NaN in the window wins.
    """
    width = width_of(y, argmax, x)
    _max_forward[width][over(y.size // width)](y, argmax, x, g)


@in_lanes(float32_4d, float32_4d, float32_4d, PoolGeometry)
def _max_forward(lanes):
    width, load, store, splat = lanes[:4]
    best_of, place_of = lanes.lift(larger), lanes.lift(place_of_larger, 4)

    def kernel(y, argmax, x, g):
        n, p, q, part = pixel_part(g.p, g.q, g.c // width)
        if n < len(y):
            h, w, c = p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, part * width
            first_r, first_s = max(0, -h), max(0, -w)
            best, place = splat(MINUS_INFINITY), splat(np.float32(first_r * g.s + first_s))
            for r in range(first_r, min(g.r, g.h - h)):
                for s in range(first_s, min(g.s, g.w - w)):
                    value = load(x, (n, h + r, w + s, c))
                    place = place_of(value, best, splat(np.float32(r * g.s + s)), place)
                    best = best_of(value, best)
            store(y, (n, p, q, c), best)
            if len(argmax) > 0:
                store(argmax, (n, p, q, c), place)

    return kernel


@launcher
def max_pool_gradient(dx, dy, argmax, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] over the windows whose maximum is at (h, w).

    dx: N×H×W×C; dy, argmax: N×P×Q×C as ``max_pool_forward`` has them.
    """
    width = width_of(dx, dy, argmax)
    _max_gradient[width][over(dx.size // width)](dx, dy, argmax, g)


@in_lanes(float32_4d, float32_4d, float32_4d, PoolGeometry, launch_bounds=(THREADS, 3))  # four would spill
def _max_gradient(lanes):
    width, load, store, splat = lanes[:4]
    add_, chosen_here = lanes.lift(add), lanes.lift(where_here, 3)

    def kernel(dx, dy, argmax, g):
        n, h, w, part = pixel_part(g.h, g.w, g.c // width)
        if n < len(dx):
            c, total = part * width, splat(ZERO)
            first_p, last_p = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
            first_q, last_q = _covering(w + g.pad_left, g.s, g.stride_w, g.q)
            for p in range(first_p, last_p):
                r = h + g.pad_top - p * g.stride_h
                for q in range(first_q, last_q):
                    here = splat(np.float32(r * g.s + w + g.pad_left - q * g.stride_w))
                    chosen, value = load(argmax, (n, p, q, c)), load(dy, (n, p, q, c))
                    total = add_(total, chosen_here(chosen, here, value))
            store(dx, (n, h, w, c), total)

    return kernel


@launcher
def average_pool_forward(y, x, g):
    """y[n,p,q,c] = mean of x over the window.

    With ``count_include_pad`` the padding counts as zeros, else the mean is over the pixels of the input alone.
    """
    width = width_of(y, x)
    _average_forward[width][over(y.size // width)](y, x, g)


@in_lanes(float32_4d, float32_4d, PoolGeometry)
def _average_forward(lanes):
    width, load, store, splat = lanes[:4]
    add_, times_ = lanes.lift(add), lanes.lift(times)

    def kernel(y, x, g):
        n, p, q, part = pixel_part(g.p, g.q, g.c // width)
        if n < len(y):
            h, w, c, total = p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, part * width, splat(ZERO)
            for r in range(max(0, -h), min(g.r, g.h - h)):
                for s in range(max(0, -w), min(g.s, g.w - w)):
                    total = add_(total, load(x, (n, h + r, w + s, c)))
            store(y, (n, p, q, c), times_(total, splat(ONE / np.float32(_counted(h, w, g)))))

    return kernel


@launcher
def average_pool_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] / count over the windows that cover (h, w)."""
    width = width_of(dx, dy)
    _average_gradient[width][over(dx.size // width)](dx, dy, g)


@in_lanes(float32_4d, float32_4d, PoolGeometry, launch_bounds=(THREADS, 3))  # four would spill
def _average_gradient(lanes):
    width, load, store, splat = lanes[:4]
    add_, times_ = lanes.lift(add), lanes.lift(times)

    def kernel(dx, dy, g):
        n, h, w, part = pixel_part(g.h, g.w, g.c // width)
        if n < len(dx):
            c, total = part * width, splat(ZERO)
            first_p, last_p = _covering(h + g.pad_top, g.r, g.stride_h, g.p)
            first_q, last_q = _covering(w + g.pad_left, g.s, g.stride_w, g.q)
            for p in range(first_p, last_p):
                for q in range(first_q, last_q):
                    count = _counted(p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left, g)
                    share = splat(ONE / np.float32(count))
                    total = add_(total, times_(load(dy, (n, p, q, c)), share))
            store(dx, (n, h, w, c), total)

    return kernel


@device_function
def _covering(place, window, stride, outputs):
    """The range of outputs whose windows cover ``place``, counted from the padded edge."""
    return max(0, (place - window) // stride + 1), min(outputs, place // stride + 1)


@device_function
def _counted(h, w, g):
    """Pixels that the mean of the window starting at (h, w) divides by; beyond the declared padding nothing counts."""
    if g.count_include_pad:
        return (min(h + g.r, g.h + g.pad_bottom) - h) * (min(w + g.s, g.w + g.pad_right) - w)
    return (min(h + g.r, g.h) - max(h, 0)) * (min(w + g.s, g.w) - max(w, 0))
