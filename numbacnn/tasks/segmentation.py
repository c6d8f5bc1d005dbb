"""Segmentation: a class of each pixel."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.labels import MASKS
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.losses import Loss
from numbacnn.metrics import Metrics, confusion_matrix, intersection_over_union, mean_iou, per_class
from numbacnn.tasks.base import Float32
from numbacnn.tasks.classification import Classification


class Segmentation(Classification):
    """The largest number of each pixel of the output is its class; the loss is the mean over pixels."""

    name, labels, score, score_name = "segment", MASKS, "mean_iou", "mean IoU"

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """Loss, pixel accuracy and mean IoU."""
        return SegmentationMetrics(loss, device)

    def check_output(self, shape: tuple[int, ...]) -> None:
        """See ``Task``; the output has to be as large as the image."""
        if len(shape) != 3 or shape[:-1] != self.input_shape[:-1]:
            raise ArgumentError(
                f"to segment, a model gives a class for each pixel; this one's output is {shape}, "
                f"its input {self.input_shape}"
            )

    def decode(self, output: Float32) -> NDArray[np.uint8 | np.int64]:
        """The class of each pixel, (n, H, W), of an output (n, H, W, C): uint8 where it can number them."""
        dtype = np.uint8 if output.shape[-1] <= 256 else np.int64
        return np.asarray(output.argmax(axis=-1), dtype)


class SegmentationMetrics(Metrics):
    """Also how many pixels of each class were taken for which, and the mean IoU that follows."""

    confusion: NDArray[np.int64] | None = None

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """See ``Metrics``."""
        super().add(output, labels)
        truth, predicted = labels.reshape(-1), self._device.host(output).argmax(axis=-1).reshape(-1)
        counted = truth != self._loss.ignore_index  # all, where it is None
        found = confusion_matrix(truth[counted], predicted[counted], output.shape[-1])
        self.confusion = found if self.confusion is None else self.confusion + found

    def results(self) -> dict[str, float]:
        """Loss, accuracy and mean IoU."""
        assert self.confusion is not None
        return super().results() | {"mean_iou": mean_iou(self.confusion)}

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """IoU, precision and recall of each class, None where there is no pixel to tell, and its pixels."""
        assert self.confusion is not None
        scores, overlaps = per_class(self.confusion), intersection_over_union(self.confusion)
        columns = zip(names, overlaps, scores.precision, scores.recall, scores.support, strict=True)
        return [
            {
                "class": name,
                "IoU": None if np.isnan(overlap) else float(overlap),
                "precision": float(precision),
                "recall": float(recall),
                "pixels": int(pixels),
            }
            for name, overlap, precision, recall, pixels in columns
        ]
