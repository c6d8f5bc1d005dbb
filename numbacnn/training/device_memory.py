"""The device's part of its training loop: the data set, the tables of an epoch, and the recorded launches of a step."""

from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import NamedTuple

import numpy as np

from numbacnn.data.augment import Compose
from numbacnn.engine.device import Device
from numbacnn.engine.executor import BoundStep
from numbacnn.geometry import Shape
from numbacnn.kernels.recording import Launch, run
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.losses.base import Array, Float32, Target
from numbacnn.optimizers.base import Optimizer
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.device_augmentation import DeviceAugmenter, Table
from numbacnn.training.events import Position
from numbacnn.training.host_loop import HostLoop


class RecordedStep:
    """The launches of a training step, in parts whose names appear in errors."""

    def __init__(self, parts: Sequence[tuple[str, Sequence[Launch]]]) -> None:
        self._parts = parts
        self.launches = [launch for _, launches in parts for launch in launches]
        self._has_run = False
        self._replay: Callable[[], None] | None = None

    def run(self, device: Device) -> None:
        """Run part by part the first time, so that a failure is named; after that all launches at once."""
        if device.is_watched(not self._has_run):
            for what, launches in self._parts:
                with device.watch(what):
                    run(launches)
        else:
            if self._replay is None:
                self._replay = device.capture(self.launches) or partial(run, self.launches)
            self._replay()
        self._has_run = True


class DeviceData(NamedTuple):
    """A data set on the device.

    Attributes:
        images: rows N·H × W·C.
        augmenter: what transforms them, or None.
        labels: as in the data set.
        targets: for each output the shape of its loss's target for one image, or None if the loss takes the labels.
    """

    images: Array
    augmenter: DeviceAugmenter | None
    labels: Table
    targets: list[Shape | None]

    @classmethod
    def upload(cls, host: HostLoop, augment: Compose | None) -> "DeviceData":
        """Upload the training set. Raises ArgumentError if a loss does not take the labels."""
        data, device, n = host.loader.dataset, host.model.device, host.loader.size(0)
        classes = host.task.classes(host.model.output_shape[-1])
        targets = _target_shapes(host, classes if augment is not None and augment.mixes else None)
        rows = data.images.reshape(prod(data.images.shape[:-2]), -1)
        on_host = np.asarray(data.labels)
        images, labels = device.zeros(rows.shape, rows.dtype), Table.of(device, on_host)
        device.write(images, rows)
        labels.write(device, on_host)
        augmenter = None if augment is None else DeviceAugmenter(augment, device, data, images, labels, n, classes)
        return cls(images, augmenter, labels, targets)


def _target_shapes(host: HostLoop, mixed: int | None) -> list[Shape | None]:
    """Check all labels with each loss; return ``DeviceData.targets``. ``mixed``: classes, if labels are mixed."""
    data, n = host.loader.dataset, host.loader.size(0)
    outputs = host.model.training_batch(n, host.objective).outputs
    targets: list[Target] = []
    for start in range(0, len(data), n):
        labels = np.asarray(data.labels[start : start + n])
        if mixed is not None:
            labels = np.eye(mixed, dtype=np.float32)[labels]
            labels = (labels + np.roll(labels, 1, axis=0)) / 2
        targets = host.objective.targets(labels, [(len(labels), *output.shape[1:]) for output in outputs])
    return [None if target.dtype == np.int64 or mixed is not None else target.shape[1:] for target in targets]


class TrainingMemory:
    """The arrays of a training on the device, and the recorded steps that work on them.

    They hold for the parameters that are frozen and the options that the optimizer has when they are made, learning
    rates excepted.
    """

    def __init__(self, host: HostLoop, data: DeviceData) -> None:
        self._host, self._model, self._loader, self._update = host, host.model, host.loader, host.update
        self._data = data
        self._device = device = host.model.device
        images, n = host.loader.dataset.images, host.loader.size(0)
        self._batch = host.model.training_batch(n, host.objective)
        self._written, self._recorded = _settings(host)
        self._update.optimizer.attach(self._model)
        self.step = host.make_step(restores=True)
        numbers = self._update.optimizer.scalar_tables(1, 1)
        self.step.numbers = device.zeros((self._update.in_epoch, *numbers.shape[1:]), np.float64)
        self.step.scalars = device.zeros((numbers.shape[1] // 2, 1 + numbers.shape[2]), np.float64)
        self._labels = device.zeros((n, *data.labels.shape), data.labels.dtype)
        self._targets = [None if shape is None else device.zeros((n, *shape)) for shape in data.targets]
        self._label_sums = device.zeros((2, SUM_GROUPS), np.float64)
        self._factors = [device.zeros(factor.size) for factor in self._model.input_factors(images)]
        self._indices, self._order = device.zeros(n, np.int64), device.zeros(len(images), np.int64)
        self._steps: dict[tuple[int, bool], RecordedStep] = {}
        self.updates_before = 0
        self.learning_rates = np.ones(1)  # of the updates of the epoch

    def is_current(self) -> bool:
        """Return whether neither model nor optimizer have been changed since ``begin``."""
        return (self._written, self._recorded) == _settings(self._host)

    def can_begin(self) -> bool:
        """Return whether ``begin`` suffices to follow such changes, since none is part of the recorded launches."""
        return self._recorded == _settings(self._host)[1]

    def begin(self, p: Position) -> None:
        """Write the tables of an epoch from a position on, and record its steps. Nothing is allocated after that."""
        device, update = self._device, self._update
        self._written, _ = _settings(self._host)
        self.step.begin(p)
        self.learning_rates = self.step.scales * update.optimizer.learning_rate
        self.updates_before = update.optimizer.steps
        factors = self._model.input_factors(self._loader.dataset.images)
        for target, factor in zip(self._factors, factors, strict=True):
            device.write(target, factor)
        device.write(self._order, self._loader.order(p.epoch))
        device.write(self.step.numbers, update.optimizer.scalar_tables(self.updates_before + 1, update.in_epoch))
        steps = p.epoch * len(self._loader) + p.step
        device.write(self._batch.executor.random, np.array([self._loader.seed, steps + 1], np.uint64))
        if self._data.augmenter is not None:
            self._data.augmenter.prepare(self._loader.seed, p.epoch)
        for step in range(p.step, len(self._loader)):
            self.recorded(step)

    # -- the launches of a step ---------------------------------------------------------------------------------------

    def recorded(self, step: int) -> RecordedStep:
        """Return a step of the epoch: one for each batch size, with an update and without."""
        n, updates = self._loader.size(step), self._update.follows(step)
        if (n, updates) not in self._steps:
            self._steps[n, updates] = RecordedStep(self._parts(n, updates))
        return self._steps[n, updates]

    def _parts(self, n: int, updates: bool) -> list[tuple[str, list[Launch]]]:
        batch = self._batch.resized(n)
        labels = list[Array]()  # of the batch, once it is gathered
        return [
            ("gathering the batch", self._record(lambda: labels.append(self._gather(batch)))),
            *_named("forward", batch.binding.forward),
            ("the loss", self._record(lambda: self._losses(batch, labels[0]))),
            *_named("backward", batch.binding.backward),
            ("the update", self._record(lambda: self._finish(batch, updates))),
        ]

    def _record(self, work: Callable[[], None]) -> list[Launch]:
        record = self._device.record(work)
        return record.preparations + record.launches

    def _gather(self, batch: TrainingBatch) -> Array:
        """Launch what writes the input; return the labels."""
        kernels, data, indices, (x,) = self._device.kernels, self._data, self._indices[: batch.n], batch.inputs
        self.step.keep_state()
        kernels.take_indices(indices, self._order, self.step.counters, self._loader.batch_size)
        if data.augmenter is not None:
            return data.augmenter.launch(x, indices, *self._factors)
        labels: Array = self._labels[: batch.n]
        kernels.gather_images(x, data.images, indices, *self._factors)
        kernels.gather_rows(labels.reshape(batch.n, -1), data.labels.rows, indices)
        return labels

    def _losses(self, batch: TrainingBatch, labels: Array) -> None:
        targets = [self._target(i, y, labels) for i, y in enumerate(batch.outputs)]
        batch.launch_losses(targets, self._label_sums)
        self.step.count(batch, labels, targets)

    def _target(self, i: int, y: Float32, labels: Array) -> Array:
        """Return what the loss of output i takes, and launch what makes it of the labels."""
        whole = self._targets[i]
        if whole is None:
            return labels.reshape(-1) if labels.dtype == np.int64 else labels.reshape(y.shape)
        target: Array = whole[: len(y)]
        self._host.objective.losses[i].launch_target(self._device.kernels, target, labels)
        return target

    def _finish(self, batch: TrainingBatch, updates: bool) -> None:
        batch.launch_penalties()
        self.step.decide(batch, updates)
        if updates:
            self._update.optimizer.launch(self._model, self.step.scalars)
            if self._update.average is not None:
                self._update.average.launch(self.step.decision)


def _settings(host: HostLoop) -> tuple[object, object]:
    """Return by value what may change between two steps: what ``begin`` writes, and what is part of the launches."""
    model, optimizer = host.model, host.update.optimizer
    options = [optimizer.options, *(group.options for group in optimizer.groups)]
    options += [value.options for own in options for value in own.values() if isinstance(value, Optimizer)]  # in Muon
    learning_rates = [own.get("learning_rate") for own in options]
    others = [{**own, "learning_rate": None, "groups": None} for own in options]
    patterns = [group.pattern for group in optimizer.groups]
    return (learning_rates, model.normalization), (others, patterns, model.store.frozen)


def _named(direction: str, steps: list[BoundStep]) -> list[tuple[str, list[Launch]]]:
    return [
        (f'the {direction} pass of {type(step.node.layer).__name__} "{step.node.name}"', step.launches)
        for step in steps
    ]
