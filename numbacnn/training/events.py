"""What a training tells: events as it goes on, the record of every epoch, and its position."""

import math
from dataclasses import dataclass, field

from numbacnn._checks import whole
from numbacnn.errors import ArgumentError


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to. Loss and accuracy are means over its training batches, each as it was when it ran, without
    the ``skipped`` ones; ``learning_rate`` is that of its last update.

    Accuracies are of images, of pixels, or of the cells where a detector's objects are. ``validation_score`` is the
    mean IoU of a model that segments and the mAP@0.5 of one that detects; a classifier has none beside its accuracy.
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
        """What tells the best epoch: ``validation_score``, or a classifier's validation accuracy."""
        return self.validation_accuracy if self.validation_score is None else self.validation_score


@dataclass
class History:
    """The record of every epoch."""

    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the highest validation score, the first of equals; None without validation."""
        validated = [record for record in self.epochs if record.score is not None]
        return max(validated, key=lambda record: record.score or 0.0, default=None)

    @property
    def since_best(self) -> int | None:
        """Epochs since the best one; 0 where that is the last, None without validation."""
        return None if self.best is None else self.epochs[-1].epoch - self.best.epoch


@dataclass(frozen=True)
class StepEnd:
    """After every batch. ``loss``, ``accuracy``: means over the epoch so far, on a GPU as they were last read: not
    more than about a tenth of a second of steps before. Steps count from 1 in the epoch."""

    epoch: int
    epochs: int
    step: int
    steps: int
    images: int
    loss: float
    accuracy: float


@dataclass(frozen=True)
class EpochEnd:
    """After every epoch, its validation included. ``since_best`` as in ``History``."""

    record: EpochRecord
    epochs: int
    since_best: int | None

    @property
    def best(self) -> bool:
        """Whether no epoch before had this one's validation score."""
        return self.since_best == 0


Event = StepEnd | EpochEnd


@dataclass(frozen=True)
class Position:
    """How far a training has come: whole epochs, steps of the next one, and its sums so far. Batches that were
    ``skipped`` are steps, but no part of the sums; ``seconds`` are for the record, nothing is derived from them."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    correct: int = 0
    labels: int = 0  # of which the correct are: of images or pixels, those that count
    images: int = 0
    seconds: float = 0.0
    skipped: int = 0

    @property
    def loss(self) -> float:
        """Mean over the images so far; NaN before the first."""
        return self.loss_sum / self.images if self.images else math.nan

    @property
    def accuracy(self) -> float:
        """Share of right predictions; NaN before the first."""
        return self.correct / self.labels if self.labels else math.nan


class EarlyStopping:
    """A callback that ends training after ``patience`` epochs without a better validation score."""

    def __init__(self, patience: int) -> None:
        self.patience = whole(patience, "patience")

    def __call__(self, event: Event) -> bool:
        """True when it is time to stop. Raises ArgumentError where there is no validation data."""
        if not isinstance(event, EpochEnd):
            return False
        if event.since_best is None:
            raise ArgumentError("early stopping watches the validation score; pass validation data")
        return event.since_best >= self.patience
