"""Upsampling by whole factors, nearest or bilinear, and the gradients. Oracle: ``kernels/reference/upsample2d.py``.

Pixels are squares: the center of output p is at (p + ½) / factor − ½ of the input, clamped to the centers of its first
and last pixel (PyTorch's ``align_corners=False``). Each thread owns a range of rows of outputs.
"""

import numpy as np
from numba import prange

from numbacnn.geometry import UpSampleGeometry
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store
from numbacnn.kernels.cpu.views import at
from numbacnn.kernels.formulas import windows
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher

ZERO, ONE = np.float32(0), np.float32(1)
taps_of, outputs_of = inlined(windows.bilinear_taps), inlined(windows.bilinear_outputs)
weight_of = inlined(windows.bilinear_weight)


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
        top, bottom, share_h = taps_of(p, g.factor_h, g.h)
        for q in range(g.q):
            first, second, share_w = taps_of(q, g.factor_w, g.w)
            left, right = first * x.strides[2], second * x.strides[2]
            near, far = splat(ONE - share_w), splat(share_w)
            for c in range(0, g.c, WIDTH):
                above, below, count = at(x, n, top, 0) + 4 * c, at(x, n, bottom, 0) + 4 * c, g.c - c
                upper = near * load(above + left, count) + far * load(above + right, count)
                lower = near * load(below + left, count) + far * load(below + right, count)
                value = splat(ONE - share_h) * upper + splat(share_h) * lower
                store(at(y, n, p, q) + 4 * c, value, count)


@launcher
@cpu_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_gradient(dx, dy, g):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the weight of x[n,h,w,c] in output (p, q)."""
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        first_p, last_p = outputs_of(h, g.factor_h, g.p)
        for w in range(g.w):
            first_q, last_q = outputs_of(w, g.factor_w, g.q)
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for p in range(first_p, last_p):
                    in_row = splat(ZERO)
                    for q in range(first_q, last_q):
                        value = load(at(dy, n, p, q) + 4 * c, g.c - c)
                        in_row += value * splat(weight_of(w, taps_of(q, g.factor_w, g.w)))
                    total += in_row * splat(weight_of(h, taps_of(p, g.factor_h, g.h)))
                store(at(dx, n, h, w) + 4 * c, total, g.c - c)
