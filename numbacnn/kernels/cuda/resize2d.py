"""Upsampling by whole factors, resizing to any size, nearest or linear, and their gradients.

In upsampling, pixels are squares: the center of output p is at (p + ½) / factor − ½ of the input, clamped to the
centers of its first and last pixel (PyTorch's ``align_corners=False``).
"""

import numpy as np

from numbacnn.geometry import ResizeGeometry, UpSampleGeometry
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d
from numbacnn.kernels.cuda.vectors import add, multiply_add, owned_vector, pixel_kernel
from numbacnn.kernels.formulas import resizing
from numbacnn.kernels.registry import launcher

ZERO, ONE = np.float32(0), np.float32(1)
rows_of, columns_of = scalar_function(resizing.resize_rows), scalar_function(resizing.resize_columns)
resize_taps, resize_outputs = scalar_function(resizing.resize_taps), scalar_function(resizing.resize_outputs)
bilinear_taps, bilinear_outputs = scalar_function(resizing.bilinear_taps), scalar_function(resizing.bilinear_outputs)
weight_of = scalar_function(resizing.linear_weight)


@device_function
def _between(a, b, share):
    return (ONE - share) * a + share * b


def interpolation(vector):
    """Return a function that interpolates four pixels of x: ``rows`` and ``columns`` are the taps of an output."""
    load, splat, between = vector.load, vector.splat, vector.lift(_between, 3)

    @device_function
    def interpolate(x, n, c, rows, columns):
        (top, bottom, share_h), (left, right, share_w) = rows, columns
        upper = between(load(x, (n, top, left, c)), load(x, (n, top, right, c)), splat(share_w))
        lower = between(load(x, (n, bottom, left, c)), load(x, (n, bottom, right, c)), splat(share_w))
        return between(upper, lower, splat(share_h))

    return interpolate


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


@launcher
@pixel_kernel(float32_4d, float32_4d, UpSampleGeometry)
def up_sample_bilinear_forward(vector):
    """y[n,p,q,c] = the four pixels of x around the center of (p, q), weighted by their distance."""
    width, store, interpolate = vector.width, vector.store, interpolation(vector)

    def kernel(y, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            rows, columns = bilinear_taps(p, g.factor_h, g.h), bilinear_taps(q, g.factor_w, g.w)
            store(y, (n, p, q, c), interpolate(x, n, c, rows, columns))

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
            first_p, last_p = bilinear_outputs(h, g.factor_h, g.p)
            first_q, last_q = bilinear_outputs(w, g.factor_w, g.q)
            for p in range(first_p, last_p):
                in_row = splat(ZERO)
                for q in range(first_q, last_q):
                    weight = splat(weight_of(w, bilinear_taps(q, g.factor_w, g.w)))
                    in_row = multiply_add_(load(dy, (n, p, q, c)), weight, in_row)
                total = multiply_add_(in_row, splat(weight_of(h, bilinear_taps(p, g.factor_h, g.h))), total)
            store(dx, (n, h, w, c), total)

    return kernel


@launcher
@pixel_kernel(float32_4d, float32_4d, ResizeGeometry)
def resize_nearest_forward(vector):
    """y[n,p,q,c] = the pixel of x that the position of (p, q) is rounded to."""
    width, load, store = vector[:3]

    def kernel(y, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            store(y, (n, p, q, c), load(x, (n, resize_taps(p, rows_of(g))[0], resize_taps(q, columns_of(g))[0], c)))

    return kernel


@launcher
@pixel_kernel(float32_4d, float32_4d, ResizeGeometry)
def resize_linear_forward(vector):
    """y[n,p,q,c] = the four pixels of x around the position of (p, q), weighted by their distance."""
    width, store, interpolate = vector.width, vector.store, interpolation(vector)

    def kernel(y, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            rows, columns = resize_taps(p, rows_of(g)), resize_taps(q, columns_of(g))
            store(y, (n, p, q, c), interpolate(x, n, c, rows, columns))

    return kernel


@launcher
@pixel_kernel(float32_4d, float32_4d, ResizeGeometry, launch_bounds=(THREADS, 2))
def resize_gradient(vector):
    """dx[n,h,w,c] = Σ dy[n,p,q,c] · the weight of x[n,h,w,c] in output (p, q)."""
    width, load, store, splat = vector[:4]
    multiply_add_ = vector.lift(multiply_add, 3)

    def kernel(dx, dy, g):
        n, h, w, c = owned_vector(dx, width)
        if n < len(dx):
            total = splat(ZERO)
            first_p, last_p = resize_outputs(h, rows_of(g))
            first_q, last_q = resize_outputs(w, columns_of(g))
            for p in range(first_p, last_p):
                weight_h = weight_of(h, resize_taps(p, rows_of(g)))
                if weight_h != ZERO:
                    in_row = splat(ZERO)
                    for q in range(first_q, last_q):
                        weight_w = weight_of(w, resize_taps(q, columns_of(g)))
                        if weight_w != ZERO:
                            in_row = multiply_add_(load(dy, (n, p, q, c)), splat(weight_w), in_row)
                    total = multiply_add_(in_row, splat(weight_h), total)
            store(dx, (n, h, w, c), total)

    return kernel
