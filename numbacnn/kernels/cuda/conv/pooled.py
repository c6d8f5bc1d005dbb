"""Convolution with the max-pool behind it in one, and the gradients from the pool's: the twins of ``conv2d_pooled`` and
``conv2d_maxima``. Here a plan does not choose them (``sizes.pool_fuses``, ``sizes.maxima_apply``): the products of
``product.py`` fill the device without. Each thread owns an output and sums it in order.
"""

import numpy as np
from numba import types

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_4d, over_channels, pixel_of
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
def conv2d_pool_forward(y, argmax, x, w, b, packed, g, pool, relu=False):
    """y, argmax as of ``max_pool_forward`` from what ``conv2d_forward`` would write.

    y: N×P×Q×K of the pool; argmax: the same, or without images where no gradient will be asked for; the others as in
    ``conv2d_forward``. Windows apart, whole, and inside the convolution's output.
    """
    bias = w.reshape(-1)[:0] if b is None else b
    _pooled[over_channels(y)](y, argmax, x, w.reshape(-1), bias, g, pool, relu)


@cuda_kernel(float32_4d, float32_4d, float32_4d, float32_1d, float32_1d, ConvGeometry, PoolGeometry, types.boolean)
def _pooled(y, argmax, x, w, b, g, pool, relu):
    """Each thread owns a filter of a pixel of the pool."""
    n, p, q, k = pixel_of(pool.p, pool.q)
    if n < y.shape[0] and k < g.k:
        best, place = ZERO, 0
        for at in range(pool.r * pool.s):
            down = at // pool.s
            value = _output(x, w, n, p * pool.stride_h + down, q * pool.stride_w + at - down * pool.s, k, g)
            if b.size > 0:
                value += b[k]
            if relu and value < ZERO:
                value = ZERO
            if at == 0 or value > best:
                best, place = value, at
        y[n, p, q, k] = best
        if argmax.shape[0] > 0:
            argmax[n, p, q, k] = place


@device_function
def _output(x, w, n, p, q, k, g):
    """The convolution's output without its bias."""
    channels = g.c // g.groups
    first = k // (g.k // g.groups) * channels
    total = ZERO
    for r in range(g.r):
        h = p * g.stride_h - g.pad_top + r * g.dilation_h
        if 0 <= h < g.h:
            for s in range(g.s):
                column = q * g.stride_w - g.pad_left + s * g.dilation_w
                if 0 <= column < g.w:
                    for c in range(channels):
                        total += x[n, h, column, first + c] * w[((r * g.s + s) * channels + c) * g.k + k]
    return total


@launcher
def maxima_weight_gradient(dw, x, dy, argmax, partial, places, g, pool):
    """dw[r,s,c,k] = Σ_npq x[n, h·stride + r·dilation, w·stride + s, c] · dy[n,p,q,k], (h, w) the maximum's pixel.

    dw: R×S×C×K; x as in the forward pass; dy, argmax: N×P×Q×K of the pool; partial, places: not used.
    """
    rows = dw.reshape(g.r, g.s, g.c, g.k)
    _maxima_weights[over_channels(rows)](rows, x, dy, argmax, g, pool)


@cuda_kernel(float32_4d, float32_4d, float32_4d, float32_4d, ConvGeometry, PoolGeometry)
def _maxima_weights(dw, x, dy, argmax, g, pool):
    """Each thread owns a weight."""
    r, s, c, k = pixel_of(g.s, g.c)
    if r < g.r and k < g.k:
        total = ZERO
        for n in range(dy.shape[0]):
            for p in range(pool.p):
                for q in range(pool.q):
                    place = np.int64(argmax[n, p, q, k])
                    down = place // pool.s
                    h = (p * pool.stride_h - pool.pad_top + down) * g.stride_h - g.pad_top + r * g.dilation_h
                    column = q * pool.stride_w - pool.pad_left + place - down * pool.s
                    column = column * g.stride_w - g.pad_left + s * g.dilation_w
                    if 0 <= h < g.h and 0 <= column < g.w:
                        total += x[n, h, column, c] * dy[n, p, q, k]
        dw[r, s, c, k] = total


@launcher
def maxima_input_gradient(dx, dy, argmax, w, packed, image, g, pool, mask=None):
    """dx as in ``conv2d_input_gradient``, from the gradient of a max-pool behind the convolution.

    dx: N×H×W×C; dy, argmax: N×P×Q×K of the pool; w: R×S×C×K; packed, image: not used; mask as in
    ``conv2d_input_gradient``. The pool's windows lie apart.
    """
    masked = mask is not None
    _maxima_inputs[over_channels(dx)](dx, dy, argmax, w.reshape(-1), mask if masked else dx, g, pool, masked)


@cuda_kernel(*[float32_4d] * 3, float32_1d, float32_4d, ConvGeometry, PoolGeometry, types.boolean)
def _maxima_inputs(dx, dy, argmax, w, mask, g, pool, masked):
    """Each thread owns a channel of a pixel (n, h, w)."""
    n, h, column, c = pixel_of(g.h, g.w)
    if n < dx.shape[0] and c < g.c:
        total = ZERO
        for r in range(g.r):
            p, down = _window(h + g.pad_top - r * g.dilation_h, g.stride_h, g.p, pool.pad_top, pool.stride_h, pool.r)
            if 0 <= p < pool.p and down >= 0:
                for s in range(g.s):
                    place = column + g.pad_left - s * g.dilation_w
                    q, across = _window(place, g.stride_w, g.q, pool.pad_left, pool.stride_w, pool.s)
                    if 0 <= q < pool.q and across >= 0:
                        chosen = np.float32(down * pool.s + across)
                        for k in range(g.k):
                            if argmax[n, p, q, k] == chosen:
                                total += dy[n, p, q, k] * w[((r * g.s + s) * g.c + c) * g.k + k]
        dx[n, h, column, c] = ZERO if masked and mask[n, h, column, c] <= ZERO else total


@device_function
def _window(place, stride, outputs, padding, pool_stride, size):
    """(window of the pool, place in it) of the convolution's output at ``place`` / ``stride``; −1 where there is
    none."""
    output = place // stride
    if place < 0 or output * stride != place or output >= outputs:
        return -1, -1
    window = (output + padding) // pool_stride
    inside = output + padding - window * pool_stride
    return window, inside if inside < size else -1
