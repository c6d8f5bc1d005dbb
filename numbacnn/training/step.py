"""The second half of a training step: count, decide on the update, and average. Every loop runs the same launches."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from numbacnn.engine.executor import Executor
from numbacnn.kernels.decision import (
    CORRECT_ROW,
    COUNTED_ROW,
    DECISION,
    SQUARES_ROW,
    EpochCounters,
    StepForm,
)
from numbacnn.losses.base import Float64, Target
from numbacnn.tasks.results import Metrics
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.events import Position
from numbacnn.training.trainable import TrainableModel
from numbacnn.training.update import Update


class StepSums(Protocol):
    """A batch as far as the decision on its update depends on it: its number of images, and its sums."""

    @property
    def executor(self) -> Executor:
        """The executor that has run."""

    @property
    def n(self) -> int:
        """The images."""

    @property
    def sums(self) -> Float64:
        """The rows of partial sums that ``kernels.decision`` describes."""


class TrainingStep:
    """The state of an epoch in the device's memory, and the launches that change it in every step.

    The host loop calls these for each batch and looks at the decision after each step; the device loop records the
    launches once and replays them.

    Args:
        metrics: count the correct predictions of the first output.
        skips: whether batches with NaN or infinity are skipped; otherwise the first one ends the training.
        restores: whether the running statistics of such a batch are discarded.
    """

    def __init__(self, model: TrainableModel, metrics: Metrics, update: Update, skips: bool, restores: bool) -> None:
        self.model, self.metrics, self.update, self.skips = model, metrics, update, skips
        self._device, self._store = device, store = model.device, model.store
        self.counters = device.zeros(len(EpochCounters._fields), np.int64)
        self.sums, self.decision = device.zeros(2, np.float64), device.zeros(DECISION, np.float64)
        self.rates = device.zeros((update.in_epoch, 2), np.float64)
        self.scalars, self.numbers = (
            device.zeros((0, 1), np.float64),
            device.zeros((1, 0, 0), np.float64),
        )  # none on the host
        self._state = device.zeros(store.state.size if restores else 0)  # before the step

    def begin(self, p: Position) -> None:
        """Write the state of the epoch at a position."""
        rates = self.update.rates(p.epoch)
        self.scales: Float64 = rates[:, 0]
        accumulated = self.update.accumulated_images
        counters = EpochCounters(p.step, 0, -1, p.correct, p.labels, p.images, p.skipped, accumulated)
        self._device.write(self.counters, np.array(counters, np.int64))
        self._device.write(self.sums, np.array([p.loss_sum, 0.0]))
        self._device.write(self.rates, rates)

    # -- launches -----------------------------------------------------------------------------------------------------

    def keep_state(self) -> None:
        """Keep the running statistics, before the forward pass."""
        if self._state.size:
            pair = (array.reshape(1, 1, 1, -1) for array in (self._state, self._store.state))
            self._device.kernels.copy(*pair)

    def count(self, batch: TrainingBatch, labels: Target, targets: Sequence[Target]) -> None:
        """Count the correct predictions, after the forward pass."""
        self.metrics.count(batch.sums[CORRECT_ROW : COUNTED_ROW + 1], batch.outputs[0], labels, targets[0])

    def decide(self, batch: StepSums, updates: bool) -> None:
        """Decide on the update, discard what a bad batch has changed, and accumulate or average the gradients."""
        kernels, store, update = self._device.kernels, self._store, self.update
        kernels.sum_squares(batch.sums[SQUARES_ROW], store.gradients)
        form = StepForm(batch.n, update.accumulate, int(updates), int(self.skips))
        state = self.counters, self.sums, batch.executor.random, self.decision, self.scalars
        kernels.decide_update(*state, batch.sums, self.rates, self.numbers, form)
        if self._state.size:
            kernels.restore_unless_good(store.state, self._state, self.decision)
        if update.accumulated is not None and updates:
            kernels.average_gradients(store.gradients, update.accumulated, self.decision)
        elif update.accumulated is not None:
            kernels.accumulate_gradients(update.accumulated, store.gradients, self.decision)

    # -- reading ------------------------------------------------------------------------------------------------------

    def read(self) -> tuple[EpochCounters, float, float]:
        """Read the counters, the sum of the losses, and the loss of a step that ended the training."""
        counters = EpochCounters(*self._device.host(self.counters).tolist())
        loss_sum, bad_loss = self._device.host(self.sums).tolist()
        self.update.accumulated_images = counters.accumulated
        return counters, loss_sum, bad_loss
