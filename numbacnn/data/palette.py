"""Colours of classes."""

import numpy as np
from numpy.typing import NDArray

# Hues that colour-blind readers can tell apart, none of them grey: the "muted" scheme of Tol 2021, "Introduction to
# colour schemes", with the orange of his "vibrant", and the blue of his "bright" for its indigo, lost on dark images.
_TEN = ("4477AA", "EE7733", "88CCEE", "117733", "DDCC77", "CC6677", "AA4499", "44AA99", "999933", "882255")
_COLORS = np.array([list(bytes.fromhex(code)) for code in _TEN], np.uint8)


def class_colors(classes: int) -> NDArray[np.uint8]:
    """A colour (red, green, blue) for each class, (classes, 3); from the eleventh on they come again."""
    return _COLORS[np.arange(classes) % len(_COLORS)]


def mask_colors(classes: int) -> NDArray[np.uint8]:
    """As ``class_colors``, but class 0, most often the background, is black and the others begin with the first."""
    return np.concatenate([np.zeros((1, 3), np.uint8), class_colors(classes - 1)])
