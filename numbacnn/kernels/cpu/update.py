"""Sums over flat arrays that optimizers need besides the formulas of ``kernels.formulas.updates``."""

from math import fsum, sqrt

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.simd.math import vectorizable
from numbacnn.kernels.cpu.views import group
from numbacnn.kernels.formulas import updates
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined
from numbacnn.kernels.recording import recordable
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS, AdamOptions

float64_1d = types.Array(types.float64, 1, "C")
float64_2d = types.Array(types.float64, 2, "C")
lamb_direction = vectorizable(updates.lamb_direction)


@launcher
def lamb_trust(partial, w, mean, square, scalars, o):
    """partial[1, 0] = ‖w‖ / ‖r‖ of one tensor, or 1 if one of the norms is 0 (LAMB, You et al. 2020, algorithm 2).

    r is ``updates.lamb_direction``; partial: 2 × SUM_GROUPS, scratch.
    """
    _lamb_norms(partial, w, mean, square, scalars, o)
    _trust(partial)


@cpu_kernel(float64_2d, float32_1d, float32_1d, float32_1d, float64_1d, AdamOptions)
def _lamb_norms(partial, w, mean, square, scalars, o):
    """Partial sums of w² in partial[0], and of r² in partial[1]. Each thread owns a range of the groups."""
    step_size, correction = scalars[1], scalars[2]
    for item in prange(SUM_GROUPS):
        partial[0, item], partial[1, item] = _norms(
            group(w, item), group(mean, item), group(square, item), step_size, correction, o
        )


@inlined
def _norms(w, mean, square, step_size, correction, o):
    weights, directions = 0.0, 0.0
    for i in range(len(w)):
        r = np.float64(lamb_direction(w[i], mean[i], square[i], step_size, correction, o))
        weights += np.float64(w[i]) * np.float64(w[i])
        directions += r * r
    return weights, directions


@recordable
def _trust(partial):
    weight, direction = map(fsum, partial)
    partial[1, 0] = sqrt(weight / direction) if weight > 0 and direction > 0 else 1.0


@launcher
@recordable
def normalize_in_place(x, partial, smallest):
    """Divide x by its Euclidean norm, or by ``smallest`` if that is larger. partial: scratch, 2 × SUM_GROUPS."""
    LAUNCHERS["scale_in_place"](x, 1 / max(norm_of(x, partial[0]), smallest))


@launcher
@recordable
def clip_norm_in_place(x, partial, limit):
    """Scale x to the Euclidean norm ``limit`` if its norm is larger, or by NaN if it is NaN.

    partial: scratch, 2 × SUM_GROUPS.
    """
    norm = norm_of(x, partial[0])
    if not norm <= limit:
        LAUNCHERS["scale_in_place"](x, limit / norm)


def norm_of(x, partial):
    """√Σ x², summed in float64 in an order that depends on the size of x alone."""
    sum_squares(partial, x)
    return sqrt(fsum(partial)) if np.isfinite(partial).all() else float(sum(partial))


@launcher
@cpu_kernel(float64_1d, float32_1d)
def sum_squares(partial, x):
    """partial[g] = Σ x² over group g of SUM_GROUPS ranges of x. Each thread owns a range of groups."""
    for item in prange(SUM_GROUPS):
        partial[item] = _squares(group(x, item))


@inlined
def _squares(x):
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) * np.float64(x[i])
    return total
