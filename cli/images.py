"""Image files of users as the input of a model, read as its training images were."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

import numbacnn
from numbacnn.data import has_bright_border, image_size, read_image
from numbacnn.data.dataset import Images
from numbacnn.data.fitting import FITS, Placement
from numbacnn.errors import ArgumentError, DataError

from . import render


def read_images(model: numbacnn.Model, paths: Sequence[Path], polarity: str) -> Images:
    """Read image files as ``read_sound_images`` does. Raises DataError if one is missing or damaged."""
    _, pixels, damaged = read_sound_images(model, paths, polarity)
    if damaged:
        raise damaged[0]
    return pixels


def read_sound_images(
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
    white = trained.white if trained else None
    height, width, channels = model.input_shape
    found, damaged = [], []
    for path in paths:
        try:
            found.append((path, *read_image(path, height, width, channels, white=white, fit=fit_of(model))))
        except DataError as error:
            damaged.append(error)
    if not found:
        raise DataError("; ".join(map(str, damaged)))
    pixels = np.stack([image for _, image, _ in found])
    changed = with_polarity(model, pixels, polarity)
    render.notes(note for _, _, note in found if note)
    inverted = (pixels != changed).any(axis=(1, 2, 3))
    sound = [path for path, _, _ in found]
    render.notes(f"{path}: inverted" for path, inverse in zip(sound, inverted, strict=True) if inverse)
    return sound, changed, damaged


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


def fit_of(model: numbacnn.Model) -> str:
    """Return how image files were given one size for the model's training."""
    trained = model.normalization and model.normalization.images
    return trained.fit if trained else FITS[0]


def placement_of(model: numbacnn.Model, path: Path) -> Placement:
    """Return where the pixels of an image file are in the model's input."""
    height, width, _ = model.input_shape
    return Placement.of(image_size(path), (height, width), fit_of(model))
