"""Checks of arrays that are given as arguments."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.errors import ArgumentError

REAL = "biuf"  # the kinds of NumPy types of real numbers: bool, int, unsigned, float
NO_NUMBERS = (type(None), str, bytes, np.datetime64, np.timedelta64)  # though NumPy makes float32 of some objects


def as_float32(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return real numbers as float32; those too large for it become infinite, without a warning of NumPy."""
    with np.errstate(over="ignore"):
        return array.astype(np.float32, copy=False)


def real_array(value: object, name: str) -> NDArray[Any]:
    """Return real numbers as an array, of their own type if it is one of NumPy's, else as float32.

    Raises ArgumentError for complex numbers, dates, text, lists of unequal lengths, and other objects.
    """
    try:
        array = np.asarray(value)
    except TypeError:  # a Dataset
        raise ArgumentError(f"{name}: {type(value).__name__} is not an array; pass real numbers") from None
    except ValueError:
        raise ArgumentError(f"{name}: the lists have unequal lengths; pass numbers in rows of equal length") from None
    if array.dtype.kind in REAL:
        return array
    try:
        if array.dtype.kind not in "OV":  # objects may be numbers; other libraries' types, such as bfloat16, are "V"
            raise TypeError
        found = as_float32(array)
    except (TypeError, ValueError):
        raise ArgumentError(f"{name} of type {array.dtype}: pass real numbers") from None
    except OverflowError:  # an integer that no float can hold
        raise ArgumentError(f"{name}: a number is beyond float32; pass smaller numbers") from None
    wrong = (item for item in array.flat if isinstance(item, NO_NUMBERS)) if array.dtype.kind == "O" else ()
    for item in wrong:
        raise ArgumentError(f"{name}: {item!r} is not a number")
    return found
