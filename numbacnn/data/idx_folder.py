"""Data sets in IDX files under MNIST's names."""

from collections.abc import Container, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from numbacnn._checks import format_shape
from numbacnn.data.dataset import Dataset
from numbacnn.data.idx import read_idx
from numbacnn.data.reading import Splits
from numbacnn.errors import DataError

_IMAGES = ("images-idx3-ubyte", "images-idx4-ubyte", "images.idx3-ubyte", "images.idx4-ubyte")
_LABELS = ("labels-idx1-ubyte", "labels.idx1-ubyte")
_TEST_SPLITS = ("t10k", "test")


def holds_idx(folder: Path) -> bool:
    """Return whether a folder holds images of a split in an IDX file."""
    return any(_find(folder, split, _IMAGES) for split in ("train", *_TEST_SPLITS))


Only = Container[str] | None
"""The names of the files that may be read, those whose checksums are known; None for all."""


def _find(folder: Path, split: str, names: Sequence[str], only: Only = None) -> Path | None:
    candidates = (folder / f"{split}-{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((file for file in candidates if (only is None or file.name in only) and file.is_file()), None)


def load_idx(folder: Path, classes: Sequence[str] | None, only: Only = None) -> Splits:
    """Load the splits in a folder. Raises DataError if a file is missing, damaged or does not fit the others."""
    test_split = next((split for split in _TEST_SPLITS if _find(folder, split, _IMAGES, only)), None)
    test = _idx_split(folder, test_split, classes, only) if test_split else None
    if test and not any(_find(folder, "train", names, only) for names in (_IMAGES, _LABELS)):
        return Splits(None, None, test)
    train = _idx_split(folder, "train", classes, only)
    if test is None:
        return Splits(train, None, None)
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [format_shape(images.shape[1:]) for images in (train.images, test.images)]
        raise DataError(
            f"{folder}: training images are {shapes[0]}, {test_split} images {shapes[1]}; all must have the same size"
        )
    names = max(train.classes, test.classes, key=len)
    return Splits(replace(train, classes=names), None, replace(test, classes=names))


def _idx_split(folder: Path, split: str, classes: Sequence[str] | None, only: Only) -> Dataset:
    images_file, labels_file = (_find(folder, split, names, only) for names in (_IMAGES, _LABELS))
    if images_file is None or labels_file is None:
        missing = f"{split}-{(_LABELS if images_file else _IMAGES)[0]}"
        raise DataError(f"{folder}: {missing} (or {missing}.gz) is missing; put it next to the other IDX files")
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        raise DataError(
            f"{images_file}: holds {format_shape(images.shape)} {images.dtype}, not uint8 N×H×W, N×H×W×1 or N×H×W×3"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{labels_file}: holds {format_shape(labels.shape)} {labels.dtype}; expected integers (N,)")
    if len(images) != len(labels):
        raise DataError(f"{images_file} holds {len(images)} images, but {labels_file} {len(labels)} labels")
    try:
        return Dataset.from_arrays(images, labels, classes)
    except DataError as error:
        raise DataError(f"{images_file.name} and {labels_file}: {error}") from None
