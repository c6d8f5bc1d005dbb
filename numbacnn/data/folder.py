"""Data sets from a folder: IDX files under MNIST's names, or image files sorted into a folder per class."""

import os
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np

from numbacnn._checks import format_shape
from numbacnn.data.annotated import load_annotated
from numbacnn.data.dataset import Dataset
from numbacnn.data.idx import read_idx
from numbacnn.data.images import common_shape, image_files, read_images
from numbacnn.data.labels import CLASSES
from numbacnn.errors import DataError

_IMAGES = ("images-idx3-ubyte", "images-idx4-ubyte", "images.idx3-ubyte", "images.idx4-ubyte")
_LABELS = ("labels-idx1-ubyte", "labels.idx1-ubyte")
_TEST_PARTS = ("t10k", "test")
_LAYOUTS = (
    "give a folder with train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not; t10k-… for the test set), "
    "with CLASS/*.png|jpg|jpeg, or with train/CLASS/… and test/CLASS/…"
)


def load_folder(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    labels: str = CLASSES,
    size: tuple[int, int] | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Load the training set of a folder, and its test set or None if it has none.

    IDX files: ``train-images-idx3-ubyte`` (gray) or ``-idx4-`` (1 or 3 channels, last) and ``train-labels-idx1-ubyte``,
    plain or ``.gz``, and the same with ``t10k-`` or ``test-``. Image files (PNG, JPEG): ``CLASS/*``, or
    ``train/CLASS/*`` and ``test/CLASS/*`` (or ``val/CLASS/*``), the classes in the order of their names. Images are
    read as RGB if any of them has color, otherwise as gray, and scaled to one size; ``notes`` count the scaled ones.
    ``load_annotated`` describes the layouts for masks and boxes.

    Args:
        path: the folder.
        classes: class names for IDX files, by default the numbers from 0. The names of image folders are the classes.
        labels: "classes", "masks" or "boxes".
        size: height and width of images from image files, by default those of the first.

    Raises:
        DataError: the folder does not exist or has another layout, or its files are damaged or contradictory.
    """
    path = Path(path)
    if not path.is_dir():
        raise DataError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; {_LAYOUTS}")
    if labels != CLASSES:
        return load_annotated(path, labels, size)
    if any(_find(path, part, _IMAGES) for part in ("train", *_TEST_PARTS)):
        return _load_idx(path, classes)
    for train in (path / "train", path):
        if class_folders := _class_folders(train):
            if class_folders.keys() == {"images", "masks"} or (train / "boxes.csv").is_file():
                raise DataError(f"{train}: holds masks or boxes, not classes; is the task to segment or detect?")
            parts = [_class_folders(path / name) for name in ("test", "val") if train != path]
            return _load_images(class_folders, next(filter(None, parts), {}), size)
    raise DataError(f"{path}: no data set in this folder; {_LAYOUTS}")


# -- IDX files --------------------------------------------------------------------------------------------------------


def _find(folder: Path, part: str, names: Sequence[str]) -> Path | None:
    candidates = (folder / f"{part}-{name}{suffix}" for name in names for suffix in ("", ".gz"))
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _load_idx(folder: Path, classes: Sequence[str] | None) -> tuple[Dataset, Dataset | None]:
    train = _idx_part(folder, "train", classes)
    test_part = next((part for part in _TEST_PARTS if _find(folder, part, _IMAGES)), None)
    if test_part is None:
        return train, None
    test = _idx_part(folder, test_part, classes)
    if train.images.shape[1:] != test.images.shape[1:]:
        shapes = [format_shape(images.shape[1:]) for images in (train.images, test.images)]
        raise DataError(
            f"{folder}: training images are {shapes[0]}, {test_part} images {shapes[1]}; give all the same size"
        )
    names = max(train.classes, test.classes, key=len)
    return replace(train, classes=names), replace(test, classes=names)


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


# -- a folder per class -----------------------------------------------------------------------------------------------


def _class_folders(folder: Path) -> dict[str, list[Path]]:
    """Map each subfolder with images to its image files, sorted; hidden ones are ignored."""
    folders = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    found = {child.name: image_files(child) for child in folders if not child.name.startswith(".")}
    return {name: files for name, files in found.items() if files}


def _load_images(
    train: dict[str, list[Path]], test: dict[str, list[Path]], size: tuple[int, int] | None
) -> tuple[Dataset, Dataset | None]:
    classes = tuple(train)
    if unknown := [name for name in test if name not in train]:
        folder = test[unknown[0]][0].parent
        raise DataError(f"{folder}: no class {folder.name!r} among the training images; add it there or drop it here")
    shape = common_shape([file for part in (train, test) for files in part.values() for file in files], size)
    return _read_part(train, classes, shape), _read_part(test, classes, shape) if test else None


def _read_part(folders: dict[str, list[Path]], classes: tuple[str, ...], shape: tuple[int, int, int]) -> Dataset:
    labels = [classes.index(name) for name, files in folders.items() for _ in files]
    images, scaled = read_images(list(chain.from_iterable(folders.values())), shape)
    note = f"{scaled} of {len(labels)} images scaled to {shape[0]}×{shape[1]}, the size of the first"
    return Dataset.from_arrays(images, labels, classes, [note] if scaled else [])
