"""Steps that a GPU runs without the host: data set, step scalars and sums are in its memory.

The host launches a step and continues without waiting for it. It reads the losses often enough that at most
``READ_EVERY`` seconds of steps wait for the GPU. What differs from step to step is uploaded once an epoch as tables,
whose row a counter on the device selects. So every step makes the same launches: they are recorded once for each kind
of step, and replayed as a CUDA graph if the installed packages have them.
"""

import math
import time
import warnings
from collections.abc import Callable, Generator
from dataclasses import replace
from functools import wraps

import numpy as np

from numbacnn.data.augment import Compose
from numbacnn.data.labels import TAGS, VALUES
from numbacnn.detection import RaggedBoxes
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import DeviceMemoryError
from numbacnn.kernels.decision import EpochCounters
from numbacnn.training.device_memory import DeviceData, TrainingMemory
from numbacnn.training.events import Position
from numbacnn.training.host_loop import HostLoop

READ_EVERY = 0.1  # seconds; a progress bar is not drawn more often
DATA_SHARE = 0.5  # of the memory that the model's buffers leave free, for the data set


def choose_loop(host: HostLoop, augment: Compose | None, validation: int) -> "HostLoop | DeviceLoop":
    """Return the device loop, or the host loop if the device cannot run these steps; warn if memory is the reason.

    ``validation``: images that the model is evaluated on, whose buffers are allocated first.
    """
    if why_not_on_device(host):
        return host
    if reason := _too_large(host, validation):
        _warn(reason)
        return host
    return DeviceLoop(host, augment)


def _warn(reason: object) -> None:
    warnings.warn(f"the host runs the training steps: {reason}", RuntimeWarning, stacklevel=3)


def why_not_on_device(host: HostLoop) -> str | None:
    """Return what, besides memory, prevents a training from running in the device loop; None if nothing does."""
    model, labels = host.model, host.loader.dataset.labels
    reasons = {
        f'device "{model.device.name}" has no loop of its own': not model.device.runs_loops,
        "a layer does more than launch kernels": not all(node.layer.only_launches for node in model.graph.nodes),
        "a single output has two classes": any(
            shape[-1] == 1 for shape in map(model.graph.shapes.__getitem__, host.objective.inputs)
        ),
        "the model has several inputs": len(model.graph.input_shapes) > 1,
        "the labels are rows": host.loader.dataset.kind in (TAGS, VALUES),
        "few images have most of the boxes": isinstance(labels, RaggedBoxes) and labels.is_mostly_padding,
        "the loss is custom": not all(loss.only_launches for loss in host.objective.losses),
        f"{type(host.update.optimizer).__name__} needs the host": not host.update.optimizer.is_replayable,
    }
    return next((reason for reason, holds in reasons.items() if holds), None)


def _too_large(host: HostLoop, validation: int) -> str | None:
    """Return a message if the data set does not fit next to the buffers of the largest batches, which are allocated."""
    model, data = host.model, host.loader.dataset
    with engine_lock:
        model.training_batch(host.loader.size(0), host.objective)
        if validation:
            model.reserve_outputs(validation, outputs=host.objective.inputs[: host.objective.main])
    size, free = data.images.nbytes + data.labels.nbytes, model.device.free_memory()
    fits = size <= DATA_SHARE * free
    return None if fits else f"the data set takes {size / 2**20:,.0f} MiB of {free / 2**20:,.0f} MiB of free GPU memory"


class Pace:
    """Decides when to read, so that at most ``READ_EVERY`` seconds of steps wait for the device.

    Each reading waits for all steps before it; the time between two readings gives the duration of a step.
    """

    def __init__(self) -> None:
        self._seconds = math.inf  # of a step; not known yet
        self.start()

    def start(self) -> None:
        """Restart the clock, before any launch."""
        self._steps, self._since = 0, time.perf_counter()

    def step(self) -> None:
        """Count a launched step."""
        self._steps += 1

    def is_due(self) -> bool:
        """Return whether it is time to read."""
        return max(self._steps * self._seconds, time.perf_counter() - self._since) >= READ_EVERY

    def read(self) -> None:
        """Note that all launched steps are done."""
        if self._steps:
            self._seconds = (time.perf_counter() - self._since) / self._steps
        self.start()


def _timed(work: "Callable[[DeviceLoop, Position], Position]") -> "Callable[[DeviceLoop, Position], Position]":
    """Run ``work`` under the engine lock, and add its duration to the epoch's."""

    @wraps(work)
    def timed(self: "DeviceLoop", position: Position) -> Position:
        start = time.perf_counter()
        with engine_lock:
            position = work(self, position)
        self._seconds += time.perf_counter() - start
        return replace(position, seconds=self._seconds)

    return timed


class DeviceLoop:
    """Runs the steps of an epoch on the device; ``HostLoop`` runs them if the host has to look at each.

    A position's sums are those of the last reading: after the first step of an epoch, when ``Pace`` says so, after the
    last step, and by ``read``. If memory runs out, the host runs the remaining steps, with a warning.

    A batch with NaN or infinity changes nothing, at once. If it ends the training, no later batch changes anything
    either, and the next reading raises the error.
    """

    def __init__(self, host: HostLoop, augment: Compose | None) -> None:
        self.host, self.model, self.loader, self.update = host, host.model, host.loader, host.update
        self._device, self._augment = host.model.device, augment
        self._data: DeviceData | None = None
        self._memory: TrainingMemory | None = None
        self._has_room = True
        self._pace = Pace()
        self._seconds = 0.0  # of the epoch; those in ``position`` may be from before a reading

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """Train from a position to the end of its epoch; yield the position after every step."""
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
        """Return the position with all its sums. Raises NumbacnnError if a bad batch has ended the training."""
        return position if self._memory is None or position.step == 0 else self._read(position)

    @_timed
    def _begin(self, p: Position) -> Position:
        """Set the device to the position, with the model and the optimizer as they are, and allocate everything.

        If there is not enough memory, ``_memory`` is None.
        """
        if self._memory is not None and not self._memory.can_begin():
            self._memory = None  # free its buffers before others are made: there may be no room for both
        if self._has_room:
            try:
                self._data = self._data or DeviceData.upload(self.host, self._augment)
                self._memory = self._memory or TrainingMemory(self.host, self._data)
                self._memory.begin(p)
            except DeviceMemoryError as error:
                self._has_room, self._data, self._memory = False, None, None
                _warn(error)
        self._pace.start()
        return p

    @_timed
    def _run(self, p: Position) -> Position:
        """Launch the step after ``p``."""
        assert self._memory is not None
        self._memory.recorded(p.step).run(self._device)
        self._pace.step()
        self.model.store.changed()
        return replace(p, step=p.step + 1)

    @_timed
    def _read(self, p: Position) -> Position:
        assert self._memory is not None
        counters, loss_sum, bad_loss = self._memory.step.read()
        self._pace.read()
        self._write_back(self._memory, p, counters)
        if counters.bad_step >= 0:
            self._name_bad_step(replace(p, step=counters.bad_step), bad_loss)
        if counters.skipped > p.skipped:
            self.host.check_weights(f"at epoch {p.epoch + 1}, step {p.step}")
        return p.after(counters, loss_sum, p.seconds)

    def _write_back(self, memory: TrainingMemory, p: Position, counters: EpochCounters) -> None:
        """Update what the host keeps of a training besides its sums."""
        update = self.update
        update.optimizer.steps = memory.updates_before + counters.updates
        if counters.last_update >= 0:
            update.learning_rate = float(memory.learning_rates[counters.last_update])
        self.model.store.set_random(self.loader.seed, p.epoch * len(self.loader) + p.step)

    def _name_bad_step(self, p: Position, loss: float) -> None:
        """Raise the error: repeat the step with the weights that it had, and leave the state as it was."""
        state = np.array(self._device.host(self.model.store.state))
        try:
            self.host.name_bad_step(p, loss)
        finally:
            self._device.write(self.model.store.state, state)
