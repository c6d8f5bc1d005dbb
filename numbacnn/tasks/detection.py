"""One-stage detection: a grid over the image, each cell of which predicts whether an object has its center there.

The output, (h, w, 5 + classes), holds for each cell the logit of that presence, the four numbers of a box, and a logit
for each class (Redmon et al. 2016, "You only look once", section 2, with one box for each cell). The numbers of a box
are the offset of its center from the cell's, in cells, and the logarithms of its width and height in cells (Ren et al.
2015, "Faster R-CNN", equation 2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks.arrays import as_float32, real_array
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, class_numbers
from numbacnn.detection import PADDING, Detections, RaggedBoxes, average_precision, mean_average_precision, nms
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.kernels.numpy_launchers import BOX_NUMBERS, encode_boxes
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import Float32, Float64, Loss
from numbacnn.metrics import Metric
from numbacnn.tasks.base import Task
from numbacnn.tasks.results import Metrics, MetricState, named

SCORE_THRESHOLD = 0.4  # the lowest score of a reported detection
EVALUATION_THRESHOLD = 0.01  # the lowest score that average precision takes into account
IOU_THRESHOLD = 0.5  # above which two boxes are taken for the same object
MAX_LOG_SIDE = 10.0  # in cells, so that a diverged output does not overflow


class Detection(Task):
    """The boxes around objects, and their classes."""

    name, labels, score, score_name = "detect", BOXES, "map_50", "mAP@0.5"
    measures = named("accuracy", "map_50", "map")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of an image."""
        return self.input_shape[0], self.input_shape[1]

    def outputs(self, classes: int) -> int:
        """Return the channels of the output: those of presence and box, and one for each class."""
        return BOX_NUMBERS + classes

    def classes(self, outputs: int) -> int:
        """Return the channels without those of presence and box."""
        return outputs - BOX_NUMBERS

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return ``DetectionLoss``."""
        return DetectionLoss(self.size)

    def metrics(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> Metrics:
        """Return loss, accuracy over the cells with objects, mAP@0.5 and mAP@0.5:0.95."""
        return DetectionMetrics(self, loss, device, wanted)

    def check_output(self, shape: tuple[int, ...]) -> None:
        """Raise ArgumentError unless the output is a grid with presence, box and classes."""
        if len(shape) != 3 or shape[-1] <= BOX_NUMBERS or len(self.input_shape) != 3:
            raise ArgumentError(f"detection needs an output (h, w, {BOX_NUMBERS} + classes), not {shape}")

    def check(self, dataset: Dataset, output_shape: tuple[int, ...]) -> None:
        """Raise ArgumentError if the data set does not fit, or has no box at all."""
        super().check(dataset, output_shape)
        if dataset.kind == BOXES and not class_numbers(dataset.labels).size:
            raise ArgumentError(f"none of the {len(dataset)} images has a box")

    def decode(
        self, output: Float32, score_threshold: float = SCORE_THRESHOLD, iou_threshold: float = IOU_THRESHOLD
    ) -> list[Detections]:
        """Return the detections in each image of an output (n, h, w, 5 + classes).

        The score is the probability of the presence times that of the top-1 class; detections below ``score_threshold``
        are dropped. Of boxes with an intersection over union above ``iou_threshold``, of any classes, the one with the
        highest score is kept.
        """
        height, width = self.size
        n, h, w, _ = output.shape
        scores, classes = _scores(output)
        log_sides = output[..., 3:BOX_NUMBERS].clip(-MAX_LOG_SIDE, MAX_LOG_SIDE)
        i, j = np.meshgrid(np.arange(h, dtype=np.float32), np.arange(w, dtype=np.float32), indexing="ij")
        centers = output[..., 1:3] + np.stack([j, i], -1) + np.float32(0.5)
        half = np.exp(log_sides) / np.float32(2)
        cell = np.array([width / w, height / h] * 2, np.float32)
        edges = np.concatenate([centers - half, centers + half], axis=-1) * cell
        boxes = edges.clip(0, np.array([width, height] * 2, np.float32)).reshape(n, h * w, 4)
        found = []
        for image in range(n):
            likely = np.flatnonzero(scores[image] >= score_threshold)
            kept = likely[nms(boxes[image, likely], scores[image, likely], iou_threshold)]
            found.append(Detections(boxes[image, kept], classes[image, kept], scores[image, kept]))
        return found


def _scores(output: Float32) -> tuple[Float32, NDArray[np.int64]]:
    """Return the score and the class of each cell, (n, h·w)."""
    logits = output[..., BOX_NUMBERS:]
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    top1 = 1 / exponentials.sum(axis=-1)  # the exponential of the largest logit is 1
    presence = 0.5 * (1 + np.tanh(0.5 * output[..., 0]))  # the sigmoid, in a form that does not overflow
    n = len(output)
    return (presence * top1).reshape(n, -1), logits.argmax(axis=-1).reshape(n, -1)


def encode(labels: Float32 | RaggedBoxes, grid: tuple[int, ...], size: tuple[int, int]) -> Float32:
    """Return the target of each cell, (n, h, w, 6): presence, the four numbers of a box, and the class.

    If two objects have their centers in one cell, the smaller one is the target: other cells rarely find it.

    Args:
        labels: boxes (n, M, 5) as in ``numbacnn.detection``.
        grid: (h, w).
        size: height and width of an image in pixels.
    """
    target = np.empty((len(labels), *grid, BOX_NUMBERS + 1), np.float32)
    encode_boxes(target, np.asarray(labels), *size)
    return target


@dataclass(frozen=True)
class DetectionLoss(Loss):
    """Σ over cells of BCE(presence) + [object present] · (box_weight · Σ smooth L1(box) + cross-entropy(class)).

    The mean over images. Smooth L1 is d²/(2·beta) if |d| ≤ beta, else |d| − beta/2 (Girshick 2015, "Fast R-CNN",
    equation 3). ``size`` is the height and width of an image in pixels; targets are boxes (n, M, 5).
    """

    name: ClassVar[str] = "detection"
    activation = "sigmoid and softmax"  # of presence and classes: a layer of neither may be at the end

    size: tuple[int, int]
    box_weight: float = 2.0
    beta: float = 0.1

    def __post_init__(self) -> None:
        self.check_number("box_weight", 0)
        self.check_number("beta", 0, above=True)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Float32:
        """Take boxes (n, M, 5), and encode them."""
        boxes = as_float32(real_array(target, "target"))
        if boxes.ndim != 3 or boxes.shape[2] != 5 or len(boxes) != shape[0]:
            raise ArgumentError(f"boxes of shape {boxes.shape} for {shape[0]} images; pass ({shape[0]}, M, 5)")
        classes = boxes[..., 4]
        if not PADDING <= classes.min(initial=0) <= classes.max(initial=0) < shape[-1] - BOX_NUMBERS:
            raise ArgumentError(
                f"classes run from {classes.min():g} to {classes.max():g}; the model has {shape[-1] - BOX_NUMBERS}"
            )
        return encode(boxes, shape[1:3], self.size)

    def weight(self, target: NDArray[Any]) -> float:
        """Return the number of images."""
        return len(target)

    def launch_target(self, kernels: Kernels, target: NDArray[Any], labels: NDArray[Any]) -> None:
        """Launch the encoding of boxes."""
        kernels.encode_boxes(target, labels.reshape(len(target), -1, 5), *self.size)

    def launch(
        self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: NDArray[Any], scale: float
    ) -> None:
        """Launch the kernel."""
        class_weights = np.ones((1, x.shape[-1] - BOX_NUMBERS), np.float32)
        kernels.detection(losses, dx, x, target, class_weights, self.box_weight, self.beta, scale)


class DetectionMetrics(Metrics):
    """Also accumulates the detections, for the mean average precision."""

    needs_predictions = False

    def __init__(self, task: Detection, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> None:
        super().__init__(loss, device, wanted)
        self.task = task
        self.found: list[Detections] = []
        self.truth: list[RaggedBoxes] = []
        self.classes = 0

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """Add a batch: its output (n, h, w, 5 + C) and its boxes."""
        super().add(output, labels)
        self.found += self.task.decode(self._device.host(output), EVALUATION_THRESHOLD)
        self.truth.append(RaggedBoxes.of(list(np.asarray(labels))))
        self.classes = self.task.classes(output.shape[-1])

    def state(self) -> MetricState:
        """Return what has been accumulated."""
        return super().state() | {"found": self.found, "truth": self.truth, "classes": self.classes}

    def merge(self, state: MetricState) -> None:
        """Add what another object has accumulated."""
        super().merge(state)
        self.found += state["found"]
        self.truth += state["truth"]
        self.classes = state["classes"]

    def count(self, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any]) -> None:
        """Launch the count of correct classes in the cells with objects."""
        self._device.kernels.count_correct_objects(partial, output, target)

    def per_class(self) -> NDArray[np.float64]:
        """Return the average precision of each class at each threshold of ``detection.THRESHOLDS``."""
        return average_precision(self.found, RaggedBoxes.concatenate(self.truth), self.classes)

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return AP@0.5, AP@0.5:0.95 and the number of objects of each class. AP is None if there are no objects."""
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

    def kept(self) -> tuple[Any, Any]:
        """Return the boxes (N, M, 5), and the detections in each image."""
        return RaggedBoxes.concatenate(self.truth), self.found

    def own_results(self) -> dict[str, float]:
        """Return loss, accuracy, mAP@0.5 and mAP@0.5:0.95."""
        at_50, mean = mean_average_precision(self.per_class())
        return super().own_results() | {"map_50": at_50, "map": mean}
