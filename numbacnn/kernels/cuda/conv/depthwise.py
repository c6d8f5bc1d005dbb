"""Depthwise convolution, with one or several filters per channel, and its two gradients.

A GEMM would have too few columns and too short a k here. Each thread owns an output, and neighboring threads own
neighboring channels.
"""

import numpy as np
from numba import types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.convolution import WEIGHT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cuda.conv.implicit_gemm import add_residual, relu_first
from numbacnn.kernels.cuda.norm.channel_sums import channel_blocks, owned_channel, owned_pixels, part_count, sum_rows
from numbacnn.kernels.cuda.runtime.intrinsics import cuda
from numbacnn.kernels.cuda.runtime.jit import (
    THREADS,
    cuda_kernel,
    float32_1d,
    float32_3d,
    float32_4d,
    over_channels,
    owned_element,
)
from numbacnn.kernels.cuda.sums import sum_parts

ZERO = np.float32(0)


class Depthwise(ConvAlgorithm):
    """Applies if there are as many groups as channels."""

    name = "depthwise"

    def applies(self, direction, g, pool):
        """Return whether each of several channels has its own filters."""
        return pool is None and g.groups == g.c > 1

    def scratch(self, direction, g, batch, pool=None):
        """Partial sums of the weight gradient, if there are several."""
        parts = weight_parts(g, batch) if direction == WEIGHT_GRADIENT else 1
        return {"partial": Scratch((parts, 1, g.r * g.s, g.k))} if parts > 1 else {}

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Each thread sums a window."""
        depthwise_forward(y, x, w, b, g, relu_first(epilogue))
        add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """Each block sums pixels for a tap."""
        depthwise_weight_gradient(dw, x, dy, scratch.get("partial"), g)

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """Each thread sums a flipped window."""
        depthwise_input_gradient(dx, dy, w, g, epilogue.mask)


def depthwise_forward(y, x, w, b, g, relu):
    """Write y as ``ConvAlgorithm.forward`` does, then apply ReLU if asked."""
    bias = w.reshape(-1)[:0] if b is None else b
    _forward[over_channels(y)](y, x, w.reshape(-1), bias, g, relu)


@cuda_kernel(float32_4d, float32_4d, float32_1d, float32_1d, ConvGeometry, types.boolean)
def _forward(y, x, w, b, g, relu):
    """Each thread owns a filter of a pixel (n, p, q). x is not read in its halo."""
    n, p, q, k = owned_element(g.p, g.q)
    if n < y.shape[0] and k < g.k:
        c, top, left = k // (g.k // g.c), p * g.stride_h - g.pad_top, q * g.stride_w - g.pad_left
        total = ZERO
        for r in range(g.r):
            h = top + r * g.dilation_h
            if 0 <= h < g.h:
                for s in range(g.s):
                    column = left + s * g.dilation_w
                    if 0 <= column < g.w:
                        total += x[n, h, column, c] * w[(r * g.s + s) * g.k + k]
        if b.size > 0:
            total += b[k]
        y[n, p, q, k] = ZERO if relu and total < ZERO else total


def depthwise_input_gradient(dx, dy, w, g, mask):
    """Write dx as ``ConvAlgorithm.input_gradient`` does."""
    masked = mask is not None
    _input_gradient[over_channels(dx)](dx, dy, w.reshape(-1), mask if masked else dx, g, masked)


@cuda_kernel(float32_4d, float32_4d, float32_1d, float32_4d, ConvGeometry, types.boolean)
def _input_gradient(dx, dy, w, mask, g, masked):
    """Each thread owns a channel of a pixel (n, h, w). dy is not read in its halo."""
    n, h, column, c = owned_element(g.h, g.w)
    if n < dx.shape[0] and c < g.c:
        filters = g.k // g.c
        total = ZERO
        for r in range(g.r):
            top = h + g.pad_top - r * g.dilation_h
            p = top // g.stride_h
            if top >= 0 and p * g.stride_h == top and p < g.p:
                for s in range(g.s):
                    left = column + g.pad_left - s * g.dilation_w
                    q = left // g.stride_w
                    if left >= 0 and q * g.stride_w == left and q < g.q:
                        for k in range(c * filters, (c + 1) * filters):
                            total += dy[n, p, q, k] * w[(r * g.s + s) * g.k + k]
        dx[n, h, column, c] = ZERO if masked and mask[n, h, column, c] <= ZERO else total


def depthwise_weight_gradient(dw, x, dy, partial, g):
    """Write dw; partial: scratch for the parts, or None if there is only one."""
    parts = weight_parts(g, len(x))
    target = (partial[:parts] if parts > 1 else dw).reshape(parts, g.r * g.s, g.k)
    _weight_gradient[(channel_blocks(g.k), g.r * g.s, parts), THREADS](target, x, dy, g)
    if parts > 1:
        sum_parts(dw.reshape(-1), partial[:parts].reshape(parts, -1))


def weight_parts(g, images):
    """Return the number of parts that the pixels of a weight gradient are cut into."""
    return part_count(images * g.p * g.q, g.k, g.r * g.s)


@cuda_kernel(float32_3d, float32_4d, float32_4d, ConvGeometry)
def _weight_gradient(partial, x, dy, g):
    """partial[part,tap,k] = Σ x·dy over the pixels (n, p, q) of the part. Each block owns filters of a part and tap."""
    shared = cuda.shared.array(THREADS, types.float32)
    k, thread_row, width = owned_channel(g.k)
    tap, part = cuda.blockIdx.y, cuda.blockIdx.z
    r = tap // g.s
    down, across = r * g.dilation_h - g.pad_top, (tap - r * g.s) * g.dilation_w - g.pad_left
    c = k // (g.k // g.c)
    pixel, last, step = owned_pixels(dy.shape[0] * g.p * g.q, part, cuda.gridDim.z, thread_row, width)
    total = ZERO
    while pixel < last:
        row = pixel // g.q
        n = row // g.p
        p, q = row - n * g.p, pixel - row * g.q
        h, column = p * g.stride_h + down, q * g.stride_w + across
        if 0 <= h < g.h and 0 <= column < g.w:
            total += x[n, h, column, c] * dy[n, p, q, k]
        pixel += step
    total = sum_rows(shared, total, width)
    if thread_row == 0:
        partial[part, tap, k] = total
