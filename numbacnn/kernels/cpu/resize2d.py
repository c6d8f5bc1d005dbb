"""Upsampling by whole factors, resizing to any size, nearest or linear, and their gradients. Oracles:
``kernels/reference/upsample2d.py`` and ``resize2d.py``.

In upsampling, pixels are squares: the center of output p is at (p + ½) / factor − ½ of the input, clamped to the
centers of its first and last pixel (PyTorch's ``align_corners=False``). Each thread owns a range of rows of outputs.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import ResizeGeometry, UpSampleGeometry
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.formulas import resizing
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

ZERO, ONE = np.float32(0), np.float32(1)
rows_of, columns_of = inlined(resizing.resize_rows), inlined(resizing.resize_columns)
resize_taps, resize_outputs = inlined(resizing.resize_taps), inlined(resizing.resize_outputs)
bilinear_taps, bilinear_outputs = inlined(resizing.bilinear_taps), inlined(resizing.bilinear_outputs)
weight_of = inlined(resizing.linear_weight)


@inlined
def interpolate(target, x, n, rows, columns):
    """Write an output pixel, which interpolates four pixels of x: ``rows`` and ``columns`` are its taps."""
    (top, bottom, share_h), (first, second, share_w) = rows, columns
    left, right = first * x.strides[2], second * x.strides[2]
    near, far = splat(ONE - share_w), splat(share_w)
    for c in range(0, x.shape[3], WIDTH):
        above, below, count = at(x, n, top, 0) + 4 * c, at(x, n, bottom, 0) + 4 * c, x.shape[3] - c
        upper = near * load(above + left, count) + far * load(above + right, count)
        lower = near * load(below + left, count) + far * load(below + right, count)
        store(target + 4 * c, splat(ONE - share_h) * upper + splat(share_h) * lower, count)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_nearest_forward(y, x, g):
    """y[n,p,q,c] = x[n, p // factor_h, q // factor_w, c]."""
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        for w in range(g.w):
            for c in range(0, g.c, WIDTH):
                value = load(at(x, n, p // g.factor_h, w) + 4 * c, g.c - c)
                for q in range(w * g.factor_w, (w + 1) * g.factor_w):
                    store(at(y, n, p, q) + 4 * c, value, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_nearest_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy over the outputs that are x[n,h,w,c]."""
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        for w in range(g.w):
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for p in range(h * g.factor_h, (h + 1) * g.factor_h):
                    for q in range(w * g.factor_w, (w + 1) * g.factor_w):
                        total += load(at(dy, n, p, q) + 4 * c, g.c - c)
                store(at(dx, n, h, w) + 4 * c, total, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_forward(y, x, g):
    """y[n,p,q,c] = the four pixels of x around the center of (p, q), weighted by their distance."""
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        rows = bilinear_taps(p, g.factor_h, g.h)
        for q in range(g.q):
            interpolate(at(y, n, p, q), x, n, rows, bilinear_taps(q, g.factor_w, g.w))


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the weight of x[n,h,w,c] in output (p, q)."""
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = bilinear_outputs(h, g.factor_h, g.p)
        for w in range(g.w):
            first_q, last_q = bilinear_outputs(w, g.factor_w, g.q)
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    in_row = splat(ZERO)
                    for q in range(first_q, last_q):
                        value = load(at(dy, n, p, q) + 4 * c, g.c - c)
                        in_row += value * splat(weight_of(w, bilinear_taps(q, g.factor_w, g.w)))
                    total += in_row * splat(weight_of(h, bilinear_taps(p, g.factor_h, g.h)))
                store(at(dx, n, h, w) + 4 * c, total, g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, ResizeGeometry)
def resize_nearest_forward(y, x, g):
    """y[n,p,q,c] = the pixel of x that the position of (p, q) is rounded to."""
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        row = resize_taps(p, rows_of(g))[0]
        for q in range(g.q):
            column = resize_taps(q, columns_of(g))[0]
            for c in range(0, g.c, WIDTH):
                store(at(y, n, p, q) + 4 * c, load(at(x, n, row, column) + 4 * c, g.c - c), g.c - c)


@launcher
@cpu_kernel(float32_4d, float32_4d, ResizeGeometry)
def resize_linear_forward(y, x, g):
    """y[n,p,q,c] = the four pixels of x around the position of (p, q), weighted by their distance."""
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        rows = resize_taps(p, rows_of(g))
        for q in range(g.q):
            interpolate(at(y, n, p, q), x, n, rows, resize_taps(q, columns_of(g)))


@launcher
@cpu_kernel(float32_4d, float32_4d, ResizeGeometry)
def resize_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the weight of x[n,h,w,c] in output (p, q)."""
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = resize_outputs(h, rows_of(g))
        for w in range(g.w):
            first_q, last_q = resize_outputs(w, columns_of(g))
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    weight_h = weight_of(h, resize_taps(p, rows_of(g)))
                    if weight_h != ZERO:
                        in_row = splat(ZERO)
                        for q in range(first_q, last_q):
                            weight_w = weight_of(w, resize_taps(q, columns_of(g)))
                            if weight_w != ZERO:
                                in_row += load(at(dy, n, p, q) + 4 * c, g.c - c) * splat(weight_w)
                        total += in_row * splat(weight_h)
                store(at(dx, n, h, w) + 4 * c, total, g.c - c)
