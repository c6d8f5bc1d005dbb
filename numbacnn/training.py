"""The training loop: a generator of events. It never prints; progress, logs and early stopping are callbacks on it."""

import json
import math
import time
import warnings
import zlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn import checkpoint as files
from numbacnn.averages import GradientMean, WeightAverage
from numbacnn.data.augment import Augmentation, Augmenter, get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import CLASSES
from numbacnn.data.loader import Batch, Loader
from numbacnn.device import ENGINE, Device
from numbacnn.errors import ArgumentError, ModelFileError, NumbacnnError
from numbacnn.executor import Executor
from numbacnn.geometry import whole
from numbacnn.graph import Graph, Node
from numbacnn.kernels.steps import SUM_GROUPS
from numbacnn.losses import Loss, differentiate
from numbacnn.names import choose
from numbacnn.normalization import Normalization
from numbacnn.objective import Objective
from numbacnn.optimizers import SGD, Optimizer
from numbacnn.parameters import Arena, Parameters
from numbacnn.penalties import Penalties
from numbacnn.recovery import Checkpoints, describe, parse_interval
from numbacnn.schedules import Schedule, after, constant, watches
from numbacnn.tasks import task_for

Float32 = NDArray[np.float32]
LossOfOutputs = str | Loss | Sequence[str | Loss]
ON_SAVE_ERROR = {"warn": False, "stop": True}  # whether training ends
ON_NAN = {"stop": False, "skip": True}  # whether it goes on


class TrainingBatch:
    """The buffers of one training step, between the input's arrival and the optimiser's update."""

    def __init__(self, executor: Executor, n: int, objective: Objective, penalties: Penalties) -> None:
        self._executor, self._n, self._objective, self._penalties = executor, n, objective, penalties
        self._binding = executor.bind(n)
        self.inputs = self._binding.inputs
        self.output = self._binding.outputs[0]

    def gradients(self, labels: ArrayLike | Sequence[ArrayLike]) -> float:
        """Runs forward, losses and backward on what lies in ``inputs``; returns the loss, penalties included."""
        self._executor.forward(self._n)
        value = self._losses(labels)
        self._executor.backward(self._n)
        return value + self._penalties.add()

    def _losses(self, labels: ArrayLike | Sequence[ArrayLike]) -> float:
        """The losses of the outputs, and their gradients."""
        outputs, objective = self._binding.outputs, self._objective
        targets = objective.targets(labels, [output.shape for output in outputs])
        value = 0.0
        for i, (dy, y) in enumerate(zip(self._binding.output_gradients, outputs, strict=True)):
            losses = self._executor.pixel_losses[: math.prod(y.shape[:-1])]
            loss, weight = objective.losses[i], objective.weights[i]
            value += differentiate(loss, weight, self._executor.device, losses, dy, y, targets[i])
        return value

    def find_bad_number(self, labels: ArrayLike | Sequence[ArrayLike]) -> str:
        """Runs the step again, layer by layer, to the first number that is NaN or infinite; says where that is."""
        device = self._executor.device
        if not _finite(device, self._binding.inputs):
            return "the input"
        if layer := _first_bad(device, self._executor.watch_forward(self._n)):
            return f"the output of {layer}"
        if not math.isfinite(self._losses(labels)) or not _finite(device, self._binding.output_gradients):
            return "the loss, or its gradient, of finite outputs"
        if layer := _first_bad(device, self._executor.watch_backward(self._n)):
            return f"the gradients of {layer}"
        return "the penalties on the weights"


def _first_bad(device: Device, layers: Iterable[tuple[Node, list[Float32]]]) -> str | None:
    found = next((node for node, arrays in layers if not _finite(device, arrays)), None)
    return None if found is None else f'{type(found.layer).__name__} "{found.name}"'


def _finite(device: Device, arrays: Iterable[Float32]) -> bool:
    return all(np.isfinite(device.host(array)).all() for array in arrays)


class Learner(Protocol):
    """What the loop trains: a Model."""

    graph: Graph
    store: Parameters
    device: Device
    classes: tuple[str, ...] | None
    normalization: Normalization | None
    task: str | None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one image."""

    def objective(self, loss: LossOfOutputs, loss_weights: Sequence[float] | None) -> Objective:
        """The loss and the weight of each output."""

    def training_batch(self, n: int, objective: Objective) -> TrainingBatch:
        """The buffers of a step on ``n`` images."""

    def load_images(self, target: Float32, images: NDArray[Any]) -> None:
        """Writes raw images, normalised, to an input."""

    def evaluate(
        self, test: Dataset, loss: LossOfOutputs | None, loss_weights: Sequence[float] | None
    ) -> dict[str, float]:
        """Loss, accuracy, and the task's own score."""


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
    """After every batch. ``loss``, ``accuracy``: means over the epoch so far; steps count from 1 in the epoch."""

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
    hits: int = 0
    labels: int = 0  # of which the hits are: of images or pixels, those that count
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
        return self.hits / self.labels if self.labels else math.nan


class EarlyStopping:
    """A callback that ends training after ``patience`` epochs without a better validation score."""

    def __init__(self, patience: int) -> None:
        if patience < 1:
            raise ArgumentError(f"patience={patience}: give at least 1 epoch")
        self.patience = patience

    def __call__(self, event: Event) -> bool:
        """True when it is time to stop. Raises ArgumentError where there is no validation data."""
        if not isinstance(event, EpochEnd):
            return False
        if event.since_best is None:
            raise ArgumentError("early stopping watches the validation score; pass validation data")
        return event.since_best >= self.patience


class Trainer:
    """One training of one model. ``run`` yields the events; ``history`` grows with the epochs."""

    def __init__(
        self,
        model: Learner,
        dataset: Dataset,
        *,
        optimizer: Optimizer | None,
        loss: LossOfOutputs | None = None,
        loss_weights: Sequence[float] | None = None,
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
    ) -> None:
        for name, value in {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}.items():
            whole(value, name)
        whole(seed, "seed", 0)
        if checkpoint_every is not None and checkpoint is None:
            raise ArgumentError("checkpoint_every needs checkpoint=FILE")
        if not isinstance(optimizer, Optimizer | None):
            raise ArgumentError(f"optimizer={optimizer!r}: give an optimizer such as SGD(0.01, momentum=0.9)")
        self.task = task_for(model.task, dataset, model.input_shape)
        for part in (dataset, validation):
            if part is not None:
                self.task.check(part, model.output_shape)
        if schedule is not None and watches(schedule) and validation is None:
            raise ArgumentError(f"{schedule} watches the validation loss; pass validation data")
        self.model, self.dataset, self.validation = model, dataset, validation
        self.optimizer = optimizer or SGD(0.02, momentum=0.9)
        self.loss, self.loss_weights = self.task.loss() if loss is None else loss, loss_weights
        self.objective = model.objective(self.loss, loss_weights)
        self.epochs, self.schedule = epochs, schedule or constant
        self.loader = Loader(dataset, batch_size, seed=seed)
        self.checkpoints = None if checkpoint is None else Checkpoints(Path(checkpoint))
        self.checkpoint_every = None if checkpoint_every is None else parse_interval(checkpoint_every)
        self._stops_without_save = choose("on_save_error", on_save_error, ON_SAVE_ERROR)
        self._skips_bad = choose("on_nan", on_nan, ON_NAN)
        self._state_before: Float32 | None = None  # the running statistics before a batch that may be skipped
        self._partial = model.device.zeros(SUM_GROUPS, np.float64)
        self.history = History()
        self.position = Position()
        self._learning_rate = self.optimizer.learning_rate
        self.optimizer.attach(model)
        self.accumulate = accumulate
        self.augment = get_augmentation(augment)
        classes = self.task.classes(model.output_shape[-1])
        if self.augment and self.augment.mixes and dataset.kind != CLASSES:
            raise ArgumentError(f"augment: {dataset.kind} cannot follow mixup or cutmix; leave those out")
        self._augmenter = Augmenter(self.augment, dataset, classes) if self.augment else None
        self._mean = GradientMean(model.store) if accumulate > 1 else None
        self._average = None if ema is None else WeightAverage(model.store, ema)
        if model.normalization is None:
            model.normalization = Normalization(tuple(dataset.mean.tolist()), tuple(dataset.std.tolist()))
        if model.classes is None and len(dataset.classes) == classes:
            model.classes = dataset.classes
        model.task = self.task.name

    def run(self) -> Generator[Event, None, None]:
        """Trains from the position on; the state is consistent after every event.

        With ``ema`` the model holds the averaged weights at the end of every epoch, for validation and whoever gets the
        event, and when the training has ended; in between it holds those that are trained.
        """
        self._last_save = time.monotonic()
        try:
            while self.position.epoch < self.epochs:
                self._show_average(False)
                yield from self._epoch()
        finally:
            self._show_average(True)

    def _show_average(self, shown: bool) -> bool:
        with ENGINE:
            return self._average is not None and self._average.show(shown)

    def _epoch(self) -> Iterator[Event]:
        self._scale = after(self.schedule, [record.validation_loss or 0.0 for record in self.history.epochs])
        batches = self.loader.epoch(self.position.epoch, self.position.step)
        try:
            for batch in batches:
                self._step(batch)
                if self._is_save_due():
                    self.save()
                p = self.position
                yield StepEnd(
                    p.epoch + 1,
                    self.epochs,
                    p.step,
                    len(self.loader),
                    len(batch.images),
                    p.loss,
                    p.accuracy,
                )
        finally:
            batches.close()  # type: ignore[attr-defined]  # stops the loader's thread
        yield self._end_epoch()

    def _step(self, batch: Batch) -> None:
        start = time.perf_counter()
        n, p = len(batch.images), self.position
        with ENGINE:
            images, labels = self._augmented(batch)
            buffers = self.model.training_batch(n, self.objective)
            if self._skips_bad:
                self._keep_state()
            self._load(buffers, images)
            value = buffers.gradients(labels)
            good = math.isfinite(value) and self._is_finite(self.model.store.gradients)
            if good:
                right, counted = self.task.hits(
                    self.model.device.host(buffers.output), labels, self.objective.losses[0]
                )
            else:
                self._refuse(buffers, batch._replace(images=images, labels=labels), value)
            self._update(n if good else 0)
        if good:
            sums = {"hits": p.hits + right, "labels": p.labels + counted, "images": p.images + n}
            p = replace(p, loss_sum=p.loss_sum + value * n, **sums)
        else:
            p = replace(p, skipped=p.skipped + 1)
        self.position = replace(p, step=p.step + 1, seconds=p.seconds + time.perf_counter() - start)

    def _load(self, buffers: TrainingBatch, images: NDArray[Any]) -> None:
        """Writes the input and the key of the random numbers: all that a step starts from but the weights."""
        self.model.load_images(buffers.inputs[0], images)
        self.model.store.set_random(self.loader.seed, self._total_steps())

    # -- numbers gone bad ---------------------------------------------------------------------------------------------

    def _is_finite(self, arena: Float32) -> bool:
        """Whether no number of a flat arena is NaN or infinite: squares of float32 do not overflow in float64."""
        device = self.model.device
        device.kernels.sum_squares(self._partial, arena)
        return math.isfinite(device.host(self._partial).sum())

    def _refuse(self, buffers: TrainingBatch, batch: Batch, loss: float) -> None:
        """Leaves the model as it was before a batch whose loss or gradients are not finite, where such batches are
        skipped; else NumbacnnError that names the layer."""
        p = self.position
        place = f"at epoch {p.epoch + 1}, step {p.step + 1}"
        self._check_weights(place)
        if self._skips_bad:
            self._restore_state()
            return
        self._load(buffers, batch.images)
        where = buffers.find_bad_number(batch.labels)
        images = batch.indices[~np.isfinite(self.model.device.host(buffers.inputs[0])).all(axis=(1, 2, 3))]
        if where == "the input" and len(images):
            raise NumbacnnError(f"NaN or infinity in image {images[0]} of the input {place}; repair or drop it")
        what = "the gradients are not finite" if math.isfinite(loss) else f"the loss is {loss}"
        raise NumbacnnError(
            f"{what} {place}: NaN or infinity comes first in {where}; "
            'lower the learning rate, or leave such batches out with on_nan="skip"'
        )

    def _check_weights(self, place: str) -> None:
        """NumbacnnError where a weight is not finite: no batch can be trained on any more."""
        store = self.model.store
        if not self._is_finite(store.values):
            name = next(name for name, value in store.view(store.values).items() if not np.isfinite(value).all())
            raise NumbacnnError(f'NaN or infinity in the weights "{name}" {place}; lower the learning rate')

    def _keep_state(self) -> None:
        device, state = self.model.device, self.model.store.state
        if self._state_before is None:
            self._state_before = device.zeros(state.size)
        device.write(self._state_before, state)

    def _restore_state(self) -> None:
        assert self._state_before is not None
        self.model.device.write(self.model.store.state, self._state_before)
        self.model.store.changed()

    def _augmented(self, batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
        """The batch's images and labels as the model sees them."""
        if self._augmenter is None:
            return batch.images, batch.labels
        seed, epoch = self.loader.seed, self.position.epoch
        return self._augmenter(batch.images, batch.labels, batch.indices, seed=seed, epoch=epoch)

    def _update(self, n: int) -> None:
        """Updates from the gradients of a batch of ``n``, 0 where it is skipped; or adds them up, until there are
        ``accumulate`` batches, or the epoch ends."""
        p = self.position
        before = 0 if self._mean is None else self._mean.images
        if self._mean is not None:
            if (p.step + 1) % self.accumulate and p.step + 1 < len(self.loader):
                if n:
                    self._mean.add(n)
                return
            self._mean.finish(n)
        if not before + n:
            return
        in_epoch = -(-len(self.loader) // self.accumulate)
        update = p.epoch * in_epoch + p.step // self.accumulate
        scale = self._scale(update, self.epochs * in_epoch)
        self._learning_rate = scale * self.optimizer.learning_rate
        self.optimizer.step(self.model, scale)
        if self._average is not None:
            self._average.update(first=update == 0)

    def _total_steps(self) -> int:
        return self.position.epoch * len(self.loader) + self.position.step

    def _end_epoch(self) -> EpochEnd:
        p = self.position
        with ENGINE:
            self._check_weights(f"at the end of epoch {p.epoch + 1}")
        if not p.images:
            raise NumbacnnError(f'every batch of epoch {p.epoch + 1} was left out; see why with on_nan="stop"')
        self._show_average(True)
        validation = {}
        if self.validation is not None:
            validation = self.model.evaluate(self.validation, self.loss, self.loss_weights)
        record = EpochRecord(
            p.epoch + 1,
            p.loss,
            p.accuracy,
            validation.get("loss"),
            validation.get("accuracy"),
            self._learning_rate,
            p.seconds,
            p.images / p.seconds,
            p.skipped,
            None if self.task.score == "accuracy" else validation.get(self.task.score),
        )
        self.history.epochs.append(record)
        self.position = Position(p.epoch + 1)
        if self.checkpoints is not None:
            self.save()
        return EpochEnd(record, self.epochs, self.history.since_best)

    # -- the whole state in a file ------------------------------------------------------------------------------------

    def _is_save_due(self) -> bool:
        every = self.checkpoint_every
        if every is None:
            return False
        if every.steps is not None:
            return self._total_steps() % every.steps == 0
        return every.seconds is not None and time.monotonic() - self._last_save >= every.seconds

    def save(self) -> None:
        """Writes weights, optimiser, position and history to the checkpoint file, whole or not at all.

        Where it cannot be written, ``on_save_error`` decides; numbers that are not finite are never written, but
        NumbacnnError raised. Returns when the file is on the disk: one save ends before the next begins.
        """
        assert self.checkpoints is not None
        with ENGINE:
            p = self.position
            self._check_weights(f"after epoch {p.epoch}, step {p.step}")
        state = {
            "run": self._identity,
            "position": asdict(self.position),
            "history": [asdict(record) for record in self.history.epochs],
            "normalization": self.model.normalization and self.model.normalization._asdict(),
            "optimizer_steps": self.optimizer.steps,
            "learning_rate": self._learning_rate,
            "accumulated_images": self._mean.images if self._mean else 0,
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
        """Writing ``path`` in this block may fail: that becomes a warning, or NumbacnnError where it is to stop."""
        try:
            yield
        except OSError as error:
            problem = f"{path}: cannot be written ({error.strerror or error})"
            if self._stops_without_save:
                raise NumbacnnError(f"{problem}; what was saved before is whole") from None
            warnings.warn(f"{problem}; training goes on, and what was saved before is whole", stacklevel=2)

    def _arenas(self) -> dict[str, Arena]:
        """The arrays that a checkpoint holds."""
        store = self.model.store
        arenas = store.arenas() | {name: Arena(store.slots, arena) for name, arena in self.optimizer.slots.items()}
        if self._mean is not None:
            arenas["accumulated"] = Arena(store.slots, self._mean.arena)
        if self._average is not None:
            arenas["average"] = Arena(store.slots, self._average.values)
            arenas["average-state"] = Arena(store.state_slots, self._average.state)
        return arenas

    def resume(self) -> None:
        """Takes the state from the checkpoint file, where there is one; from the one before, with a warning, where the
        newest is damaged."""
        if self.checkpoints is None:
            raise ArgumentError("resume=True needs checkpoint=FILE")
        found = self.checkpoints.read()
        if found is None:
            return
        file, state, arrays = found
        try:
            run, steps, images = dict(state["run"]), int(state["optimizer_steps"]), int(state["accumulated_images"])
            learning_rate = float(state["learning_rate"])
            position = replace(Position(), **state["position"])
            history = History([EpochRecord(**record) for record in state["history"]])
            normalization = state["normalization"] and Normalization(*map(tuple, state["normalization"].values()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{file}: its state is damaged: {error!r}") from None
        for name, value in self._identity.items():
            if run.get(name) != value:
                raise ArgumentError(f"{file} is of a training with {name} {run.get(name)}, not {value}")
        files.check_fit(file, arrays, self._arenas())
        files.restore(arrays, self._arenas(), self.model.device)
        self.position, self.history, self.optimizer.steps = position, history, steps
        self._learning_rate = learning_rate
        self.model.normalization = normalization
        if self._mean is not None:
            self._mean.images = images
        self._show_average(position.step == 0 and position.epoch > 0)

    @cached_property
    def _identity(self) -> dict[str, int | float | str | None]:
        """What must be the same for the training to go on as it would have."""
        options = {part.name: getattr(self.optimizer, part.name) for part in fields(self.optimizer) if part.init}
        return {
            "seed": self.loader.seed,
            "batch_size": self.loader.batch_size,
            "images": len(self.dataset),
            "data checksum": _checksum(self.dataset),
            "validation checksum": None if self.validation is None else _checksum(self.validation),
            "task": self.task.name,
            "model checksum": zlib.crc32(json.dumps(self.model.graph.to_dict(), sort_keys=True).encode()),
            "loss": describe(self.objective.losses),
            "loss weights": describe(self.objective.weights),
            "optimizer": self.optimizer.name,
            **{f"optimizer's {name}": describe(value) for name, value in options.items()},
            "schedule": describe(self.schedule),
            "accumulate": self.accumulate,
            "ema": None if self._average is None else self._average.decay,
            "augment": None if self.augment is None else str(self.augment),
            "frozen parameters": ", ".join(sorted(self.model.store.frozen)),
        }


def _checksum(data: Dataset) -> int:
    """CRC-32 of images and labels."""
    return zlib.crc32(np.ascontiguousarray(data.images).data, zlib.crc32(np.ascontiguousarray(data.labels).data))
