"""Which steps of a training update the weights, and how: schedule, optimizer, accumulation, and moving average."""

from collections.abc import Sequence

import numpy as np

from numbacnn._checks import LARGEST, number
from numbacnn.losses.base import Float64
from numbacnn.optimizers import Optimizer
from numbacnn.schedules import Schedule, after
from numbacnn.training.averages import WeightAverage
from numbacnn.training.trainable import TrainableModel


class Update:
    """The updates of a training of ``epochs`` epochs, from ``first`` on, with ``batches`` batches each.

    Attributes:
        accumulate: batches whose mean gradient makes one update.
        accumulated: the sum of the gradients since the last update, or None if each batch makes one.
        accumulated_images: the images of that sum.
        average: the moving average of the weights, or None without ``ema``.
        in_epoch: updates in an epoch.
        learning_rate: that of the last update.
    """

    def __init__(
        self,
        model: TrainableModel,
        optimizer: Optimizer,
        schedule: Schedule,
        *,
        batches: int,
        epochs: int,
        first: int = 0,
        accumulate: int = 1,
        ema: float | None = None,
    ) -> None:
        store = model.store
        self.optimizer, self.schedule = optimizer, schedule
        self.batches, self.accumulate, self.first = batches, accumulate, first
        self.in_epoch = -(-batches // accumulate)
        self._total = epochs * self.in_epoch
        self.accumulated = store.device.zeros(store.size) if accumulate > 1 else None
        self.accumulated_images = 0
        self.average = None if ema is None else WeightAverage(store, ema)
        self.learning_rate = optimizer.learning_rate
        self._scale = schedule

    def begin_epoch(self, validation_losses: Sequence[float]) -> None:
        """Adapt the schedule to the validation losses of the epochs so far."""
        self._scale = after(self.schedule, validation_losses, self.optimizer.learning_rate)

    def follows(self, step: int) -> bool:
        """Return whether an update follows the batch of this step of an epoch, counted from 0."""
        return (step + 1) % self.accumulate == 0 or step + 1 == self.batches

    def rates(self, epoch: int) -> Float64:
        """Return the factor of the learning rate, and the new weights' share in the average, of each update."""
        epoch -= self.first
        updates = range(epoch * self.in_epoch, (epoch + 1) * self.in_epoch)
        share = 0.0 if self.average is None else 1 - self.average.decay
        return np.array([[self._factor(update), share if update else 1.0] for update in updates])

    def _factor(self, update: int) -> float:
        factor = self._scale(update, self._total)
        if type(factor) is float and 0 <= factor <= LARGEST:  # the usual case, for every update of an epoch
            return factor
        return number(factor, f"the factor of schedule({update}, {self._total})", 0)
