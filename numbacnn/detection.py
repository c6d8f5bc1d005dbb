"""Boxes around objects: their overlaps, the suppression of those found twice, and how well they were found.

A box is its edges x₀, y₀, x₁, y₁ in pixels, from the image's upper left corner: x₁ and y₁ lie behind the last pixel.
The boxes of a set of images are an array (N, most, 5), each with its class behind its edges, and ``PADDING`` in the
place of the class in rows that hold no box.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]

PADDING = -1
THRESHOLDS = tuple(0.5 + 0.05 * i for i in range(10))  # of overlap, 0.5 to 0.95, as COCO's


class Detections(NamedTuple):
    """What was found in one image, the surest first: boxes (k, 4), classes (k,), and scores (k,) from 0 to 1."""

    boxes: Float32
    classes: NDArray[np.int64]
    scores: Float32


def pack(rows: Sequence[NDArray[np.floating]]) -> Float32:
    """For each image boxes with their classes (k, 5), as one padded array (N, most, 5); most is at least 1."""
    packed = np.zeros((len(rows), max([1, *map(len, rows)]), 5), np.float32)
    packed[..., 4] = PADDING
    for place, part in zip(packed, rows, strict=True):
        place[: len(part)] = part
    return packed


def unpack(packed: Float32) -> Iterator[Float32]:
    """The rows (k, 5) of each image that hold boxes."""
    return (rows[rows[:, 4] != PADDING] for rows in packed)


def areas(boxes: Float32) -> Float32:
    """Of boxes (…, 4), in pixels."""
    sides = np.maximum(boxes[..., 2:4] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def intersections(a: Float32, b: Float32) -> Float32:
    """Area that each of boxes (k, 4) shares with each of (l, 4), (k, l)."""
    shared = np.concatenate(
        [np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])], axis=2
    )
    return areas(shared)


def iou(a: Float32, b: Float32) -> Float32:
    """Intersection over union of each of boxes (k, 4) with each of (l, 4), (k, l); 0 of two empty ones."""
    shared = intersections(a, b)
    union = areas(a)[:, None] + areas(b) - shared
    return np.asarray(np.divide(shared, union, out=np.zeros_like(shared), where=union > 0))


def nms(boxes: Float32, scores: Float32, iou_threshold: float) -> NDArray[np.int64]:
    """Non-maximum suppression: indices of boxes (k, 4) to keep, the surest first, of equal scores the first.

    A box goes where its intersection over union with a surer one that stays is above ``iou_threshold``.
    """
    waiting = np.argsort(-scores, kind="stable")
    above, kept = iou(boxes, boxes) > iou_threshold, []
    while len(waiting):
        kept.append(waiting[0])
        waiting = waiting[1:][~above[waiting[0], waiting[1:]]]
    return np.array(kept, np.int64)


def average_precision(
    found: Sequence[Detections], truth: Float32, classes: int, thresholds: Sequence[float] = THRESHOLDS
) -> Float64:
    """Average precision of each class at each threshold of overlap, (classes, thresholds); NaN without an object.

    found: of each image; truth: (N, most, 5). Of all images together, the surest first, a detection is right where the
    object of its class that overlaps it most, of those not yet found, does so by the threshold's intersection over
    union or more. The area under precision over recall, precision being the largest at that recall or above
    (Everingham et al. 2010, "The Pascal visual object classes (VOC) challenge", section 4.2, at every recall).
    """
    objects = list(unpack(truth))
    result = np.full((classes, len(thresholds)), np.nan)
    for number in range(classes):
        own = [rows[rows[:, 4] == number, :4] for rows in objects]
        count = sum(map(len, own))
        if not count:
            continue
        guesses = [(part.boxes[part.classes == number], part.scores[part.classes == number]) for part in found]
        scores = np.concatenate([part for _, part in guesses])
        right = np.concatenate([_matched(*guess, rows, thresholds) for guess, rows in zip(guesses, own, strict=True)])
        right = right[np.argsort(-scores, kind="stable")]
        result[number] = [_area(right[:, i], count) for i in range(len(thresholds))]
    return result


def mean_average_precision(per_class: Float64) -> tuple[float, float]:
    """mAP@0.5 and mAP@0.5:0.95 from ``average_precision``, of the classes that have objects; 0 without any."""
    seen = per_class[~np.isnan(per_class).any(axis=1)]
    return (float(seen[:, 0].mean()), float(seen.mean())) if len(seen) else (0.0, 0.0)


def _matched(boxes: Float32, scores: Float32, objects: Float32, thresholds: Sequence[float]) -> NDArray[np.bool_]:
    """Whether each detection of one image and class is right, (k, thresholds)."""
    right = np.zeros((len(boxes), len(thresholds)), np.bool_)
    if not len(objects):
        return right
    overlap, wanted = iou(boxes, objects), np.array(thresholds)
    free = np.ones((len(thresholds), len(objects)), np.bool_)
    for i in np.argsort(-scores, kind="stable"):
        candidates = np.where(free, overlap[i], -1.0)
        best = candidates.argmax(axis=1)
        right[i] = candidates.max(axis=1) >= wanted
        free[right[i], best[right[i]]] = False
    return right


def _area(right: NDArray[np.bool_], count: int) -> float:
    """Under the curve of the largest precision at each recall or above; right: of the detections, the surest first."""
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    largest = np.maximum.accumulate(precision[::-1])[::-1]
    return float(largest[right].sum() / count)
