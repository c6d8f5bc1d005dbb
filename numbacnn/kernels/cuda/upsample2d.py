"""Upsampling by whole factors, nearest or bilinear, and the gradients.

Pixels are squares: the center of output p is at (p + ½) / factor − ½ of the input, clamped to the centers of its first
and last pixel (PyTorch's ``align_corners=False``).
"""

import numpy as np

from numbacnn.geometry import UpSampleGeometry
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d
from numbacnn.kernels.cuda.vectors import add, multiply_add, owned_vector, pixel_kernel
from numbacnn.kernels.formulas import windows
from numbacnn.kernels.registry import launcher

ZERO, ONE = np.float32(0), np.float32(1)
taps_of, outputs_of = scalar_function(windows.bilinear_taps), scalar_function(windows.bilinear_outputs)
weight_of = scalar_function(windows.bilinear_weight)


@launcher
@pixel_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_nearest_forward(vector):
    """y[n,p,q,c] = x[n, p // factor_h, q // factor_w, c]."""
    width, load, store = vector[:3]

    def kernel(y, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            store(y, (n, p, q, c), load(x, (n, p // g.factor_h, q // g.factor_w, c)))

    return kernel


@launcher
@pixel_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_nearest_gradient(vector):
    """dx[n,h,w,c] = Σ dy over the outputs that are x[n,h,w,c]."""
    width, load, store, splat = vector[:4]
    add_ = vector.lift(add)

    def kernel(dx, dy, g):
        n, h, w, c = owned_vector(dx, width)
        if n < len(dx):
            total = splat(ZERO)
            for p in range(h * g.factor_h, (h + 1) * g.factor_h):
                for q in range(w * g.factor_w, (w + 1) * g.factor_w):
                    total = add_(total, load(dy, (n, p, q, c)))
            store(dx, (n, h, w, c), total)

    return kernel


@device_function
def _interpolate(a, b, share):
    return (ONE - share) * a + share * b


@launcher
@pixel_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_forward(vector):
    """y[n,p,q,c] = the four pixels of x around the center of (p, q), weighted by their distance."""
    width, load, store, splat = vector[:4]
    interpolate = vector.lift(_interpolate, 3)

    def kernel(y, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            top, bottom, share_h = taps_of(p, g.factor_h, g.h)
            left, right, share_w = taps_of(q, g.factor_w, g.w)
            upper = interpolate(load(x, (n, top, left, c)), load(x, (n, top, right, c)), splat(share_w))
            lower = interpolate(load(x, (n, bottom, left, c)), load(x, (n, bottom, right, c)), splat(share_w))
            store(y, (n, p, q, c), interpolate(upper, lower, splat(share_h)))

    return kernel


@launcher
@pixel_kernel(float32_4d, float32_4d, UpSampleGeometry, launch_bounds=(THREADS, 3))  # four would spill
def up_sample_bilinear_gradient(vector):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the weight of x[n,h,w,c] in output (p, q)."""
    width, load, store, splat = vector[:4]
    multiply_add_ = vector.lift(multiply_add, 3)

    def kernel(dx, dy, g):
        n, h, w, c = owned_vector(dx, width)
        if n < len(dx):
            total = splat(ZERO)
            first_p, last_p = outputs_of(h, g.factor_h, g.p)
            first_q, last_q = outputs_of(w, g.factor_w, g.q)
            for p in range(first_p, last_p):
                in_row = splat(ZERO)
                for q in range(first_q, last_q):
                    weight = splat(weight_of(w, taps_of(q, g.factor_w, g.w)))
                    in_row = multiply_add_(load(dy, (n, p, q, c)), weight, in_row)
                total = multiply_add_(in_row, splat(weight_of(h, taps_of(p, g.factor_h, g.h))), total)
            store(dx, (n, h, w, c), total)

    return kernel
