"""Norms of flat arrays, which optimizers need besides the formulas of ``kernels.formulas.updates``."""

import numpy as np

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.group_sums import (
    ADDING_THREADS,
    SUM_THREADS,
    float64,
    float64_1d,
    float64_2d,
    over_groups,
    range_of_block,
    row_sum,
    two_group_sums,
)
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d
from numbacnn.kernels.formulas import updates
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import at_least
from numbacnn.kernels.step_scalars import AdamOptions

lamb_direction, at_least_ = scalar_function(updates.lamb_direction), scalar_function(at_least)


@launcher
def lamb_trust(partial, w, mean, square, scalars, o):
    """partial[1, 0] = ‖w‖ / ‖r‖ of one tensor, or 1 if one of the norms is 0 (LAMB, You et al. 2020, algorithm 2).

    r is ``updates.lamb_direction``; partial: 2 × SUM_GROUPS, scratch.
    """
    _lamb_squares(partial, w.size, w, mean, square, scalars, o)
    _trust[1, ADDING_THREADS](partial)


@two_group_sums(float32_1d, float32_1d, float32_1d, float64_1d, AdamOptions)
def _lamb_squares(i, w, mean, square, scalars, o):
    """w² and r²."""
    return _square(w[i]), _square(lamb_direction(w[i], mean[i], square[i], scalars[1], scalars[2], o))


@cuda_kernel(float64_2d)
def _trust(partial):
    """One block."""
    shared = cuda.shared.array(ADDING_THREADS, float64)
    weight, direction = row_sum(shared, partial, 0), row_sum(shared, partial, 1)
    if cuda.threadIdx.x == 0:
        partial[1, 0] = (weight / direction) ** 0.5 if weight > 0 and direction > 0 else 1.0


@launcher
def normalize_in_place(x, partial, smallest):
    """Divide x by its Euclidean norm, or by ``smallest`` if that is larger. partial: scratch, 2 × SUM_GROUPS."""
    _scale_to_norm(x, partial, smallest, 1.0)


@launcher
def clip_norm_in_place(x, partial, limit):
    """Scale x to the Euclidean norm ``limit`` if its norm is larger, or by NaN if it is NaN.

    partial: scratch, 2 × SUM_GROUPS.
    """
    _scale_to_norm(x, partial, limit, limit)


def _scale_to_norm(x, partial, smallest, target):
    """Multiply x by target / max(norm, smallest)."""
    sum_squares(partial[0], x)
    _norm_factor[1, ADDING_THREADS](partial, smallest, target)
    scale_by([x], [x], constants=[partial[1]])


@cuda_kernel(float64_2d, float64, float64)
def _norm_factor(partial, smallest, target):
    """partial[1, 0] = target / max(norm, smallest), from the squares in partial[0]. One block."""
    shared = cuda.shared.array(ADDING_THREADS, float64)
    norm = row_sum(shared, partial, 0) ** 0.5
    if cuda.threadIdx.x == 0:
        partial[1, 0] = target / at_least_(smallest, norm)


@element_kernel(constants=[float64_1d])
def scale_by(x, factor):
    """factor[0] · x."""
    return np.float32(factor[0]) * x


@launcher
def sum_squares(partial, x):
    """partial[g] = Σ x² over group g of SUM_GROUPS ranges of x."""
    _sum_squares[over_groups(x.size)](partial, x)


@cuda_kernel(float64_1d, float32_1d)
def _sum_squares(partial, x):
    """Each block owns a group. A thread has four sums, so that four loads are in flight."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    i, end = range_of_block(x.size)
    step = cuda.blockDim.x
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    while i + 3 * step < end:
        e, f, g, h = x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]
        a, b, c, d = a + _square(e), b + _square(f), c + _square(g), d + _square(h)
        i += 4 * step
    while i < end:
        a += _square(x[i])
        i += step
    total = block_sum(shared, (a + b) + (c + d))
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = total


@device_function
def _square(x):
    return np.float64(x) * np.float64(x)
