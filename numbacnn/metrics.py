"""Metrics: functions of labels and predictions, and a classifier's report class by class."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import brief, html, listed, whole
from numbacnn._checks.arrays import real_array
from numbacnn._checks.names import AnswersAttributes, checks_call
from numbacnn.errors import ArgumentError
from numbacnn.losses.base import Float64

Integers = NDArray[np.int64]


class Metric(NamedTuple):
    """A measure with a name, for the argument ``metrics`` of ``fit`` and ``evaluate``.

    ``function(targets, predictions)`` returns a number. Targets are as in ``Dataset.labels`` and predictions as
    ``predict`` returns them, of all images at once; those of a detector are a list of ``Detections``.
    ``lower_is_better`` decides which epoch is best if ``fit`` monitors the metric.
    """

    name: str
    function: Callable[[Any, Any], float]
    lower_is_better: bool = False

    def value(self, targets: Any, predictions: Any) -> float:
        """Return the number. Raises ArgumentError if the function fails or returns something else."""
        try:
            return float(self.function(targets, predictions))
        except ArgumentError:
            raise
        except Exception as error:  # of a user's function
            shapes = " and ".join(str(getattr(part, "shape", f"({len(part)},)")) for part in (targets, predictions))
            raise ArgumentError(
                f"the metric {self.name}, of targets and predictions of shapes {shapes}, raised "
                f"{type(error).__name__}: {brief(error)}"
            ) from error


# -- functions of labels and predictions ------------------------------------------------------------------------------


@checks_call
def accuracy(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the fraction of rows of ``scores`` (N, C) whose maximum, the first of equals, is at the label (N,).

    Raises ArgumentError as ``top_k_accuracy`` does.
    """
    return top_k_accuracy(labels, scores, 1)


@checks_call
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


@checks_call
def confusion_matrix(labels: ArrayLike, predictions: ArrayLike, classes: int) -> Integers:
    """Return the number of images with each label (row) and prediction (column), (classes, classes) int64.

    Raises:
        ArgumentError: the two arrays (N,) differ in length, or an element is not a class.
    """
    count = whole(classes, "classes", maximum=1 << 29)  # of whose square NumPy could address the bytes
    truth, found = _class_numbers(labels, "label", count), _class_numbers(predictions, "prediction", count)
    if len(truth) != len(found):
        raise ArgumentError(f"{len(truth)} labels, but {len(found)} predictions")
    return np.bincount(truth * count + found, minlength=count**2).reshape(count, count)


@checks_call
def intersection_over_union(confusion: Integers) -> Float64:
    """Return TP/(TP + FP + FN) of each class of a confusion matrix, (C,); NaN if it is neither present nor found."""
    confusion = _checked_confusion(confusion)
    correct, union = np.diag(confusion), confusion.sum(axis=0) + confusion.sum(axis=1) - np.diag(confusion)
    ratios: Float64 = np.divide(correct, union, out=np.full(len(confusion), np.nan), where=union > 0)
    return ratios


@checks_call
def mean_iou(confusion: Integers) -> float:
    """Return the mean of ``intersection_over_union`` over the classes that are present or predicted."""
    return float(np.nanmean(intersection_over_union(confusion)))


class ClassScores(NamedTuple):
    """One number for each class, (C,), float64; ``support``, the number of its images, is int64."""

    precision: Float64
    recall: Float64
    f1: Float64
    support: Integers


@checks_call
def per_class(confusion: Integers) -> ClassScores:
    """Return precision TP/(TP + FP), recall TP/(TP + FN) and F1 = 2·TP/(2·TP + FP + FN) of each class.

    A class that was never predicted has precision 0, and one without images has recall 0; either has F1 0.
    """
    confusion = _checked_confusion(confusion)
    correct, support, predicted = np.diag(confusion), confusion.sum(axis=1), confusion.sum(axis=0)
    return ClassScores(
        _ratios(correct, predicted), _ratios(correct, support), _ratios(2 * correct, support + predicted), support
    )


@checks_call
def macro_averages(confusion: Integers) -> tuple[float, float, float]:
    """Return the means of precision, recall and F1 over the classes that are present or predicted."""
    confusion = _checked_confusion(confusion)
    seen = (confusion.sum(axis=0) + confusion.sum(axis=1)) > 0
    precision, recall, f1 = (float(values[seen].mean()) for values in per_class(confusion)[:3])
    return precision, recall, f1


@checks_call
def precision(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean precision of the classes that are present or predicted, or of tags.

    labels: classes (N,) with scores (N, C), whose maximum is predicted; or tags (N, C), 0 or 1, with probabilities
    (N, C), of which those above 0.5 are predicted.
    """
    return _means(labels, scores)[0]


@checks_call
def recall(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean recall of the classes or tags, as ``precision``."""
    return _means(labels, scores)[1]


@checks_call
def f1(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the mean F1 of the classes or tags, as ``precision``."""
    return _means(labels, scores)[2]


@checks_call
def auc(labels: ArrayLike, scores: ArrayLike) -> float:
    """Return the area under the ROC curve: that two images, one of a class and one not, are ranked right.

    The mean over classes, each against the rest, or over tags, that some images have and others do not; NaN if there
    are none. Of two classes, that of the second. Arguments as in ``precision``. (Fawcett 2006, "An introduction to ROC
    analysis", section 7.)
    """
    if real_array(labels, "labels").ndim == 1:
        truth, values = _checked_scores(labels, scores)
        positive = truth[:, None] == np.arange(values.shape[1])
        if values.shape[1] == 2:
            positive, values = positive[:, 1:], values[:, 1:]
    else:
        positive, values = _checked_tags(labels, scores)
    found = [_ranked_right(has, column) for has, column in zip(positive.T, values.T, strict=True) if 0 < has.mean() < 1]
    return float(np.mean(found)) if found else math.nan


def _ranked_right(positive: NDArray[np.bool_], scores: NDArray[Any]) -> float:
    """Return the fraction of pairs whose positive one has the higher score, where equal scores count half."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    count = int(positive.sum())
    return float((ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(scores) - count)))


@checks_call
def mae(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Return the mean of |prediction − target|, in float64."""
    return float(abs(_residuals(targets, predictions)).mean())


@checks_call
def mse(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Return the mean of (prediction − target)², in float64."""
    return float((_residuals(targets, predictions) ** 2).mean())


@checks_call
def rmse(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Return the square root of ``mse``."""
    return math.sqrt(mse(targets, predictions))


@checks_call
def r2(targets: ArrayLike, predictions: ArrayLike) -> float:
    """Return 1 − Σ (y − t)² / Σ (t − mean t)², the mean over the k columns of targets t and predictions y (N, k).

    R² of a constant target is 1 if all predictions equal it, else 0, as in scikit-learn.
    """
    residuals, t = _residuals(targets, predictions), np.atleast_1d(np.asarray(targets, np.float64))
    residual, total = (residuals**2).sum(axis=0), ((t - t.mean(axis=0)) ** 2).sum(axis=0)
    constant = np.where(residual == 0, 1.0, 0.0)
    return float(np.where(total > 0, 1 - residual / np.where(total > 0, total, 1), constant).mean())


def _residuals(targets: ArrayLike, predictions: ArrayLike) -> Float64:
    t, y = (
        np.atleast_1d(real_array(part, what).astype(np.float64))
        for part, what in ((targets, "targets"), (predictions, "predictions"))
    )
    if not t.size:
        raise ArgumentError("there are no targets; pass at least one")
    if t.shape != y.shape:
        raise ArgumentError(f"targets of shape {t.shape}, but predictions of shape {y.shape}")
    return y - t


def _means(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float, float]:
    """Return the means of precision, recall and F1 over classes or tags, as ``precision`` describes."""
    if real_array(labels, "labels").ndim != 1:
        return _mean_of_tags(labels, scores)
    truth, values = _checked_scores(labels, scores)
    return macro_averages(confusion_matrix(truth, values.argmax(axis=1), values.shape[1]))


def _mean_of_tags(labels: ArrayLike, probabilities: ArrayLike) -> tuple[float, float, float]:
    """Return the means of precision, recall and F1 over the tags that some image has or is predicted to have."""
    truth, values = _checked_tags(labels, probabilities)
    found = values > 0.5
    correct, support, predicted = ((part.sum(axis=0)) for part in (truth & found, truth, found))
    seen = support + predicted > 0
    parts = (correct, predicted), (correct, support), (2 * correct, support + predicted)
    means = [float(_ratios(part, whole)[seen].mean()) if seen.any() else 0.0 for part, whole in parts]
    return means[0], means[1], means[2]


@dataclass(frozen=True, eq=False)
class Report(AnswersAttributes):
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
        top = {k: top_k_accuracy(truth, values, k) for k in listed(top_k, "top_k", int)}
        return cls(tuple(classes), confusion, top)

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
        return macro_averages(self.confusion)

    def most_confused(self, count: int) -> list[tuple[str, str, int]]:
        """The ``count`` most frequent mistakes, as (true class, predicted class, images)."""
        wrong = self.confusion - np.diag(np.diag(self.confusion))
        order = np.argsort(-wrong, axis=None, kind="stable")[:count]
        pairs = [divmod(int(i), len(self.classes)) for i in order]
        return [(self.classes[i], self.classes[j], int(wrong[i, j])) for i, j in pairs if wrong[i, j]]

    def _repr_html_(self) -> str:
        columns = zip(self.classes, *self.per_class, strict=True)
        rows: list[tuple[str, ...]] = [
            (name, f"{p:.3f}", f"{r:.3f}", f"{f:.3f}", f"{count:,}") for name, p, r, f, count in columns
        ]
        rows.append(("mean", *(f"{value:.3f}" for value in self.mean), f"{self.confusion.sum():,}"))
        wrong = [f"{true} as {found} ({count})" for true, found, count in self.most_confused(3)]
        caption = [f"accuracy {100 * self.accuracy:.2f} %"]
        caption += [f"top-{k} accuracy {100 * fraction:.2f} %" for k, fraction in self.top_k.items() if k > 1]
        table = html.table(("class", "precision", "recall", "F1", "images"), rows, ", ".join(caption))
        return table + html.lines([f"most often confused: {', '.join(wrong)}"] if wrong else [])

    def to_dict(self) -> dict[str, Any]:
        """Convert the report to a JSON object."""
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
    numbers = real_array(given, f"{what}s")
    if numbers.ndim != 1 or not len(numbers) or not np.issubdtype(numbers.dtype, np.integer):
        raise ArgumentError(f"{what}s are {numbers.dtype} of shape {numbers.shape}; pass one integer for each image")
    wrong = np.flatnonzero((numbers < 0) | (numbers >= classes))
    if len(wrong):
        raise ArgumentError(f"{what} {numbers[wrong[0]]} at index {wrong[0]}: classes go from 0 to {classes - 1}")
    return numbers.astype(np.int64)


def _checked_scores(labels: ArrayLike, scores: ArrayLike) -> tuple[Integers, NDArray[Any]]:
    values = real_array(scores, "scores")
    if values.ndim != 2:
        raise ArgumentError(f"scores have shape {values.shape}; pass (images, classes)")
    truth = _class_numbers(labels, "label", values.shape[1])
    if len(truth) != len(values):
        raise ArgumentError(f"{len(truth)} labels, but scores of {len(values)} images")
    if np.isnan(values).any():
        raise ArgumentError("the scores contain NaN: the model's weights are damaged, or training diverged")
    return truth, values


def _checked_tags(tags: ArrayLike, probabilities: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Check for two arrays (N, C) with at least one image; return whether it has each tag, and the probabilities."""
    truth, values = real_array(tags, "tags"), real_array(probabilities, "probabilities")
    if truth.shape != values.shape:
        raise ArgumentError(f"tags of shape {truth.shape}, but probabilities of shape {values.shape}")
    if truth.ndim != 2 or not len(truth):
        raise ArgumentError(f"labels have shape {truth.shape}; pass classes (images,), or tags (images, tags)")
    return truth > 0, values


def _checked_confusion(given: ArrayLike) -> Integers:
    """Check for a square matrix of at least one class."""
    confusion: Integers = real_array(given, "confusion")
    if confusion.ndim != 2 or confusion.shape[0] != confusion.shape[1] or not confusion.size:
        raise ArgumentError(f"a confusion matrix of shape {confusion.shape}; pass that of nc.metrics.confusion_matrix")
    return confusion
