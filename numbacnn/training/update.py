"""From the gradients of batches to new weights: their mean, the schedule, the optimiser, and the weights' average."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from numbacnn.optimizers import Optimizer
from numbacnn.schedules import Schedule, after
from numbacnn.training.averages import GradientMean, WeightAverage
from numbacnn.training.events import Position
from numbacnn.training.trainable import TrainableModel


class Update:
    """The updates of a training of ``epochs`` epochs of so many ``batches``.

    Attributes:
        mean: of the gradients of ``accumulate`` batches, where that is more than one.
        average: of the weights, with ``ema``.
        learning_rate: of the last update.
    """

    def __init__(
        self,
        model: TrainableModel,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        batches: int,
        epochs: int,
        accumulate: int = 1,
        ema: float | None = None,
    ) -> None:
        self.model, self.optimizer, self.schedule = model, optimizer, schedule
        self.batches, self.accumulate = batches, accumulate
        self.in_epoch = -(-batches // accumulate)
        self._total = epochs * self.in_epoch
        self.mean = GradientMean(model.store) if accumulate > 1 else None
        self.average = None if ema is None else WeightAverage(model.store, ema)
        self.learning_rate = optimizer.learning_rate
        self._scale = schedule

    def begin_epoch(self, validation_losses: Sequence[float]) -> None:
        """To be called with the losses of the epochs before."""
        self._scale = after(self.schedule, validation_losses, self.optimizer.learning_rate)

    def follows(self, step: int) -> bool:
        """Whether an update follows the batch of this step of an epoch, counted from 0."""
        return (step + 1) % self.accumulate == 0 or step + 1 == self.batches

    def rates(self, epoch: int) -> NDArray[np.float64]:
        """Of each update of an epoch the factor of the learning rate, and the new weights' share in the average."""
        numbers = range(epoch * self.in_epoch, (epoch + 1) * self.in_epoch)
        share = 0.0 if self.average is None else 1 - self.average.decay
        return np.array([[self._scale(number, self._total), share if number else 1.0] for number in numbers])

    def add(self, p: Position, n: int) -> None:
        """Updates from the gradients of a batch of ``n``, 0 where it is skipped; or adds them up, until there are
        ``accumulate`` batches, or the epoch ends. The caller holds ``engine_lock``."""
        before = 0 if self.mean is None else self.mean.images
        if self.mean is not None:
            if not self.follows(p.step):
                if n:
                    self.mean.add(n)
                return
            self.mean.finish(n)
        if not before + n:
            return
        number = p.epoch * self.in_epoch + p.step // self.accumulate
        scale = self._scale(number, self._total)
        self.learning_rate = scale * self.optimizer.learning_rate
        self.optimizer.step(self.model, scale)
        if self.average is not None:
            self.average.update(first=number == 0)
