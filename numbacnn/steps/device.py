"""Steps that a GPU drives by itself: the data set, the scalars of every step, and the sums lie in its memory.

The host launches a step and goes on; it looks at losses every ``READ_EVERY`` seconds. What differs from step to step is
uploaded as tables, once an epoch, and a counter on the device finds its row in them: so the launches are the same in
every step, are recorded once for each form of a step, and replayed as a CUDA graph where the packages have them.
"""

import time
from collections.abc import Generator
from dataclasses import replace

import numpy as np

from numbacnn.data.augment import Compose
from numbacnn.data.labels import BOXES, MASKS
from numbacnn.data.transforms import Geometry
from numbacnn.device import ENGINE
from numbacnn.events import Position
from numbacnn.kernels.steps import Tally
from numbacnn.steps.host import HostSteps
from numbacnn.steps.memory import Memory

READ_EVERY = 0.1  # seconds; a bar on a terminal is drawn no more often
MOST_OF_MEMORY = 0.5  # the share of what is free beside the model's buffers that a data set may take


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
        self._memory: Memory | None = None
        self._read_at = 0.0

    def epoch(self, position: Position) -> Generator[Position, None, None]:
        """See ``HostSteps``."""
        start = time.perf_counter()
        with ENGINE:
            self._begin(position)
        position = replace(position, seconds=position.seconds + time.perf_counter() - start)
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

    def _write_back(self, memory: Memory, p: Position, tally: Tally) -> None:
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
            self._memory = Memory(self.host, self._augment, data)
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
