"""Sums over images and pixels, in an order that depends on the shape alone."""

from functools import lru_cache, partial
from itertools import pairwise

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.gemm.rows import add_row, clear_row, copy_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, load_like, splat, splat_like, store, where_equal
from numbacnn.kernels.cpu.views import at, row_address
from numbacnn.kernels.jit import cpu_kernel, float32_4d, in_order, inlined, int64_1d
from numbacnn.kernels.registry import launcher

SMALL = 1 << 15  # elements; a second pass costs more than it saves for sums of fewer
GROUPS = 16  # of rows, each with a partial sum
SHARDS_AT_ONCE = 16  # of a batch, which kernels sum one by one and add in a binary tree
SHARD_GROUPS = 4  # of the rows of a shard, the lowest levels of the tree
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


@cpu_kernel(float32_4d, float32_4d)
def sum_shards(total, partial):
    """total[m,k] = Σ_s partial[s,0,m,k], the shards s in a binary tree, in the memory of partial.

    m: the first three axes of total, which may be partial[:1]. Each thread owns rows m.
    """
    p_total, p_partial = address(total), address(partial)
    shards, _, rows, columns = partial.shape
    shard_step, partial_step, total_step = partial.strides[0], partial.strides[2], total.strides[2]
    for m in prange(rows):
        row, level = p_partial + np.intp(m) * partial_step, 1
        while level < shards:
            for first in range(0, shards - level, 2 * level):
                add_row(row + first * shard_step, row + (first + level) * shard_step, columns)
            level *= 2
        copy_row(p_total + np.intp(m) * total_step, row, columns)


@lru_cache(maxsize=1024)
def equal_ranges(count, groups):
    """The bounds of ``groups`` ranges that divide ``count`` items, of equal size but for one item."""
    return np.arange(groups + 1, dtype=np.int64) * count // groups


@launcher
def bias_gradient(db, dy, partial, shards=()):
    """db[k] = Σ_npq dy[n,p,q,k]; with ``shards``, first images and the number of all, added in a binary tree.

    db: K; dy: N×P×Q×K; partial: scratch of ``partial_bias_shape``.
    """
    total, (images, height) = db.reshape(1, 1, 1, -1), dy.shape[:2]
    if shards:
        bounds = _row_bounds(shards, height)
        partial = partial[: len(bounds) - 1]
        _sum_rows(partial, dy, bounds, True)
        sum_shards(total, partial[:, :, :1])
    elif dy.size > SMALL:  # by the size of this batch, not of the plan's: the same bits in any plan
        _sum_rows(partial[:GROUPS], dy, equal_ranges(images * height, GROUPS), False)
        sum_pixels(total, partial[:GROUPS])
    else:
        sum_pixels(total, dy)


def _row_bounds(shards, height):
    """The bounds of SHARD_GROUPS groups of rows of each shard."""
    ranges = [a * height + equal_ranges((b - a) * height, SHARD_GROUPS)[:-1] for a, b in pairwise(shards)]
    return np.concatenate([*ranges, [shards[-1] * height]])


def partial_bias_shape(images, p, q, k):
    """Scratch of the bias gradient: groups × 1 × Q × K."""
    return (max(GROUPS, SHARDS_AT_ONCE * SHARD_GROUPS), 1, q, k)


@cpu_kernel(float32_4d, float32_4d, int64_1d, types.boolean)
def _sum_rows(partial, dy, bounds, over_columns):
    """partial[g,0,q,k] = Σ dy[n,p,q,k] over the rows (n, p) of group g: rows of Q·K floats fill vectors for any K.

    Rows from bounds[g] to bounds[g + 1] − 1 are those of group g. If ``over_columns``, partial[g,0,0,k] is their sum
    over q too. Each thread owns a range of groups.
    """
    _, _, columns, channels = dy.shape
    row_size = columns * channels
    for item in prange(len(partial)):
        group = np.intp(item)
        total = address(partial) + 4 * group * row_size
        clear_row(total, row_size)
        for m in range(bounds[group], bounds[group + 1]):
            add_row(total, row_address(dy, m), row_size)
        if over_columns:
            for q in range(1, columns):
                add_row(total, total + 4 * q * channels, channels)


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
