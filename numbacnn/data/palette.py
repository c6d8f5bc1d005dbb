"""Colors of classes."""

import numpy as np
from numpy.typing import NDArray

# Colors without gray that color-blind readers can distinguish: the "muted" scheme of Tol 2021, "Introduction to colour
# schemes", with the orange of his "vibrant" scheme, and the blue of "bright" instead of indigo, too dark on images.
_TEN = ("4477AA", "EE7733", "88CCEE", "117733", "DDCC77", "CC6677", "AA4499", "44AA99", "999933", "882255")
_COLORS = np.array([list(bytes.fromhex(code)) for code in _TEN], np.uint8)


def class_colors(classes: int) -> NDArray[np.uint8]:
    """Return a color (red, green, blue) for each class, (classes, 3); they repeat from the eleventh on."""
    return _COLORS[np.arange(classes) % len(_COLORS)]


def mask_colors(classes: int) -> NDArray[np.uint8]:
    """Return black for class 0, usually the background, and ``class_colors`` for the others."""
    return np.concatenate([np.zeros((1, 3), np.uint8), class_colors(classes - 1)])


def luminance(color: NDArray[np.generic]) -> float:
    """Return the luma of a color (red, green, blue), in its units (ITU-R BT.601): text on light colors is black."""
    return float(np.asarray(color, np.float64) @ (0.299, 0.587, 0.114))
