"""Steps that the host runs, on any device: it gathers and augments each batch, and reads each decision."""

import math
import time
from collections.abc import Generator
from typing import NamedTuple

import numpy as np

from numbacnn.data.augment import Augmenter, Compose
from numbacnn.data.loader import Batch, DataLoader
from numbacnn.engine.executor import Executor
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import DivergedError, NumbacnnError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.tasks.base import Task
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.events import Position
from numbacnn.training.objective import Objective
from numbacnn.training.step import StepSums, TrainingStep
from numbacnn.training.trainable import TrainableModel
from numbacnn.training.update import Update


class HostLoop:
    """Runs the steps of an epoch one by one; ``DeviceLoop`` is the other kind.

    ``skips``: batches with NaN or infinity are left out; otherwise they are an error that names the layer.

    Attributes:
        augmenter: what changes the images of a batch, or None.
        second_half: of each step, after the losses.
    """

    def __init__(
        self,
        model: TrainableModel,
        loader: DataLoader,
        objective: Objective,
        task: Task,
        augment: Compose | None,
        update: Update,
        skips: bool,
    ) -> None:
        self.model, self.loader, self.objective, self.task = model, loader, objective, task
        self.update, self.skips = update, skips
        classes = task.classes(model.output_shape[-1])
        device = None if model.device.name == "cuda" else model.device  # the host augments a GPU's batches
        self.augmenter = Augmenter(augment, loader.dataset, classes, device) if augment else None
        self.second_half = self.make_step(restores=skips)
        self._partial = model.device.zeros(SUM_GROUPS, np.float64)

    def make_step(self, restores: bool) -> TrainingStep:
        """Return what follows the gradients in a step; ``restores`` as in TrainingStep."""
        metrics = self.task.metrics(self.objective.losses[0], self.model.device)
        return TrainingStep(self.model, metrics, self.update, self.skips, restores)

    def buffers(self, images: int) -> TrainingBatch:
        """Return the buffers for a batch of ``images`` images."""
        return self.model.training_batch(images, self.objective)

    @property
    def executors(self) -> list[Executor]:
        """Those that have been made."""
        return self.model.executors

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """Train from a position to the end of its epoch; yield the position after every step."""
        with engine_lock:
            self.second_half.begin(position)
        batches = self.loader.epoch(position.epoch, position.step)
        try:
            for batch in batches:
                position = self._run(batch, position)
                yield position
        finally:
            batches.close()  # type: ignore[attr-defined]  # stops the loader's thread

    def read(self, position: Position) -> Position:
        """Return the position as it is: its sums are complete."""
        return position

    def _run(self, batch: Batch, p: Position) -> Position:
        """Run the step after ``p``."""
        start = time.perf_counter()
        step, update = self.second_half, self.update
        with engine_lock:
            batch = self._augmented(batch, p)
            step.keep_state()
            step.decide(self.differentiate(batch, p), update.follows(p.step))
            counters, loss_sum, bad_loss = step.read()
            if counters.bad_step >= 0:
                self.name_bad_number(batch, p, bad_loss)
            if counters.skipped > p.skipped:
                self.check_weights(at(p))
                self.model.store.changed()
            if counters.last_update == p.step // update.accumulate:
                self._update(counters.last_update)
        return p.after(counters, loss_sum, p.seconds + time.perf_counter() - start)

    def differentiate(self, batch: Batch, p: Position) -> StepSums:
        """Compute the gradients of a batch, and count its correct predictions; return its sums."""
        buffers = self.buffers(len(batch.images))
        self._load(buffers, batch, p)
        targets = buffers.targets(batch.labels)
        buffers.run(targets)
        self.second_half.count(buffers, batch.labels, targets)
        return buffers

    def _update(self, number: int) -> None:
        """Apply an update of the epoch."""
        update, scale = self.update, float(self.second_half.scales[number])
        update.learning_rate = scale * update.optimizer.learning_rate
        update.optimizer.step(self.model, scale)
        if update.average is not None:
            update.average.launch(self.second_half.decision)

    def _augmented(self, batch: Batch, p: Position) -> Batch:
        """Return the batch as the model sees it."""
        if self.augmenter is None:
            return batch
        images, labels = self.augmenter(*batch, batch.indices, seed=self.loader.seed, epoch=p.epoch)
        return Batch(images, labels, batch.indices, batch.others)

    def _load(self, buffers: TrainingBatch, batch: Batch, p: Position) -> None:
        """Write the input and the key of the random numbers: all that a step depends on besides the weights."""
        if len(batch.images):  # a rank may have none of a small batch
            self.model.load_inputs(buffers.inputs, (batch.images, *batch.others))
        self.model.store.set_random(self.loader.seed, p.epoch * len(self.loader) + p.step)

    # -- NaN and infinity ---------------------------------------------------------------------------------------------

    def check_weights(self, at: str) -> None:
        """Raise NumbacnnError if a weight is not finite: then no batch can be trained on any more."""
        device, store = self.model.device, self.model.store
        device.kernels.sum_squares(self._partial, store.values)  # float64, where squares of float32 do not overflow
        if not math.isfinite(device.host(self._partial).sum()):
            name = next(name for name, value in store.view(store.values).items() if not np.isfinite(value).all())
            raise DivergedError(f'NaN or infinity in the weights "{name}" {at}')

    def name_bad_step(self, p: Position, loss: float) -> None:
        """Repeat the step after ``p``, whose loss this was; raise NumbacnnError that names the layer."""
        batches = self.loader.epoch(p.epoch, p.step)
        try:
            with engine_lock:
                self.name_bad_number(self._augmented(next(batches), p), p, loss)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def name_bad_number(self, batch: Batch, p: Position, loss: float) -> None:
        """Raise NumbacnnError that names the layer in which NaN or infinity appears first."""
        self.check_weights(at(p))
        buffers = self.buffers(len(batch.images))
        self._load(buffers, batch, p)
        raise bad_number(locate(buffers, batch), p, loss)


class Location(NamedTuple):
    """The first layer, or other part of a step, with NaN or infinity; the image's number if it is in the input."""

    where: str
    image: int | None = None


def locate(buffers: TrainingBatch, batch: Batch) -> Location:
    """Find NaN or infinity in a step on the batch that was loaded into ``buffers``."""
    where = buffers.find_bad_number(batch.labels)
    finite = [np.isfinite(buffers.executor.device.host(x)).all(axis=(1, 2, 3)) for x in buffers.inputs]
    images = batch.indices[~np.logical_and.reduce(finite)]
    return Location(where, int(images[0]) if where == "the input" and len(images) else None)


def bad_number(location: Location, p: Position, loss: float) -> NumbacnnError:
    """Return the error about a number in the step after ``p``, whose loss this was."""
    if location.image is not None:
        return NumbacnnError(f"NaN or infinity in image {location.image} of the input {at(p)}; repair or remove it")
    what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
    return DivergedError(f"{what} {at(p)}: NaN or infinity appears first in {location.where}", skippable=True)


def at(p: Position) -> str:
    """Return the step after ``p``, as errors name it."""
    return f"at epoch {p.epoch + 1}, step {p.step + 1}"
