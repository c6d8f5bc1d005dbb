"""The listing that a layout makes of a folder: image files with their labels, before any pixel is read."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from numbacnn.data.outlines import OutlinedMask

Color = tuple[int, int, int]


class Box(NamedTuple):
    """A box around an object.

    Attributes:
        edges: x0, y0, x1, y1 in pixels of the image file, or in fractions of its width and height if ``relative``.
        label: name of the class.
        where: the position in a file, for error messages.
    """

    edges: tuple[float, float, float, float]
    label: str
    where: str
    relative: bool = False


class Sample(NamedTuple):
    """An image file with its label: the name of its class, its mask, its boxes, or numbers: 0 and 1 for tags."""

    image: Path
    label: str = ""
    mask: Path | OutlinedMask | None = None
    boxes: Sequence[Box] = ()
    numbers: tuple[float, ...] = ()


@dataclass
class Listing:
    """The samples of each split, "train", "validation" or "test".

    Attributes:
        classes: names of the classes in the order of their numbers; if empty, they follow from the labels.
        notes: remarks on what was left out, one line each.
        colors: names of the colors in masks, if a file lists them.
    """

    splits: dict[str, list[Sample]]
    classes: Sequence[str] = ()
    notes: list[str] = field(default_factory=list)
    colors: dict[Color, str] = field(default_factory=dict)


def by_number(name: str) -> tuple[bool, int, str]:
    """Sort numbers by value, before other names."""
    return (False, int(name), name) if name.isdecimal() else (True, 0, name)
