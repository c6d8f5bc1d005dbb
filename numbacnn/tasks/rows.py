"""Tasks whose labels are rows of numbers: tags, of which an image may have several, and values to regress."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import TAGS, VALUES
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.losses import BinaryCrossEntropy, MeanSquaredError
from numbacnn.losses.base import Float32, Float64, Loss
from numbacnn.metrics import Metrics, count_correct
from numbacnn.tasks.base import Task


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

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return binary cross-entropy."""
        return BinaryCrossEntropy()

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """Return loss and accuracy, the fraction of right decisions on a tag."""
        return TagMetrics(loss, device)


class TagMetrics(Metrics):
    """Counts each tag of each image."""

    def count(self, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any]) -> None:
        """Launch the count of outputs on the right side of the threshold."""
        pairs = self.scores(output.reshape(len(output), 1, -1, 1))
        count_correct(self._device.kernels, partial, pairs, labels, self._loss.ignore_index)


class Regression(Rows):
    """Each output is a number."""

    name, labels, score, score_name = "regress", VALUES, "r2", "R²"

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return the mean squared error."""
        return MeanSquaredError()

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """Return loss, mean absolute error, and R²."""
        return RegressionMetrics(loss, device)


class RegressionMetrics(Metrics):
    """Keeps the outputs and the labels."""

    def __init__(self, loss: Loss, device: Device) -> None:
        super().__init__(loss, device)
        self._zeros = np.zeros((2, SUM_GROUPS))
        self._outputs, self._truth = list[Float32](), list[NDArray[Any]]()

    def count(self, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any]) -> None:
        """Count nothing: there are no correct predictions."""
        self._device.write(partial, self._zeros)

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """Add a batch: its output (n, 1, 1, k) and its values (n, k)."""
        super().add(output, labels)
        self._outputs.append(np.array(self._device.host(output)).reshape(labels.shape))
        self._truth.append(np.array(labels))

    def results(self) -> dict[str, float]:
        """Return loss, ``mae``, and ``r2``: 1 − Σ (y − t)² / Σ (t − mean t)², the mean over the k numbers.

        R² of a constant number is 1 if all outputs equal it, else 0, as in scikit-learn.
        """
        y, t = (np.concatenate(parts).astype(np.float64) for parts in (self._outputs, self._truth))
        residual, total = ((y - t) ** 2).sum(axis=0), ((t - t.mean(axis=0)) ** 2).sum(axis=0)
        constant = np.where(residual == 0, 1.0, 0.0)
        r2 = np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), constant)
        return {"loss": self.loss, "mae": float(abs(y - t).mean()), "r2": float(r2.mean())}
