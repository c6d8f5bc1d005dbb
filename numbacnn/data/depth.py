"""Gray images of more than 8 bits: which number is white, and their reduction to 8 bits."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.ranges import Scale, scale_of
from numbacnn.errors import DataError

INTEGER_MODES = ("I", "I;16", "I;16L", "I;16B", "I;16N")
FLOAT_MODE = "F"
DEEP_MODES = (*INTEGER_MODES, FLOAT_MODE)
"""Pillow's modes of gray images of more than 8 bits."""
_BITS = (8, 10, 12, 14, 16)  # that cameras and scanners use of their 16


class Levels(NamedTuple):
    """The smallest and the largest number of images, and whether all are whole, as those of integer files are."""

    low: float
    high: float
    whole: bool

    @classmethod
    def of(cls, image: NDArray[np.generic]) -> "Levels":
        """Return those of one image. Raises DataError if it holds NaN or infinity."""
        values = np.asarray(image, np.float64)
        if not np.isfinite(values).all():
            raise DataError("holds NaN or infinity")
        return cls(float(values.min()), float(values.max()), bool((values == np.rint(values)).all()))

    @classmethod
    def union(cls, levels: Iterable["Levels"]) -> "Levels":
        """Return those of several images together."""
        lows, highs, whole = zip(*levels, strict=True)
        return cls(min(lows), max(highs), all(whole))

    @property
    def white(self) -> float:
        """The number that is white: the largest of 8, 10, 12, 14 or 16 bits, or 1 for floats from 0 to 1.

        Raises DataError if no such number is certain.
        """
        if self.low >= 0:
            if self.whole and 1 < self.high <= 65535:
                return float(next((1 << bits) - 1 for bits in _BITS if self.high < 1 << bits))
            scale = scale_of(Scale(self.low, self.high))
            if scale is not None:
                return scale.high
        raise DataError(
            f"holds numbers from {self.low:g} to {self.high:g}; expected 0 to 1, or whole numbers of up to 16 bits"
        )


def to_bytes(image: NDArray[np.generic], white: float) -> NDArray[np.uint8]:
    """Return an image with numbers from 0 to ``white`` in 8 bits. Raises DataError if it exceeds them."""
    levels = Levels.of(image)
    if levels.low < 0 or levels.high > 1.1 * white:  # interpolation overshoots
        raise DataError(f"holds numbers from {levels.low:g} to {levels.high:g}; the other images reach {white:g}")
    return np.rint(np.asarray(image, np.float64) * (255 / white)).clip(0, 255).astype(np.uint8)
