"""Steps that a GPU drives by itself: the data set, the scalars of every step, and the sums lie in its memory.

The host launches a step and goes on; it looks at losses every ``READ_EVERY`` seconds. What differs from step to step is
uploaded as tables, once an epoch, and a counter on the device finds its row in them: so the launches are the same in
every step, are recorded once for each form of a step, and replayed as a CUDA graph where the packages have them.
"""

import time
from collections.abc import Generator, Sequence
from dataclasses import fields, replace
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numbacnn.data.augment import Compose
from numbacnn.data.labels import BOXES, MASKS
from numbacnn.data.transforms import Geometry
from numbacnn.device import ENGINE, Device
from numbacnn.events import Position
from numbacnn.executor import BoundStep, Executor
from numbacnn.kernels.steps import SUM_GROUPS, VERDICT, StepForm, Tally
from numbacnn.steps.batch import TrainingBatch
from numbacnn.steps.host import HostSteps
from numbacnn.steps.planned import PlannedAugmentation

if TYPE_CHECKING:
    from numbacnn.kernels.recording import Launch

READ_EVERY = 0.1  # seconds; a bar on a terminal is drawn no more often
MOST_OF_MEMORY = 0.5  # the share of what is free beside the model's buffers that a data set may take
SQUARES, HITS, LOSSES = range(
    3
)  # the rows of partial sums: of gradients, hits, and from LOSSES on losses and penalties


def why_not_on_device(host: HostSteps, augment: Compose | None) -> str | None:
    """What keeps the steps of a training from running so, in a few words; None where nothing does."""
    model, data = host.model, host.loader.dataset
    geometric = augment is not None and any(isinstance(stage, Geometry) for stage in augment.stages)
    reasons = {
        f'device "{model.device.name}" is driven by the host': model.device.resident is None,
        f"labels are {data.kind}": data.kind == BOXES,
        "masks follow the augmentation": data.kind == MASKS and geometric,
        "the augmentation mixes images": augment is not None and augment.mixes,
        "a layer does more than launch kernels": not all(node.layer.only_launches for node in model.graph.nodes),
        "the loss depends on the labels otherwise": not all(loss.runs_on_device for loss in host.objective.losses),
        f"{type(host.update.optimizer).__name__} needs the host": not host.update.optimizer.runs_on_device,
    }
    reason = next((reason for reason, holds in reasons.items() if holds), None)
    return reason or _too_large(host)


def _too_large(host: HostSteps) -> str | None:
    """Where the data set does not fit beside the buffers of the largest batch, which this allocates."""
    model, data = host.model, host.loader.dataset
    with ENGINE:
        batch = model.training_batch(host.loader.size(0), host.objective)
    one = host.objective.targets(data.labels[:1], [(1, *output.shape[1:]) for output in batch.binding.outputs])
    others = sum(target.nbytes for target in one if target.dtype != np.int64)
    size, free = data.images.nbytes + 8 * data.labels.size + len(data) * others, model.device.free_memory()
    fits = size <= MOST_OF_MEMORY * free
    return None if fits else f"the data set takes {size / 2**20:,.0f} MiB, of the GPU's {free / 2**20:,.0f} MiB free"


class DeviceSteps:
    """As ``HostSteps``, which serve where a step has to be looked at. A position's sums are of the last reading: behind
    the first step of an epoch, every ``READ_EVERY`` seconds, behind the last step, and by ``read``.

    A batch with NaN or infinity changes nothing, at once. Where such a batch ends the training, no batch behind it
    changes anything either, and the next reading raises the error.
    """

    def __init__(self, host: HostSteps, augment: Compose | None) -> None:
        self.host, self.model, self.loader, self.update = host, host.model, host.loader, host.update
        self._device = host.model.device
        self._augment = augment
        self._memory: _Memory | None = None
        self._read_at = 0.0

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """See ``HostSteps``."""
        with ENGINE:
            self._begin(position)
        first, last = position.step, len(self.loader) - 1
        for step in range(first, last + 1):
            start = time.perf_counter()
            with ENGINE:
                position = self._run(position)
            position = replace(position, step=step + 1)
            if step in (first, last) or start - self._read_at >= READ_EVERY:
                position = self.read(position)
            position = replace(position, seconds=position.seconds + time.perf_counter() - start)
            try:
                yield position
            except GeneratorExit:
                self.read(position)  # for what the host keeps of the optimiser
                raise

    def read(self, position: Position) -> Position:
        """The position with all its sums. Raises NumbacnnError where a bad batch has ended the training."""
        if self._memory is None or position.step == 0:
            return position
        with ENGINE:
            tally, (loss_sum, bad_loss) = self._memory.tally(), map(float, self._device.host(self._memory.sums))
            self._read_at = time.perf_counter()
            self._write_back(self._memory, position, tally)
            if tally.bad_step >= 0:
                self._name_bad_step(replace(position, step=tally.bad_step), bad_loss)
            if tally.skipped > position.skipped:
                self.host.check_weights(f"at epoch {position.epoch + 1}, step {position.step}")
        counted = {name: getattr(tally, name) for name in ("hits", "labels", "images", "skipped")}
        return replace(position, loss_sum=loss_sum, **counted)

    def _write_back(self, memory: "_Memory", p: Position, tally: Tally) -> None:
        """What the host keeps of a training beside its sums."""
        update = self.update
        update.optimizer.steps = memory.updates_before + tally.updates
        if update.mean is not None:
            update.mean.images = tally.held
        if tally.last_update >= 0:
            update.learning_rate = float(memory.scales[tally.last_update]) * update.optimizer.learning_rate
        self.model.store.set_random(self.loader.seed, p.epoch * len(self.loader) + p.step)

    def _name_bad_step(self, p: Position, loss: float) -> None:
        """Raises the error. The step runs once more, from the weights that it had; the state is left as it was."""
        state = np.array(self._device.host(self.model.store.state))
        try:
            self.host.name_bad_step(p, loss)
        finally:
            self._device.write(self.model.store.state, state)

    # -- running ------------------------------------------------------------------------------------------------------

    def _begin(self, p: Position) -> None:
        """Has the device stand where the host is."""
        if self._memory is None or self._memory.is_stale():
            data = None if self._memory is None else self._memory.data
            self._memory = _Memory(self.host, self._augment, data)
        self._memory.begin(p)

    def _run(self, p: Position) -> Position:
        """The step behind ``p``; returns the position before it, read anew where the model or the optimiser has got
        other arrays or options since."""
        if self._memory is None or self._memory.is_stale():
            p = self.read(p)
            self._begin(p)
        assert self._memory is not None
        self._memory.form(self.loader.size(p.step), self.update.follows(p.step)).run(self._device)
        self.model.store.changed()
        return p


class _Form:
    """Steps of one form: their launches, by what is to be named where one of them fails."""

    def __init__(self, parts: "Sequence[tuple[str, Sequence[Launch]]]") -> None:
        self._parts = parts
        self.launches = [launch for _, launches in parts for launch in launches]
        self._run_before = False
        self._replay: Any = None

    def run(self, device: Device) -> None:
        """The first time part by part, so that a failure has a name; then all of them at once."""
        if device.is_watched(not self._run_before):
            for what, launches in self._parts:
                with device.watch(what):
                    _run(launches)
        else:
            if self._replay is None:
                self._replay = device.capture(self.launches) or partial(_run, self.launches)
            self._replay()
        self._run_before = True


def _run(launches: "Sequence[Launch]") -> None:
    for launch, arguments in launches:
        launch(*arguments)


class _Data(NamedTuple):
    """A data set on the device: images as rows N·H × W·C; the labels N × M, which hits are counted by, and behind them
    targets N × M of losses that take others; and for each output which of these its loss takes."""

    images: Any
    targets: list[Any]
    chosen: list[int]

    @classmethod
    def upload(cls, host: HostSteps, batch: TrainingBatch) -> "_Data":
        """The whole training set."""
        data, device = host.loader.dataset, host.model.device
        shapes = [(len(data), *output.shape[1:]) for output in batch.binding.outputs]
        targets, chosen = [np.ascontiguousarray(data.labels, np.int64)], []
        for target in host.objective.targets(data.labels, shapes):
            if target.dtype != np.int64:
                targets.append(target)
            chosen.append(0 if target.dtype == np.int64 else len(targets) - 1)
        images = data.images.reshape(prod(data.images.shape[:-2]), -1)
        placed = [_uploaded(device, target.reshape(len(data), -1)) for target in targets]
        return cls(_uploaded(device, images), placed, chosen)


def _uploaded(device: Device, array: Any) -> Any:
    placed = device.zeros(array.shape, array.dtype)
    device.write(placed, array)
    return placed


class _Memory:
    """The arrays of a training on the device, and the launches that work on them."""

    def __init__(self, host: HostSteps, augment: Compose | None, data: "_Data | None") -> None:
        self._host, self._model, self._loader, self._update = host, host.model, host.loader, host.update
        self._device = device = host.model.device
        batch = self._batch_of(host.loader.size(0))
        self._executor: Executor = batch.executor
        self._options = self._current_options()
        self._update.optimizer.attach(self._model)
        images, n = host.loader.dataset.images, host.loader.size(0)
        self.data = data or _Data.upload(host, batch)
        self._augmentation = None if augment is None else PlannedAugmentation(augment, device, images, n)
        self._buffers = [device.zeros((n, target.shape[1]), target.dtype) for target in self.data.targets]
        self._factors = [_uploaded(device, factor) for factor in self._model.input_factors(images)]
        self._indices, self._order = device.zeros(n, np.int64), device.zeros(len(images), np.int64)
        self._counters, self.sums = device.zeros(len(Tally._fields), np.int64), device.zeros(2, np.float64)
        self._verdict = device.zeros(VERDICT)
        self._rates = device.zeros((self._update.in_epoch, 2), np.float64)
        numbers = self._update.optimizer.device_numbers(1, 1)
        self._numbers = device.zeros((self._update.in_epoch, *numbers.shape[1:]), np.float64)
        self._now = device.zeros((numbers.shape[1] // 2, 1 + numbers.shape[2]))
        rows = LOSSES + len(batch.binding.outputs) + len(batch.penalties)
        self._partial = device.zeros((rows, SUM_GROUPS), np.float64)
        self._state_before = device.zeros(self._model.store.state.size)
        self._forms: dict[tuple[int, bool], _Form] = {}
        self.updates_before = 0
        self.scales = np.ones(1)

    def _batch_of(self, n: int) -> TrainingBatch:
        return self._model.training_batch(n, self._host.objective)

    def _current_options(self) -> tuple[Any, ...]:
        optimizer = self._update.optimizer
        return tuple(getattr(optimizer, part.name) for part in fields(optimizer) if part.init)

    def is_stale(self) -> bool:
        """Whether the model has got other buffers, as by freezing, or the optimiser other options."""
        executor = self._batch_of(self._loader.size(0)).executor
        return executor is not self._executor or self._current_options() != self._options

    def begin(self, p: Position) -> None:
        """Writes all that differs from step to step, up to the end of the epoch."""
        device, update = self._device, self._update
        rates, steps = update.rates(p.epoch), update.optimizer.steps
        self.scales, self.updates_before = rates[:, 0], steps
        device.write(self._order, self._loader.order(p.epoch))
        device.write(self._rates, rates)
        device.write(self._numbers, update.optimizer.device_numbers(steps + 1, update.in_epoch))
        held = 0 if update.mean is None else update.mean.images
        tally = Tally(p.step, 0, -1, p.hits, p.labels, p.images, p.skipped, held)
        device.write(self._counters, np.array(tally, np.int64))
        device.write(self.sums, np.array([p.loss_sum, 0.0]))
        total = p.epoch * len(self._loader) + p.step
        device.write(self._executor.random, np.array([self._loader.seed, total + 1], np.uint64))
        if self._augmentation is not None:
            self._augmentation.plan(self._loader.seed, p.epoch)

    def tally(self) -> Tally:
        """How far the device has come."""
        return Tally(*map(int, self._device.host(self._counters)))

    # -- the launches of a step ---------------------------------------------------------------------------------------

    def form(self, n: int, updates: bool) -> _Form:
        """Steps on ``n`` images that do or do not update."""
        if (n, updates) not in self._forms:
            self._forms[n, updates] = _Form(self._parts(n, updates))
        return self._forms[n, updates]

    def _parts(self, n: int, updates: bool) -> "list[tuple[str, list[Launch]]]":
        batch = self._batch_of(n)
        targets = [buffer[:n] for buffer in self._buffers]
        return [
            ("gathering the batch", self._record(lambda: self._gather(batch, targets))),
            *_named("forward", batch.binding.forward),
            ("the loss", self._record(lambda: self._losses(batch, targets))),
            *_named("backward", batch.binding.backward),
            ("the update", self._record(lambda: self._finish(batch, n, updates))),
        ]

    def _record(self, work: Any) -> "list[Launch]":
        record = self._device.record(work)
        return record.preparations + record.launches

    def _gather(self, batch: TrainingBatch, targets: list[Any]) -> None:
        resident, indices, (x,) = self._device.resident, self._indices[: len(targets[0])], batch.inputs
        if state := self._model.store.state.size:
            self._device.kernels.copy(
                *(part.reshape(1, 1, 1, state) for part in (self._state_before, self._model.store.state))
            )
        resident.take_indices(indices, self._order, self._counters, self._loader.batch_size)
        if self._augmentation is None:
            resident.gather_images(x, self.data.images, indices, *self._factors)
        else:
            self._augmentation.launch(x, self.data.images, indices, *self._factors)
        for target, whole in zip(targets, self.data.targets, strict=True):
            resident.gather_rows(target, whole, indices)

    def _losses(self, batch: TrainingBatch, targets: list[Any]) -> None:
        kernels, resident, objective = self._device.kernels, self._device.resident, self._host.objective
        outputs = zip(batch.binding.outputs, batch.binding.output_gradients, strict=True)
        for i, (y, dy) in enumerate(outputs):
            loss, losses = objective.losses[i], self._executor.pixel_losses[: prod(y.shape[:-1])]
            target = targets[self.data.chosen[i]]
            target = target.reshape(-1) if target.dtype == np.int64 else target.reshape(y.shape)
            scale = objective.weights[i] / loss.weight(target)
            loss.launch(kernels, losses, dy, y, target, scale)
            resident.sum_losses(self._partial[LOSSES + i], losses, scale)
        resident.count_hits(self._partial[HITS], batch.output, targets[0].reshape(-1))

    def _finish(self, batch: TrainingBatch, n: int, updates: bool) -> None:
        kernels, resident, update, store = self._device.kernels, self._device.resident, self._update, self._model.store
        for i, sums in enumerate(batch.penalties.launch()):
            resident.sum_losses(self._partial[LOSSES + len(batch.binding.outputs) + i], sums, 1.0)
        kernels.sum_squares(self._partial[SQUARES], store.gradients)
        labels = prod(batch.output.shape[:-1])
        form = StepForm(n, labels, update.accumulate, int(updates), int(self._host.skips))
        tables = self._partial, self._rates, self._numbers, form
        resident.judge_step(self._counters, self.sums, self._executor.random, self._verdict, self._now, *tables)
        if store.state.size:
            resident.restore_unless_good(store.state, self._state_before, self._verdict)
        if update.mean is not None:
            target = store.gradients if updates else update.mean.arena
            resident.blend_gradients(target, store.gradients, update.mean.arena, self._verdict)
        if updates:
            update.optimizer.launch_on_device(self._model, self._now)
            for average, newest in () if update.average is None else update.average.pairs():
                resident.average_weights(average, newest, self._verdict)


def _named(direction: str, steps: list[BoundStep]) -> "list[tuple[str, list[Launch]]]":
    return [
        (f'the {direction} pass of {type(step.node.layer).__name__} "{step.node.name}"', step.launches)
        for step in steps
    ]
