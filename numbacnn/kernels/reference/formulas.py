"""The formulas of ``kernels.formulas.updates`` and ``step``, applied to whole arrays in float64."""

from types import SimpleNamespace

import numpy as np

from numbacnn.kernels.formulas import FORMULAS, step, updates
from numbacnn.kernels.formulas.formula import Entry, with_math
from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.reference.update import sum_squares
from numbacnn.kernels.registry import launcher

MATH = SimpleNamespace(sqrt=np.sqrt, fma=lambda x, y, z: x * y + z)


def on_arrays(function):
    """Convert a scalar function to one of arrays: NumPy's functions replace those of ``math``, and ``max``."""
    return _with_numpy_max(with_math(function, MATH, _with_numpy_max))


def _with_numpy_max(function):
    function.__globals__["max"] = np.maximum
    return function


def launcher_of(formula):
    """Make the launcher of a formula."""
    function = on_arrays(formula.function)

    def launch(*arguments):
        given = dict(zip(formula.parameters, arguments, strict=True))
        condition = formula.condition
        if condition and not given[condition.array][condition.position]:
            return
        constants = [
            given[kind.array][kind.position] if isinstance(kind, Entry) else given[name]
            for name, kind in formula.constants.items()
        ]
        arrays = [float64(given[name]) for name in formula.inputs]
        try:
            results = function(*arrays, *constants)
        except ValueError:  # the formula has a condition on its element
            results = np.array([function(*element, *constants) for element in zip(*arrays, strict=True)]).T
        results = results if len(formula.outputs) > 1 else (results,)
        for name, result in zip(formula.outputs, results, strict=True):
            given[name][...] = result

    launch.__name__ = launch.__qualname__ = formula.name
    launch.__doc__, launch.__signature__ = formula.function.__doc__, formula.signature
    return launch


for _formula in FORMULAS.values():
    if _formula.function.__module__ in (step.__name__, updates.__name__):
        launcher(launcher_of(_formula))
lamb_direction = on_arrays(updates.lamb_direction)


@launcher
def lamb_trust(partial, w, mean, square, scalars, o):
    """partial[1, 0] = ‖w‖ / ‖r‖ of one tensor, or 1 if one of the norms is 0 (LAMB, You et al. 2020, algorithm 2).

    r is ``updates.lamb_direction``; partial: 2 × SUM_GROUPS, scratch.
    """
    sum_squares(partial[0], w)
    sum_squares(partial[1], lamb_direction(float64(w), float64(mean), float64(square), scalars[1], scalars[2], o))
    weight, direction = partial.sum(1)
    partial[1, 0] = np.sqrt(weight / direction) if weight > 0 and direction > 0 else 1
