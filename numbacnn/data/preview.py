"""A picture of what a chain of transforms does: originals in the first row, the same images in each epoch below."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import whole
from numbacnn.data.augment import Augmentation, Augmenter, get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, CLASSES, MASKS
from numbacnn.data.palette import class_colors, mask_colors
from numbacnn.detection import PADDING
from numbacnn.errors import ArgumentError

LEAST_PIXELS = 84  # of an image in the picture: smaller ones are enlarged by a whole factor
GAP, WIDE_GAP = 4, 14
PAPER = 255

Picture = NDArray[np.uint8]


def preview(
    dataset: Dataset, augment: Augmentation | None, *, seed: int = 0, columns: int = 10, rows: int = 6
) -> Picture:
    """A grid, height × width × 3: ``columns`` images, as they are and, with a chain, as ``rows`` epochs see them.

    The images are spread evenly over the data set; each line stands again below itself with its masks or boxes, where
    the set has such, in colours of their classes. Floats are shown with their smallest number black and their largest
    one white. Raises ArgumentError where images have neither 1 nor 3 channels, or the chain mixes what has no classes.
    """
    columns, rows, chain = min(whole(columns, "columns"), len(dataset)), whole(rows, "rows"), get_augmentation(augment)
    if dataset.images.shape[3] not in (1, 3):
        raise ArgumentError(f"preview: images of {dataset.images.shape[3]} channels; there are pictures of 1 or 3")
    if chain is not None and chain.mixes and dataset.kind != CLASSES:
        raise ArgumentError(f"augment: {dataset.kind} cannot follow mixup or cutmix; leave those out")
    indices = np.linspace(0, len(dataset) - 1, columns).astype(np.int64)
    images, labels = dataset.images[indices], dataset.labels[indices]
    lines, marks = [images], [labels]
    augmenter = None if chain is None else Augmenter(chain, dataset, len(dataset.classes))
    for epoch in range(rows if augmenter else 0):
        assert augmenter is not None
        seen, moved = augmenter(images, labels, indices, seed=seed, epoch=epoch)
        lines.append(seen.copy())
        marks.append(moved.copy())
    return _grid(_bytes(np.stack(lines)), marks, dataset)


def _bytes(images: NDArray[np.uint8 | np.float32]) -> Picture:
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    low, high = float(images[0].min()), float(images[0].max())
    levels = np.rint((images - low) * (255 / max(high - low, 1e-30)))
    return np.asarray(levels.clip(0, 255), np.uint8)


def _grid(images: Picture, labels: list[NDArray[Any]], dataset: Dataset) -> Picture:
    """Rows × columns × H × W × C images, with what marks them, on white; a wider gap below the originals."""
    factor = -(-LEAST_PIXELS // max(images.shape[2:4]))
    images = np.broadcast_to(images, (*images.shape[:4], 3)).repeat(factor, 2).repeat(factor, 3)
    mark = {MASKS: _with_masks, BOXES: _with_boxes}.get(dataset.kind)
    pairs = zip(images, labels, strict=True)
    blocks = [[line, mark(line, own, factor, dataset)] if mark else [line] for line, own in pairs]
    height, width = images.shape[2:4]
    wide = GAP + images.shape[1] * (width + GAP)
    strips = [np.full((GAP, wide, 3), PAPER, np.uint8)]
    for number, block in enumerate(blocks):
        for line in block:
            strip = np.full((height + GAP, wide, 3), PAPER, np.uint8)
            for column, image in enumerate(line):
                left = GAP + column * (width + GAP)
                strip[:height, left : left + width] = image
            strips.append(strip)
        if len(blocks) > 1 and (number == 0 or (mark and number + 1 < len(blocks))):
            strips.append(np.full((WIDE_GAP - GAP, wide, 3), PAPER, np.uint8))
    return np.concatenate(strips)


def _with_masks(images: Picture, masks: NDArray[Any], factor: int, dataset: Dataset) -> Picture:
    """Classes but the first in their colours, half of which is the image."""
    large = masks.repeat(factor, 1).repeat(factor, 2)
    colors = mask_colors(len(dataset.classes))[large]
    mixed = np.where((large > 0)[..., None], images // 2 + colors // 2, images)
    return mixed.astype(np.uint8)


def _with_boxes(images: Picture, boxes: NDArray[Any], factor: int, dataset: Dataset) -> Picture:
    """A line of two pixels just inside each box."""
    marked, colors = images.copy(), class_colors(len(dataset.classes))
    for image, rows in zip(marked, boxes, strict=True):
        for row in rows[rows[:, 4] != PADDING]:
            x0, y0, x1, y1 = np.rint(row[:4] * factor).astype(int)
            inner = image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].copy()
            image[y0:y1, x0:x1] = colors[int(row[4])]
            image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = inner
    return marked
