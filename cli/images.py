"""Image files of users as the input of a model, read as its training images were."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import numbacnn
from numbacnn.data import has_bright_border, image_size, read_image
from numbacnn.data.dataset import Images
from numbacnn.data.fitting import FITS, Placement
from numbacnn.data.store import empty_images
from numbacnn.data.tree import Tree
from numbacnn.errors import ArgumentError, DataError

from . import render

MAX_NOTES = 10


def read_images(model: numbacnn.Model, paths: Sequence[Path], polarity: str) -> Images:
    """Read image files as ``read_intact_images`` does. Raises DataError if one is missing or damaged."""
    _, pixels, damaged = read_intact_images(model, paths, polarity)
    if damaged:
        raise damaged[0]
    return pixels


def read_intact_images(
    model: numbacnn.Model, paths: Sequence[Path], polarity: str
) -> tuple[list[Path], Images, list[DataError]]:
    """Read image files in the size and the channels of the model's input; prints what was changed.

    Returns:
        The files that could be read, their images (N, H, W, C), and the errors of the others.

    Raises:
        ArgumentError: the model's input is not an image.
        DataError: no file can be read.
    """
    if len(model.input_shape) != 3 or model.input_shape[2] not in (1, 3):
        raise ArgumentError(f"the model's input has shape {model.input_shape}; image files have 1 or 3 channels")
    trained = model.normalization and model.normalization.images
    white, fit = trained.white if trained else None, fit_of(model)
    height, width, channels = model.input_shape
    pixels = empty_images((len(paths), height, width, channels))

    def read(row: int) -> str | DataError | None:
        try:
            pixels[row], note = read_image(paths[row], height, width, channels, white=white, fit=fit)
        except DataError as error:
            return error
        return note

    with ThreadPoolExecutor() as threads:  # decoding releases the interpreter's lock
        results = list(threads.map(read, range(len(paths))))
    damaged = [result for result in results if isinstance(result, DataError)]
    if len(damaged) == len(paths):
        raise DataError("; ".join(map(str, damaged)))
    rows = [row for row, result in enumerate(results) if not isinstance(result, DataError)]
    intact = [paths[row] for row in rows]
    kept = pixels[rows] if damaged else pixels
    changed = with_polarity(model, kept, polarity)
    _notes([result for result in results if isinstance(result, str)], f"images scaled to {height}×{width}")
    if changed is not kept:
        inverted = [f"{intact[i]}: inverted" for i in range(len(intact)) if (kept[i] != changed[i]).any()]
        _notes(inverted, "images inverted")
    return intact, changed, damaged


def _notes(lines: Sequence[str], summary: str) -> None:
    """Print a note per image, or their number if there are many."""
    render.notes(lines if len(lines) <= MAX_NOTES else [f"{len(lines):,} {summary}"])


def with_polarity(model: numbacnn.Model, images: Images, polarity: str) -> Images:
    """Invert 8-bit images (N, H, W, C) as --polarity says; prints a note if they differ from the training images."""
    trained = model.normalization and model.normalization.images
    if polarity == "invert":
        return 255 - images
    if images.shape[-1] != 1 or not trained or not trained.light_on_dark:
        return images
    bright = np.array([has_bright_border(image) for image in images])
    if polarity == "auto" and trained.strokes:
        return np.where(bright[:, None, None, None], 255 - images, images)
    if (count := bright.sum()) > 0.05 * len(images):
        render.notes(
            [
                f"{count} of {len(images)} images have a bright background, unlike the training images; "
                f"--polarity {'auto' if trained.strokes else 'invert'} inverts them"
            ]
        )
    return images


def image_files(paths: Sequence[Path]) -> dict[Path, Path]:
    """Return the image files that are given or in folders, with a name for each: the path below its folder.

    Raises:
        DataError: a folder holds no images.
    """
    found: dict[Path, Path] = {}
    for path in paths:
        if not path.is_dir():
            found[path] = Path(path.name)
            continue
        inside = Tree.of(path).all_images
        if not inside:
            raise DataError(f"{path}: this folder holds no image files")
        found |= {file: file.relative_to(path) for file in inside}
    return found


def fit_of(model: numbacnn.Model) -> str:
    """Return how image files were given one size for the model's training."""
    trained = model.normalization and model.normalization.images
    return trained.fit if trained else FITS[0]


def placement_of(model: numbacnn.Model, path: Path) -> Placement:
    """Return where the pixels of an image file are in the model's input."""
    height, width, _ = model.input_shape
    return Placement.of(image_size(path), (height, width), fit_of(model))
