"""What lies on the device where that drives the steps: the data set, tables of what differs from step to step, sums;
and the recorded launches of a step."""

from collections.abc import Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from numbacnn.data.augment import Compose
from numbacnn.engine.device import Device
from numbacnn.engine.executor import BoundStep, Executor
from numbacnn.geometry import Shape
from numbacnn.kernels.recording import Launch, run
from numbacnn.kernels.step_scalars import (
    CORRECT_ROW,
    COUNTED_ROW,
    DECISION,
    LOSS_ROWS,
    SQUARES_ROW,
    SUM_GROUPS,
    EpochCounters,
    StepForm,
)
from numbacnn.losses import Loss, ignored_label
from numbacnn.optimizers.base import Optimizer
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.device_augmentation import PlannedAugmentation, Table
from numbacnn.training.events import Position
from numbacnn.training.host_loop import HostSteps


class RecordedStep:
    """Steps of one form: their launches, by what is to be named where one of them fails."""

    def __init__(self, parts: Sequence[tuple[str, Sequence[Launch]]]) -> None:
        self._parts = parts
        self.launches = [launch for _, launches in parts for launch in launches]
        self._run_before = False
        self._replay: Any = None

    def run(self, device: Device) -> None:
        """The first time part by part, so that a failure has a name; then all of them at once."""
        if device.is_watched(not self._run_before):
            for what, launches in self._parts:
                with device.watch(what):
                    run(launches)
        else:
            if self._replay is None:
                self._replay = device.capture(self.launches) or partial(run, self.launches)
            self._replay()
        self._run_before = True


class Data(NamedTuple):
    """A data set on the device: images as rows N·H × W·C, and what changes them; the labels; and for each output the
    shape of what its loss makes of an image's labels, None where it takes them as they are."""

    images: Any
    augmentation: PlannedAugmentation | None
    labels: Table
    targets: list[Shape | None]

    @classmethod
    def upload(cls, host: HostSteps, augment: Compose | None) -> "Data":
        """The whole training set. Raises ArgumentError where a loss does not take the labels."""
        data, device, n = host.loader.dataset, host.model.device, host.loader.size(0)
        classes = host.task.classes(host.model.output_shape[-1])
        targets = _target_shapes(host, classes if augment is not None and augment.mixes else None)
        images = data.images.reshape(prod(data.images.shape[:-2]), -1)
        placed, labels = device.zeros(images.shape, images.dtype), Table.of(device, data.labels)
        device.write(placed, images)
        labels.write(device, data.labels)
        augmentation = None if augment is None else PlannedAugmentation(augment, device, data, n, classes)
        return cls(placed, augmentation, labels, targets)


def _target_shapes(host: HostSteps, mixed: int | None) -> list[Shape | None]:
    """As in ``Data``, once each loss has seen all labels; ``mixed``: the classes of which they become probabilities."""
    data, n = host.loader.dataset, host.loader.size(0)
    outputs = host.model.training_batch(n, host.objective).binding.outputs
    found: list[Any] = []
    for start in range(0, len(data), n):
        labels = data.labels[start : start + n]
        if mixed is not None:
            labels = np.eye(mixed, dtype=np.float32)[labels]
            labels = (labels + np.roll(labels, 1, axis=0)) / 2
        found = host.objective.targets(labels, [(len(labels), *output.shape[1:]) for output in outputs])
    return [None if target.dtype == np.int64 or mixed is not None else target.shape[1:] for target in found]


class TrainingMemory:
    """The arrays of a training on the device, and the launches that work on them: for the model as it is frozen when
    they are made, and the optimiser's options of that time, learning rates apart."""

    def __init__(self, host: HostSteps, data: Data) -> None:
        self._host, self._model, self._loader, self._update = host, host.model, host.loader, host.update
        self._data = data
        self._device = device = host.model.device
        images, n = host.loader.dataset.images, host.loader.size(0)
        batch = host.model.training_batch(n, host.objective)
        self._executor: Executor = batch.executor
        self._penalties = batch.penalties
        self._written, self._launched = _settings(host)
        self._update.optimizer.attach(self._model)
        self._labels = device.zeros((n, *data.labels.shape), data.labels.dtype)
        self._targets = [None if shape is None else device.zeros((n, *shape)) for shape in data.targets]
        self._weights = device.zeros((2, SUM_GROUPS), np.float64)
        self._factors = [device.zeros(factor.size) for factor in self._model.input_factors(images)]
        self._indices, self._order = device.zeros(n, np.int64), device.zeros(len(images), np.int64)
        self._counters, self.sums = device.zeros(len(EpochCounters._fields), np.int64), device.zeros(2, np.float64)
        self._decision = device.zeros(DECISION)
        self._rates = device.zeros((self._update.in_epoch, 2), np.float64)
        numbers = self._update.optimizer.device_numbers(1, 1)
        self._numbers = device.zeros((self._update.in_epoch, *numbers.shape[1:]), np.float64)
        self._scalars = device.zeros((numbers.shape[1] // 2, 1 + numbers.shape[2]), np.float64)
        rows = LOSS_ROWS + len(batch.binding.outputs) + len(batch.penalties)
        self._partial = device.zeros((rows, SUM_GROUPS), np.float64)
        self._state_before = device.zeros(self._model.store.state.size)
        self._forms: dict[tuple[int, bool], RecordedStep] = {}
        self.updates_before = 0
        self.learning_rates = np.ones(1)  # of the updates of the epoch

    def is_current(self) -> bool:
        """Whether the next step is what ``begin`` has prepared: neither model nor optimiser have been changed."""
        return (self._written, self._launched) == _settings(self._host)

    def can_begin(self) -> bool:
        """Whether ``begin`` is enough to make it so again: what is in the launches has not been changed."""
        return self._launched == _settings(self._host)[1]

    def begin(self, p: Position) -> None:
        """Writes all that differs from step to step, up to the end of the epoch, and the factors of the images; and
        records its steps. No memory is taken behind that."""
        device, update = self._device, self._update
        self._written, _ = _settings(self._host)
        rates, steps = update.rates(p.epoch), update.optimizer.steps
        self.learning_rates, self.updates_before = rates[:, 0] * update.optimizer.learning_rate, steps
        factors = self._model.input_factors(self._loader.dataset.images)
        for placed, factor in zip(self._factors, factors, strict=True):
            device.write(placed, factor)
        device.write(self._order, self._loader.order(p.epoch))
        device.write(self._rates, rates)
        device.write(self._numbers, update.optimizer.device_numbers(steps + 1, update.in_epoch))
        accumulated = 0 if update.mean is None else update.mean.images
        counters = EpochCounters(p.step, 0, -1, p.correct, p.labels, p.images, p.skipped, accumulated)
        device.write(self._counters, np.array(counters, np.int64))
        device.write(self.sums, np.array([p.loss_sum, 0.0]))
        total = p.epoch * len(self._loader) + p.step
        device.write(self._executor.random, np.array([self._loader.seed, total + 1], np.uint64))
        if self._data.augmentation is not None:
            self._data.augmentation.plan(self._loader.seed, p.epoch)
        for step in range(p.step, len(self._loader)):
            self.form(step)

    def counters(self) -> EpochCounters:
        """How far the device has come."""
        return EpochCounters(*map(int, self._device.host(self._counters)))

    # -- the launches of a step ---------------------------------------------------------------------------------------

    def form(self, step: int) -> RecordedStep:
        """Of a step of the epoch: all on as many images, that update or that do not, have one."""
        n, updates = self._loader.size(step), self._update.follows(step)
        if (n, updates) not in self._forms:
            self._forms[n, updates] = RecordedStep(self._parts(n, updates))
        return self._forms[n, updates]

    def _parts(self, n: int, updates: bool) -> list[tuple[str, list[Launch]]]:
        batch = TrainingBatch(self._executor, n, self._host.objective, self._penalties)
        labels: list[Any] = []  # as the batch has them, once it is gathered
        return [
            ("gathering the batch", self._record(lambda: labels.append(self._gather(batch, n)))),
            *_named("forward", batch.binding.forward),
            ("the loss", self._record(lambda: self._losses(batch, *labels))),
            *_named("backward", batch.binding.backward),
            ("the update", self._record(lambda: self._finish(batch, n, updates))),
        ]

    def _record(self, work: Any) -> list[Launch]:
        record = self._device.record(work)
        return record.preparations + record.launches

    def _gather(self, batch: TrainingBatch, n: int) -> Any:
        """Writes the input; returns the labels."""
        loop_kernels, indices, (x,) = self._device.loop_kernels, self._indices[:n], batch.inputs
        if state := self._model.store.state.size:
            self._device.kernels.copy(
                *(part.reshape(1, 1, 1, state) for part in (self._state_before, self._model.store.state))
            )
        loop_kernels.take_indices(indices, self._order, self._counters, self._loader.batch_size)
        data = self._data
        if data.augmentation is not None:
            return data.augmentation.launch(x, data.images, data.labels, indices, *self._factors)
        labels = self._labels[:n]
        loop_kernels.gather_images(x, data.images, indices, *self._factors)
        loop_kernels.gather_rows(labels.reshape(n, -1), data.labels.whole, indices)
        return labels

    def _losses(self, batch: TrainingBatch, labels: Any) -> None:
        outputs, objective = batch.binding.outputs, self._host.objective
        targets = [self._target(i, y, labels) for i, y in enumerate(outputs)]
        for i, (y, dy, target) in enumerate(zip(outputs, batch.binding.output_gradients, targets, strict=True)):
            self._loss(self._partial[LOSS_ROWS + i], objective.losses[i], objective.weights[i], dy, y, target)
        counts = self._partial[CORRECT_ROW : COUNTED_ROW + 1]
        correct = self._device.loop_kernels, counts, batch.output, labels, targets[0], objective.losses[0]
        self._host.task.launch_count_correct(*correct)

    def _target(self, i: int, y: Any, labels: Any) -> Any:
        """What the loss of output number i takes of the batch's labels."""
        whole = self._targets[i]
        if whole is None:
            return labels.reshape(-1) if labels.dtype == np.int64 else labels.reshape(y.shape)
        target = whole[: len(y)]
        self._host.objective.losses[i].launch_target(self._device.loop_kernels, target, labels)
        return target

    def _loss(self, partial: Any, loss: Loss, weight: float, dy: Any, y: Any, target: Any) -> None:
        """As ``losses.differentiate``, with the sums of the loss in ``partial``."""
        kernels, loop_kernels, losses = self._device.kernels, self._device.loop_kernels, self._executor.pixel_losses
        losses = losses[: prod(y.shape[:-1])]
        class_weights = loss.label_weights(y.shape[-1]) if target.ndim == 1 else None
        scale = weight / loss.weight(target) if class_weights is None else 1.0
        loss.launch(kernels, losses, dy, y, target, scale)
        loop_kernels.sum_losses(partial, losses, scale)
        if class_weights is not None:
            loop_kernels.sum_label_weights(self._weights[0], target, class_weights, ignored_label(loss.ignore_index))
            loop_kernels.take_mean(partial, dy, self._weights, weight)

    def _finish(self, batch: TrainingBatch, n: int, updates: bool) -> None:
        kernels, loop_kernels = self._device.kernels, self._device.loop_kernels
        update, store = self._update, self._model.store
        for i, sums in enumerate(batch.penalties.launch()):
            loop_kernels.sum_losses(self._partial[LOSS_ROWS + len(batch.binding.outputs) + i], sums, 1.0)
        kernels.sum_squares(self._partial[SQUARES_ROW], store.gradients)
        form = StepForm(n, update.accumulate, int(updates), int(self._host.skips))
        tables = self._partial, self._rates, self._numbers, form
        loop_kernels.decide_update(
            self._counters, self.sums, self._executor.random, self._decision, self._scalars, *tables
        )
        if store.state.size:
            loop_kernels.restore_unless_good(store.state, self._state_before, self._decision)
        if update.mean is not None:
            target = store.gradients if updates else update.mean.arena
            loop_kernels.blend_gradients(target, store.gradients, update.mean.arena, self._decision)
        if updates:
            update.optimizer.launch_on_device(self._model, self._scalars)
            for average, newest in () if update.average is None else update.average.pairs():
                loop_kernels.average_weights(average, newest, self._decision)


def _settings(host: HostSteps) -> tuple[object, object]:
    """What may be changed between two steps, by value: what ``begin`` writes, and what is in the launches."""
    model, optimizer = host.model, host.update.optimizer
    options = [optimizer.options, *(group.options for group in optimizer.groups)]
    options += [value.options for own in options for value in own.values() if isinstance(value, Optimizer)]  # of Muon
    learning_rates = [own.get("learning_rate") for own in options]
    others = [{**own, "learning_rate": None, "groups": None} for own in options]
    patterns = [group.pattern for group in optimizer.groups]
    return (learning_rates, model.normalization), (others, patterns, model.store.frozen)


def _named(direction: str, steps: list[BoundStep]) -> list[tuple[str, list[Launch]]]:
    return [
        (f'the {direction} pass of {type(step.node.layer).__name__} "{step.node.name}"', step.launches)
        for step in steps
    ]
