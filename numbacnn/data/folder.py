"""Data sets from a folder: IDX files under MNIST's names, or image files in one of the layouts."""

import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from numbacnn._checks import path_of
from numbacnn._checks.names import checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.data.idx_folder import holds_idx, load_idx
from numbacnn.data.images import image_size
from numbacnn.data.labels import CLASSES
from numbacnn.data.layouts import HINT, read_layout, recognize
from numbacnn.data.reading import Reader, ReadOptions, Splits
from numbacnn.data.tree import TRAIN, Tree
from numbacnn.errors import DataError

_SURVEYED = 64  # images whose sizes are looked at


@checks_call
def load_folder(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    labels: str | None = None,
    size: tuple[int, int] | None = None,
) -> tuple[Dataset, Dataset | None]:
    """Load the training set of a folder, and its test set, or validation set, or None if it has neither.

    The arguments and errors are those of ``read_folder``.
    """
    splits = read_folder(path, classes, labels, ReadOptions(size))
    return of_training(splits, str(path)), splits.test or splits.validation


def read_folder(
    path: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    labels: str | None = None,
    options: ReadOptions | None = None,
) -> Splits:
    """Load the training, validation and test set of a folder; None for those that it does not have.

    IDX files: ``train-images-idx3-ubyte`` (gray) or ``-idx4-`` (1 or 3 channels, last) and ``train-labels-idx1-ubyte``,
    plain or ``.gz``, and the same with ``t10k-`` or ``test-``. Image files: one of the layouts of docs/data.md, among
    them ``train/CLASS/*``, ``images/`` with ``masks/``, and the files of YOLO, COCO and Pascal VOC. Images are read as
    RGB if any of them has color, otherwise as gray, and scaled to one size. ``notes`` say how many were scaled, and
    which files were left out.

    Args:
        path: the folder.
        classes: class names for IDX files, by default the numbers from 0.
        labels: "classes", "masks", "boxes", "tags" or "values", by default what the folder holds.
        options: how image files are read.

    Raises:
        DataError: the folder does not exist or has another layout, or its files are damaged or contradictory.
    """
    path = path_of(path, "load_folder")
    if not path.is_dir():
        raise DataError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}; {HINT}")
    if holds_idx(path):
        if labels not in (None, CLASSES):
            raise DataError(f"{path}: holds classes in IDX files, not {labels}")
        return load_idx(path, classes)
    layout, folder = recognize(Tree.of(path), labels)
    listing = read_layout(folder, layout)
    if layout.kind == CLASSES and TRAIN in listing.splits and len(listing.classes) < 2:
        found = ", ".join(listing.classes)
        raise DataError(f"{path}: holds images of one class only, {found} ({layout.name}); a classifier needs two")
    return Reader(listing, layout.kind, options or ReadOptions()).read()


def kind_of_folder(path: str | os.PathLike[str]) -> str:
    """Return the kind of labels that a folder holds. Raises DataError as ``load_folder`` does."""
    path = Path(path)
    return CLASSES if not path.is_dir() or holds_idx(path) else recognize(Tree.of(path), None)[0].kind


class Survey(NamedTuple):
    """The number of training images in a folder, and the sizes (height, width) of some of them."""

    training_images: int
    sizes: list[tuple[int, int]]


def fingerprint(path: str | os.PathLike[str]) -> int:
    """Return a number that changes if a file in a folder is added, removed or written: a hash of sizes and times."""
    found, seen = [], set()
    for folder, folders, files in os.walk(path, followlinks=True):
        state = Path(folder).stat()
        if (state.st_dev, state.st_ino) in seen:  # reached by another link
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        folders.sort()
        for name in files:
            with suppress(OSError):
                state = Path(folder, name).stat()
                found.append((folder, name, state.st_size, state.st_mtime_ns))
    return hash(tuple(sorted(found)))


def survey(path: str | os.PathLike[str], labels: str) -> Survey | None:
    """Look at the training images of a folder without reading pixels; None for IDX files, and if there are none."""
    if holds_idx(Path(path)):
        return None
    layout, folder = recognize(Tree.of(Path(path)), labels)
    files = [sample.image for sample in read_layout(folder, layout).splits.get(TRAIN, [])]
    sizes = []
    for file in files[:: -(-len(files) // _SURVEYED) or 1]:
        with suppress(DataError):  # damaged files are named when all are read
            sizes.append(image_size(file))
    return Survey(len(files), sizes) if sizes else None


def of_training(splits: Splits, name: str) -> Dataset:
    """Return the training set. Raises DataError if there is none."""
    if splits.train is None:
        raise DataError(f"{name}: holds no training images, only {_found(splits)}; add train/")
    return splits.train


def _found(splits: Splits) -> str:
    return " and ".join(
        f"a {name} set of {len(split):,}" for name, split in splits._asdict().items() if split is not None
    )
