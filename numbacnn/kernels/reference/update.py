"""Updates of the optimizers over flat arrays, in place; and the sums that clipping, averages and penalties need."""

from types import SimpleNamespace

import numpy as np

from numbacnn.kernels.formulas import FORMULAS, updates
from numbacnn.kernels.formulas.formula import Entry, with_math
from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS

MATH = SimpleNamespace(sqrt=np.sqrt, fma=lambda x, y, z: x * y + z)


def in_numpy(function):
    """A function of ``updates`` with NumPy's functions, in any precision, for those of ``math``."""
    return with_math(function, MATH, lambda part: part)


def launcher_of(formula):
    """The launcher of a formula, which calls its function for one element after the other, in float64."""

    function = in_numpy(formula.function)

    def launch(*arguments):
        given = dict(zip(formula.parameters, arguments, strict=True))
        condition = formula.condition
        if condition and not given[condition.array][condition.position]:
            return
        constants = [
            given[kind.array][kind.position] if isinstance(kind, Entry) else given[name]
            for name, kind in formula.constants.items()
        ]
        elements = zip(*(float64(given[name]) for name in formula.inputs), strict=True)
        results = [function(*element, *constants) for element in elements]
        columns = np.reshape(results, (-1, len(formula.outputs))).T
        for name, column in zip(formula.outputs, columns, strict=True):
            given[name][...] = column

    launch.__name__ = launch.__qualname__ = formula.name
    launch.__doc__, launch.__signature__ = formula.function.__doc__, formula.signature
    return launch


for _formula in FORMULAS.values():
    if _formula.function.__module__ == updates.__name__:
        launcher(launcher_of(_formula))


lamb_direction = in_numpy(updates.lamb_direction)


@launcher
def lamb_trust(partial, w, mean, square, scalars, o):
    """partial[1, 0] = ‖w‖ / ‖r‖ of one tensor, or 1 if one of the norms is 0 (LAMB, You et al. 2020, algorithm 2)."""
    elements = zip(float64(w), float64(mean), float64(square), strict=True)
    r = [lamb_direction(*element, scalars[1], scalars[2], o) for element in elements]
    weight, direction = np.linalg.norm(float64(w)), np.linalg.norm(r)
    partial[1, 0] = weight / direction if weight > 0 and direction > 0 else 1


@launcher
def normalize_in_place(x, partial, smallest):
    """Divide x by its Euclidean norm, or by ``smallest`` if that is larger. partial: not used."""
    x[...] = x / max(np.linalg.norm(float64(x)), smallest)


# -- sums, averages, clipping -----------------------------------------------------------------------------------------


@launcher
def blend(y, x, z, a, b):
    """y = a · x + b · z."""
    y[...] = a * float64(x) + b * float64(z)


@launcher
def blend_in_place(y, x, a, b):
    """y = a · y + b · x."""
    blend(y, y, x, a, b)


@launcher
def approach_in_place(y, x, share):
    """y += share · (x − y)."""
    y[...] = y + share * (float64(x) - y)


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
