"""Bounding boxes: intersection over union, non-maximum suppression, and average precision.

A box is (x₀, y₀, x₁, y₁) in pixels from the top left corner of the image; x₁ and y₁ are exclusive. The labels of N
images with at most M boxes each are one array (N, M, 5): a box and its class per row, and the class ``PADDING`` in rows
without a box. ``RaggedBoxes`` has that form, but stores no padding.
"""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks.arrays import real_array
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError, DataError

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Boxes = NDArray[np.floating]
AnyBoxes = Boxes | Sequence[Sequence[float]]

PADDING = -1
BLOCK_BYTES = 1 << 24
MAX_PADDED_BYTES, MAX_PADDING = 1 << 28, 16  # of an array of boxes that is mostly padding, and how many times the boxes
THRESHOLDS = tuple(i / 20 for i in range(10, 20))  # of the intersection over union, as in COCO: 0.5 to 0.95


class Detections(NamedTuple):
    """Objects detected in one image by decreasing score: boxes (k, 4), classes (k,), and scores (k,) from 0 to 1."""

    boxes: Float32
    classes: NDArray[np.int64]
    scores: Float32


class RaggedBoxes(np.lib.mixins.NDArrayOperatorsMixin):
    """Labels of N images with at most M boxes each, used like the padded array (N, M, 5), but stored without padding.

    An index of one image gives its padded rows (M, 5). A slice, a few indices or a mask (N,) give the labels of these
    images, whose M is their own. All else, such as ``labels[..., 4]``, arithmetic and ``np.asarray``, makes the padded
    array.

    Attributes:
        rows: the boxes and classes of all images (k, 5), float32.
        offsets: where the rows of each image start, and k at the end: (N + 1,) int64.
    """

    dtype, ndim = np.dtype(np.float32), 3

    def __init__(self, rows: Float32, offsets: NDArray[np.int64]) -> None:
        self.rows, self.offsets = rows, offsets

    @classmethod
    def of(cls, parts: Sequence[NDArray[np.floating]]) -> "RaggedBoxes":
        """Return the rows (k, 5) of each image, without those that are padding, as one object."""
        parts = [part[part[:, 4] != PADDING] for part in parts]
        rows = np.concatenate([np.zeros((0, 5), np.float32), *parts]).astype(np.float32, copy=False)
        return cls(rows, _offsets([len(part) for part in parts]))

    @classmethod
    def concatenate(cls, parts: Sequence["RaggedBoxes"]) -> "RaggedBoxes":
        """Return the labels of the images of all parts."""
        counts = np.concatenate([part.counts for part in parts])
        return cls(np.concatenate([part.rows for part in parts]), _offsets(counts))

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of boxes of each image, (N,)."""
        return np.diff(self.offsets)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of the padded array; M is at least 1."""
        return len(self), int(self.counts.max(initial=1)), 5

    @property
    def size(self) -> int:
        """The numbers in the padded array."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes of the padded array."""
        return self.size * self.dtype.itemsize

    @property
    def is_mostly_padding(self) -> bool:
        """Whether the padded array would take over 256 MiB, most of it padding."""
        return self.nbytes > MAX_PADDED_BYTES and len(self.rows) * MAX_PADDING < len(self) * self.shape[1]

    def blocks(self) -> Iterator[Float32]:
        """Yield the padded array in blocks of images."""
        images = max(1, BLOCK_BYTES * len(self) // max(1, self.nbytes))
        return (self[start : start + images]._padded(self.shape[1]) for start in range(0, len(self), images))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __iter__(self) -> Iterator[Float32]:
        return (self[image] for image in range(len(self)))

    def __repr__(self) -> str:
        return f"RaggedBoxes of shape {self.shape} with {len(self.rows):,} boxes"

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, int | np.integer):
            chosen = range(len(self))[index]
            return self._take(np.array([chosen]))._padded(self.shape[1])[0]
        if isinstance(index, tuple):
            is_first = len(index) > 0 and isinstance(index[0], int | np.integer)
            return self[index[0]][index[1:]] if is_first else np.asarray(self)[index]
        chosen = np.arange(len(self))[index]
        return self._take(chosen) if chosen.ndim == 1 else np.asarray(self)[index]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("the padded array of boxes is always new: leave copy=False out")
        return self._padded(self.shape[1]).astype(dtype or self.dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *operands: Any, **options: Any) -> Any:
        arrays = (np.asarray(each) if isinstance(each, RaggedBoxes) else each for each in operands)
        return getattr(ufunc, method)(*arrays, **options)

    def _take(self, images: NDArray[np.int64]) -> "RaggedBoxes":
        counts = self.counts[images]
        offsets = _offsets(counts)
        shifts = np.repeat(self.offsets[images] - offsets[:-1], counts)
        return RaggedBoxes(self.rows[np.arange(len(shifts)) + shifts], offsets)

    def _padded(self, most: int) -> Float32:
        padded = np.zeros((len(self), most, 5), np.float32)
        padded[..., 4] = PADDING
        padded[np.arange(most) < self.counts[:, np.newaxis]] = self.rows
        return padded


@checks_call
def in_blocks(labels: NDArray[Any] | RaggedBoxes) -> Iterator[NDArray[Any]]:
    """Yield an array as a whole, and the padded array of boxes in blocks of images."""
    return labels.blocks() if isinstance(labels, RaggedBoxes) else iter([labels])


def _offsets(counts: ArrayLike) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])


@checks_call
def pack(rows: Sequence[NDArray[np.floating]]) -> Float32:
    """Pad the rows (k, 5) of boxes and classes of each image to one array (N, M, 5); M is at least 1.

    Raises DataError if one image has boxes for which the array would take over 256 MiB, most of it padding.
    """
    boxes = RaggedBoxes.of(rows)
    if boxes.is_mostly_padding:
        image, (_, most, _) = boxes.counts.argmax(), boxes.shape
        found = f"image {image} has {most:,} boxes, and {len(boxes):,} images have {len(boxes.rows):,}"
        need = f"an array with room for as many in each would take {boxes.nbytes / 2**20:,.0f} MiB"
        raise DataError(f"{found}: {need}; RaggedBoxes.of takes no room for padding")
    return np.asarray(boxes)


@checks_call
def unpack(packed: Float32 | RaggedBoxes) -> Iterator[Float32]:
    """Yield the rows (k, 5) of each image that hold boxes."""
    if isinstance(packed, RaggedBoxes):
        return (packed.rows[start:end] for start, end in itertools.pairwise(packed.offsets))
    return (rows[rows[:, 4] != PADDING] for rows in packed)


@checks_call
def areas(boxes: Boxes) -> Boxes:
    """Return the areas of boxes (…, 4) in pixels."""
    sides = np.maximum(boxes[..., 2:4] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def _rows(boxes: AnyBoxes, what: str) -> Boxes:
    """Return boxes as an array of floats (k, 4). Raises ArgumentError for another shape."""
    array = real_array(boxes, what)
    if array.size == 0 and array.ndim == 1:
        array = array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ArgumentError(f"{what} have shape {array.shape}: pass (k, 4), a row of x0, y0, x1, y1 for each box")
    return array if array.dtype.kind == "f" else array.astype(np.float64)


@checks_call
def intersections(a: AnyBoxes, b: AnyBoxes) -> Boxes:
    """Return the intersection areas (k, l) of boxes (k, 4) with boxes (l, 4). Raises ArgumentError."""
    a, b = _rows(a, "the first boxes"), _rows(b, "the second boxes")
    shared = np.concatenate(
        [np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])], axis=2
    )
    return areas(shared)


@checks_call
def iou(a: AnyBoxes, b: AnyBoxes) -> Boxes:
    """Return the intersection over union (k, l) of boxes (k, 4) with boxes (l, 4); 0 for two empty boxes.

    Raises ArgumentError for arrays of another shape.
    """
    a, b = _rows(a, "the first boxes"), _rows(b, "the second boxes")
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


@checks_call
def nms(boxes: AnyBoxes, scores: ArrayLike, iou_threshold: float) -> NDArray[np.int64]:
    """Non-maximum suppression: return the indices of the boxes (k, 4) to keep, by decreasing score.

    A box is dropped if its intersection over union with a kept box of higher score exceeds ``iou_threshold``. Boxes of
    equal score are visited in the order of their indices. Raises ArgumentError unless there is a score for each box.
    """
    boxes, scores = _rows(boxes, "boxes"), real_array(scores, "scores")
    if scores.shape != boxes.shape[:1]:
        raise ArgumentError(f"scores of shape {scores.shape} for {len(boxes)} boxes: pass one for each")
    candidates = np.argsort(-scores.astype(np.float64), kind="stable")
    overlaps, kept = iou(boxes, boxes) > iou_threshold, []
    while len(candidates):
        best, candidates = candidates[0], candidates[1:]
        kept.append(best)
        candidates = candidates[~overlaps[best, candidates]]
    return np.array(kept, np.int64)


@checks_call
def average_precision(
    found: Sequence[Detections], truth: Float32 | RaggedBoxes, classes: int, thresholds: Sequence[float] = THRESHOLDS
) -> Float64:
    """Return the average precision of each class at each IoU threshold, (classes, thresholds).

    It is the area under the precision-recall curve, with the precision interpolated to the maximum at that recall or
    above (Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge", section 4.2, at every recall).
    Detections of all images are visited by decreasing score. Each is matched to the object of its class and image with
    the highest IoU among those not matched yet, and is a true positive if that IoU reaches the threshold.

    Args:
        found: the detections of each image.
        truth: the labels (N, M, 5).
        classes: the number of classes.
        thresholds: of the intersection over union.

    Returns:
        float64; NaN for classes without an object.
    """
    objects = list(unpack(truth))
    result = np.full((classes, len(thresholds)), np.nan)
    for label in range(classes):
        targets = [rows[rows[:, 4] == label, :4] for rows in objects]
        count = sum(map(len, targets))
        if not count:
            continue
        detected = [(part.boxes[part.classes == label], part.scores[part.classes == label]) for part in found]
        scores = np.concatenate([part for _, part in detected])
        matches = [_match(*part, rows, thresholds) for part, rows in zip(detected, targets, strict=True)]
        correct = np.concatenate(matches)[np.argsort(-scores, kind="stable")]
        result[label] = [_area(correct[:, i], count) for i in range(len(thresholds))]
    return result


@checks_call
def mean_average_precision(per_class: Float64) -> tuple[float, float]:
    """Return mAP@0.5 and mAP@0.5:0.95 from ``average_precision``, over classes with objects; 0 if there are none."""
    seen = per_class[~np.isnan(per_class).any(axis=1)]
    return (float(seen[:, 0].mean()), float(seen.mean())) if len(seen) else (0.0, 0.0)


def _match(boxes: Float32, scores: Float32, objects: Float32, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Return which detections of one image and class are true positives, (k, thresholds)."""
    correct = np.zeros((len(boxes), len(thresholds)), np.bool_)
    if not len(objects):
        return correct
    overlaps = iou(boxes.astype(np.float64), objects.astype(np.float64))  # float32 may miss an IoU equal to a threshold
    required = np.array(thresholds)
    unmatched = np.ones((len(thresholds), len(objects)), np.bool_)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(unmatched, overlaps[i], -1.0)
        best = candidates.argmax(axis=1)
        correct[i] = candidates.max(axis=1) >= required
        unmatched[correct[i], best[correct[i]]] = False
    return correct


def _area(correct: NDArray[np.bool_], count: int) -> float:
    """Return the area under the interpolated precision-recall curve of detections by decreasing score."""
    precision = np.cumsum(correct) / np.arange(1, len(correct) + 1)
    interpolated = np.maximum.accumulate(precision[::-1])[::-1]
    return float(interpolated[correct].sum() / count)
