"""The events that a training yields, the record of each epoch, and its position."""

import math
from dataclasses import dataclass, field

from numbacnn._checks import whole
from numbacnn._checks.names import AnswersAttributes, ChecksArguments
from numbacnn.errors import ArgumentError
from numbacnn.kernels.decision import EpochCounters


@dataclass(frozen=True)
class EpochRecord:
    """The results of an epoch.

    ``loss`` and ``accuracy`` are means over the training batches, each at the time when it ran, without ``skipped``
    ones; ``learning_rate`` is that of the last update. The accuracy is over images, over pixels, or over the cells with
    objects in a detector's grid. ``validation_score`` is the mean IoU in segmentation, mAP@0.5 in detection, and None
    in classification.
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

    @property
    def score(self) -> float | None:
        """The measure that decides which epoch is best: ``validation_score``, or the validation accuracy."""
        return self.validation_accuracy if self.validation_score is None else self.validation_score


@dataclass
class History(AnswersAttributes):
    """The records of all epochs."""

    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the highest validation score, the first of equals; None without validation data."""
        validated = [record for record in self.epochs if record.score is not None]
        return max(validated, key=lambda record: record.score or 0.0, default=None)

    @property
    def since_best(self) -> int | None:
        """Epochs since the best one: 0 if it is the last; None without validation data."""
        return None if self.best is None else self.epochs[-1].epoch - self.best.epoch


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
        """Whether this epoch has the highest validation score so far."""
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
    """A callback that ends training after ``patience`` epochs without a better validation score."""

    def __init__(self, patience: int) -> None:
        self.patience = whole(patience, "patience")

    def __call__(self, event: Event) -> bool:
        """Return True to end the training. Raises ArgumentError without validation data."""
        if not isinstance(event, EpochEnd):
            return False
        if event.since_best is None:
            raise ArgumentError("early stopping watches the validation score; pass validation data")
        return event.since_best >= self.patience
