"""Masks described by the outlines or the run lengths of objects, instead of an image file."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import brief
from numbacnn.data.decoding import MAX_PIXELS
from numbacnn.errors import DataError

MAX_SHIFT = 60  # bits of a run length
Polygons = Sequence[Sequence[float]]


class RunLengths(NamedTuple):
    """Numbers of pixels outside and inside an object, in turn, column by column, in an image (height, width)."""

    counts: Sequence[int]
    size: tuple[int, int]


class Outline(NamedTuple):
    """An object: polygons x, y, x, y … in pixels, or run lengths; its class, and its position in a file."""

    shape: Polygons | RunLengths
    number: int
    where: str


@dataclass(frozen=True, eq=False)
class OutlinedMask:
    """The objects of an image (height, width) with ``classes`` classes, of which 0 is the background."""

    size: tuple[int, int]
    outlines: Sequence[Outline]
    classes: int
    name: str

    def __str__(self) -> str:
        return self.name

    def pixels(self) -> NDArray[np.uint8 | np.int64]:
        """Return the class numbers (height, width). Where objects overlap, the smaller one is in front.

        Raises:
            DataError: an outline is damaged.
        """
        height, width = self.size
        if not (height > 0 and width > 0 and height * width <= MAX_PIXELS):
            raise DataError(f"{self}: {height}×{width} is not the size of an image of at most {MAX_PIXELS:,} pixels")
        mask = np.zeros(self.size, np.uint8 if self.classes < 256 else np.int64)
        for outline in sorted(self.outlines, key=lambda outline: -int(_area(outline, self.size).sum())):
            mask[_area(outline, self.size)] = outline.number  # drawn twice: all at once could take gigabytes
        return mask


def decompressed(text: str) -> list[int]:
    """Return the run lengths of COCO's compressed form: groups of 5 bits in characters, differences from the third on.

    Raises:
        ValueError: the text ends within a number, or a number is larger than any image.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text.encode():
        if shift > MAX_SHIFT:  # larger than any image; more bits would take quadratic time
            raise ValueError(f"a run length has more than {MAX_SHIFT} bits")
        bits = character - 48
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:
            value -= (bits & 16 > 0) << shift
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise ValueError("the run lengths are cut off")
    return counts


def _area(outline: Outline, size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels of an object.

    Raises:
        DataError: the outline is damaged.
    """
    try:
        return _drawn(outline, size)
    except (TypeError, ValueError, OverflowError, IndexError) as error:
        raise DataError(f"{outline.where}: its outline is damaged: {brief(error)}") from None


def _drawn(outline: Outline, size: tuple[int, int]) -> NDArray[np.bool_]:
    if isinstance(outline.shape, RunLengths):
        counts = np.asarray(outline.shape.counts, np.int64)
        pixels = math.prod(size)
        if outline.shape.size != size or (counts < 0).any() or (counts > pixels).any() or counts.sum() != pixels:
            raise DataError(
                f"{outline.where}: run lengths of {counts.sum()} pixels for an image of {size[0]}×{size[1]}"
            )
        return np.repeat(np.arange(len(counts)) % 2 == 1, counts).reshape(size[::-1]).T
    inside = np.zeros(size, np.bool_)
    for polygon in outline.shape:
        points = np.asarray(polygon, np.float64)
        if points.ndim != 1 or len(points) < 6 or len(points) % 2 or not np.isfinite(points).all():
            raise DataError(f"{outline.where}: a polygon needs at least three points x, y")
        inside |= _filled(points.reshape(-1, 2).tolist(), size)
    return inside


def _filled(points: Sequence[Sequence[float]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """Return the pixels whose centers are inside a polygon, by the even-odd rule."""
    height, width = size
    crossings = np.zeros((height, width + 1), np.bool_)
    for (x0, y0), (x1, y1) in pairwise([*points, points[0]]):
        rows = np.arange(_first(min(y0, y1), height), _first(max(y0, y1), height))
        if rows.size:
            x = x0 + (rows + 0.5 - y0) * ((x1 - x0) / (y1 - y0))
            crossings[rows, np.ceil(x - 0.5).clip(0, width).astype(int)] ^= True
    return np.logical_xor.accumulate(crossings, axis=1)[:, :width]


def _first(y: float, height: int) -> int:
    """Return the first row whose center is at y or below it."""
    return min(max(math.ceil(y - 0.5), 0), height)
