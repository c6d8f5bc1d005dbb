"""Steps that the host runs, on any device: it gathers and augments each batch, and reads each decision."""

import math
import time
from collections.abc import Generator

import numpy as np

from numbacnn.data.augment import Augmenter, Compose
from numbacnn.data.loader import Batch, DataLoader
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import DivergedError, NumbacnnError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.tasks.base import Task
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.events import Position
from numbacnn.training.objective import Objective
from numbacnn.training.step import TrainingStep
from numbacnn.training.trainable import TrainableModel
from numbacnn.training.update import Update


class HostLoop:
    """Runs the steps of an epoch one by one; ``DeviceLoop`` is the other kind.

    ``skips``: batches with NaN or infinity are left out; otherwise they are an error that names the layer.
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
        self._augmenter = Augmenter(augment, loader.dataset, classes, device) if augment else None
        self._step = self.make_step(restores=skips)
        self._partial = model.device.zeros(SUM_GROUPS, np.float64)

    def make_step(self, restores: bool) -> TrainingStep:
        """Return the second half of a step; ``restores`` as it takes it."""
        metrics = self.task.metrics(self.objective.losses[0], self.model.device)
        return TrainingStep(self.model, metrics, self.update, self.skips, restores)

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """Train from a position to the end of its epoch; yield the position after every step."""
        with engine_lock:
            self._step.begin(position)
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
        step, update = self._step, self.update
        with engine_lock:
            batch = self._augmented(batch, p)
            buffers = self.model.training_batch(len(batch.images), self.objective)
            step.keep_state()
            self._load(buffers, batch, p)
            targets = buffers.targets(batch.labels)
            buffers.run(targets)
            step.count(buffers, batch.labels, targets)
            step.decide(buffers, update.follows(p.step))
            counters, loss_sum, bad_loss = step.read()
            if counters.bad_step >= 0:
                self._name_bad_number(buffers, batch, p, bad_loss)
            if counters.skipped > p.skipped:
                self.check_weights(_at(p))
                self.model.store.changed()
            if counters.last_update == p.step // update.accumulate:
                self._update(counters.last_update)
        return p.after(counters, loss_sum, p.seconds + time.perf_counter() - start)

    def _update(self, number: int) -> None:
        """Apply an update of the epoch."""
        update, scale = self.update, float(self._step.scales[number])
        update.learning_rate = scale * update.optimizer.learning_rate
        update.optimizer.step(self.model, scale)
        if update.average is not None:
            update.average.launch(self._step.decision)

    def _augmented(self, batch: Batch, p: Position) -> Batch:
        """Return the batch as the model sees it."""
        if self._augmenter is None:
            return batch
        images, labels = self._augmenter(*batch, seed=self.loader.seed, epoch=p.epoch)
        return Batch(images, labels, batch.indices)

    def _load(self, buffers: TrainingBatch, batch: Batch, p: Position) -> None:
        """Write the input and the key of the random numbers: all that a step depends on besides the weights."""
        self.model.load_images(buffers.inputs[0], batch.images)
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
                batch = self._augmented(next(batches), p)
                buffers = self.model.training_batch(len(batch.images), self.objective)
                self._name_bad_number(buffers, batch, p, loss)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _name_bad_number(self, buffers: TrainingBatch, batch: Batch, p: Position, loss: float) -> None:
        """Raise NumbacnnError that names the layer in which NaN or infinity appears first."""
        at = _at(p)
        self.check_weights(at)
        self._load(buffers, batch, p)
        where = buffers.find_bad_number(batch.labels)
        images = batch.indices[~np.isfinite(self.model.device.host(buffers.inputs[0])).all(axis=(1, 2, 3))]
        if where == "the input" and len(images):
            raise NumbacnnError(f"NaN or infinity in image {images[0]} of the input {at}; repair or remove it")
        what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise DivergedError(f"{what} {at}: NaN or infinity appears first in {where}", skippable=True)


def _at(p: Position) -> str:
    return f"at epoch {p.epoch + 1}, step {p.step + 1}"
