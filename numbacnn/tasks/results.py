"""Loss, accuracy and other metrics of a task, accumulated over the batches of a data set."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.device import Device
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import Float32, Float64, Loss, ignored_label
from numbacnn.metrics import Metric

MetricState: TypeAlias = dict[str, Any]  # numbers and arrays by name


def own_result(targets: object, predictions: object) -> float:
    """Mark a metric whose value is among ``Metrics.own_results``: it is never called."""
    raise NotImplementedError


def named(*own: str, lower: Sequence[str] = (), **others: Callable[[Any, Any], float]) -> dict[str, Metric]:
    """Return metrics by name: ``own`` ones, and functions of targets and predictions.

    ``lower`` are those of which lower is better.
    """
    functions = dict.fromkeys(own, own_result) | others
    return {name: Metric(name, function, name in lower) for name, function in functions.items()}


class Metrics:
    """Accumulates the loss and the correct predictions over batches, and what the ``wanted`` metrics need."""

    def __init__(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> None:
        self._loss, self._device, self._wanted = loss, device, wanted
        self.total, self.weight, self.correct, self.labels = 0.0, 0.0, 0, 0
        self._pair: Float32 | None = None  # buffer of ``scores``
        self._partial = device.zeros((3, SUM_GROUPS), np.float64)
        self._targets, self._predictions = list[NDArray[Any]](), list[Float32]()

    @property
    def needs_predictions(self) -> bool:
        """Whether ``keep`` has to be called after each ``add``."""
        return any(metric.function is not own_result for metric in self._wanted)

    def keep(self, predictions: Float32, labels: NDArray[Any]) -> None:
        """Keep a batch as ``predict`` returns it, and its labels, without images whose label is ignored."""
        if labels.ndim == 1 and self._loss.ignore_index is not None:
            counted = labels != self._loss.ignore_index
            predictions, labels = predictions[counted], labels[counted]
        self._predictions.append(np.array(predictions))
        self._targets.append(np.array(labels))

    def kept(self) -> tuple[Any, Any]:
        """Return the targets and the predictions of all batches."""
        return np.concatenate(self._targets), np.concatenate(self._predictions)

    def value(self, metric: Metric) -> float:
        """Return the value of a wanted metric that is not among ``own_results``."""
        return metric.value(*self.kept())

    def results(self) -> dict[str, float]:
        """Return each measure by its name. If the loss is not finite, the wanted metrics are NaN."""
        found = self.own_results()
        for metric in self._wanted:
            if metric.name not in found:
                found[metric.name] = self.value(metric) if math.isfinite(self.loss) else math.nan
        return found

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """Add a batch: its output (n, H, W, C) and its labels."""
        target = self.launch(output, labels)
        loss, correct, counted = self._device.host(self._partial).sum(axis=1).tolist()
        self.total, self.weight = self.total + loss, self.weight + self._loss.weight(target)
        self.correct, self.labels = self.correct + int(correct), self.labels + int(counted)

    def launch(self, output: Float32, labels: NDArray[Any]) -> NDArray[Any]:
        """Launch the loss and the count of a batch; return the labels as the loss takes them."""
        kernels, target = self._device.kernels, self._loss.target(labels, output.shape)
        losses, dx = self._device.zeros(output.size // output.shape[-1]), self._device.zeros(output.shape)
        self._loss.launch(kernels, losses, dx, output, target, 1.0)
        kernels.sum_losses(self._partial[0], losses, 1.0)
        self.count(self._partial[1:], output, labels, target)
        return target

    def count(self, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any]) -> None:
        """Launch the count of correct predictions, in partial[0], and of labels, in partial[1].

        target: the labels as the loss takes them.
        """
        count_correct(self._device.kernels, partial, self.scores(output), labels, self._loss.ignore_index)

    def scores(self, output: Float32) -> Float32:
        """Return an output N×H×W×C whose maximum is at the class: of a single channel, [threshold, channel].

        The threshold is 0 for a logit, and 0.5 for a probability. The result is valid until the next call.
        """
        if output.shape[-1] > 1:
            return output
        if self._pair is None or len(self._pair) < len(output):
            threshold = 0.0 if self._loss.activation == "sigmoid" else 0.5
            self._pair = self._device.zeros((*output.shape[:3], 2))
            self._device.write(self._pair, np.full(self._pair.shape, threshold, np.float32))
        pair: Float32 = self._pair[: len(output)]
        self._device.kernels.copy_channels(pair[..., 1:], output)
        return pair

    def state(self) -> MetricState:
        """Return what has been accumulated, for ``merge``."""
        counts = {"total": self.total, "weight": self.weight, "correct": self.correct, "labels": self.labels}
        return counts | {"targets": self._targets, "predictions": self._predictions}

    def merge(self, state: MetricState) -> None:
        """Add what another object has accumulated over later batches."""
        self.total, self.weight = self.total + state["total"], self.weight + state["weight"]
        self.correct, self.labels = self.correct + state["correct"], self.labels + state["labels"]
        self._targets += state["targets"]
        self._predictions += state["predictions"]

    @property
    def loss(self) -> float:
        """Mean loss so far; 0 if nothing counted."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def accuracy(self) -> float:
        """Fraction of correct predictions so far, over labels that are not ignored; 0 if there are none."""
        return self.correct / self.labels if self.labels else 0.0

    def own_results(self) -> dict[str, float]:
        """Return the measures that are always computed, by name."""
        return {"loss": self.loss, "accuracy": self.accuracy}

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """Measures of each class, a row each; for classifiers see ``Report``."""
        raise NotImplementedError


def count_correct(
    kernels: Kernels, partial: Float64, output: Float32, labels: NDArray[Any], ignore_index: int | None = None
) -> None:
    """Launch the count of predictions N×H×W×C whose maximum is at the label, in partial[0], and of labels, partial[1].

    labels: integers, one for each pixel, or probabilities, whose maximum is the label. ``ignore_index`` does not count.
    """
    if np.issubdtype(labels.dtype, np.floating):
        kernels.count_correct_top1(partial, output, labels.reshape(output.shape))
    else:
        labels = labels if labels.dtype == np.int64 else labels.astype(np.int64)
        kernels.count_correct(partial, output, labels.reshape(-1), ignored_label(ignore_index))
