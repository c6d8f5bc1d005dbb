"""Metrics: loss and accuracy over batches, and a classifier's report class by class."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import whole
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import Float32, Float64, Loss, ignored_label

Integers = NDArray[np.int64]


class Metrics:
    """Accumulates the loss and the correct predictions over batches."""

    def __init__(self, loss: Loss, device: Device) -> None:
        self._loss, self._device = loss, device
        self.total, self.weight, self.correct, self.labels = 0.0, 0.0, 0, 0
        self._pair: Float32 | None = None  # buffer of ``scores``
        self._partial = device.zeros((3, SUM_GROUPS), np.float64)

    def add(self, output: Float32, labels: NDArray[Any]) -> None:
        """Add a batch: its output (n, H, W, C) and its labels."""
        kernels, target = self._device.kernels, self._loss.target(labels, output.shape)
        losses, dx = self._device.zeros(output.size // output.shape[-1]), self._device.zeros(output.shape)
        self._loss.launch(kernels, losses, dx, output, target, 1.0)
        kernels.sum_losses(self._partial[0], losses, 1.0)
        self.count(self._partial[1:], output, labels, target)
        loss, correct, counted = self._device.host(self._partial).sum(axis=1).tolist()
        self.total, self.weight = self.total + loss, self.weight + self._loss.weight(target)
        self.correct, self.labels = self.correct + int(correct), self.labels + int(counted)

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

    @property
    def loss(self) -> float:
        """Mean loss so far; 0 if nothing counted."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def accuracy(self) -> float:
        """Fraction of correct predictions so far, over labels that are not ignored; 0 if there are none."""
        return self.correct / self.labels if self.labels else 0.0

    def results(self) -> dict[str, float]:
        """Each measure by its name."""
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


# -- functions of labels and scores -----------------------------------------------------------------------------------


def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the fraction of rows of ``scores`` (N, C) whose maximum, the first of equals, is at the label (N,).

    Raises ArgumentError as ``top_k_accuracy`` does.
    """
    return top_k_accuracy(labels, scores, 1)


def top_k_accuracy(labels: ArrayLike, scores: ArrayLike, k: int) -> float:
    """Return the fraction of rows of ``scores`` (N, C) whose label (N,) is among the k highest, the first of equals.

    Raises:
        ArgumentError: shapes do not fit, a label is not a class, a score is NaN, or k is not from 1 to C.
    """
    truth, values = _checked_scores(labels, scores)
    if whole(k, "k") > values.shape[1]:
        raise ArgumentError(f"k={k}: there are scores for {values.shape[1]} classes")
    score = np.take_along_axis(values, truth[:, None], axis=1)
    higher = (values > score) | ((values == score) & (np.arange(values.shape[1]) < truth[:, None]))
    return float(np.mean(higher.sum(axis=1) < k))


def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> Integers:
    """Return the number of images with each label (row) and prediction (column), (classes, classes) int64.

    Raises:
        ArgumentError: the two arrays (N,) differ in length, or an element is not a class.
    """
    count = whole(classes, "classes")
    truth, found = _class_numbers(labels, "label", count), _class_numbers(predictions, "prediction", count)
    if len(truth) != len(found):
        raise ArgumentError(f"{len(truth)} labels, but {len(found)} predictions")
    return np.bincount(truth * count + found, minlength=count**2).reshape(count, count)


def intersection_over_union(confusion: Integers) -> Float64:
    """Return TP/(TP + FP + FN) of each class of a confusion matrix, (C,); NaN if it is neither present nor found."""
    correct, union = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    ratios: Float64 = np.divide(correct, union, out=np.full(len(confusion), np.nan), where=union > 0)
    return ratios


def mean_iou(confusion: Integers) -> float:
    """Return the mean of ``intersection_over_union`` over the classes that are present or predicted."""
    return float(np.nanmean(intersection_over_union(confusion)))


class ClassScores(NamedTuple):
    """One number for each class, (C,), float64; ``support``, the number of its images, is int64."""

    precision: Float64
    recall: Float64
    f1: Float64
    support: Integers


def per_class(confusion: Integers) -> ClassScores:
    """Return precision TP/(TP + FP), recall TP/(TP + FN) and F1 = 2·TP/(2·TP + FP + FN) of each class.

    A class that was never predicted has precision 0, and one without images has recall 0; either has F1 0.
    """
    correct, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        _ratios(correct, predicted), _ratios(correct, support), _ratios(2 * correct, support + predicted), support
    )


@dataclass(frozen=True, eq=False)
class Report:
    """The result of a classifier on a data set, class by class.

    Attributes:
        classes: names of the C classes.
        confusion: (C, C) int64; rows are true classes, columns predicted ones.
        top_k: by k, the fraction of images whose class is among the k highest scores.
    """

    classes: tuple[str, ...]
    confusion: Integers
    top_k: Mapping[int, float]

    @classmethod
    def of(cls, labels: ArrayLike, scores: ArrayLike, classes: Sequence[str], top_k: Sequence[int] = (1,)) -> "Report":
        """Make the report from labels (N,) and scores (N, C). Raises ArgumentError as ``top_k_accuracy`` does."""
        truth, values = _checked_scores(labels, scores)
        if len(classes) != values.shape[1]:
            raise ArgumentError(f"{len(classes)} class names, but scores for {values.shape[1]} classes")
        confusion = confusion_matrix(truth, values.argmax(axis=1), len(classes))
        return cls(tuple(classes), confusion, {k: top_k_accuracy(truth, values, k) for k in top_k})

    @cached_property
    def per_class(self) -> ClassScores:
        """Precision, recall, F1 and support of each class."""
        return per_class(self.confusion)

    @property
    def accuracy(self) -> float:
        """Fraction of the images whose class was predicted."""
        return float(np.trace(self.confusion) / self.confusion.sum())

    @property
    def mean(self) -> tuple[float, float, float]:
        """Means of precision, recall and F1 over the classes that are present or predicted (macro averages)."""
        seen = (self.confusion.sum(axis=0) + self.confusion.sum(axis=1)) > 0
        precision, recall, f1 = (float(values[seen].mean()) for values in self.per_class[:3])
        return precision, recall, f1

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The ``count`` most frequent mistakes, as (true class, predicted class, images)."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(i), len(self.classes)) for i in order]
        return [(self.classes[i], self.classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to JSON's types."""
        scores, (precision, recall, f1) = self.per_class, self.mean
        columns = zip(self.classes, *(values.tolist() for values in scores), strict=True)
        return {
            "classes": [dict(zip(("class", *ClassScores._fields), row, strict=True)) for row in columns],
            "mean": {"precision": precision, "recall": recall, "f1": f1},
            "top_k": {str(k): fraction for k, fraction in self.top_k.items()},
            "confusion_matrix": self.confusion.tolist(),
        }


def _ratios(part: Integers, whole: Integers) -> Float64:
    """Return part / whole, and 0 where whole is 0."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)


def _class_numbers(given: ArrayLike, what: str, classes: int) -> Integers:
    """Check for (N,) integers from 0 to classes − 1, at least one; return them as int64."""
    numbers = np.asarray(given)
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        raise ArgumentError(f"{what}s are {numbers.dtype} of shape {numbers.shape}; give one integer for each image")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        raise ArgumentError(f"{what} {numbers[wrong[0]]} at index {wrong[0]}: classes go from 0 to {classes - 1}")
    return numbers.astype(np.int64)


def _checked_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[Integers, NDArray[Any]]:
    values = np.asarray(scores)
    if values.ndim != 2:
        raise ArgumentError(f"scores have shape {values.shape}; give (images, classes)")
    truth = _class_numbers(labels, "label", values.shape[1])
    if len(truth) != len(values):
        raise ArgumentError(f"{len(truth)} labels, but scores of {len(values)} images")
    if np.isnan(values).any():
        raise ArgumentError("the scores contain NaN: the model's weights are damaged, or training diverged")
    return truth, values
