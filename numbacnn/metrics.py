"""How well a model classifies: loss and accuracy batch by batch, and what a report tells of each class."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import whole
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.losses import Loss


class Metrics:
    """Accumulates the loss and the correct predictions over batches."""

    def __init__(self, loss: Loss, device: Device) -> None:
        self._loss, self._device = loss, device
        self.total, self.weight, self.correct, self.labels = 0.0, 0.0, 0, 0

    def add(self, output: NDArray[np.float32], labels: NDArray[Any]) -> None:
        """Counts in a batch's output (n, H, W, C) and its labels."""
        self.add_loss(output, labels)
        right, counted = count_correct(self._device.host(output), labels, self._loss.ignore_index)
        self.correct, self.labels = self.correct + right, self.labels + counted

    def add_loss(self, output: NDArray[np.float32], labels: NDArray[Any]) -> None:
        """Counts in the loss alone."""
        losses, dx = self._device.zeros(output.size // output.shape[-1]), self._device.zeros(output.shape)
        target = self._loss.target(labels, output.shape)
        self._loss.launch(self._device.kernels, losses, dx, output, target, 1.0)
        self.total += float(self._device.host(losses).sum(dtype=np.float64))
        self.weight += self._loss.weight(target)

    @property
    def loss(self) -> float:
        """Mean loss so far; 0 where nothing counted."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def accuracy(self) -> float:
        """Share of the labels that count, so far, at which the output is largest; 0 where none does."""
        return self.correct / self.labels if self.labels else 0.0

    def results(self) -> dict[str, float]:
        """Each measure by its name."""
        return {"loss": self.loss, "accuracy": self.accuracy}

    def class_rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """What is known of each class, a row each; of a classifier see ``Report``."""
        raise NotImplementedError


def count_correct(
    output: NDArray[np.float32], labels: NDArray[Any], ignore_index: int | None = None
) -> tuple[int, int]:
    """How many of the predictions (…, C) have their largest value at the label, or at the largest of probabilities;
    and how many labels count: those that are not ``ignore_index``."""
    if np.issubdtype(labels.dtype, np.floating) and labels.size == output.size:
        labels = np.reshape(labels, output.shape).argmax(axis=-1)
    truth = np.reshape(labels, -1)
    right = output.argmax(axis=-1).reshape(-1) == truth
    if ignore_index is None:
        return int(np.count_nonzero(right)), truth.size
    counts = truth != ignore_index
    return int(np.count_nonzero(right & counts)), int(np.count_nonzero(counts))


# -- pure functions of labels and scores ------------------------------------------------------------------------------


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Share of the rows of ``scores`` (N, C) whose largest number, the first of equals, is at the label (N,).

    Raises ArgumentError as ``top_k_accuracy`` does.
    """
    return top_k_accuracy(labels, scores, 1)


def top_k_accuracy(labels: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Share of the rows of ``scores`` (N, C) whose label (N,) is among the k largest; of equals the first go before.

    Raises ArgumentError where shapes do not fit, a label is no class, a score is NaN, or k is not 1 to C.
    """
    truth, values = _checked_scores(labels, scores)
    if whole(k, "k") > values.shape[1]:
        raise ArgumentError(f"k={k}: the scores are of {values.shape[1]} classes")
    own = np.take_along_axis(values, truth[:, None], axis=1)
    before = (values > own) | ((values == own) & (np.arange(values.shape[1]) < truth[:, None]))
    return float(np.mean(before.sum(axis=1) < k))


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> NDArray[np.int64]:
    """How many images of the class of each row were taken for the class of each column, (classes, classes) int64.

    Raises ArgumentError where the two (N,) differ in length, or hold what is no class.
    """
    count = whole(classes, "classes")
    truth, found = _class_numbers(labels, "label", count), _class_numbers(predictions, "prediction", count)
    if len(truth) != len(found):
        raise ArgumentError(f"{len(truth)} labels, but {len(found)} predictions")
    return np.bincount(truth * count + found, minlength=count**2).reshape(count, count)


def intersection_over_union(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """TP/(TP + FP + FN) of each class of a confusion matrix of pixels, (C,); NaN of one neither there nor predicted."""
    right, either = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    shares: NDArray[np.float64] = np.divide(right, either, out=np.full(len(confusion), np.nan), where=either > 0)
    return shares


def mean_iou(confusion: NDArray[np.int64]) -> float:
    """Mean of ``intersection_over_union``, each class that is there or was predicted counted alike."""
    return float(np.nanmean(intersection_over_union(confusion)))


class ClassScores(NamedTuple):
    """One number for each class, (C,): float64, and for ``support``, the images of the class, int64."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]
    f1: NDArray[np.float64]
    support: NDArray[np.int64]


def per_class(confusion: NDArray[np.int64]) -> ClassScores:
    """Precision TP/(TP + FP), recall TP/(TP + FN) and their harmonic mean F1 = 2·TP/(2·TP + FP + FN) of each class.

    Of a class that was never predicted the precision is 0, of one without images the recall, and F1 with either.
    """
    right, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        _shares(right, predicted), _shares(right, support), _shares(2 * right, support + predicted), support
    )


@dataclass(frozen=True, eq=False)
class Report:
    """What a classifier did on a data set, class by class.

    Attributes:
        classes: names of the C classes.
        confusion: (C, C) int64, rows the true classes, columns the predicted ones.
        top_k: the share of images whose class is among the k highest scores, by k.
    """

    classes: tuple[str, ...]
    confusion: NDArray[np.int64]
    top_k: dict[int, float]

    @classmethod
    def of(cls, labels: ArrayLike, scores: ArrayLike, classes: Sequence[str], top_k: Sequence[int] = (1,)) -> "Report":
        """The report on scores (N, C), whose largest is the prediction. Raises ArgumentError as ``top_k_accuracy``."""
        truth, values = _checked_scores(labels, scores)
        if len(classes) != values.shape[1]:
            raise ArgumentError(f"{len(classes)} names of classes for scores of {values.shape[1]}")
        confusion = confusion_matrix(truth, values.argmax(axis=1), len(classes))
        return cls(tuple(classes), confusion, {k: top_k_accuracy(truth, values, k) for k in top_k})

    @cached_property
    def per_class(self) -> ClassScores:
        """Precision, recall, F1 and support of each class."""
        return per_class(self.confusion)

    @property
    def accuracy(self) -> float:
        """Share of the images whose class was predicted."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def mean(self) -> tuple[float, float, float]:
        """Means of precision, recall and F1 over the classes that have images or were predicted, each counted alike."""
        seen = (self.confusion.sum(axis=0) + self.confusion.sum(axis=1)) > 0
        precision, recall, f1 = (float(values[seen].mean()) for values in self.per_class[:3])
        return precision, recall, f1

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The ``count`` most frequent mistakes, as (true class, predicted class, images)."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        places = [divmod(int(i), len(self.classes)) for i in order]
        return [
            (self.classes[row], self.classes[column], int(wrong[row, column]))
            for row, column in places
            if wrong[row, column]
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it, of JSON's own types."""
        scores, (precision, recall, f1) = self.per_class, self.mean
        columns = zip(self.classes, *(values.tolist() for values in scores), strict=True)
        return {
            "classes": [dict(zip(("class", *ClassScores._fields), row, strict=True)) for row in columns],
            "mean": {"precision": precision, "recall": recall, "f1": f1},
            "top_k": {str(k): share for k, share in self.top_k.items()},
            "confusion_matrix": self.confusion.tolist(),
        }


def _shares(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """part / whole, 0 where whole is."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _class_numbers(given: ArrayLike, what: str, classes: int) -> NDArray[np.int64]:
    """(N,) integers from 0 to classes − 1, at least one, or an ArgumentError."""
    numbers = np.asarray(given)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        raise ArgumentError(f"{what}s are {numbers.dtype} of shape {numbers.shape}; give one integer for each image")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        raise ArgumentError(f"{what} {numbers[wrong[0]]} at index {wrong[0]}: classes go from 0 to {classes - 1}")
    return numbers.astype(np.int64)


def _checked_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.int64], NDArray[Any]]:
    values = np.asarray(scores)
    if values.ndim != 2:
        raise ArgumentError(f"scores have shape {values.shape}; give (images, classes)")
    truth = _class_numbers(labels, "label", values.shape[1])
    if len(truth) != len(values):
        raise ArgumentError(f"{len(truth)} labels, but scores of {len(values)} images")
    if np.isnan(values).any():
        raise ArgumentError("the scores hold NaN: the model's weights are damaged, or training diverged")
    return truth, values
