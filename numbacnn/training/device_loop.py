"""Steps that a GPU drives by itself: the data set, the scalars of every step, and the sums lie in its memory.

The host launches a step and goes on; it looks at losses so often that never more than ``READ_EVERY`` seconds of steps
wait for the GPU. What differs from step to step is uploaded as tables, once an epoch, and a counter on the device finds
its row in them: so the launches are the same in every step, are recorded once for each form of a step, and replayed as
a CUDA graph where the packages have them.
"""

import math
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import wraps

import numpy as np

from numbacnn.data.augment import Compose
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import DeviceMemoryError
from numbacnn.kernels.step_scalars import EpochCounters
from numbacnn.training.device_memory import Data, TrainingMemory
from numbacnn.training.events import Position
from numbacnn.training.host_loop import HostSteps

READ_EVERY = 0.1  # seconds; a bar on a terminal is drawn no more often
MOST_OF_MEMORY = 0.5  # the share of what is free beside the model's buffers that a data set may take


def choose_steps(host: HostSteps, augment: Compose | None, validation: int) -> "HostSteps | DeviceSteps":
    """Steps that the device drives, with the data set in its memory, or those of the host; a warning says where memory
    alone decides. ``validation``: how many images the model is evaluated on, whose buffers are made first."""
    if why_not_on_device(host):
        return host
    if reason := _too_large(host, validation):
        _tell(reason)
        return host
    return DeviceSteps(host, augment)


def _tell(reason: object) -> None:
    warnings.warn(f"the host drives the training's steps: {reason}", RuntimeWarning, stacklevel=3)


def why_not_on_device(host: HostSteps) -> str | None:
    """What beside memory keeps the steps of a training from running so, in a few words; None where nothing does."""
    model = host.model
    reasons = {
        f'device "{model.device.name}" is driven by the host': model.device.loop_kernels is None,
        "a layer does more than launch kernels": not all(node.layer.only_launches for node in model.graph.nodes),
        "the loss is of your own": not all(loss.runs_on_device for loss in host.objective.losses),
        f"{type(host.update.optimizer).__name__} needs the host": not host.update.optimizer.runs_on_device,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _too_large(host: HostSteps, validation: int) -> str | None:
    """Where the data set does not fit beside the buffers of the largest batches, which this allocates."""
    model, data = host.model, host.loader.dataset
    with engine_lock:
        model.training_batch(host.loader.size(0), host.objective)
        if validation:
            model.reserve_outputs(validation)
    size, free = data.images.nbytes + data.labels.nbytes, model.device.free_memory()
    fits = size <= MOST_OF_MEMORY * free
    return None if fits else f"the data set takes {size / 2**20:,.0f} MiB, of the GPU's {free / 2**20:,.0f} MiB free"


class Pace:
    """When to read: before more than ``READ_EVERY`` seconds of steps wait for the device. The host, which only launches
    them, learns what a step takes from the time between two readings, each of which waits for all steps before it."""

    def __init__(self) -> None:
        self._seconds = math.inf  # of a step, as far as that is known
        self.start()

    def start(self) -> None:
        """No step has been launched since now."""
        self._steps, self._since = 0, time.perf_counter()

    def step(self) -> None:
        """One has."""
        self._steps += 1

    def is_due(self) -> bool:
        """Whether it is time."""
        return max(self._steps * self._seconds, time.perf_counter() - self._since) >= READ_EVERY

    def read(self) -> None:
        """All steps are done."""
        if self._steps:
            self._seconds = (time.perf_counter() - self._since) / self._steps
        self.start()


def _timed(work: "Callable[[DeviceSteps, Position], Position]") -> "Callable[[DeviceSteps, Position], Position]":
    """``work`` under the engine's lock; the seconds that it takes count as the epoch's, whoever called it."""

    @wraps(work)
    def timed(self: "DeviceSteps", position: Position) -> Position:
        start = time.perf_counter()
        with engine_lock:
            position = work(self, position)
        self._seconds += time.perf_counter() - start
        return replace(position, seconds=self._seconds)

    return timed


class DeviceSteps:
    """As ``HostSteps``, which serve where a step has to be looked at. A position's sums are of the last reading: behind
    the first step of an epoch, then by ``Pace``, behind the last step, and by ``read``. Where the data set, or what its
    steps need beside it, finds no memory, the host drives all that are left, and a warning says so.

    A batch with NaN or infinity changes nothing, at once. Where such a batch ends the training, no batch behind it
    changes anything either, and the next reading raises the error.
    """

    def __init__(self, host: HostSteps, augment: Compose | None) -> None:
        self.host, self.model, self.loader, self.update = host, host.model, host.loader, host.update
        self._device, self._augment = host.model.device, augment
        self._data: Data | None = None
        self._memory: TrainingMemory | None = None
        self._finds_room = True
        self._pace = Pace()
        self._seconds = 0.0  # of the epoch: what ``position`` has of them may be from before a reading

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """See ``HostSteps``."""
        self._seconds = position.seconds
        first, last = position.step, len(self.loader) - 1
        for step in range(first, last + 1):
            if step == first:
                position = self._begin(position)
            elif self._memory is not None and not self._memory.is_current():
                position = self._begin(self.read(position))
            if self._memory is None:
                yield from self.host.epoch(position)
                return
            position = self._run(position)
            if step in (first, last) or self._pace.is_due():
                position = self.read(position)
            yield position

    def read(self, position: Position) -> Position:
        """The position with all its sums. Raises NumbacnnError where a bad batch has ended the training."""
        return position if self._memory is None or position.step == 0 else self._read(position)

    @_timed
    def _begin(self, p: Position) -> Position:
        """Has the device stand where the host is, with the model and the optimiser as they are, and all its memory
        taken; ``_memory`` is None where there is not enough."""
        if self._memory is not None and not self._memory.can_begin():
            self._memory = None  # its buffers go before others are made: there may be no room for both
        if self._finds_room:
            try:
                self._data = self._data or Data.upload(self.host, self._augment)
                self._memory = self._memory or TrainingMemory(self.host, self._data)
                self._memory.begin(p)
            except DeviceMemoryError as error:
                self._finds_room, self._data, self._memory = False, None, None
                _tell(error)
        self._pace.start()
        return p

    @_timed
    def _run(self, p: Position) -> Position:
        """Launches the step behind ``p``."""
        assert self._memory is not None
        self._memory.form(p.step).run(self._device)
        self._pace.step()
        self.model.store.changed()
        return replace(p, step=p.step + 1)

    # -- reading ------------------------------------------------------------------------------------------------------

    @_timed
    def _read(self, p: Position) -> Position:
        assert self._memory is not None
        counters, (loss_sum, bad_loss) = self._memory.counters(), map(float, self._device.host(self._memory.sums))
        self._pace.read()
        self._write_back(self._memory, p, counters)
        if counters.bad_step >= 0:
            self._name_bad_step(replace(p, step=counters.bad_step), bad_loss)
        if counters.skipped > p.skipped:
            self.host.check_weights(f"at epoch {p.epoch + 1}, step {p.step}")
        counted = {name: getattr(counters, name) for name in ("correct", "labels", "images", "skipped")}
        return replace(p, loss_sum=loss_sum, **counted)

    def _write_back(self, memory: TrainingMemory, p: Position, counters: EpochCounters) -> None:
        """What the host keeps of a training beside its sums."""
        update = self.update
        update.optimizer.steps = memory.updates_before + counters.updates
        if update.mean is not None:
            update.mean.images = counters.accumulated
        if counters.last_update >= 0:
            update.learning_rate = float(memory.learning_rates[counters.last_update])
        self.model.store.set_random(self.loader.seed, p.epoch * len(self.loader) + p.step)

    def _name_bad_step(self, p: Position, loss: float) -> None:
        """Raises the error. The step runs once more, from the weights that it had; the state is left as it was."""
        state = np.array(self._device.host(self.model.store.state))
        try:
            self.host.name_bad_step(p, loss)
        finally:
            self._device.write(self.model.store.state, state)
