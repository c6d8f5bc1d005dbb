"""Sums over images and pixels, in an order that the shape alone decides."""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, in_order, inlined
from numbacnn.kernels.registry import launcher

SMALL = 1 << 15  # elements; smaller sums are not worth a second pass
GROUPS = 16
ZERO = np.float32(0)


@in_order
def plus(total, term):
    """total + term, rounded term by term, for sums in loops that write too: see ``jit.FAST_MATH``."""
    return total + term


@cpu_kernel(float32_4d, float32_4d)
def sum_groups(total, partial):
    """total[m,k] = Σ_g partial[g,0,m,k], groups in order; total's first three axes are m. Each thread owns rows m."""
    p_total, p_partial = address(total), address(partial)
    groups, _, rows, columns = partial.shape
    row_step = total.strides[2]
    for m in prange(rows):
        row = np.intp(m)
        _sum_row(p_total + row * row_step, p_partial + 4 * row * columns, groups, 4 * rows * columns, columns)


@inlined
def _sum_row(total, row, count, step, columns):
    for k in range(0, columns, LANES):
        accumulator = load(row + 4 * k, columns - k)
        for i in range(1, count):
            accumulator += load(row + i * step + 4 * k, columns - k)
        store(total + 4 * k, accumulator, columns - k)


@launcher
def bias_gradient(db, dy, partial):
    """db[k] = Σ_npq dy[n,p,q,k]. db: K; dy: N×P×Q×K; partial: scratch of ``partial_bias_shape``."""
    total = db.reshape(1, 1, 1, -1)
    if dy.size > SMALL:  # by the batch at hand, not the one planned for: the same bits in any plan
        _sum_rows(partial, dy)
        sum_pixels(total, partial)
    else:
        sum_pixels(total, dy)


def partial_bias_shape(images, p, q, k):
    """Scratch of the bias gradient: groups × 1 × Q × K, empty where one pass is as fast."""
    return (GROUPS if images * p * q * k > SMALL else 0, 1, q, k)


@cpu_kernel(float32_4d, float32_4d)
def _sum_rows(partial, dy):
    """partial[g,0,q,k] = Σ dy[n,p,q,k] over the group's rows (n, p). Each thread owns a range of groups.

    Rows of Q·K floats fill vectors whatever K is.
    """
    p_partial, p_dy = address(partial), address(dy)
    groups, rows, p, row_size = len(partial), dy.shape[0] * dy.shape[1], dy.shape[1], dy.shape[2] * dy.shape[3]
    image_step, row_step = dy.strides[0], dy.strides[1]
    for item in prange(groups):
        group = np.intp(item)
        total = p_partial + 4 * group * row_size
        for i in range(0, row_size, LANES):
            store(total + 4 * i, splat(ZERO), row_size - i)
        for m in range(rows * group // groups, rows * (group + 1) // groups):
            row = p_dy + m // p * image_step + m % p * row_step
            for i in range(0, row_size, LANES):
                store(total + 4 * i, load(total + 4 * i, row_size - i) + load(row + 4 * i, row_size - i), row_size - i)


@cpu_kernel(float32_4d, float32_4d, parallel=False)
def sum_pixels(total, x):
    """total[k] = Σ x[n,h,w,k], in order. Serial: x is small, and a parallel region would cost more."""
    p_total, p_x = address(total), address(x)
    images, height, width, channels = x.shape
    image_step, row_step, pixel_step = x.strides[:3]
    for first in range(0, channels, LANES):
        accumulator = splat(ZERO)
        for n in range(images):
            for h in range(height):
                pixel = p_x + n * image_step + h * row_step + 4 * first
                for _ in range(width):
                    accumulator += load(pixel, channels - first)
                    pixel += pixel_step
        store(p_total + 4 * first, accumulator, channels - first)
