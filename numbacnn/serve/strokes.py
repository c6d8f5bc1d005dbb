"""The size, position and stroke width of the drawings in a training set, to which new drawings are normalized."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.dataset import Images

INK = 0.1  # of white: darker pixels are background
SAMPLE = 1000
MAX_SPREAD = 3.0  # pixels between the quartiles of the longer side, above which sizes are taken for arbitrary

Float64 = NDArray[np.float64]


class StrokeForm(NamedTuple):
    """The form of strokes in gray images whose longer side has ``side`` pixels.

    Attributes:
        box: the longer side of the strokes' bounding box, in pixels.
        width: the width of a stroke, in pixels.
        center: what is at the center of the image: the center of "mass", or of the "box".
        light: whether strokes are light on dark.
    """

    box: float
    width: float
    center: str
    light: bool

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        return self._asdict()

    @classmethod
    def of(cls, images: Images, light: bool) -> "StrokeForm | None":
        """Measure 8-bit gray images (N, H, W, 1); None if they are not strokes of one size on an even background."""
        sample = images[:: -(-len(images) // SAMPLE), :, :, 0].astype(np.float64) / 255
        ink = sample if light else 1 - sample
        ink = ink[(ink > INK).any(axis=(1, 2))]
        if not len(ink) or np.median(ink) > INK:
            return None
        boxes, masses = _bounding_boxes(ink), _centers_of_mass(ink)
        sides = (boxes[:, 1] - boxes[:, 0]).max(axis=1)
        low, box, high = np.percentile(sides, (25, 50, 75))
        if high - low > MAX_SPREAD or box < 4:
            return None
        middle = np.array(ink.shape[1:]) / 2
        by_mass, by_box = masses - middle, boxes.mean(axis=1) - middle
        center = "mass" if np.abs(by_mass).mean() < np.abs(by_box).mean() else "box"
        return cls(float(box), round(float(np.median(stroke_widths(ink))), 2), center, light)


def stroke_widths(ink: Float64) -> Float64:
    """Return the width of the strokes in each image (N, H, W) of ink from 0 to 1.

    A stroke much longer than wide has the area width · length and the perimeter 2 · length, and the perimeter is the
    total variation, also of blurred edges (the coarea formula).
    """
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    dy, dx = padded[:, 1:, :-1] - padded[:, :-1, :-1], padded[:, :-1, 1:] - padded[:, :-1, :-1]
    widths: Float64 = 2 * ink.sum(axis=(1, 2)) / np.hypot(dy, dx).sum(axis=(1, 2))
    return widths


def _bounding_boxes(ink: Float64) -> Float64:
    """Return the corners (N, 2, 2) of the ink: (top, left) and (bottom, right)."""
    sides = []
    for axis in (2, 1):
        used = np.any(ink > INK, axis=axis)
        sides.append([used.argmax(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1)])
    return np.array(sides, np.float64).transpose(2, 1, 0)


def _centers_of_mass(ink: Float64) -> Float64:
    """Return (row, column) of the center of each image's ink, (N, 2), where pixel i reaches from i to i + 1."""
    rows, columns = (np.arange(size) + 0.5 for size in ink.shape[1:])
    total = ink.sum(axis=(1, 2))
    return np.stack([ink.sum(axis=2) @ rows / total, ink.sum(axis=1) @ columns / total], axis=1)
