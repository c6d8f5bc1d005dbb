"""Sums over flat arrays, which optimizers need besides the formulas of ``kernels.formulas.updates``."""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, float32_1d
from numbacnn.kernels.formulas import updates
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS, AdamOptions

float64 = types.float64
float64_1d, float64_2d = types.Array(float64, 1, "C"), types.Array(float64, 2, "C")
SUM_THREADS = min(512, 2 * THREADS)  # per block of a sum over SUM_GROUPS groups, at most
ADDING_THREADS = min(SUM_GROUPS, THREADS)  # of the one block that adds up the groups
lamb_direction = scalar_function(updates.lamb_direction)


@launcher
def lamb_trust(partial, w, mean, square, scalars, o):
    """partial[1, 0] = ‖w‖ / ‖r‖ of one tensor, or 1 if one of the norms is 0 (LAMB, You et al. 2020, algorithm 2).

    r is ``updates.lamb_direction``; partial: 2 × SUM_GROUPS, scratch.
    """
    _lamb_norms[over_groups(w.size)](partial, w, mean, square, scalars, o)
    _trust[1, ADDING_THREADS](partial)


@cuda_kernel(float64_2d, float32_1d, float32_1d, float32_1d, float64_1d, AdamOptions)
def _lamb_norms(partial, w, mean, square, scalars, o):
    """Partial sums of w² in partial[0], and of r² in partial[1]. Each block owns a group."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    i, last = range_of(w)
    weights, directions = 0.0, 0.0
    while i < last:
        r = np.float64(lamb_direction(w[i], mean[i], square[i], scalars[1], scalars[2], o))
        weights += np.float64(w[i]) * np.float64(w[i])
        directions += r * r
        i += cuda.blockDim.x
    weights, directions = block_sum(shared, weights), block_sum(shared, directions)
    if cuda.threadIdx.x == 0:
        partial[0, cuda.blockIdx.x], partial[1, cuda.blockIdx.x] = weights, directions


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
    sum_squares(partial[0], x)
    _norm_factor[1, ADDING_THREADS](partial, smallest, 1.0)
    scale_by([x], [x], constants=[partial[1]])


@launcher
def clip_norm_in_place(x, partial, limit):
    """Scale x to the Euclidean norm ``limit`` if its norm is larger. partial: scratch, 2 × SUM_GROUPS."""
    sum_squares(partial[0], x)
    _norm_factor[1, ADDING_THREADS](partial, limit, limit)
    scale_by([x], [x], constants=[partial[1]])


@cuda_kernel(float64_2d, float64, float64)
def _norm_factor(partial, smallest, target):
    """partial[1, 0] = target / max(norm, smallest), the factor of x, from the squares in partial[0]. One block."""
    shared = cuda.shared.array(ADDING_THREADS, float64)
    norm = row_sum(shared, partial, 0) ** 0.5
    if cuda.threadIdx.x == 0:
        partial[1, 0] = target / (norm if norm > smallest else smallest)  # also if the norm is NaN


@element_kernel(constants=[float64_1d])
def scale_by(x, factor):
    """factor[0] · x."""
    return np.float32(factor[0]) * x


@device_function
def row_sum(shared, partial, row):
    """The sum of a row of SUM_GROUPS partial sums, for all threads of the block."""
    i, total = cuda.threadIdx.x, 0.0
    while i < SUM_GROUPS:
        total += partial[row, i]
        i += cuda.blockDim.x
    return block_sum(shared, total)


@launcher
def sum_squares(partial, x):
    """partial[g] = Σ x² over group g of SUM_GROUPS ranges of x."""
    _sum_squares[over_groups(x.size)](partial, x)


def over_groups(count):
    """Return the grid for sums over SUM_GROUPS ranges of ``count`` items: a block each, smaller if items are few."""
    threads = 1
    while threads < SUM_THREADS and threads * SUM_GROUPS < count:
        threads *= 2
    return SUM_GROUPS, threads


@cuda_kernel(float64_1d, float32_1d)
def _sum_squares(partial, x):
    """Each block owns a group. A thread has four sums, so that four loads are in flight."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    i, last = range_of(x)
    step = cuda.blockDim.x
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    while i + 3 * step < last:
        e, f, g, h = x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]
        a, b, c, d = a + _square(e), b + _square(f), c + _square(g), d + _square(h)
        i += 4 * step
    while i < last:
        a += _square(x[i])
        i += step
    total = block_sum(shared, (a + b) + (c + d))
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = total


@device_function
def _square(x):
    return np.float64(x) * np.float64(x)


@device_function
def range_of(x):
    """The first element of this thread, and the end of its block's range, of SUM_GROUPS ranges of a flat array."""
    return range_among(x.size)


@device_function
def range_among(count):
    """``range_of`` for ``count`` items."""
    group = cuda.blockIdx.x
    return count * group // SUM_GROUPS + cuda.threadIdx.x, count * (group + 1) // SUM_GROUPS
