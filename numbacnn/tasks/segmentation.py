"""Segmentation: one class for each pixel."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.labels import MASKS
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.losses.base import Float32, Loss
from numbacnn.metrics import (
    Metric,
    confusion_matrix,
    f1,
    intersection_over_union,
    macro_averages,
    mean_iou,
    per_class,
    precision,
    recall,
)
from numbacnn.tasks.classification import Classification
from numbacnn.tasks.results import Metrics, MetricState, named, own_result

OF_CONFUSION: Mapping[Callable[[Any, Any], float], int] = {precision: 0, recall: 1, f1: 2}
"""The functions whose value ``macro_averages`` returns at an index, without all pixels in memory."""


class Segmentation(Classification):
    """The maximum of each pixel of the output is at its class; the loss is the mean over pixels."""

    name, labels, score, score_name = "segment", MASKS, "mean_iou", "mean IoU"
    measures = named("accuracy", "mean_iou", precision=precision, recall=recall, f1=f1)

    def metrics(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> Metrics:
        """Return loss, pixel accuracy and mean IoU."""
        return SegmentationMetrics(loss, device, wanted)

    def check_output(self, shape: tuple[int, ...]) -> None:
        """Raise ArgumentError unless the output has the height and width of the image."""
        if len(shape) != 3 or shape[:-1] != self.input_shape[:-1]:
            raise ArgumentError(
                f"segmentation needs an output for each pixel; this model's output shape is {shape}, "
                f"its input shape {self.input_shape}"
            )

    def decode(self, output: Float32) -> NDArray[np.uint8 | np.int64]:
        """Return the class of each pixel, (n, H, W), of an output (n, H, W, C), as uint8 up to 256 classes."""
        dtype = np.uint8 if output.shape[-1] <= 256 else np.int64
        return np.asarray(output.argmax(axis=-1), dtype)


class SegmentationMetrics(Metrics):
    """Also accumulates the confusion matrix of pixels, for the mean IoU."""

    confusion: NDArray[np.int64] | None = None

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """Add a batch: its output (n, H, W, C) and its masks."""
        super().add(output, labels)
        scores = self._device.host(self.scores(output))
        truth, predicted = labels.reshape(-1), scores.argmax(axis=-1).reshape(-1)
        counted = truth != self._loss.ignore_index  # all if it is None
        if counted.any():
            self._add_confusion(confusion_matrix(truth[counted], predicted[counted], scores.shape[-1]))

    def _add_confusion(self, found: NDArray[np.int64]) -> None:
        self.confusion = found if self.confusion is None else self.confusion + found

    def state(self) -> MetricState:
        """Return what has been accumulated."""
        return super().state() | {"confusion": self.confusion}

    def merge(self, state: MetricState) -> None:
        """Add what another object has accumulated."""
        super().merge(state)
        if state["confusion"] is not None:
            self._add_confusion(state["confusion"])

    @property
    def needs_predictions(self) -> bool:
        """Whether a metric is not of the confusion matrix."""
        return any(metric.function not in (own_result, *OF_CONFUSION) for metric in self._wanted)

    def value(self, metric: Metric) -> float:
        """Return the value of a metric, of the confusion matrix if possible."""
        assert self.confusion is not None
        index = OF_CONFUSION.get(metric.function)
        return super().value(metric) if index is None else macro_averages(self.confusion)[index]

    def own_results(self) -> dict[str, float]:
        """Return loss, accuracy and mean IoU."""
        assert self.confusion is not None
        return super().own_results() | {"mean_iou": mean_iou(self.confusion)}

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return IoU (None without pixels), precision, recall and the number of pixels of each class."""
        assert self.confusion is not None
        scores, ious = per_class(self.confusion), intersection_over_union(self.confusion)
        columns = zip(names, ious, scores.precision, scores.recall, scores.support, strict=True)
        return [
            {
                "class": name,
                "IoU": None if np.isnan(value) else float(value),
                "precision": float(precision),
                "recall": float(recall),
                "pixels": int(pixels),
            }
            for name, value, precision, recall, pixels in columns
        ]
