"""Sums over parts, and over images and pixels, in an order that depends only on the shape."""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.norm.channel_sums import channel_blocks, owned_channel, owned_pixels, part_count, sum_rows
from numbacnn.kernels.cuda.runtime.intrinsics import cuda
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, float32_1d, float32_2d, float32_4d, over
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


def sum_parts(total, partial):
    """total[i] = Σ_part partial[part,i], in order. total: M; partial: parts × M, contiguous."""
    _sum_parts[over(total.size)](total, partial)


@cuda_kernel(float32_1d, float32_2d)
def _sum_parts(total, partial):
    """Each thread owns an element."""
    i = cuda.grid(1)
    if i < total.size:
        value = partial[0, i]
        for part in range(1, partial.shape[0]):
            value += partial[part, i]
        total[i] = value


@launcher
def bias_gradient(db, dy, partial, shards=()):
    """db[k] = Σ_npq dy[n,p,q,k]. db: K; dy: N×P×Q×K; partial: scratch of ``partial_bias_shape``; shards: none."""
    n, p, q, k = dy.shape
    parts = part_count(n * p * q, k)
    target = partial[:parts].reshape(parts, k) if parts > 1 else db.reshape(1, k)
    _sum_pixels[(channel_blocks(k), parts), THREADS](target, dy)
    if parts > 1:
        sum_parts(db, target)


def partial_bias_shape(images, p, q, k):
    """Scratch of the bias gradient: parts × 1 × 1 × K; empty if there is only one part."""
    parts = part_count(images * p * q, k)
    return (parts if parts > 1 else 0, 1, 1, k)


@cuda_kernel(float32_2d, float32_4d)
def _sum_pixels(partial, x):
    """partial[part,k] = Σ x over the pixels of the part. Each block owns channels of a part."""
    shared = cuda.shared.array(THREADS, types.float32)
    k, row, width = owned_channel(x.shape[3])
    height, across = x.shape[1], x.shape[2]
    part = cuda.blockIdx.y
    pixel, last, step = owned_pixels(x.shape[0] * height * across, part, cuda.gridDim.y, row, width)
    total = ZERO
    while pixel < last:
        total += x[pixel // (height * across), pixel // across % height, pixel % across, k]
        pixel += step
    total = sum_rows(shared, total, width)
    if row == 0:
        partial[part, k] = total
