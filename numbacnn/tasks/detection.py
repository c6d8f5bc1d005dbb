"""Detection in one stage: a grid over the image, each cell of which says whether the middle of an object lies in it.

The output, (h, w, 5 + classes), holds for each cell a logit of that presence, the four numbers of a box, and a logit
for each class (Redmon et al. 2016, "You only look once", section 2, with one box for each cell). The numbers of a box
are how far its middle lies from the cell's, in cells, and the logarithms of its width and height in cells (Ren et al.
2015, "Faster R-CNN", equation 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import number
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, class_numbers
from numbacnn.detection import PADDING, Detections, average_precision, mean_average_precision, nms
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.losses import Loss
from numbacnn.metrics import Metrics
from numbacnn.tasks.base import Float32, Task

LOGITS = 5  # channels before those of the classes
SCORE_THRESHOLD = 0.4  # of what is shown as found
LEAST_COUNTED = 0.01  # of what average precision looks at
IOU_THRESHOLD = 0.5  # of two boxes that are taken for the same object's
LARGEST_LOG = 10.0  # of a side in cells, so that no damaged number overflows


class Detection(Task):
    """The classes of objects, and the boxes around them."""

    name, labels, score, score_name = "detect", BOXES, "map_50", "mAP@0.5"

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.input_shape[0], self.input_shape[1]

    def outputs(self, classes: int) -> int:
        """See ``Task``."""
        return LOGITS + classes

    def classes(self, outputs: int) -> int:
        """See ``Task``."""
        return outputs - LOGITS

    def loss(self) -> Loss:
        """``DetectionLoss``."""
        return DetectionLoss(self.size)

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """Loss, accuracy of the objects' cells, mAP@0.5 and mAP@0.5:0.95."""
        return DetectionMetrics(self, loss, device)

    def count_correct(self, output: Float32, labels: NDArray[Any], loss: Loss) -> tuple[int, int]:
        """At the cells where objects are, their classes."""
        target = encode(labels, output.shape[1:3], self.size)
        present = target[..., 0] > 0
        found = output[present][:, LOGITS:].argmax(axis=1)
        return int(np.count_nonzero(found == target[present][:, LOGITS])), len(found)

    def launch_count_correct(
        self, loop_kernels: Any, partial: Any, output: Any, labels: Any, target: Any, loss: Loss
    ) -> None:
        """See ``Task``."""
        loop_kernels.count_correct_objects(partial, output, target)

    def check_output(self, shape: tuple[int, ...]) -> None:
        """See ``Task``; the output has to be a grid."""
        if len(shape) != 3 or shape[-1] <= LOGITS or len(self.input_shape) != 3:
            raise ArgumentError(f"to detect, a model gives a grid of {LOGITS} + classes numbers, not {shape}")

    def check(self, dataset: Dataset, output_shape: tuple[int, ...]) -> None:
        """See ``Task``; one image at least has to hold an object."""
        super().check(dataset, output_shape)
        if dataset.kind == BOXES and not (dataset.labels[..., 4] != PADDING).any():
            raise ArgumentError(f"there is no box in any of the {len(dataset)} images")

    def decode(
        self, output: Float32, score_threshold: float = SCORE_THRESHOLD, iou_threshold: float = IOU_THRESHOLD
    ) -> list[Detections]:
        """What was found in each image, from an output (n, h, w, 5 + classes), with scores of at least
        ``score_threshold``.

        A score is the presence's probability times the likeliest class's. Of boxes that overlap by more than
        ``iou_threshold``, of whichever classes, the surest stays.
        """
        height, width = self.size
        n, h, w, _ = output.shape
        scores, classes = _scores(output)
        log_sides = output[..., 3:LOGITS].clip(-LARGEST_LOG, LARGEST_LOG)
        i, j = np.meshgrid(np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32), indexing="ij")
        middles = output[..., 1:3] + np.stack([j, i], -1) + np.float32(0.5)
        half = np.exp(log_sides) / np.float32(2)
        cell = np.array([width / w, height / h] * 2, np.float32)
        edges = np.concatenate([middles - half, middles + half], axis=-1) * cell
        boxes = edges.clip(0, np.array([width, height] * 2, np.float32)).reshape(n, h * w, 4)
        found = []
        for image in range(n):
            likely = np.flatnonzero(scores[image] >= score_threshold)
            kept = likely[nms(boxes[image, likely], scores[image, likely], iou_threshold)]
            found.append(Detections(boxes[image, kept], classes[image, kept], scores[image, kept]))
        return found


def _scores(output: Float32) -> tuple[Float32, NDArray[np.int64]]:
    """Score and class of each cell, (n, h·w)."""
    logits = output[..., LOGITS:]
    spread = np.exp(logits - logits.max(axis=-1, keepdims=True))
    likeliest = 1 / spread.sum(axis=-1)  # the largest logit's own term is 1
    presence = 0.5 * (1 + np.tanh(0.5 * output[..., 0]))  # the sigmoid, which does not overflow so
    n = len(output)
    return (presence * likeliest).reshape(n, -1), logits.argmax(axis=-1).reshape(n, -1)


def encode(labels: Float32, grid: tuple[int, ...], size: tuple[int, int]) -> Float32:
    """The target of each cell, (n, h, w, 6): presence, the four numbers of a box, and the class; from (n, most, 5).

    Of two objects with their middles in one cell the smaller counts: it is the harder to find elsewhere.
    """
    (h, w), (height, width) = grid, size
    target = np.zeros((len(labels), h, w, LOGITS + 1), np.float32)
    image, row = np.nonzero(labels[..., 4] != PADDING)
    boxes = labels[image, row]
    cell = np.array([width / w, height / h], np.float32)
    middles, sides = (boxes[:, :2] + boxes[:, 2:4]) / (2 * cell), (boxes[:, 2:4] - boxes[:, :2]) / cell
    places = np.minimum(middles.astype(np.int64), (w - 1, h - 1))
    numbers = np.concatenate(
        [np.ones((len(boxes), 1)), middles - places - 0.5, np.log(sides), boxes[:, 4:]], axis=1, dtype=np.float32
    )
    order = np.argsort(-sides.prod(axis=1), kind="stable")  # the last one written stays
    for i in order:
        target[image[i], places[i, 1], places[i, 0]] = numbers[i]
    return target


@dataclass(frozen=True)
class DetectionLoss(Loss):
    """Σ over the cells of BCE(presence) + [an object there] · (box_weight · Σ smooth L1(box) + cross-entropy(class)).

    The mean over images. Smooth L1 is d²/(2·beta) where |d| ≤ beta, else |d| − beta/2 (Girshick 2015, "Fast R-CNN",
    equation 3). size: height and width of an image in pixels, in which targets (n, most, 5) are.
    """

    name: ClassVar[str] = "detection"
    device_steps: ClassVar[bool] = True

    size: tuple[int, int]
    box_weight: float = 2.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        number(self.box_weight, "box_weight", 0)
        number(self.beta, "beta", 0, above=True)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Float32:
        """Boxes (n, most, 5) as ``encode`` gives them."""
        boxes = np.asarray(target, np.float32)
        if boxes.ndim != 3 or boxes.shape[2] != 5 or len(boxes) != shape[0]:
            raise ArgumentError(f"boxes of shape {boxes.shape} for {shape[0]} images; give ({shape[0]}, most, 5)")
        classes = boxes[..., 4]
        if not PADDING <= classes.min(initial=0) <= classes.max(initial=0) < shape[-1] - LOGITS:
            raise ArgumentError(
                f"classes run from {classes.min():g} to {classes.max():g}; the model has {shape[-1] - LOGITS}"
            )
        return encode(boxes, shape[1:3], self.size)

    def weight(self, target: NDArray[Any]) -> float:
        """The number of images."""
        return len(target)

    def launch_target(self, loop_kernels: Any, target: Any, labels: Any) -> None:
        """See ``Loss``."""
        loop_kernels.encode_boxes(target, labels.reshape(len(target), -1, 5), *self.size)

    def launch(
        self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: NDArray[Any], scale: float
    ) -> None:
        """See ``Loss``."""
        class_weights = np.ones((1, x.shape[-1] - LOGITS), np.float32)
        kernels.detection(losses, dx, x, target, class_weights, self.box_weight, self.beta, scale)


class DetectionMetrics(Metrics):
    """Also what was found, and the mean average precision that follows."""

    def __init__(self, task: Detection, loss: Loss, device: Device) -> None:
        super().__init__(loss, device)
        self.task = task
        self.found: list[Detections] = []
        self.truth: list[Float32] = []
        self.classes = 0

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """See ``Metrics``."""
        self.add_loss(output, labels)
        output = self._device.host(output)
        right, counted = self.task.count_correct(output, labels, self._loss)
        self.correct, self.labels = self.correct + right, self.labels + counted
        self.found += self.task.decode(output, LEAST_COUNTED)
        self.truth.append(np.array(labels, np.float32))
        self.classes = self.task.classes(output.shape[-1])

    def per_class(self) -> NDArray[np.float64]:
        """Average precision of each class at each threshold of ``boxes.THRESHOLDS``."""
        return average_precision(self.found, np.concatenate(self.truth), self.classes)

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Average precision of each class, at 0.5 and on average, None without an object; and its objects."""
        counts = np.bincount(
            np.concatenate([class_numbers(part) for part in self.truth]).astype(int), minlength=len(names)
        )
        return [
            {
                "class": name,
                "AP@0.5": None if np.isnan(row[0]) else float(row[0]),
                "AP@0.5:0.95": None if np.isnan(row[0]) else float(row.mean()),
                "objects": int(count),
            }
            for name, row, count in zip(names, self.per_class(), counts, strict=True)
        ]

    def results(self) -> dict[str, float]:
        """Loss, accuracy, mAP@0.5 and mAP@0.5:0.95."""
        at_half, mean = mean_average_precision(self.per_class())
        return super().results() | {"map_50": at_half, "map": mean}
