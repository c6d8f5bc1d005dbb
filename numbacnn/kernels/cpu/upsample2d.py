"""Enlarging images by whole factors, nearest or bilinear, and the gradients. Oracle: ``tests/reference.py``.

Pixels are squares: the centre of output p lies at (p + ½) / factor − ½ of the input, not before its first centre and
not behind its last (PyTorch's ``align_corners=False``). Each thread owns a range of rows of outputs.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import UpSampleGeometry
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

ZERO, ONE = np.float32(0), np.float32(1)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_nearest_forward(y, x, g):
    """y[n,p,q,c] = x[n, p // factor_h, q // factor_w, c]."""
    p_y, p_x = address(y), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        target, source = p_y + n * y_image + p * y_row, p_x + n * x_image + p // g.factor_h * x_row
        for w in range(g.w):
            for c in range(0, g.c, LANES):
                value = load(source + w * x_pixel + 4 * c, g.c - c)
                for q in range(w * g.factor_w, (w + 1) * g.factor_w):
                    store(target + q * y_pixel + 4 * c, value, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_nearest_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy over the outputs that are x[n,h,w,c]."""
    p_dx, p_dy = address(dx), address(dy)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        for w in range(g.w):
            for c in range(0, g.c, LANES):
                total = splat(ZERO)
                for p in range(h * g.factor_h, (h + 1) * g.factor_h):
                    for q in range(w * g.factor_w, (w + 1) * g.factor_w):
                        total += load(p_dy + n * dy_image + p * dy_row + q * dy_pixel + 4 * c, g.c - c)
                store(p_dx + n * dx_image + h * dx_row + w * dx_pixel + 4 * c, total, g.c - c)


@inlined
def _taps(p, factor, size):
    """The two inputs between which output p lies, and the share of the second; in whole halves, so that it is exact."""
    place = max(0, 2 * p + 1 - factor)
    first = place // (2 * factor)
    return first, min(first + 1, size - 1), np.float32(place % (2 * factor)) / np.float32(2 * factor)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_forward(y, x, g):
    """y[n,p,q,c] = the four pixels of x around the centre of (p, q), weighted by how near they are."""
    p_y, p_x = address(y), address(x)
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        top, bottom, share_h = _taps(p, g.factor_h, g.h)
        above, below = p_x + n * x_image + top * x_row, p_x + n * x_image + bottom * x_row
        for q in range(g.q):
            left, right, share_w = _taps(q, g.factor_w, g.w)
            far, near = splat(share_w), splat(ONE - share_w)
            for c in range(0, g.c, LANES):
                i, j, count = left * x_pixel + 4 * c, right * x_pixel + 4 * c, g.c - c
                upper = near * load(above + i, count) + far * load(above + j, count)
                lower = near * load(below + i, count) + far * load(below + j, count)
                value = splat(ONE - share_h) * upper + splat(share_h) * lower
                store(p_y + n * y_image + p * y_row + q * y_pixel + 4 * c, value, count)


@inlined
def _reached(h, factor, outputs):
    """The range of outputs that input h has a share in."""
    return max(0, (factor * (2 * h - 1) + 1) // 2), min(outputs, factor * (2 * h + 3) // 2)


@inlined
def _weight(p, h, factor, size):
    """The share of input h in output p."""
    first, second, share = _taps(p, factor, size)
    return (ONE - share if first == h else ZERO) + (share if second == h else ZERO)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the share of x[n,h,w,c] in output (p, q)."""
    p_dx, p_dy = address(dx), address(dy)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = _reached(h, g.factor_h, g.p)
        for w in range(g.w):
            first_q, last_q = _reached(w, g.factor_w, g.q)
            for c in range(0, g.c, LANES):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    in_row = splat(ZERO)
                    for q in range(first_q, last_q):
                        value = load(p_dy + n * dy_image + p * dy_row + q * dy_pixel + 4 * c, g.c - c)
                        in_row += value * splat(_weight(q, w, g.factor_w, g.w))
                    total += in_row * splat(_weight(p, h, g.factor_h, g.h))
                store(p_dx + n * dx_image + h * dx_row + w * dx_pixel + 4 * c, total, g.c - c)
