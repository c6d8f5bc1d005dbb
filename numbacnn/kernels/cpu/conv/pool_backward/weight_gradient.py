"""The weight gradient from the gradient of the max-pool that follows."""

from functools import cache

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cpu.conv.pool_backward.microkernels import Indexed, Tile, indexed_microkernel
from numbacnn.kernels.cpu.gemm.gemm import HALF_LANES, row_table
from numbacnn.kernels.cpu.gemm.rows import add_row, clear_row, spread_row
from numbacnn.kernels.cpu.simd.memory import address, floats, integers
from numbacnn.kernels.cpu.sums import equal_ranges, sum_shards
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64, int64_1d
from numbacnn.kernels.target import host_target

VECTORS = 4 if host_target().registers >= 32 else 2  # of HALF_LANES: shorter vectors cross fewer cache lines
WIDTH = VECTORS * HALF_LANES
GROUPS = 16  # of images, each with its own partial sums and scratch
CHUNK_BYTES = 1 << 14  # of x, which every filter reads


def pool_weight_gradient(dw, x, dy, argmax, scratch, g, pool, shards=()):
    """dw[r,s,c,k] = Σ_npq x[n, h·stride + r·dilation, w·stride + s, c] · dy[n,p,q,k], (h, w) the maximum's pixel.

    dy, argmax: N×P×Q×K of the pool, contiguous; scratch: "partial" and "positions", of ``partial_shape`` and
    ``positions_shape``. With ``shards``, first images and the number of all, these are the groups of images, and their
    sums are added in a binary tree.
    """
    partial, positions = scratch["partial"][: len(shards) - 1 if shards else len(x)], scratch["positions"]
    bounds = np.array(shards, np.int64) if shards else equal_ranges(len(x), len(partial))
    row_step, pixel_step = pool.stride_h * g.stride_h * x.strides[1], pool.stride_w * g.stride_w * x.strides[2]
    chunk = max(1, min(pool.p, CHUNK_BYTES // row_step))
    corners = row_table((chunk, row_step // 4), (pool.q, pixel_step // 4), (g.k, 0))
    _kernel(g.r)(partial, positions, x, dy, argmax, corners, bounds, chunk, g, pool)
    if shards:
        sum_shards(partial[:1], partial)
        partial = partial[:1]
    _sum_filters(dw.reshape(1, 1, -1, g.k), partial)


def partial_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch for the partial sums: groups × 1 × K × R·S·C."""
    return (min(images, GROUPS), 1, g.k, g.r * g.s * g.c)


def positions_shape(g: ConvGeometry, pool: PoolGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch for each group's positions in x: groups × P × Q × K."""
    return (min(images, GROUPS), pool.p, pool.q, g.k)


@cache
def _kernel(rows):
    """Return the kernel for windows of ``rows`` rows."""
    wide, narrow = indexed_microkernel(rows, VECTORS, HALF_LANES), indexed_microkernel(rows, 1, HALF_LANES)

    @inlined
    def add_windows(at, entries, width):
        """Add the windows of one filter, of any width."""
        for j in range(0, width, WIDTH):
            tile = Tile(at.c + 4 * j, at.c_row, at.a + 4 * j, at.a_row)
            if width - j > HALF_LANES:
                wide(tile, entries, width - j)
            else:
                narrow(tile, entries, width - j)

    def kernel(partial, positions, x, dy, argmax, corners, bounds, chunk, g, pool):
        """partial[group,0,k,(r,s,c)] is the share of the images from bounds[group] to bounds[group + 1] − 1.

        Each thread owns a range of groups. ``chunk`` rows of windows, which start at ``corners``, are added at a time.
        """
        width = g.s * g.c
        x_image, x_row, x_pixel = x.strides[:3]
        size, row_size = 4 * g.k * rows * width, 4 * pool.q * g.k
        p_partial, p_positions, p_dy, p_argmax = address(partial), address(positions), address(dy), address(argmax)
        p_x = address(x) - g.pad_top * x_row - g.pad_left * x_pixel
        for item in prange(len(partial)):
            group = np.intp(item)
            total, found = p_partial + group * size, p_positions + group * pool.p * row_size
            clear_row(total, size // 4)
            for n in range(bounds[group], bounds[group + 1]):
                for first in range(0, pool.p, chunk):
                    last = min(first + chunk, pool.p)
                    start = (n * pool.p + first) * row_size
                    count = (last - first) * pool.q
                    _find(found, p_argmax + start, count * g.k, first, corners, (x_row, x_pixel), g, pool)
                    for k in range(g.k):
                        at = Tile(total + 4 * k * rows * width, width, p_x + n * x_image, g.dilation_h * x_row // 4)
                        entries = Indexed(p_dy + start + 4 * k, found + 4 * k, g.k, count)
                        add_windows(at, entries, width)

    kernel.__name__ = kernel.__qualname__ = f"pool_weight_gradient_{rows}"
    return cpu_kernel(*[float32_4d] * 5, int64_1d, int64_1d, int64, ConvGeometry, PoolGeometry)(kernel)


@inlined
def _find(positions, argmax, size, first, corners, x_strides, g, pool):
    """Write the offsets in x of the windows of ``size`` maxima: all pixels and filters from row ``first`` of the pool.

    Several rows share a call, since the remainder of a vectorized loop takes as long as many vectors.
    """
    found, chosen = integers(positions, size), floats(argmax, size)
    row_step, pixel_step = np.int32(g.stride_h * x_strides[0] // 4), np.int32(g.stride_w * x_strides[1] // 4)
    start = np.int32(first * pool.stride_h - pool.pad_top) * row_step - np.int32(pool.pad_left) * pixel_step
    share, width = np.float32(1) / np.float32(pool.s), np.int32(pool.s)
    for i in range(size):
        r = np.int32((chosen[i] + np.float32(0.5)) * share)
        s = np.int32(chosen[i]) - r * width
        found[i] = start + np.int32(corners[i]) + r * row_step + s * pixel_step


@cpu_kernel(float32_4d, float32_4d)
def _sum_filters(dw, partial):
    """dw[0,0,m,k] = Σ_group partial[group,0,k,m], groups in order. Each thread owns a range of filters k."""
    groups, _, filters, terms = partial.shape
    p_dw, p_partial, step = address(dw), address(partial), dw.strides[2]
    for item in prange(filters):
        k = np.intp(item)
        total = p_partial + 4 * k * terms
        for group in range(1, groups):
            add_row(total, total + 4 * group * filters * terms, terms)
        spread_row(p_dw + 4 * k, step, total, terms)
