"""Arithmetic and sums of flat arrays that optimizers, clipping, averages and penalties need."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS


@launcher
def clip_norm_in_place(x, partial, limit):
    """Scale x to the Euclidean norm ``limit`` if its norm is larger, or by NaN if it is NaN. partial: not used."""
    norm = np.linalg.norm(float64(x))
    if not norm <= limit:
        scale_in_place(x, limit / norm)


@launcher
def normalize_in_place(x, partial, smallest):
    """Divide x by its Euclidean norm, or by ``smallest`` if that is larger. partial: not used."""
    x[...] = x / max(np.linalg.norm(float64(x)), smallest)


@launcher
def blend_in_place(y, x, a, b):
    """y = a · y + b · x."""
    y[...] = a * float64(y) + b * float64(x)


@launcher
def scale_in_place(x, a):
    """x = a · x."""
    x[...] = a * float64(x)


@launcher
def swap(x, y):
    """Exchange x and y."""
    x[...], y[...] = y.copy(), x.copy()


@launcher
def clip_in_place(x, bound):
    """x clipped to [−bound, bound]; NaN stays NaN."""
    x[...] = np.clip(x, -bound, bound)


@launcher
def sum_squares(partial, x):
    """partial[g] = Σ x² over range g of the SUM_GROUPS ranges of x."""
    for group in range(SUM_GROUPS):
        first, last = x.size * group // SUM_GROUPS, x.size * (group + 1) // SUM_GROUPS
        partial[group] = (float64(x[first:last]) ** 2).sum()


@launcher
def add_penalty_in_place(sums, dw, w, l1, l2):
    """dw += l1 · sign(w) + 2 · l2 · w; sums[0] = Σ l1 · |w| + l2 · w²."""
    sums[...] = 0
    sums[0] = (l1 * abs(float64(w)) + l2 * float64(w) ** 2).sum()
    dw[...] = dw + l1 * np.sign(w) + 2 * l2 * float64(w)
