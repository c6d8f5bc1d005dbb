"""Sums over images and pixels, in an order that depends on the shape alone."""

from functools import partial

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, load_like, splat, splat_like, store, where_equal
from numbacnn.kernels.cpu.views import at, row_address
from numbacnn.kernels.jit import cpu_kernel, float32_4d, in_order, inlined
from numbacnn.kernels.registry import launcher

SMALL = 1 << 15  # elements; a second pass costs more than it saves for sums of fewer
GROUPS = 16
RUN = 8  # pixels
ZERO = np.float32(0)
compiled_into = partial(inlined, always=True)  # a call for each vector would cost as much as a window


@in_order
def plus(total, term):
    """total + term, rounded term by term, for sums in loops that also write; see ``jit.FAST_MATH``."""
    return total + term


@inlined
def add_with_error(total, error, term):
    """total + term, and ``error`` plus what its rounding lost (Knuth 1997, volume 2, section 4.2.2, theorem B)."""
    rounded = total + term
    share = rounded - total
    return rounded, error + ((total - (rounded - share)) + (term - share))


@inlined
def corrected(total, error):
    """total + error; the total itself where it is not finite."""
    return where_equal(error - error, splat_like(total, ZERO), total + error, total)


@compiled_into
def window_sum(zero, window, x, box, count):
    """Σ of x over the rows and columns (top, bottom, left, right) of ``box`` from an address, with an error of few ulp.

    Runs of ``RUN`` pixels are summed plainly, and their sums with the rounding errors.
    """
    top, bottom, left, right = box
    total, error = zero, zero
    for r in range(top, bottom):
        for first in range(left, right, RUN):
            run = zero
            for s in range(first, min(first + RUN, right)):
                run += load_like(zero, window + r * x.strides[1] + s * x.strides[2], count)
            total, error = add_with_error(total, error, run)
    return corrected(total, error)


@cpu_kernel(float32_4d, float32_4d)
def sum_groups(total, partial):
    """total[m,k] = Σ_g partial[g,0,m,k], in order; m: the first three axes of total. Each thread owns rows m."""
    p_total, p_partial = address(total), address(partial)
    groups, _, rows, columns = partial.shape
    row_step = total.strides[2]
    for m in prange(rows):
        row = np.intp(m)
        _sum_row(p_total + row * row_step, p_partial + 4 * row * columns, groups, 4 * rows * columns, columns)


@inlined
def _sum_row(total, row, count, step, columns):
    for k in range(0, columns, WIDTH):
        accumulator = load(row + 4 * k, columns - k)
        for i in range(1, count):
            accumulator += load(row + i * step + 4 * k, columns - k)
        store(total + 4 * k, accumulator, columns - k)


@launcher
def bias_gradient(db, dy, partial):
    """db[k] = Σ_npq dy[n,p,q,k]. db: K; dy: N×P×Q×K; partial: scratch of ``partial_bias_shape``."""
    total = db.reshape(1, 1, 1, -1)
    if dy.size > SMALL:  # by the size of this batch, not of the plan's: the same bits in any plan
        _sum_rows(partial, dy)
        sum_pixels(total, partial)
    else:
        sum_pixels(total, dy)


def partial_bias_shape(images, p, q, k):
    """Scratch of the bias gradient: groups × 1 × Q × K, empty if one pass is as fast."""
    return (GROUPS if images * p * q * k > SMALL else 0, 1, q, k)


@cpu_kernel(float32_4d, float32_4d)
def _sum_rows(partial, dy):
    """partial[g,0,q,k] = Σ dy[n,p,q,k] over the rows (n, p) of group g: rows of Q·K floats fill vectors for any K.

    Each thread owns a range of groups.
    """
    groups, rows, row_size = len(partial), dy.shape[0] * dy.shape[1], dy.shape[2] * dy.shape[3]
    for item in prange(groups):
        group = np.intp(item)
        total = address(partial) + 4 * group * row_size
        for i in range(0, row_size, WIDTH):
            store(total + 4 * i, splat(ZERO), row_size - i)
        for m in range(rows * group // groups, rows * (group + 1) // groups):
            row = row_address(dy, m)
            for i in range(0, row_size, WIDTH):
                store(total + 4 * i, load(total + 4 * i, row_size - i) + load(row + 4 * i, row_size - i), row_size - i)


@cpu_kernel(float32_4d, float32_4d, parallel=False)
def sum_pixels(total, x):
    """total[k] = Σ x[n,h,w,k], in order. Serial: x is small, and a parallel region would take longer."""
    images, height, width, channels = x.shape
    for c in range(0, channels, WIDTH):
        accumulator = splat(ZERO)
        for n in range(images):
            for h in range(height):
                for w in range(width):
                    accumulator += load(at(x, n, h, w) + 4 * c, channels - c)
        store(address(total) + 4 * c, accumulator, channels - c)
