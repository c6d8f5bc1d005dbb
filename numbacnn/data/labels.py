"""The labels of a data set: a class for each image, a class for each pixel, or boxes around objects."""

import itertools
from collections.abc import Iterable, Mapping, Sequence, Set
from numbers import Real
from typing import Any, TypeAlias, TypeGuard

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import by_key, choose, format_shape, shown
from numbacnn.data.arrays import as_array
from numbacnn.detection import PADDING, RaggedBoxes
from numbacnn.errors import ArgumentError, DataError

ClassNames: TypeAlias = Sequence[object] | Mapping[int, str] | Mapping[str, int]
Labels: TypeAlias = NDArray[Any] | RaggedBoxes
CLASSES, MASKS, BOXES, TAGS, VALUES = "classes", "masks", "boxes", "tags", "values"


def kind_of(labels: Labels) -> str:
    """Return "classes" for (N,), "masks" for integers (N, H, W), "boxes" for floats (N, max_boxes, 5).

    Rows (N, k) are "tags" if they are integers, 0 or 1 for each class, and "values" if they are floats.
    """
    if labels.ndim == 2:
        return TAGS if np.issubdtype(labels.dtype, np.integer) else VALUES
    if labels.ndim == 3:
        return MASKS if np.issubdtype(labels.dtype, np.integer) else BOXES
    return CLASSES


def checked_labels(labels: object, images: NDArray[Any]) -> Labels:
    """Return labels in one of the three forms, checked against images N×H×W×C.

    Classes become int64, masks int64 unless they are uint8, boxes float32. Boxes may be one array, or a list of arrays
    (k, 5), one for each image, which becomes ``RaggedBoxes``.

    Raises:
        ArgumentError: the labels have none of the forms, or another number than the images.
        DataError: a box is not finite, empty or outside its image.
    """
    count = len(images)
    if _are_boxes(labels):
        labels = RaggedBoxes.of(_rows(labels))
    array = labels if isinstance(labels, RaggedBoxes) else as_array(labels, "labels")
    if array.ndim in (1, 3) and len(array) != count:
        raise ArgumentError(f"{count} images but {len(array)} labels; pass one label per image")
    if isinstance(array, RaggedBoxes):
        return _checked_boxes(array, images.shape[1:3])
    if array.ndim == 3 and np.issubdtype(array.dtype, np.floating) and array.shape[2] == 5:
        return _checked_boxes(np.ascontiguousarray(array, np.float32), images.shape[1:3])
    if array.ndim == 3 and np.issubdtype(array.dtype, np.integer):
        if array.shape != images.shape[:3]:
            sizes = format_shape(array.shape[1:]), format_shape(images.shape[1:3])
            raise ArgumentError(f"masks are {sizes[0]}, but images {sizes[1]}; the sizes must be equal")
        return np.ascontiguousarray(array, np.uint8 if array.dtype == np.uint8 else np.int64)
    if array.ndim in (1, 2) and array.dtype.kind == "f" and len(array) == count:
        return _checked_values(array.reshape(count, -1))
    if array.ndim == 2 and array.dtype == np.uint8 and len(array) == count and array.max(initial=0) <= 1:
        return np.ascontiguousarray(array)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError(
            f"labels are {array.dtype} of shape {array.shape}; pass one integer per image, shape ({count},), "
            "one per pixel, boxes (images, max_boxes, 5), or rows of 0 and 1 or of floats"
        )
    return array.astype(np.int64, copy=False)


def class_names(given: ClassNames) -> tuple[str, ...]:
    """Return the names of classes in order, as text.

    given: names or numbers in order, or a mapping from number to name, or from name to number. Raises ArgumentError if
    there is no order, as in a set, or a name is neither text nor a number.
    """
    listed: Iterable[Any] = given
    if isinstance(given, Mapping):
        inverted = given and all(isinstance(number, int | np.integer) for number in given.values())
        listed = by_key("classes", {number: name for name, number in given.items()} if inverted else given)
    if isinstance(given, str | bytes | Set) or not isinstance(listed, Iterable):
        raise ArgumentError(f"classes={shown(given)}: pass a list of names, or a mapping from number to name")
    return tuple(map(_class_name, listed))


def _class_name(name: object) -> str:
    if isinstance(name, bytes):
        return name.decode(errors="replace")
    if not isinstance(name, str | Real):
        raise ArgumentError(f"{shown(name)} cannot be the name of a class; names are text")
    return f"{name:.16g}" if isinstance(name, float | np.floating) else str(name)


def class_numbers(labels: Labels, ignore_index: int | None = None) -> NDArray[Any]:
    """Return all class numbers in the labels as one row, without ``ignore_index``."""
    if isinstance(labels, RaggedBoxes):
        return labels.rows[:, 4]
    if kind_of(labels) == BOXES:
        numbers = labels[..., 4].reshape(-1)
        return np.asarray(numbers[numbers != PADDING])
    if kind_of(labels) in (TAGS, VALUES):
        return np.zeros(0, np.int64)
    row = labels.reshape(-1)
    return row if ignore_index is None else row[row != ignore_index]


def check_range(labels: Labels, classes: int, ignore_index: int | None = None) -> None:
    """Raise DataError, with the position, if a class number is not from 0 to ``classes`` − 1 or ``ignore_index``."""
    kind = kind_of(labels)
    if not labels.size or kind in (TAGS, VALUES):
        return
    if kind == BOXES:
        rows, positions = _real(labels)
        numbers = rows[:, 4]
        wrong = (numbers < 0) | (numbers >= classes) | (numbers % 1 != 0)
    else:
        numbers = np.asarray(labels)
        if numbers.min() >= 0 and numbers.max() < classes:
            return  # the usual case, which needs no arrays as large as all masks
        wrong = (numbers < 0) | (numbers >= classes)
        wrong &= True if ignore_index is None else numbers != ignore_index
    if not wrong.any():
        return
    index = tuple(np.argwhere(wrong)[0])
    image = positions[index][0] if kind == BOXES else index[0]
    where = f"at index {image}" if labels.ndim == 1 else f"in image {image}"
    raise DataError(
        f"label {numbers[index]:.16g} {where} is not a class number; "
        f"with {classes} classes labels go from 0 to {classes - 1}"
        + ("; ignore_index=… leaves a label out" if kind == MASKS else "")
    )


def renumbered(labels: Labels, numbers: Sequence[int], ignore_index: int | None = None) -> Labels:
    """Return the labels with class i replaced by ``numbers[i]``, and ``ignore_index`` unchanged."""
    if isinstance(labels, RaggedBoxes):
        classes = np.asarray(numbers)[labels.rows[:, 4].astype(int)]
        return RaggedBoxes(np.column_stack([labels.rows[:, :4], classes.astype(np.float32)]), labels.offsets)
    if kind_of(labels) != BOXES:
        counted = np.where(labels == ignore_index, 0, labels) if ignore_index is not None else labels
        found = np.asarray(np.asarray(numbers, labels.dtype)[counted])
        return found if ignore_index is None else np.where(labels == ignore_index, labels, found)
    result: NDArray[Any] = labels.copy()
    real = labels[..., 4] != PADDING
    result[real, 4] = np.asarray(numbers)[labels[real, 4].astype(int)]
    return result


def numbered(labels: object, classes: ClassNames | None) -> tuple[Any, ClassNames | None]:
    """Return labels that are text, booleans, one-hot rows or columns as numbers, and the names of their classes.

    Labels in other forms are returned as they are. Text is sorted to give the classes, unless there are names.

    Raises:
        ArgumentError: a text is not among the names of classes.
    """
    if isinstance(labels, RaggedBoxes) or _are_boxes(labels):
        return labels, classes
    array = as_array(labels, "labels")
    if array.ndim in (2, 4) and array.shape[-1] == 1 and array.dtype.kind != "f":
        array = array[..., 0]
    if array.dtype.kind == "b":
        array = array.astype(np.uint8 if array.ndim == 3 else np.int64)
    if array.ndim == 1 and (array.dtype.kind in "US" or _is_text(array)):
        found, numbers = np.unique(array.astype(str), return_inverse=True)
        if classes is None:
            return numbers, found.tolist()
        known = dict(zip(class_names(classes), itertools.count(), strict=False))
        return np.array([choose("class", name, known) for name in found.tolist()], np.int64)[numbers], classes
    if array.ndim == 2 and array.shape[1] > 1 and _is_one_hot(array):
        return array.argmax(axis=1), range(array.shape[1]) if classes is None else classes
    if array.ndim == 2 and array.shape[1] > 1 and array.dtype.kind in "iuf" and _is_binary(array):
        return array.astype(np.uint8), range(array.shape[1]) if classes is None else classes
    return array, classes


def _checked_values(values: NDArray[Any]) -> NDArray[np.float32]:
    with np.errstate(over="ignore"):  # numbers too large for float32 become infinite, and are rejected below
        found = np.ascontiguousarray(values, np.float32)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=1))
    if wrong.size:
        raise DataError(f"the label of image {wrong[0]} is not finite in float32")
    return found


def _is_text(array: NDArray[Any]) -> bool:
    return array.dtype.kind == "O" and array.size > 0 and all(isinstance(value, str) for value in array)


def _is_one_hot(array: NDArray[Any]) -> bool:
    return array.dtype.kind in "iuf" and _is_binary(array) and bool((array.sum(axis=1) == 1).all())


def _is_binary(array: NDArray[Any]) -> bool:
    return bool(((array == 0) | (array == 1)).all())


def _are_boxes(labels: Any) -> TypeGuard[Sequence[ArrayLike | None]]:
    """Return whether labels are boxes (k, 5) for each image, None or [] for none."""
    listed = isinstance(labels, list | tuple) or (
        getattr(labels, "dtype", None) == np.dtype(object) and labels.ndim == 1
    )
    if not listed or not len(labels) or all(np.ndim(part) == 2 and np.shape(part)[1] > 5 for part in labels):  # masks
        return False
    return all(part is None or np.ndim(part) == 2 or (np.ndim(part) == 1 and not np.size(part)) for part in labels)


def _rows(parts: Sequence[ArrayLike | None]) -> list[NDArray[Any]]:
    """Return the boxes (k, 5) of each image."""
    none = np.zeros((0, 5), np.float32)
    rows = [none if part is None or not np.size(part) else as_array(part, "boxes") for part in parts]
    for number, part in enumerate(rows):
        if part.shape[1] != 5 or not np.issubdtype(part.dtype, np.number):
            raise ArgumentError(f"boxes of image {number} have shape {part.shape}; pass (k, 5): x0, y0, x1, y1, class")
    return rows


def may_exceed(side: ArrayLike) -> NDArray[Any]:
    """Return the pixels by which rounding may put the edge of a box outside an image of that height or width."""
    return np.maximum(1, 0.005 * np.asarray(side))


def _real(boxes: Labels) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the rows (k, 5) without padding, and the image and the row of each, (k, 2)."""
    if isinstance(boxes, RaggedBoxes):
        images = np.repeat(np.arange(len(boxes)), boxes.counts)
        return boxes.rows, np.column_stack([images, np.arange(len(images)) - boxes.offsets[images]])
    real = boxes[..., 4] != PADDING
    return boxes[real], np.argwhere(real)


def _cut_off(rows: NDArray[np.float32], size: tuple[int, ...]) -> NDArray[np.float32]:
    """Return boxes without what exceeds their image, if that is no more than rounding does."""
    sides = np.array([size[1], size[0]] * 2)
    inside = rows[:, :4].clip(0, sides)
    excess = np.abs(rows[:, :4] - inside)
    rounded = (excess <= may_exceed(sides)).all(axis=1) & excess.any(axis=1)
    if not rounded.any():
        return rows
    found = rows.copy()
    found[rounded, :4] = inside[rounded]
    return found


def _checked_boxes(boxes: Labels, size: tuple[int, ...]) -> Labels:
    rows, positions = _real(boxes)
    broken = ~np.isfinite(rows).all(axis=1)
    if broken.any():
        raise DataError(f"a box of image {positions[broken.argmax(), 0]} is not finite")
    found = _cut_off(rows, size)
    height, width = size
    empty = (found[:, 2] <= found[:, 0]) | (found[:, 3] <= found[:, 1])
    outside = (found[:, :2] < 0).any(axis=1) | (found[:, 2] > width) | (found[:, 3] > height)
    for wrong, problem in ((empty, "is empty"), (outside, f"exceeds its image of {height}×{width}")):
        if wrong.any():
            image, row = positions[wrong.argmax()]
            edges = ", ".join(f"{edge:g}" for edge in found[wrong.argmax(), :4])
            raise DataError(f"box {row} of image {image}, ({edges}), {problem}; boxes need x0 < x1, y0 < y1")
    if found is rows:
        return boxes
    if isinstance(boxes, RaggedBoxes):
        return RaggedBoxes(found, boxes.offsets)
    result: NDArray[np.float32] = boxes.copy()
    result[tuple(positions.T)] = found
    return result
