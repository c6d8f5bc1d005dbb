"""A training as a generator of events. It never prints: progress, logs and early stopping are callbacks."""

import json
import math
import time
import warnings
import zlib
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import cached_property, partial
from os import PathLike
from pathlib import Path

import numpy as np

from numbacnn._checks import brief, choose, flag, path_of, shown, whole
from numbacnn.data.augment import Augmentation, get_augmentation
from numbacnn.data.dataset import Dataset, checksum
from numbacnn.data.loader import DataLoader
from numbacnn.data.normalization import Normalization
from numbacnn.distributed import Communicator, Group, engine_properties, shards_of
from numbacnn.distributed.exchange import Exchange
from numbacnn.engine.graph_format import DAMAGE, to_dict
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Arena
from numbacnn.errors import ArgumentError, DivergedError, ModelFileError, NumbacnnError
from numbacnn.losses.base import Weights
from numbacnn.metrics import Metric
from numbacnn.optimizers import Optimizer
from numbacnn.saving import format as files
from numbacnn.saving.checkpoints import Checkpoints, count, describe, parse_interval, record_of
from numbacnn.schedules import Schedule, constant, watches
from numbacnn.tasks import task_for
from numbacnn.tasks.wanted import Wanted, wanted_metrics
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.device_loop import DeviceLoop, choose_loop
from numbacnn.training.events import EarlyStopping, EpochEnd, EpochRecord, Event, History, Position, StepEnd
from numbacnn.training.host_loop import HostLoop
from numbacnn.training.objective import LossOfOutputs
from numbacnn.training.sharded_loop import ShardedLoop
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
MAX_COUNT = (1 << 31) - 1  # of epochs, images of a batch, and batches of an update
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
        metrics: Wanted = None,
        monitor: str | None = None,
        shards: int | None = None,
        sync_batch_norm: bool = False,
        communicator: Communicator | Group | None = None,
    ) -> None:
        counts = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
        epochs, batch_size, accumulate = (whole(value, name, 1, MAX_COUNT) for name, value in counts.items())
        seed = whole(seed, "seed", 0)
        if checkpoint_every is not None and checkpoint is None:
            raise ArgumentError("checkpoint_every needs checkpoint=FILE")
        if not isinstance(checkpoint, str | PathLike | None):
            raise ArgumentError(f"checkpoint={shown(checkpoint)}: pass the name of a file")
        if initial_epoch is not None and whole(initial_epoch, "initial_epoch", 0) >= epochs:
            raise ArgumentError(f"initial_epoch={initial_epoch} of epochs={epochs}: no epoch is left to train")
        self.task = task_for(model.task, dataset, model.input_shape)
        for split in (dataset, validation):
            if split is not None:
                self.task.check(split, model.output_shape)
                model.check_inputs(split)
        if model.normalization is not None:  # of a model that was fitted before, perhaps on another scale
            dataset = model.normalization.adapt_inputs(dataset)
        if schedule is not None and watches(schedule) and validation is None:
            raise ArgumentError(f"{schedule} watches the validation loss; pass validation data")
        self.model, self.dataset, self.validation = model, dataset, validation
        self.optimizer = model.optimizer_for(optimizer)
        self.loss, self.loss_weights = model.default_losses(self.task) if loss is None else loss, loss_weights
        self.objective = model.objective(self.loss, loss_weights, dataset.classes).ignoring(dataset.ignore_index)
        for split in (dataset, validation):
            if split is not None:
                model.check_counted(split, self.objective)
        for each in self.objective.losses:
            self.task.check_loss(each)
        self._first = model.epochs if initial_epoch is None else 0  # of the epochs of the schedule
        self.epochs, self.schedule = epochs, schedule or constant
        self.loader = DataLoader(dataset, batch_size, seed=seed, drop_last=drop_last)
        self.group = Group.of(communicator)
        self.shards, self.sync_batch_norm = shards_of(shards, self.group), flag(sync_batch_norm, "sync_batch_norm")
        if self.sync_batch_norm and self.shards is None:
            raise ArgumentError("sync_batch_norm=True is for shards: without them, BatchNorm is over the whole batch")
        self._check_last_batch()
        self.checkpoints = None if checkpoint is None else Checkpoints(path_of(checkpoint, "checkpoint"))
        self.checkpoint_every = None if checkpoint_every is None else parse_interval(checkpoint_every)
        self.unsaved: set[Path] = set()  # files that could not be written when that was last tried
        self._stops_without_save = choose("on_save_error", on_save_error, ON_SAVE_ERROR)
        self.metrics, watched = self._measured(metrics, monitor)
        self.history = History([], *watched)
        self.position = Position(initial_epoch or self._first)
        self.augment = get_augmentation(augment)
        if self.augment:
            self.augment.check(dataset, model.output_shape[-1])
        self.optimizer.attach(model)
        plan = {"batches": len(self.loader), "epochs": epochs, "accumulate": accumulate}
        self.update = Update(model, self.optimizer, self.schedule, **plan, first=self._first, ema=ema)
        skips = choose("on_nan", on_nan, ON_NAN)
        loop = HostLoop if self.shards is None else partial(ShardedLoop, self.shards, self.group, self.sync_batch_norm)
        self.host = loop(model, self.loader, self.objective, self.task, self.augment, self.update, skips)
        self._describe_data()
        if self.group.size > 1:
            self.group.require_same(engine_properties() | self._identity)

    def run(self) -> Generator[Event, None, None]:
        """Train from the current position on. The state is consistent after every event.

        With ``ema`` the model holds the averaged weights at the end of every epoch, where it is validated and the event
        is yielded, and when the training has ended; during an epoch it holds the trained ones.
        """
        if self.model.device.name == "cpu" and self.group.size == 1:  # other devices need no Numba
            from numbacnn.training.compilations import compile_missing_ahead

            compile_missing_ahead(self)
        self._last_save = time.monotonic()
        self.group.stop_requested = False  # of an earlier training on these ranks
        try:
            while self.position.epoch < self.last:
                self._show_average(False)
                yield from self._epoch()
        finally:
            self.model.epochs = self.position.epoch + (self.position.step > 0)
            self._show_average(True)

    def _describe_data(self) -> None:
        """Give the model the normalization and the classes of the data, unless it has its own, and the task."""
        model, classes = self.model, self.task.classes(self.model.output_shape[-1])
        if model.normalization is None:
            model.normalization = Normalization.of(self.dataset)
        if model.classes is None and len(self.dataset.classes) == classes:
            model.classes = self.dataset.classes
        model.task = self.task.name

    def _check_last_batch(self) -> None:
        """Raise ArgumentError if a layer cannot be trained on the last batch of an epoch, or on the others."""
        for step in (0, len(self.loader) - 1):
            images = self.loader.size(step)
            if self.shards is not None and not self.sync_batch_norm:
                images = min(self.shards.sizes(images))
            try:
                self.model.check_training(images)
            except ArgumentError as error:
                shard = (
                    ""
                    if self.shards is None or self.sync_batch_norm
                    else f", or one of its {self.shards.count} shards,"
                )
                size = f"{len(self.dataset)} images in batches of {self.loader.batch_size}: a batch{shard} has {images}"
                raise ArgumentError(
                    f"{size}; {error}, or omit a smaller last one: drop_last=True, --drop-last"
                ) from None

    @property
    def last(self) -> int:
        """The number of the last epoch, where those of earlier calls of ``fit`` count."""
        return self._first + self.epochs

    @property
    def exchange(self) -> Exchange | None:
        """The exchange of gradients with other ranks, None if there are none."""
        return self.host.exchange if isinstance(self.host, ShardedLoop) else None

    def _show_average(self, shown: bool) -> bool:
        with engine_lock:
            return self.update.average is not None and self.update.average.show(shown)

    @cached_property
    def _loop(self) -> HostLoop | DeviceLoop:
        """The loop, chosen at first use: to decide whether the data fits on the device, the buffers are allocated."""
        if self.shards is not None:
            return self.host
        return choose_loop(self.host, self.augment, 0 if self.validation is None else len(self.validation))

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
            self.host.check_weights(f"at the end of epoch {p.epoch + 1}")
        if not p.images:
            raise NumbacnnError(f'every batch of epoch {p.epoch + 1} was skipped; on_nan="stop" shows why')
        self._show_average(True)
        measured = self._evaluate(p.epoch + 1)
        validation = {} if self.validation is None else measured
        record = EpochRecord(
            p.epoch + 1,
            p.loss,
            p.accuracy,
            validation.get("loss"),
            validation.get("accuracy"),
            self.update.learning_rate,
            p.seconds,
            p.images / max(p.seconds, 1e-9),  # a checkpoint may say that no time has passed
            p.skipped,
            None if self.task.score == "accuracy" else validation.get(self.task.score),
            {metric.name: measured[metric.name] for metric in self.metrics},
        )
        self.history.epochs.append(record)
        self.position = Position(p.epoch + 1)
        if self.checkpoints is not None:
            self.save()
        return EpochEnd(record, self.last, self.history.since_best)

    def _measured(self, wanted: Wanted, monitor: str | None) -> tuple[tuple[Metric, ...], tuple[str | None, bool]]:
        """Return the metrics, and the measure that decides which epoch is best with whether lower is better."""
        task, classes = self.task, self.task.classes(self.model.output_shape[-1])
        metrics = wanted_metrics(wanted, task, classes)
        if not isinstance(monitor, str | None):
            raise ArgumentError(f'monitor={shown(monitor)}: pass the name of a measure, such as "accuracy" or "loss"')
        name = None if monitor is None else monitor.removeprefix("val_").removeprefix("validation_")
        if name is not None and self.validation is None:
            raise ArgumentError(f"monitor={shown(monitor)} is measured on validation data; pass validation data")
        if name in (None, task.score):
            return metrics, (None, False)
        if name != "loss" and name not in [metric.name for metric in metrics]:
            metrics += wanted_metrics(name, task, classes)
        return metrics, (
            name,
            name == "loss" or any(metric.name == name and metric.lower_is_better for metric in metrics),
        )

    @property
    def evaluated(self) -> Dataset | None:
        """The data evaluated after an epoch: validation data; without it the training set, if there are metrics."""
        return self.dataset if self.validation is None and self.metrics else self.validation

    def _evaluate(self, epoch: int) -> dict[str, float]:
        """Return the measures after an epoch."""
        if self.evaluated is None:
            return {}
        found = self.model.evaluate(
            self.evaluated,
            loss=self.loss,
            loss_weights=self.loss_weights,
            metrics=self.metrics,
            communicator=self.group,
        )
        if self.validation is not None and not math.isfinite(found["loss"]):
            raise DivergedError(f"the validation loss is {found['loss']} after epoch {epoch}")
        return found

    # -- the whole state in a file ------------------------------------------------------------------------------------

    def _is_save_due(self) -> bool:
        every = self.checkpoint_every
        if every is None:
            return False
        if every.steps is not None:
            return (self.position.epoch * len(self.loader) + self.position.step) % every.steps == 0
        return every.seconds is not None and time.monotonic() - self._last_save >= every.seconds

    def stops(self, requested: bool, event: Event) -> bool:
        """Return whether the training ends after an event: all ranks together, if one requests it.

        That takes until the end of the next step, unless the event is the end of an epoch.
        """
        if self.group.size == 1:
            return requested
        self.group.stop_requested |= requested
        if isinstance(event, EpochEnd):
            return self.group.any(self.group.stop_requested)
        return isinstance(self.host, ShardedLoop) and self.host.stops

    def save(self) -> None:
        """Write weights, optimizer, position and history to the checkpoint file, atomically and durably; on rank 0.

        If the file cannot be written, ``on_save_error`` decides what happens.

        Raises:
            NumbacnnError: a weight is not finite; nothing is written.
        """
        assert self.checkpoints is not None
        if not self.group.is_first:
            return
        with engine_lock:
            self.position = p = self._loop.read(self.position)
            self.host.check_weights(f"after epoch {p.epoch}, step {p.step}")
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
            run, steps, images = dict(state["run"]), count(state["optimizer_steps"]), count(state["accumulated_images"])
            learning_rate, first = float(state["learning_rate"]), count(state.get("first_epoch", 0))
            position = record_of(Position, state["position"])
            history = replace(self.history, epochs=[record_of(EpochRecord, each) for each in state["history"]])
            form = state["normalization"]
            normalization = None if form is None else Normalization.from_dict(form)
            files.check_normalization(normalization, [shape[-1] for shape in self.model.graph.input_shapes])
            if position.step > len(self.loader):
                raise ValueError(f"step {position.step} of {len(self.loader)}")
            if first > position.epoch:  # the training would be longer than was asked for
                raise ValueError(f"epoch {position.epoch}, before the first, {first}")
        except DAMAGE as error:
            raise ModelFileError(f"{file}: its state is damaged: {brief(repr(error))}") from None
        for name, value in self._identity.items():
            if run.get(name) != value:
                stored = brief(run.get(name))
                raise ArgumentError(f"{file} belongs to a training with {name} {stored}, not {value}")
        files.check_fit(file, arrays, self._arenas())
        files.restore(arrays, self._arenas(), self.model.device)
        self.position, self.history, self.optimizer.steps = position, history, steps
        self.update.learning_rate = learning_rate
        self.update.first = self._first = first
        self.model.normalization = normalization
        self.update.accumulated_images = images
        self._show_average(position.step == 0 and position.epoch > 0)
        if self.group.size > 1:  # all have read the same file, before rank 0 writes it again
            weights = zlib.crc32(np.ascontiguousarray(self.model.store.values).data)
            state_read = {"epoch": position.epoch, "step": position.step, "weights' checksum": weights}
            self.group.require_same({f"a checkpoint whose {name} is": value for name, value in state_read.items()})

    @cached_property
    def _identity(self) -> dict[str, int | float | str | None]:
        """The properties that must be equal for a resumed training to continue bit for bit."""
        return {
            "seed": self.loader.seed,
            "batch_size": self.loader.batch_size,
            "images": len(self.dataset),
            "data checksum": checksum(self.dataset),
            "validation checksum": None if self.validation is None else checksum(self.validation),
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
            "shards": None if self.shards is None else self.shards.count,
            "sync_batch_norm": self.sync_batch_norm or None,
            "frozen parameters": ", ".join(sorted(self.model.store.frozen)),
        }
