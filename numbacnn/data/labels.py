"""What the labels of a set of images may be: a class of each image, a class of each pixel, or boxes around objects."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.detection import PADDING, pack
from numbacnn.errors import ArgumentError, DataError

CLASSES, MASKS, BOXES = "classes", "masks", "boxes"


def kind_of(labels: NDArray[Any]) -> str:
    """ "classes" for (N,), "masks" for integers (N, H, W), "boxes" for floats (N, most, 5)."""
    if labels.ndim == 3:
        return MASKS if np.issubdtype(labels.dtype, np.integer) else BOXES
    return CLASSES


def checked_labels(labels: Any, images: NDArray[Any]) -> NDArray[Any]:
    """Labels in one of the three forms, that fit the images N×H×W×C.

    Of classes int64; of masks uint8 as they are, else int64; of boxes float32, from one array or from a list of an
    array (k, 5) for each image. Raises ArgumentError where the form fits none; DataError where a box is damaged.
    """
    count = len(images)
    if isinstance(labels, list | tuple) and len(labels) and all(np.ndim(part) == 2 for part in labels):
        labels = _packed(labels)
    array = np.asarray(labels)
    if len(array) != count and array.ndim in (1, 3):
        raise ArgumentError(f"{count} images but {len(array)} labels; give one label per image")
    if array.ndim == 3 and np.issubdtype(array.dtype, np.floating) and array.shape[2] == 5:
        return _checked_boxes(np.ascontiguousarray(array, np.float32), images.shape[1:3])
    if array.ndim == 3 and np.issubdtype(array.dtype, np.integer):
        if array.shape != images.shape[:3]:
            raise ArgumentError(f"masks are {_by(array.shape[1:])}, images {_by(images.shape[1:3])}; give one size")
        return np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.int64)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError(
            f"labels are {array.dtype} of shape {array.shape}; give one integer per image, shape ({count},), "
            "one per pixel, or boxes (images, most, 5)"
        )
    return array.astype(np.int64, copy=False)


def class_numbers(labels: NDArray[Any]) -> NDArray[Any]:
    """All the classes in labels, one after the other."""
    if kind_of(labels) == BOXES:
        numbers = labels[..., 4].reshape(-1)
        return np.asarray(numbers[numbers != PADDING])
    return labels.reshape(-1)


def check_range(labels: NDArray[Any], classes: int) -> None:
    """DataError where a class is not from 0 to ``classes`` − 1, that says where."""
    if not labels.size or (kind_of(labels) != BOXES and labels.min() >= 0 and labels.max() < classes):
        return  # most often, and without arrays as large as all masks
    numbers = labels[..., 4] if kind_of(labels) == BOXES else labels
    wrong = (numbers < 0) | (numbers >= classes)
    if kind_of(labels) == BOXES:
        wrong = (wrong & (numbers != PADDING)) | (numbers % 1 != 0)
    if not wrong.any():
        return
    place = np.argwhere(wrong)[0]
    where = f"at index {place[0]}" if labels.ndim == 1 else f"in image {place[0]}"
    raise DataError(
        f"label {numbers[tuple(place)]:.16g} {where} is not the number of a class; "
        f"with {classes} classes labels go from 0 to {classes - 1}"
    )


def renumbered(labels: NDArray[Any], numbers: Sequence[int]) -> NDArray[Any]:
    """Labels with class i called ``numbers[i]``."""
    if kind_of(labels) != BOXES:
        return np.asarray(np.asarray(numbers, labels.dtype)[labels])
    result: NDArray[Any] = labels.copy()
    real = labels[..., 4] != PADDING
    result[real, 4] = np.asarray(numbers)[labels[real, 4].astype(int)]
    return result


def _packed(parts: Sequence[ArrayLike]) -> NDArray[np.float32]:
    rows = [np.asarray(part) for part in parts]
    for number, part in enumerate(rows):
        if part.shape[1] != 5 or not np.issubdtype(part.dtype, np.number):
            raise ArgumentError(f"boxes of image {number} have shape {part.shape}; give (k, 5): x0, y0, x1, y1, class")
    return pack(rows)


def _checked_boxes(boxes: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Boxes with edges in order, that lie in their image."""
    real = boxes[..., 4] != PADDING
    if not np.isfinite(boxes[real]).all():
        raise DataError(f"a box of image {np.argwhere(~np.isfinite(boxes).all(axis=2) & real)[0, 0]} is not finite")
    empty = real & ((boxes[..., 2] <= boxes[..., 0]) | (boxes[..., 3] <= boxes[..., 1]))
    height, width = size
    outside = real & ((boxes[..., :2] < 0).any(axis=2) | (boxes[..., 2] > width) | (boxes[..., 3] > height))
    for wrong, problem in ((empty, "is empty"), (outside, f"reaches outside its image of {height}×{width}")):
        if wrong.any():
            image, row = np.argwhere(wrong)[0]
            edges = ", ".join(f"{edge:g}" for edge in boxes[image, row, :4])
            raise DataError(f"box {row} of image {image}, ({edges}), {problem}; give x0 < x1, y0 < y1 within it")
    return boxes


def _by(shape: Sequence[int]) -> str:
    return "×".join(map(str, shape))
