"""Colours of classes."""

import numpy as np
from numpy.typing import NDArray

# Petroff 2021, "Accessible color sequences for data visualization", the ten: people who are colour-blind, too, can tell
# them apart, on dark and on bright.
_TEN = ["3f90da", "ffa90e", "bd1f01", "94a4a2", "832db6", "a96b59", "e76300", "b9ac70", "717581", "92dadd"]
_COLORS = np.array([list(bytes.fromhex(code)) for code in _TEN], np.uint8)


def class_colors(classes: int) -> NDArray[np.uint8]:
    """A colour (red, green, blue) for each class, (classes, 3); from the eleventh on they come again."""
    return _COLORS[np.arange(classes) % len(_COLORS)]


def mask_colors(classes: int) -> NDArray[np.uint8]:
    """As ``class_colors``, but class 0, most often the background, is black and the others begin with the first."""
    return np.concatenate([np.zeros((1, 3), np.uint8), class_colors(classes - 1)])
