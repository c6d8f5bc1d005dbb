"""The events that a training yields, the record of each epoch, and its position."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, overload

from numbacnn._checks import html, whole
from numbacnn._checks.names import AnswersAttributes, ChecksArguments
from numbacnn.errors import ArgumentError
from numbacnn.kernels.decision import EpochCounters


@dataclass(frozen=True)
class EpochRecord(AnswersAttributes):
    """The results of an epoch.

    ``loss`` and ``accuracy`` are means over the training batches, each at the time when it ran, without ``skipped``
    ones; ``learning_rate`` is that of the last update. The accuracy is over images, over pixels, or over the cells with
    objects in a detector's grid. ``validation_score`` is the mean IoU in segmentation, mAP@0.5 in detection, and None
    in classification.

    ``metrics`` are the values of those that ``fit`` was given, on the validation data after the epoch; without
    validation data on the training set, images unchanged by augmentation.
    """

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_second: float
    skipped: int = 0
    validation_score: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict, hash=False)

    def numbers(self) -> dict[str, float]:
        """Return every number by name; metrics as ``validation_NAME``, or ``training_NAME`` without validation data."""
        own = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "metrics"}
        measured = {f"{self.measured_on}_{name}": value for name, value in self.metrics.items()}
        return {name: value for name, value in (own | measured).items() if value is not None}

    @property
    def measured_on(self) -> str:
        """The data of ``metrics``, "validation" or "training"."""
        return "training" if self.validation_loss is None else "validation"

    @property
    def score(self) -> float | None:
        """The measure that decides which epoch is best: ``validation_score``, or the validation accuracy."""
        return self.validation_accuracy if self.validation_score is None else self.validation_score


@dataclass
class History(AnswersAttributes):
    """The records of all epochs.

    ``monitor`` is the measure that decides which epoch is best: "loss", that of the validation data, a metric, or None
    for the validation score.
    """

    epochs: list[EpochRecord] = field(default_factory=list)
    monitor: str | None = None
    lower_is_better: bool = False

    def __len__(self) -> int:
        """The number of epochs."""
        return len(self.epochs)

    def __bool__(self) -> bool:
        """Return True, also before the first epoch has ended."""
        return True

    def __iter__(self) -> Iterator[EpochRecord]:
        """Iterate over the records of the epochs."""
        return iter(self.epochs)

    @overload
    def __getitem__(self, index: int) -> EpochRecord: ...

    @overload
    def __getitem__(self, index: str) -> list[Any]: ...

    def __getitem__(self, index: int | str) -> EpochRecord | list[Any]:
        """Return the record of an epoch, counted from 0; or a number of every epoch, by the name of its attribute."""
        return [getattr(record, index) for record in self.epochs] if isinstance(index, str) else self.epochs[index]

    def monitored(self, record: EpochRecord) -> float | None:
        """Return the value of the monitored measure; None without validation data."""
        if self.monitor is None or record.validation_loss is None:
            return record.score
        return record.validation_loss if self.monitor == "loss" else record.metrics.get(self.monitor)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the best monitored value, the first of equals; None without a value other than NaN."""
        values = [(self.monitored(record), record) for record in self.epochs]
        known = [(value, record) for value, record in values if value is not None and not math.isnan(value)]
        sign = -1 if self.lower_is_better else 1
        return max(known, key=lambda pair: sign * pair[0], default=(None, None))[1]

    @property
    def since_best(self) -> int | None:
        """Epochs since the best one, 0 if it is the last; all if every value is NaN; None without validation data."""
        if not any(self.monitored(record) is not None for record in self.epochs):
            return None
        return len(self) if self.best is None else self.epochs[-1].epoch - self.best.epoch

    def _repr_html_(self) -> str:
        if not self.epochs:
            return html.lines(["no epoch has ended"])
        epochs, best = self.epochs, self.best
        names = dict.fromkeys(name for record in epochs for name in record.metrics)
        header = "epoch", "loss", "accuracy", "validation loss", "validation score", "learning rate", "seconds", *names
        numbers = [
            (r.loss, r.accuracy, r.validation_loss, r.score, r.learning_rate, r.seconds, *map(r.metrics.get, names))
            for r in epochs
        ]  # in the order of the header
        rows = [(r.epoch, *map(_shown, row)) for r, row in zip(epochs, numbers, strict=True)]
        caption = f"{len(epochs)} epochs" + (f", the best is {best.epoch}" if best else "")
        losses, scores = {"training": [r.loss for r in epochs]}, {"training": [r.accuracy for r in epochs]}
        validated = best is not None
        loss = html.curves("loss", losses | ({"validation": [r.validation_loss for r in epochs]} if validated else {}))
        score = html.curves("accuracy", scores | ({"validation": [r.score for r in epochs]} if validated else {}))
        return html.row(html.table(header, rows, caption), loss, score)


def _shown(value: float | None) -> str:
    return "" if value is None or math.isnan(value) else f"{value:.4g}"


@dataclass(frozen=True)
class StepEnd:
    """The event after every batch. Steps count from 1 in each epoch.

    ``loss`` and ``accuracy`` are means over the epoch so far. On a GPU they may be about a tenth of a second old.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    images: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochEnd:
    """The event after every epoch and its validation. ``since_best`` is as in ``History``."""

    record: EpochRecord
    epochs: int
    since_best: int | None

    @property
    def best(self) -> bool:
        """Whether this epoch has the best monitored value so far."""
        return self.since_best == 0


Event = StepEnd | EpochEnd


@dataclass(frozen=True)
class Position:
    """The progress of a training: whole epochs, steps of the current one, and its sums so far.

    Batches that were ``skipped`` count as steps, but not in the sums. ``correct`` predictions are counted among
    ``labels``, of images or pixels, without ignored ones. ``seconds`` are for the record only.
    """

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    labels: int = 0
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0

    def after(self, counters: EpochCounters, loss_sum: float, seconds: float) -> "Position":
        """Return the position in the same epoch with the sums of a training loop."""
        c = counters
        return Position(self.epoch, c.step, loss_sum, c.correct, c.labels, c.images, seconds, c.skipped)

    @property
    def loss(self) -> float:
        """Mean loss over the images so far; NaN before the first."""
        return self.loss_sum / self.images if self.images else math.nan

    @property
    def accuracy(self) -> float:
        """Fraction of correct predictions so far; NaN before the first."""
        return self.correct / self.labels if self.labels else math.nan


class EarlyStopping(ChecksArguments):
    """A callback that ends training after ``patience`` epochs without a better validation score.

    The score is the measure that ``fit(monitor=…)`` names. NaN is never better.
    """

    def __init__(self, patience: int) -> None:
        self.patience = whole(patience, "patience")

    def __call__(self, event: Event) -> bool:
        """Return True to end the training. Raises ArgumentError without validation data."""
        if not isinstance(event, EpochEnd):
            return False
        if event.since_best is None:
            raise ArgumentError("early stopping watches the validation score; pass validation data")
        return event.since_best >= self.patience
