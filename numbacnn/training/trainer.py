"""A training as a generator of events. It never prints: progress, logs and early stopping are callbacks."""

import json
import math
import time
import warnings
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property
from os import PathLike
from pathlib import Path

import numpy as np

from numbacnn._checks import choose, whole
from numbacnn.data.augment import Augmentation, get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import CLASSES
from numbacnn.data.loader import DataLoader
from numbacnn.data.normalization import Normalization
from numbacnn.engine.graph_format import to_dict
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Arena
from numbacnn.errors import ArgumentError, DivergedError, ModelFileError, NumbacnnError
from numbacnn.losses.base import Weights
from numbacnn.optimizers import Optimizer
from numbacnn.saving import format as files
from numbacnn.saving.checkpoints import Checkpoints, describe, parse_interval
from numbacnn.schedules import Schedule, constant, watches
from numbacnn.tasks import task_for
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.device_loop import DeviceLoop, choose_loop
from numbacnn.training.events import EarlyStopping, EpochEnd, EpochRecord, Event, History, Position, StepEnd
from numbacnn.training.host_loop import HostLoop
from numbacnn.training.objective import LossOfOutputs
from numbacnn.training.trainable import TrainableModel
from numbacnn.training.update import Update

__all__ = [
    "EarlyStopping",
    "EpochEnd",
    "EpochRecord",
    "Event",
    "History",
    "LossOfOutputs",
    "Position",
    "StepEnd",
    "TrainableModel",
    "Trainer",
    "TrainingBatch",
]

ON_SAVE_ERROR = {"warn": False, "stop": True}  # whether the training ends
ON_NAN = {"stop": False, "skip": True}  # whether it continues


class Trainer:
    """One training of one model: ``run`` yields its events, ``history`` holds the records of its epochs."""

    def __init__(
        self,
        model: TrainableModel,
        dataset: Dataset,
        *,
        optimizer: Optimizer | str | None,
        loss: LossOfOutputs | None = None,
        loss_weights: Weights | None = None,
        epochs: int,
        batch_size: int,
        seed: int,
        schedule: Schedule | None = None,
        validation: Dataset | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | str | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        on_save_error: str = "warn",
        on_nan: str = "stop",
        augment: Augmentation | None = None,
        initial_epoch: int | None = None,
        drop_last: bool = False,
    ) -> None:
        epochs, batch_size = whole(epochs, "epochs"), whole(batch_size, "batch_size")
        accumulate, seed = whole(accumulate, "accumulate"), whole(seed, "seed", 0)
        if checkpoint_every is not None and checkpoint is None:
            raise ArgumentError("checkpoint_every needs checkpoint=FILE")
        if initial_epoch is not None and whole(initial_epoch, "initial_epoch", 0) >= epochs:
            raise ArgumentError(f"initial_epoch={initial_epoch} of epochs={epochs}: no epoch is left to train")
        self.task = task_for(model.task, dataset, model.input_shape)
        for part in (dataset, validation):
            if part is not None:
                self.task.check(part, model.output_shape)
        if model.normalization is not None:  # of a model that was fitted before, perhaps on another scale
            dataset = replace(dataset, images=model.normalization.adapt(dataset.images))
        if schedule is not None and watches(schedule) and validation is None:
            raise ArgumentError(f"{schedule} watches the validation loss; pass validation data")
        self.model, self.dataset, self.validation = model, dataset, validation
        self.optimizer = model.optimizer(optimizer)
        self.loss, self.loss_weights = model.default_losses(self.task) if loss is None else loss, loss_weights
        self.objective = model.objective(self.loss, loss_weights, dataset.classes).ignoring(dataset.ignore_index)
        for part in (dataset, validation):
            if part is not None:
                model.check_counted(part, self.objective)
        self._first = model.epochs if initial_epoch is None else 0  # of the epochs of the schedule
        self.epochs, self.schedule = epochs, schedule or constant
        self.loader = DataLoader(dataset, batch_size, seed=seed, drop_last=drop_last)
        self._check_last_batch()
        self.checkpoints = None if checkpoint is None else Checkpoints(Path(checkpoint))
        self.checkpoint_every = None if checkpoint_every is None else parse_interval(checkpoint_every)
        self.unsaved: set[Path] = set()  # files that could not be written when that was last tried
        self._stops_without_save = choose("on_save_error", on_save_error, ON_SAVE_ERROR)
        self.history = History()
        self.position = Position(initial_epoch or self._first)
        self.augment = get_augmentation(augment)
        if self.augment and self.augment.mixes:
            if dataset.kind != CLASSES:
                raise ArgumentError(f"augment: mixup and cutmix cannot mix {dataset.kind}; remove them")
            if model.output_shape[-1] == 1:
                raise ArgumentError("augment: mixup and cutmix need an output for each class; this model has one")
        self.optimizer.attach(model)
        plan = {"batches": len(self.loader), "epochs": epochs, "accumulate": accumulate}
        self.update = Update(model, self.optimizer, self.schedule, **plan, first=self._first, ema=ema)
        skips = choose("on_nan", on_nan, ON_NAN)
        self._host = HostLoop(model, self.loader, self.objective, self.task, self.augment, self.update, skips)
        classes = self.task.classes(model.output_shape[-1])
        if model.normalization is None:
            model.normalization = Normalization.of(dataset)
        if model.classes is None and len(dataset.classes) == classes:
            model.classes = dataset.classes
        model.task = self.task.name

    def run(self) -> Generator[Event, None, None]:
        """Train from the current position on. The state is consistent after every event.

        With ``ema`` the model holds the averaged weights at the end of every epoch, where it is validated and the event
        is yielded, and when the training has ended; during an epoch it holds the trained ones.
        """
        self._last_save = time.monotonic()
        try:
            while self.position.epoch < self.last:
                self._show_average(False)
                yield from self._epoch()
        finally:
            self.model.epochs = self.position.epoch + (self.position.step > 0)
            self._show_average(True)

    def _check_last_batch(self) -> None:
        """Raise ArgumentError if a layer cannot be trained on the last batch of an epoch, or on the others."""
        for step in (0, len(self.loader) - 1):
            images = self.loader.size(step)
            try:
                self.model.check_training(images)
            except ArgumentError as error:
                size = f"{len(self.dataset)} images in batches of {self.loader.batch_size}: a batch has {images}"
                raise ArgumentError(
                    f"{size}; {error}, or omit a smaller last one: drop_last=True, --drop-last"
                ) from None

    @property
    def last(self) -> int:
        """The number of the last epoch, where those of earlier calls of ``fit`` count."""
        return self._first + self.epochs

    def _show_average(self, shown: bool) -> bool:
        with engine_lock:
            return self.update.average is not None and self.update.average.show(shown)

    @cached_property
    def _loop(self) -> HostLoop | DeviceLoop:
        """The loop, chosen at first use: to decide whether the data fits on the device, the buffers are allocated."""
        return choose_loop(self._host, self.augment, 0 if self.validation is None else len(self.validation))

    def _epoch(self) -> Iterator[Event]:
        self.update.begin_epoch([record.validation_loss or 0.0 for record in self.history.epochs])
        steps = self._loop.epoch(self.position)
        try:
            for position in steps:
                self.position = position
                if self._is_save_due():
                    self.save()
                p = self.position
                images = self.loader.size(p.step - 1)
                yield StepEnd(p.epoch + 1, self.last, p.step, len(self.loader), images, p.loss, p.accuracy)
        except (GeneratorExit, KeyboardInterrupt):  # a later ``run`` continues from complete sums
            self.position = self._loop.read(self.position)
            raise
        finally:
            steps.close()
        yield self._end_epoch()

    def _end_epoch(self) -> EpochEnd:
        p = self.position
        with engine_lock:
            self._host.check_weights(f"at the end of epoch {p.epoch + 1}")
        if not p.images:
            raise NumbacnnError(f'every batch of epoch {p.epoch + 1} was skipped; on_nan="stop" shows why')
        self._show_average(True)
        validation = {}
        if self.validation is not None:
            validation = self.model.evaluate(self.validation, loss=self.loss, loss_weights=self.loss_weights)
            if not math.isfinite(validation["loss"]):
                raise DivergedError(f"the validation loss is {validation['loss']} after epoch {p.epoch + 1}")
        record = EpochRecord(
            p.epoch + 1,
            p.loss,
            p.accuracy,
            validation.get("loss"),
            validation.get("accuracy"),
            self.update.learning_rate,
            p.seconds,
            p.images / p.seconds,
            p.skipped,
            None if self.task.score == "accuracy" else validation.get(self.task.score),
        )
        self.history.epochs.append(record)
        self.position = Position(p.epoch + 1)
        if self.checkpoints is not None:
            self.save()
        return EpochEnd(record, self.last, self.history.since_best)

    # -- the whole state in a file ------------------------------------------------------------------------------------

    def _is_save_due(self) -> bool:
        every = self.checkpoint_every
        if every is None:
            return False
        if every.steps is not None:
            return (self.position.epoch * len(self.loader) + self.position.step) % every.steps == 0
        return every.seconds is not None and time.monotonic() - self._last_save >= every.seconds

    def save(self) -> None:
        """Write weights, optimizer, position and history to the checkpoint file, atomically and durably.

        If the file cannot be written, ``on_save_error`` decides what happens.

        Raises:
            NumbacnnError: a weight is not finite; nothing is written.
        """
        assert self.checkpoints is not None
        with engine_lock:
            self.position = p = self._loop.read(self.position)
            self._host.check_weights(f"after epoch {p.epoch}, step {p.step}")
        state = {
            "run": self._identity,
            "position": asdict(self.position),
            "first_epoch": self._first,
            "history": [asdict(record) for record in self.history.epochs],
            "normalization": self.model.normalization and self.model.normalization.as_dict(),
            "optimizer_steps": self.optimizer.steps,
            "learning_rate": self.update.learning_rate,
            "accumulated_images": self.update.accumulated_images,
        }
        shown = self._show_average(False)
        try:
            with self.saving(self.checkpoints.newest):
                host = self.model.device.host
                arenas = {part: Arena(slots, host(array)) for part, (slots, array) in self._arenas().items()}
                self.checkpoints.save(arenas, state)
        finally:
            self._show_average(shown)
            self._last_save = time.monotonic()

    @contextmanager
    def saving(self, path: Path) -> Iterator[None]:
        """Turn an OSError of a block that writes ``path`` into a warning, or into NumbacnnError if it is to stop."""
        try:
            yield
            self.unsaved.discard(path)
        except OSError as error:
            self.unsaved.add(path)
            problem = f"{path}: cannot be written ({error.strerror or error})"
            if self._stops_without_save:
                raise NumbacnnError(f"{problem}; what was saved before is intact") from None
            warnings.warn(f"{problem}; training continues, and what was saved before is intact", stacklevel=2)

    def _arenas(self) -> dict[str, Arena]:
        """Return the arrays that a checkpoint holds."""
        store = self.model.store
        arenas = store.arenas() | {name: Arena(store.slots, arena) for name, arena in self.optimizer.slots.items()}
        if self.update.accumulated is not None:
            arenas["accumulated"] = Arena(store.slots, self.update.accumulated)
        if self.update.average is not None:
            arenas["average"] = Arena(store.slots, self.update.average.values)
            arenas["average-state"] = Arena(store.state_slots, self.update.average.state)
        return arenas

    def resume(self) -> None:
        """Restore the state from the checkpoint file, if it exists; if it is damaged, from the previous one.

        Raises:
            ModelFileError: no file can be read, or the checkpoint does not fit the model or the optimizer.
            ArgumentError: the checkpoint belongs to a training with other arguments.
        """
        if self.checkpoints is None:
            raise ArgumentError("resume=True needs checkpoint=FILE")
        found = self.checkpoints.read()
        if found is None:
            return
        file, state, arrays = found
        try:
            run, steps, images = dict(state["run"]), int(state["optimizer_steps"]), int(state["accumulated_images"])
            learning_rate, first = float(state["learning_rate"]), int(state.get("first_epoch", 0))
            position = replace(Position(), **state["position"])
            history = History([EpochRecord(**record) for record in state["history"]])
            normalization = state["normalization"] and Normalization.from_dict(state["normalization"])
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{file}: its state is damaged: {error!r}") from None
        for name, value in self._identity.items():
            if run.get(name) != value:
                raise ArgumentError(f"{file} belongs to a training with {name} {run.get(name)}, not {value}")
        files.check_fit(file, arrays, self._arenas())
        files.restore(arrays, self._arenas(), self.model.device)
        self.position, self.history, self.optimizer.steps = position, history, steps
        self.update.learning_rate = learning_rate
        self.update.first = self._first = first
        self.model.normalization = normalization
        self.update.accumulated_images = images
        self._show_average(position.step == 0 and position.epoch > 0)

    @cached_property
    def _identity(self) -> dict[str, int | float | str | None]:
        """The properties that must be equal for a resumed training to continue bit for bit."""
        return {
            "seed": self.loader.seed,
            "batch_size": self.loader.batch_size,
            "images": len(self.dataset),
            "data checksum": _checksum(self.dataset),
            "validation checksum": None if self.validation is None else _checksum(self.validation),
            "task": self.task.name,
            "model checksum": zlib.crc32(json.dumps(to_dict(self.model.graph), sort_keys=True).encode()),
            "loss": describe(self.objective.losses),
            "loss weights": describe(self.objective.weights),
            "optimizer": self.optimizer.name,
            **{f"optimizer's {name}": describe(value) for name, value in self.optimizer.options.items()},
            "schedule": describe(self.schedule),
            "accumulate": self.update.accumulate,
            "ema": None if self.update.average is None else self.update.average.decay,
            "augment": None if self.augment is None else str(self.augment),
            "drop_last": self.loader.drop_last or None,
            "frozen parameters": ", ".join(sorted(self.model.store.frozen)),
        }


def _checksum(data: Dataset) -> int:
    """Return the CRC-32 of images and labels."""
    return zlib.crc32(np.ascontiguousarray(data.images).data, zlib.crc32(np.ascontiguousarray(data.labels).data))
