"""Steps that the host drives, on any device: it gathers and augments each batch, and looks at each loss."""

import math
import time
from collections.abc import Generator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.augment import Augmenter, Compose
from numbacnn.data.loader import Batch, DataLoader
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import NumbacnnError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.tasks.base import Task
from numbacnn.training.batch import Float32, TrainingBatch
from numbacnn.training.events import Position
from numbacnn.training.objective import Objective
from numbacnn.training.trainable import TrainableModel
from numbacnn.training.update import Update


class HostSteps:
    """``epoch`` runs steps; see ``DeviceSteps`` for the other kind. ``skips``: batches with NaN or infinity are left
    out, instead of an error."""

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
        self._state_before: Float32 | None = None  # the running statistics before a batch that may be skipped
        self._partial = model.device.zeros(SUM_GROUPS, np.float64)

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """Trains from a position to the end of its epoch; gives the position behind every step."""
        batches = self.loader.epoch(position.epoch, position.step)
        try:
            for batch in batches:
                position = self._step(batch, position)
                yield position
        finally:
            batches.close()  # type: ignore[attr-defined]  # stops the loader's thread

    def read(self, position: Position) -> Position:
        """The position with all its sums: as it is."""
        return position

    def _step(self, batch: Batch, p: Position) -> Position:
        start = time.perf_counter()
        n = len(batch.images)
        with engine_lock:
            batch = self._augmented(batch, p)
            buffers = self.model.training_batch(n, self.objective)
            if self.skips:
                self._keep_state()
            self._load(buffers, batch.images, p)
            value = buffers.gradients(batch.labels)
            good = math.isfinite(value) and self.is_finite(self.model.store.gradients)
            if good:
                output = self.model.device.host(buffers.output)
                right, counted = self.task.count_correct(output, batch.labels, self.objective.losses[0])
            elif self.skips:
                self.check_weights(_place(p))
                self._restore_state()
            else:
                self._name_bad_number(buffers, batch, p, value)
            self.update.add(p, n if good else 0)
        if good:
            sums = {"correct": p.correct + right, "labels": p.labels + counted, "images": p.images + n}
            p = replace(p, loss_sum=p.loss_sum + value * n, **sums)
        else:
            p = replace(p, skipped=p.skipped + 1)
        return replace(p, step=p.step + 1, seconds=p.seconds + time.perf_counter() - start)

    def _augmented(self, batch: Batch, p: Position) -> Batch:
        """The batch as the model sees it."""
        if self._augmenter is None:
            return batch
        images, labels = self._augmenter(*batch, seed=self.loader.seed, epoch=p.epoch)
        return Batch(images, labels, batch.indices)

    def _load(self, buffers: TrainingBatch, images: NDArray[Any], p: Position) -> None:
        """Writes the input and the key of the random numbers: all that a step starts from but the weights."""
        self.model.load_images(buffers.inputs[0], images)
        self.model.store.set_random(self.loader.seed, p.epoch * len(self.loader) + p.step)

    # -- numbers gone bad ---------------------------------------------------------------------------------------------

    def is_finite(self, arena: Float32) -> bool:
        """Whether no number of a flat arena is NaN or infinite: squares of float32 do not overflow in float64."""
        device = self.model.device
        device.kernels.sum_squares(self._partial, arena)
        return math.isfinite(device.host(self._partial).sum())

    def check_weights(self, place: str) -> None:
        """NumbacnnError where a weight is not finite: no batch can be trained on any more."""
        store = self.model.store
        if not self.is_finite(store.values):
            name = next(name for name, value in store.view(store.values).items() if not np.isfinite(value).all())
            raise NumbacnnError(f'NaN or infinity in the weights "{name}" {place}; lower the learning rate')

    def name_bad_step(self, p: Position, loss: float) -> None:
        """Runs the step behind ``p`` once more; NumbacnnError that names the layer. ``loss``: what it was."""
        n = self.loader.size(p.step)
        batches = self.loader.epoch(p.epoch, p.step)
        try:
            with engine_lock:
                batch = self._augmented(next(batches), p)
                buffers = self.model.training_batch(n, self.objective)
                self._name_bad_number(buffers, batch, p, loss)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _name_bad_number(self, buffers: TrainingBatch, batch: Batch, p: Position, loss: float) -> None:
        """NumbacnnError that names the layer where a batch's loss or gradients are not finite."""
        place = _place(p)
        self.check_weights(place)
        self._load(buffers, batch.images, p)
        where = buffers.find_bad_number(batch.labels)
        images = batch.indices[~np.isfinite(self.model.device.host(buffers.inputs[0])).all(axis=(1, 2, 3))]
        if where == "the input" and len(images):
            raise NumbacnnError(f"NaN or infinity in image {images[0]} of the input {place}; repair or drop it")
        what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise NumbacnnError(
            f"{what} {place}: NaN or infinity comes first in {where}; "
            'lower the learning rate, or leave such batches out with on_nan="skip"'
        )

    def _keep_state(self) -> None:
        device, state = self.model.device, self.model.store.state
        if self._state_before is None:
            self._state_before = device.zeros(state.size)
        device.write(self._state_before, state)

    def _restore_state(self) -> None:
        assert self._state_before is not None
        self.model.device.write(self.model.store.state, self._state_before)
        self.model.store.changed()


def _place(p: Position) -> str:
    return f"at epoch {p.epoch + 1}, step {p.step + 1}"
