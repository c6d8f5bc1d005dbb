"""Tasks whose labels are rows of numbers: tags, of which an image may have several, and values to regress."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn import metrics
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import TAGS, VALUES
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.losses import BinaryCrossEntropy, MeanSquaredError
from numbacnn.losses.base import Float32, Float64, Loss
from numbacnn.metrics import Metric
from numbacnn.tasks.base import Task
from numbacnn.tasks.results import Metrics, count_correct, named

THRESHOLD = 0.5  # probability from which on an image has a tag


class Rows(Task):
    """The output is a row of numbers for each image, as is its label."""

    def check(self, dataset: Dataset, output_shape: tuple[int, ...]) -> None:
        """Raise ArgumentError if the labels are not as many numbers as the outputs."""
        super().check(dataset, output_shape)
        numbers = dataset.labels.shape[1]
        if output_shape != (numbers,):
            raise ArgumentError(
                f"{numbers} {self.labels} for each image, for a model whose output is {output_shape}; "
                "numbers of classes are integers, labels.astype(int)"
            )


class Tagging(Rows):
    """Each output is the score of a tag, of which an image may have none or several (multi-label classification)."""

    name, labels, score, score_name = "tag", TAGS, "accuracy", "accuracy"
    measures = named("accuracy", precision=metrics.precision, recall=metrics.recall, f1=metrics.f1, auc=metrics.auc)

    def check_loss(self, loss: Loss) -> None:
        """Raise ArgumentError if a loss applies a softmax, which has one class for each image."""
        if loss.activation == "softmax":
            raise ArgumentError(f"{loss.name} is for one class in each image; for tags use binary_cross_entropy")

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return binary cross-entropy."""
        return BinaryCrossEntropy()

    def metrics(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> Metrics:
        """Return loss and accuracy, the fraction of right decisions on a tag."""
        return TagMetrics(loss, device, wanted)


class TagMetrics(Metrics):
    """Counts each tag of each image."""

    needs_predictions = True

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return precision, recall, F1 and the number of images of each tag."""
        targets, predictions = self.kept()
        true, found = targets.reshape(len(targets), -1) == 1, predictions >= THRESHOLD
        rows = []
        for i, name in enumerate(names):
            right = int((true[:, i] & found[:, i]).sum())
            counts = int(found[:, i].sum()), int(true[:, i].sum())
            precision, recall = (right / count if count else 0.0 for count in counts)
            total = sum(counts)
            scores = {"precision": precision, "recall": recall, "F1": 2 * right / total if total else 0.0}
            rows.append({"tag": name, **scores, "images": counts[1]})
        return rows

    def count(self, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any]) -> None:
        """Launch the count of outputs on the right side of the threshold."""
        pairs = self.scores(output.reshape(len(output), 1, -1, 1))
        count_correct(self._device.kernels, partial, pairs, labels, self._loss.ignore_index)


class Regression(Rows):
    """Each output is a number."""

    name, labels, score, score_name = "regress", VALUES, "r2", "R²"
    measures = named("mae", "r2", mse=metrics.mse, rmse=metrics.rmse, lower=("mae", "mse", "rmse"))

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return the mean squared error."""
        return MeanSquaredError()

    def metrics(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> Metrics:
        """Return loss, mean absolute error, and R²."""
        return RegressionMetrics(loss, device, wanted)


class RegressionMetrics(Metrics):
    """Keeps the outputs and the labels."""

    needs_predictions = True

    def count(self, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any]) -> None:
        """Count nothing: there are no correct predictions."""
        self._device.write(partial, np.zeros((2, SUM_GROUPS)))

    def own_results(self) -> dict[str, float]:
        """Return loss, ``mae``, and ``r2``."""
        targets, predictions = self.kept()
        return {"loss": self.loss, "mae": metrics.mae(targets, predictions), "r2": metrics.r2(targets, predictions)}

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Return the mean absolute error and R² of each output."""
        targets, predictions = self.kept()
        columns = zip(names, targets.T, predictions.T, strict=True)
        return [
            {"output": name, "mae": metrics.mae(true, found), "r2": metrics.r2(true, found)}
            for name, true, found in columns
        ]
