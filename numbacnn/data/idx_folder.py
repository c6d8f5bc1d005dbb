"""Data sets in IDX files under MNIST's names."""

from collections.abc import Sequence
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
_TEST_PARTS = ("t10k", "test")


def holds_idx(folder: Path) -> bool:
    """Return whether a folder holds images of a part in an IDX file."""
    return any(_find(folder, part, _IMAGES) for part in ("train", *_TEST_PARTS))


def _find(folder: Path, part: str, names: Sequence[str]) -> Path | None:
    candidates = (folder / f"{part}-{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def load_idx(folder: Path, classes: Sequence[str] | None) -> Splits:
    """Load the parts in a folder. Raises DataError if a file is missing, damaged or does not fit the others."""
    test_part = next((part for part in _TEST_PARTS if _find(folder, part, _IMAGES)), None)
    test = _idx_part(folder, test_part, classes) if test_part else None
    if test and not any(_find(folder, "train", names) for names in (_IMAGES, _LABELS)):
        return Splits(None, None, test)
    train = _idx_part(folder, "train", classes)
    if test is None:
        return Splits(train, None, None)
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [format_shape(images.shape[1:]) for images in (train.images, test.images)]
        raise DataError(
            f"{folder}: training images are {shapes[0]}, {test_part} images {shapes[1]}; give all the same size"
        )
    names = max(train.classes, test.classes, key=len)
    return Splits(replace(train, classes=names), None, replace(test, classes=names))


def _idx_part(folder: Path, part: str, classes: Sequence[str] | None) -> Dataset:
    images_file, labels_file = _find(folder, part, _IMAGES), _find(folder, part, _LABELS)
    if images_file is None or labels_file is None:
        missing = f"{part}-{(_LABELS if images_file else _IMAGES)[0]}"
        raise DataError(f"{folder}: {missing} (or {missing}.gz) is missing; put it next to the other IDX files")
    images, labels = read_idx(images_file), read_idx(labels_file)
    if images.dtype != np.uint8 or not (images.ndim == 3 or (images.ndim == 4 and images.shape[3] in (1, 3))):
        raise DataError(
            f"{images_file}: holds {format_shape(images.shape)} {images.dtype}; give uint8 N×H×W, N×H×W×1 or N×H×W×3"
        )
    if labels.ndim != 1 or labels.dtype.kind not in "iu":
        raise DataError(f"{labels_file}: holds {format_shape(labels.shape)} {labels.dtype}; give one row of integers")
    if len(images) != len(labels):
        raise DataError(f"{images_file} holds {len(images)} images, but {labels_file} {len(labels)} labels")
    try:
        return Dataset.from_arrays(images, labels, classes)
    except DataError as error:
        raise DataError(f"{images_file.name} and {labels_file}: {error}") from None
