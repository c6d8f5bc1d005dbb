"""A picture of augmentation: the original images in the first row, and below them the same images in each epoch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import check_instance, whole
from numbacnn._checks.names import checks_call
from numbacnn.data.augmenter import Augmenter
from numbacnn.data.chain import Augmentation, get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.drawing import MAX_LEGEND, with_captions, with_legend
from numbacnn.data.labels import BOXES, CLASSES, MASKS, TAGS, VALUES, class_numbers
from numbacnn.data.palette import class_colors, mask_colors
from numbacnn.detection import PADDING
from numbacnn.errors import ArgumentError

MIN_PIXELS = 84  # side of an image in the picture; smaller ones are enlarged by a whole factor
GAP, WIDE_GAP = 4, 14
PAPER = 255

Picture = NDArray[np.uint8]


@checks_call
def preview(
    dataset: Dataset, augment: Augmentation | None, *, seed: int = 0, columns: int = 10, rows: int = 6
) -> Picture:
    """Return a grid, height × width × 3: ``columns`` images, unchanged and, with a chain, as in ``rows`` epochs.

    The images are spread evenly over the data set. Below each row it is repeated with its masks or boxes, if there are
    any, in the colors of their classes. At the bottom are the names of the classes: that of each column, or all in
    masks and boxes with their colors. Float images are scaled from their smallest to their largest number.

    Raises:
        ArgumentError: images have neither 1 nor 3 channels, or the chain mixes images with masks or boxes.
    """
    check_instance(dataset, Dataset, "preview", "nc.data.Dataset.from_arrays")
    columns, rows, chain = min(whole(columns, "columns"), len(dataset)), whole(rows, "rows"), get_augmentation(augment)
    if dataset.images.shape[3] not in (1, 3):
        raise ArgumentError(f"preview: images have {dataset.images.shape[3]} channels; only 1 or 3 can be shown")
    if chain is not None and chain.mixes and dataset.kind != CLASSES:
        raise ArgumentError(f"augment: mixup and cutmix cannot mix {dataset.kind}; remove them")
    indices = np.linspace(0, len(dataset) - 1, columns).astype(np.int64)
    images, labels = dataset.images[indices], np.asarray(dataset.labels[indices])
    image_rows, label_rows = [images], [labels]
    if chain is not None:
        augmenter = Augmenter(chain, dataset, len(dataset.classes))
        for epoch in range(rows):
            new_images, new_labels = augmenter(images, labels, indices, seed=seed, epoch=epoch)
            image_rows.append(new_images.copy())
            label_rows.append(new_labels.copy())
    picture = _grid(_to_bytes(np.stack(image_rows)), label_rows, dataset)
    if dataset.kind in (CLASSES, TAGS, VALUES):
        return with_captions(picture, [_name(dataset, label) for label in dataset.labels[indices]], GAP)
    present = np.unique(class_numbers(labels, dataset.ignore_index)).astype(int)[:MAX_LEGEND]
    colors = (mask_colors if dataset.kind == MASKS else class_colors)(len(dataset.classes))
    return with_legend(picture, [(colors[i], dataset.classes[i]) for i in present])


def _name(dataset: Dataset, label: Any) -> str:
    """Return the name of a label's class, its tags, or its numbers."""
    if dataset.kind == TAGS:
        return ", ".join(name for name, present in zip(dataset.classes, label, strict=True) if present) or "–"
    if dataset.kind == VALUES:
        return ", ".join(f"{value:.4g}" for value in label)
    return "" if label == dataset.ignore_index else dataset.classes[label]


def _to_bytes(images: NDArray[np.uint8 | np.float32]) -> Picture:
    if images.dtype == np.uint8:
        return images.astype(np.uint8, copy=False)
    low, high = float(images[0].min()), float(images[0].max())
    levels = np.rint((images - low) * (255 / max(high - low, 1e-30)))
    return np.asarray(levels.clip(0, 255), np.uint8)


def _grid(images: Picture, labels: list[NDArray[Any]], dataset: Dataset) -> Picture:
    """Arrange rows × columns × H × W × C images on white, with their masks or boxes; a wider gap ends the first row."""
    factor = -(-MIN_PIXELS // max(images.shape[2:4]))
    images = np.broadcast_to(images, (*images.shape[:4], 3)).repeat(factor, 2).repeat(factor, 3)
    draw = {MASKS: _with_masks, BOXES: _with_boxes}.get(dataset.kind)
    rows = zip(images, labels, strict=True)
    blocks = [[row, draw(row, row_labels, factor, dataset)] if draw else [row] for row, row_labels in rows]
    height, width = images.shape[2:4]
    total = GAP + images.shape[1] * (width + GAP)
    strips = [np.full((GAP, total, 3), PAPER, np.uint8)]
    for number, block in enumerate(blocks):
        for row in block:
            strip = np.full((height + GAP, total, 3), PAPER, np.uint8)
            for column, image in enumerate(row):
                left = GAP + column * (width + GAP)
                strip[:height, left : left + width] = image
            strips.append(strip)
        if len(blocks) > 1 and (number == 0 or (draw and number + 1 < len(blocks))):
            strips.append(np.full((WIDE_GAP - GAP, total, 3), PAPER, np.uint8))
    return np.concatenate(strips)


def _with_masks(images: Picture, masks: NDArray[Any], factor: int, dataset: Dataset) -> Picture:
    """Blend the classes except the first half and half with the images."""
    large = masks.repeat(factor, 1).repeat(factor, 2)
    counted = large != dataset.ignore_index  # all if it is None
    colors = mask_colors(len(dataset.classes))[np.where(counted, large, 0)]
    mixed = np.where(((large > 0) & counted)[..., None], images // 2 + colors // 2, images)
    return mixed.astype(np.uint8)


def _with_boxes(images: Picture, boxes: NDArray[Any], factor: int, dataset: Dataset) -> Picture:
    """Draw a line of two pixels just inside each box."""
    marked, colors = images.copy(), class_colors(len(dataset.classes))
    for image, rows in zip(marked, boxes, strict=True):
        for row in rows[rows[:, 4] != PADDING]:
            x0, y0, x1, y1 = np.rint(row[:4] * factor).astype(int)
            inner = image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2].copy()
            image[y0:y1, x0:x1] = colors[int(row[4])]
            image[y0 + 2 : y1 - 2, x0 + 2 : x1 - 2] = inner
    return marked
