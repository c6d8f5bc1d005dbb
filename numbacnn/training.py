"""The training loop: a generator of events. It never prints; progress, logs and early stopping are callbacks on it."""

import math
import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from os import PathLike
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn import checkpoint as files
from numbacnn.averages import GradientMean, WeightAverage
from numbacnn.data.augment import Augmentation, Augmenter, get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.loader import Batch, Loader
from numbacnn.device import ENGINE, Device
from numbacnn.errors import ArgumentError, ModelFileError, NumbacnnError
from numbacnn.executor import Executor
from numbacnn.geometry import whole
from numbacnn.losses import Loss, Objective, differentiate
from numbacnn.metrics import hits
from numbacnn.normalization import Normalization
from numbacnn.optimizers import SGD, Optimizer
from numbacnn.parameters import Parameters
from numbacnn.penalties import Penalties
from numbacnn.schedules import Schedule, after, constant, watches

Float32 = NDArray[np.float32]
LossOfOutputs = str | Loss | Sequence[str | Loss]


class TrainingBatch:
    """The buffers of one training step, between the input's arrival and the optimiser's update."""

    def __init__(self, executor: Executor, n: int, objective: Objective, penalties: Penalties) -> None:
        self._executor, self._n, self._objective, self._penalties = executor, n, objective, penalties
        self._binding = executor.bind(n)
        self.inputs = self._binding.inputs
        self.output = self._binding.outputs[0]

    def gradients(self, labels: ArrayLike | Sequence[ArrayLike]) -> float:
        """Runs forward, losses and backward on what lies in ``inputs``; returns the loss, penalties included."""
        outputs, objective = self._binding.outputs, self._objective
        targets = objective.targets(labels, [output.shape for output in outputs])
        self._executor.forward(self._n)
        value = 0.0
        for i, (dy, y) in enumerate(zip(self._binding.output_gradients, outputs, strict=True)):
            losses = self._executor.pixel_losses[: math.prod(y.shape[:-1])]
            loss, weight = objective.losses[i], objective.weights[i]
            value += differentiate(loss, weight, self._executor.kernels, losses, dy, y, targets[i])
        self._executor.backward(self._n)
        return value + self._penalties.add()


class Learner(Protocol):
    """What the loop trains: a Model."""

    store: Parameters
    device: Device
    classes: tuple[str, ...] | None
    normalization: Normalization | None

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

    def evaluate(self, test: Dataset, loss: LossOfOutputs, loss_weights: Sequence[float] | None) -> dict[str, float]:
        """Loss and accuracy."""


@dataclass(frozen=True)
class EpochRecord:
    """What an epoch came to. Loss and accuracy are means over its training batches, each as it was when it ran;
    ``learning_rate`` is that of its last update."""

    epoch: int
    loss: float
    accuracy: float
    validation_loss: float | None
    validation_accuracy: float | None
    learning_rate: float
    seconds: float
    images_per_second: float


@dataclass
class History:
    """The record of every epoch."""

    epochs: list[EpochRecord] = field(default_factory=list)

    @property
    def best(self) -> EpochRecord | None:
        """The epoch with the highest validation accuracy, the first of equals; None without validation."""
        validated = [record for record in self.epochs if record.validation_accuracy is not None]
        return max(validated, key=lambda record: record.validation_accuracy or 0.0, default=None)

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
        """Whether no epoch before had this one's validation accuracy."""
        return self.since_best == 0


Event = StepEnd | EpochEnd


@dataclass(frozen=True)
class Position:
    """How far a training has come: whole epochs, steps of the next one, and its sums so far."""

    epoch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    hits: int = 0
    images: int = 0
    seconds: float = 0.0


class EarlyStopping:
    """A callback that ends training after ``patience`` epochs without a better validation accuracy."""

    def __init__(self, patience: int) -> None:
        if patience < 1:
            raise ArgumentError(f"patience={patience}: give at least 1 epoch")
        self.patience = patience

    def __call__(self, event: Event) -> bool:
        """True when it is time to stop. Raises ArgumentError where there is no validation data."""
        if not isinstance(event, EpochEnd):
            return False
        if event.since_best is None:
            raise ArgumentError("early stopping watches the validation accuracy; pass validation data")
        return event.since_best >= self.patience


class Trainer:
    """One training of one model. ``run`` yields the events; ``history`` grows with the epochs."""

    def __init__(
        self,
        model: Learner,
        dataset: Dataset,
        *,
        optimizer: Optimizer | None,
        loss: LossOfOutputs,
        loss_weights: Sequence[float] | None = None,
        epochs: int,
        batch_size: int,
        seed: int,
        schedule: Schedule | None = None,
        validation: Dataset | None = None,
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | None = None,
        accumulate: int = 1,
        ema: float | None = None,
        augment: Augmentation | None = None,
    ) -> None:
        numbers = {"epochs": epochs, "batch_size": batch_size, "accumulate": accumulate}
        for name, value in (
            numbers | ({} if checkpoint_every is None else {"checkpoint_every": checkpoint_every})
        ).items():
            whole(value, name)
        whole(seed, "seed", 0)
        if not isinstance(optimizer, Optimizer | None):
            raise ArgumentError(f"optimizer={optimizer!r}: give an optimizer such as SGD(0.01, momentum=0.9)")
        for part in (dataset, validation):
            if part is not None and part.images.shape[1:] != model.input_shape:
                raise ArgumentError(f"images of {part.images.shape[1:]} for a model whose input is {model.input_shape}")
            if part is not None and len(part.classes) > model.output_shape[-1]:
                raise ArgumentError(f"{len(part.classes)} classes for a model of {model.output_shape[-1]} outputs")
        if schedule is not None and watches(schedule) and validation is None:
            raise ArgumentError(f"{schedule} watches the validation loss; pass validation data")
        self.model, self.dataset, self.validation = model, dataset, validation
        self.optimizer = optimizer or SGD(0.02, momentum=0.9)
        self.loss, self.loss_weights, self.objective = loss, loss_weights, model.objective(loss, loss_weights)
        self.epochs, self.schedule = epochs, schedule or constant
        self.loader = Loader(dataset, batch_size, seed=seed)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.checkpoint_every = checkpoint_every
        self.history = History()
        self.position = Position()
        self._learning_rate = self.optimizer.learning_rate
        self.optimizer.attach(model)
        self.accumulate = accumulate
        self.augment = get_augmentation(augment)
        classes = model.output_shape[-1]
        self._augmenter = Augmenter(self.augment, dataset, classes, model.device) if self.augment else None
        self._mean = GradientMean(model.store) if accumulate > 1 else None
        self._average = None if ema is None else WeightAverage(model.store, ema)
        if model.normalization is None:
            model.normalization = Normalization(tuple(dataset.mean.tolist()), tuple(dataset.std.tolist()))
        if model.classes is None and len(dataset.classes) == model.output_shape[-1]:
            model.classes = dataset.classes

    def run(self) -> Generator[Event, None, None]:
        """Trains from the position on; the state is consistent after every event.

        With ``ema`` the model holds the averaged weights at the end of every epoch, for validation and whoever gets the
        event, and when the training has ended; in between it holds those that are trained.
        """
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
                if self.checkpoint_every and self._total_steps() % self.checkpoint_every == 0:
                    self.save()
                p = self.position
                yield StepEnd(
                    p.epoch + 1,
                    self.epochs,
                    p.step,
                    len(self.loader),
                    len(batch.images),
                    p.loss_sum / p.images,
                    p.hits / p.images,
                )
        finally:
            batches.close()  # type: ignore[attr-defined]  # stops the loader's thread
        yield self._end_epoch()

    def _step(self, batch: Batch) -> None:
        start = time.perf_counter()
        n = len(batch.images)
        with ENGINE:
            images, labels = self._augmented(batch)
            buffers = self.model.training_batch(n, self.objective)
            self.model.load_images(buffers.inputs[0], images)
            self.model.store.set_random(self.loader.seed, self._total_steps())
            value = buffers.gradients(labels)
            right = hits(buffers.output, labels)
            if not math.isfinite(value):
                p = self.position
                raise NumbacnnError(
                    f"the loss is {value} at epoch {p.epoch + 1}, step {p.step + 1}; lower the learning rate"
                )
            self._update(n)
        p = self.position
        self.position = Position(
            p.epoch,
            p.step + 1,
            p.loss_sum + value * n,
            p.hits + right,
            p.images + n,
            p.seconds + time.perf_counter() - start,
        )

    def _augmented(self, batch: Batch) -> tuple[NDArray[Any], NDArray[Any]]:
        """The batch's images and labels as the model sees them."""
        if self._augmenter is None:
            return batch.images, batch.labels
        seed, epoch = self.loader.seed, self.position.epoch
        return self._augmenter(batch.images, batch.labels, batch.indices, seed=seed, epoch=epoch)

    def _update(self, n: int) -> None:
        """Updates from the gradients of a batch of ``n``; or adds them up, until there are ``accumulate`` batches, or
        the epoch ends."""
        p = self.position
        if self._mean is not None:
            if (p.step + 1) % self.accumulate and p.step + 1 < len(self.loader):
                self._mean.add(n)
                return
            self._mean.finish(n)
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
        self._show_average(True)
        validation = {}
        if self.validation is not None:
            validation = self.model.evaluate(self.validation, self.loss, self.loss_weights)
        p = self.position
        record = EpochRecord(
            p.epoch + 1,
            p.loss_sum / p.images,
            p.hits / p.images,
            validation.get("loss"),
            validation.get("accuracy"),
            self._learning_rate,
            p.seconds,
            p.images / p.seconds,
        )
        self.history.epochs.append(record)
        self.position = Position(p.epoch + 1)
        if self.checkpoint is not None:
            self.save()
        return EpochEnd(record, self.epochs, self.history.since_best)

    # -- the whole state in a file ------------------------------------------------------------------------------------

    def save(self) -> None:
        """Writes weights, optimiser, position and history to the checkpoint file, whole or not at all."""
        assert self.checkpoint is not None
        position = asdict(self.position)
        records = [asdict(record) for record in self.history.epochs]
        state = {
            "run": self._identity(),
            "position": position,
            "history": records,
            "normalization": self.model.normalization and self.model.normalization._asdict(),
            "optimizer_steps": self.optimizer.steps,
            "accumulated_images": self._mean.images if self._mean else 0,
        }
        shown = self._show_average(False)
        files.save_checkpoint(self.checkpoint, self.model.store, self._arenas(), state)
        self._show_average(shown)

    def _arenas(self) -> dict[str, Float32]:
        """What a checkpoint holds beside the parameters, each of their layout."""
        arenas = dict(self.optimizer.slots)
        if self._mean is not None:
            arenas["accumulated"] = self._mean.arena
        if self._average is not None:
            arenas["average"] = self._average.arena
        return arenas

    def resume(self) -> None:
        """Takes the state from the checkpoint file, where there is one."""
        if self.checkpoint is None:
            raise ArgumentError("resume=True needs checkpoint=FILE")
        if not self.checkpoint.exists():
            return
        state = files.read_state(self.checkpoint)
        try:
            run, steps, images = dict(state["run"]), int(state["optimizer_steps"]), int(state["accumulated_images"])
            position = replace(Position(), **state["position"])
            history = History([EpochRecord(**record) for record in state["history"]])
            normalization = state["normalization"] and Normalization(*map(tuple, state["normalization"].values()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self.checkpoint}: its state is damaged: {error!r}") from None
        for name, value in self._identity().items():
            if run.get(name) != value:
                raise ArgumentError(f"{self.checkpoint} is of a training with {name} {run.get(name)}, not {value}")
        _, arrays = files.read_checkpoint(self.checkpoint, self.model.store, self._arenas())
        files.restore(arrays, self.model.store, self._arenas())
        self.position, self.history, self.optimizer.steps = position, history, steps
        self.model.normalization = normalization
        if self._mean is not None:
            self._mean.images = images
        self._show_average(position.step == 0 and position.epoch > 0)

    def _identity(self) -> dict[str, int | float | str | None]:
        """What must be the same for the training to go on as it would have."""
        return {
            "seed": self.loader.seed,
            "batch_size": self.loader.batch_size,
            "images": len(self.dataset),
            "optimizer": self.optimizer.name,
            "accumulate": self.accumulate,
            "ema": None if self._average is None else self._average.decay,
            "augment": None if self.augment is None else str(self.augment),
            "frozen parameters": ", ".join(sorted(self.model.store.frozen)),
        }
