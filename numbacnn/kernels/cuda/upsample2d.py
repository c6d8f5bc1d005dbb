"""Enlarging images by whole factors, nearest or bilinear, and the gradients.

Pixels are squares: the centre of output p lies at (p + ½) / factor − ½ of the input, not before its first centre and
not behind its last (PyTorch's ``align_corners=False``). Each thread owns some channels of a pixel of what it writes.
"""

import numpy as np

from numbacnn.geometry import UpSampleGeometry
from numbacnn.kernels.cuda.lanes import add, in_lanes, multiply_add, pixel_part, width_of
from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d, over
from numbacnn.kernels.registry import launcher

ZERO, ONE = np.float32(0), np.float32(1)


@launcher
def up_sample_nearest_forward(y, x, g):
    """y[n,p,q,c] = x[n, p // factor_h, q // factor_w, c]."""
    width = width_of(y, x)
    _nearest_forward[width][over(y.size // width)](y, x, g)


@in_lanes(float32_4d, float32_4d, UpSampleGeometry)
def _nearest_forward(lanes):
    width, load, store = lanes[:3]

    def kernel(y, x, g):
        n, p, q, part = pixel_part(g.p, g.q, g.c // width)
        if n < len(y):
            store(y, (n, p, q, part * width), load(x, (n, p // g.factor_h, q // g.factor_w, part * width)))

    return kernel


@launcher
def up_sample_nearest_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy over the outputs that are x[n,h,w,c]."""
    width = width_of(dx, dy)
    _nearest_gradient[width][over(dx.size // width)](dx, dy, g)


@in_lanes(float32_4d, float32_4d, UpSampleGeometry)
def _nearest_gradient(lanes):
    width, load, store, splat = lanes[:4]
    add_ = lanes.lift(add)

    def kernel(dx, dy, g):
        n, h, w, part = pixel_part(g.h, g.w, g.c // width)
        if n < len(dx):
            c, total = part * width, splat(ZERO)
            for p in range(h * g.factor_h, (h + 1) * g.factor_h):
                for q in range(w * g.factor_w, (w + 1) * g.factor_w):
                    total = add_(total, load(dy, (n, p, q, c)))
            store(dx, (n, h, w, c), total)

    return kernel


@device_function
def _taps(p, factor, size):
    """The two inputs between which output p lies, and the share of the second; in whole halves, so that it is exact."""
    place = max(0, 2 * p + 1 - factor)
    first = place // (2 * factor)
    return first, min(first + 1, size - 1), np.float32(place % (2 * factor)) / np.float32(2 * factor)


@device_function
def _between(a, b, share):
    return (ONE - share) * a + share * b


@launcher
def up_sample_bilinear_forward(y, x, g):
    """y[n,p,q,c] = the four pixels of x around the centre of (p, q), weighted by how near they are."""
    width = width_of(y, x)
    _bilinear_forward[width][over(y.size // width)](y, x, g)


@in_lanes(float32_4d, float32_4d, UpSampleGeometry)
def _bilinear_forward(lanes):
    width, load, store, splat = lanes[:4]
    between = lanes.lift(_between, 3)

    def kernel(y, x, g):
        n, p, q, part = pixel_part(g.p, g.q, g.c // width)
        if n < len(y):
            c = part * width
            top, bottom, share_h = _taps(p, g.factor_h, g.h)
            left, right, share_w = _taps(q, g.factor_w, g.w)
            upper = between(load(x, (n, top, left, c)), load(x, (n, top, right, c)), splat(share_w))
            lower = between(load(x, (n, bottom, left, c)), load(x, (n, bottom, right, c)), splat(share_w))
            store(y, (n, p, q, c), between(upper, lower, splat(share_h)))

    return kernel


@device_function
def _reached(h, factor, outputs):
    """The range of outputs that input h has a share in."""
    return max(0, (factor * (2 * h - 1) + 1) // 2), min(outputs, factor * (2 * h + 3) // 2)


@device_function
def _weight(p, h, factor, size):
    """The share of input h in output p."""
    first, second, share = _taps(p, factor, size)
    return (ONE - share if first == h else ZERO) + (share if second == h else ZERO)


@launcher
def up_sample_bilinear_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the share of x[n,h,w,c] in output (p, q)."""
    width = width_of(dx, dy)
    _bilinear_gradient[width][over(dx.size // width)](dx, dy, g)


@in_lanes(float32_4d, float32_4d, UpSampleGeometry, launch_bounds=(THREADS, 3))  # four would spill
def _bilinear_gradient(lanes):
    width, load, store, splat = lanes[:4]
    multiply_add_ = lanes.lift(multiply_add, 3)

    def kernel(dx, dy, g):
        n, h, w, part = pixel_part(g.h, g.w, g.c // width)
        if n < len(dx):
            c, total = part * width, splat(ZERO)
            first_p, last_p = _reached(h, g.factor_h, g.p)
            first_q, last_q = _reached(w, g.factor_w, g.q)
            for p in range(first_p, last_p):
                in_row = splat(ZERO)
                for q in range(first_q, last_q):
                    share = splat(_weight(q, w, g.factor_w, g.w))
                    in_row = multiply_add_(load(dy, (n, p, q, c)), share, in_row)
                total = multiply_add_(in_row, splat(_weight(p, h, g.factor_h, g.h)), total)
            store(dx, (n, h, w, c), total)

    return kernel
