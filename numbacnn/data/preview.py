"""A picture of what a chain of transforms does: originals in the first row, the same images in each epoch below."""

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.augment import Augmentation, apply
from numbacnn.data.dataset import Dataset
from numbacnn.errors import ArgumentError
from numbacnn.geometry import whole

LEAST_PIXELS = 84  # of an image in the picture: smaller ones are enlarged by a whole factor
GAP, WIDE_GAP = 4, 14
PAPER = 255


def preview(
    dataset: Dataset, augment: Augmentation | None, *, seed: int = 0, columns: int = 10, rows: int = 6
) -> NDArray[np.uint8]:
    """A grid, height × width × 3: ``columns`` images, as they are and, with a chain, as ``rows`` epochs see them.

    The images are spread evenly over the data set. Floats are shown with their smallest number black and their largest
    one white. Raises ArgumentError where images have neither 1 nor 3 channels.
    """
    columns, rows = min(whole(columns, "columns"), len(dataset)), whole(rows, "rows")
    channels = dataset.images.shape[3]
    if channels not in (1, 3):
        raise ArgumentError(f"preview: images of {channels} channels; there are pictures of 1 or 3")
    indices = np.linspace(0, len(dataset) - 1, columns).astype(np.int64)
    images, labels = dataset.images[indices], dataset.labels[indices]
    lines = [images]
    for epoch in range(rows if augment is not None else 0):
        lines.append(apply(augment or [], images, labels, seed, epoch, indices, source=dataset).images)
    return _grid(_bytes(np.stack(lines)))


def _bytes(images: NDArray[np.uint8 | np.float32]) -> NDArray[np.uint8]:
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    low, high = float(images[0].min()), float(images[0].max())
    levels = np.rint((images - low) * (255 / max(high - low, 1e-30)))
    return np.asarray(levels.clip(0, 255), np.uint8)


def _grid(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Rows × columns × H × W × C images on white, with a wider gap below the first row."""
    factor = -(-LEAST_PIXELS // max(images.shape[2:4]))
    images = np.broadcast_to(images, (*images.shape[:4], 3)).repeat(factor, 2).repeat(factor, 3)
    rows, columns, height, width, _ = images.shape
    tall = GAP + rows * (height + GAP) + (WIDE_GAP - GAP if rows > 1 else 0)
    picture = np.full((tall, GAP + columns * (width + GAP), 3), PAPER, np.uint8)
    top = GAP
    for number, line in enumerate(images):
        for column, image in enumerate(line):
            left = GAP + column * (width + GAP)
            picture[top : top + height, left : left + width] = image
        top += height + (WIDE_GAP if number == 0 else GAP)
    return picture
