"""An executor of consecutive shards of a batch, layer by layer.

What an image's values do not depend on others for runs on the images of all shards at once, so that shards cost little:
forward passes, and gradients of inputs. What is summed or drawn for a shard runs shard by shard: gradients of
parameters, which are then added in the tree, statistics of batch normalization, and masks of dropout. Where kernels
can compute several shards, these are handled as one.
"""

from collections.abc import Callable, Hashable
from dataclasses import replace
from functools import partial
from itertools import pairwise
from operator import sub

import numpy as np

from numbacnn.distributed.shards import Shards
from numbacnn.distributed.sums import Float32, Float64, GradientSums, RangeSums
from numbacnn.engine.device import Device
from numbacnn.engine.executor import BoundStep, Executor, check_training
from numbacnn.engine.parameters import ALIGNMENT, Parameters, Slot
from numbacnn.engine.plan import Plan, ScratchArray, Step
from numbacnn.geometry import Shape
from numbacnn.kernels.recording import Launch
from numbacnn.layers import BatchNorm
from numbacnn.layers.base import ScratchSpec
from numbacnn.layers.bindings import Bindings

Reduce = Callable[[Float64, Float64], None]  # writes the sum over all shards, from a row for each shard of this rank
Ranges = list[tuple[int, RangeSums]]  # of the gradients, with their starts


class ShardedExecutor(Executor):
    """Runs a training plan on the shards of one rank.

    Args:
        sums: where the gradients of the parameters are added.
        shards: of the whole batch.
        mine: the shards of this rank.
        reduce: adds the sums of batch normalization over all shards; None for statistics of each shard.

    Attributes:
        frozen: the parameters that were frozen when the plan was made.
        states: the arrays of state after each shard; all start from the parameters' state.
    """

    def __init__(
        self,
        plan: Plan,
        parameters: Parameters,
        device: Device,
        sums: GradientSums,
        shards: Shards,
        mine: range,
        reduce: Reduce | None,
    ) -> None:
        super().__init__(plan, parameters, device)
        self._sums, self._shards, self._mine, self._reduce = sums, shards, mine, reduce
        self.frozen = parameters.frozen
        self.states = np.zeros((len(mine), parameters.state.size), np.float32)
        self._randoms = np.zeros((len(mine), 2), np.uint64)
        self._starts = (0,) * (len(mine) + 1)
        self._copies: dict[tuple[int, int, int], Float32] = {}  # by buffer, scratch array and shard
        self._scratch: dict[tuple[str | None, str, Shape], Float32] = {}  # by layer and shard, name and shape
        in_backward = {id(buffer) for step in plan.backward for buffer in step.workspaces}
        in_forward = {id(buffer) for step in plan.forward for buffer in step.workspaces}
        self._saved = in_forward & in_backward

    def cut(self, starts: tuple[int, ...]) -> None:
        """Say where the images of each shard start, among those of this rank, and where the last one's end."""
        self._starts = starts

    def _key(self, n: int) -> Hashable:
        return self._starts

    def _next_random(self) -> None:
        """Begin a training step: every shard draws new numbers of its own, and starts from the same state."""
        seed, step = self.parameters.random.tolist()
        self._randoms[:, 0] = seed
        self._randoms[:, 1] = [(step * self._shards.count + shard + 1) % 2**64 for shard in self._mine]
        self.states[:] = self.parameters.state
        super()._next_random()

    # -- binding ------------------------------------------------------------------------------------------------------

    def _bind_step(self, step: Step, n: int, preparations: list[Launch]) -> BoundStep:
        launches: list[Launch] = []
        if n:
            launches += self._recorded(partial(self._clear, step, n))
        if step.layer is not None:
            launches += self._layer_launches(step, n)
        if n:
            launches += self._recorded(partial(self._add, step, n))
        return BoundStep(step.node, launches)

    def _layer_launches(self, step: Step, n: int) -> list[Launch]:
        layer, t = step.layer, self._bindings(step, n)
        assert layer is not None
        if step.training and self._reduce is not None and layer.known_op == BatchNorm.op:
            return self._synchronized(step, t)
        levels = self._levels(step)
        if not layer.per_image:
            level = next(iter(levels), None) if step.training else None
            return self._by_shard(step, t, lambda part: self._call(step, part)(), level=level)
        if step.dy is None:
            return self._whole_batch(step, t)
        launches: list[Launch] = []
        own = frozenset(step.node.parameters.values())
        for level, names in levels.items():
            weights_only = replace(t, dxs=[None] * len(t.dxs), frozen=own - names)
            launches += self._by_shard(step, weights_only, lambda part: self._call(step, part)(), level=level)
        if not own or any(dx is not None for dx in t.dxs):
            launches += self._whole_batch(step, replace(t, frozen=own))
        return launches

    def _whole_batch(self, step: Step, t: Bindings) -> list[Launch]:
        """Return the launches of a layer on the images of all shards."""
        return self._recorded(self._call(step, t), step) if self._starts[-1] else []

    def _levels(self, step: Step) -> dict[int | None, frozenset[str]]:
        """Return the parameters that are trained by the level of the tree up to which the layer adds shards itself.

        None: it computes one shard at a time.
        """
        found: dict[int | None, frozenset[str]] = {}
        levels = self._layer_sums(step)
        for name in step.node.parameters.values():
            if name not in step.frozen:
                found[levels.get(name)] = found.get(levels.get(name), frozenset()) | {name}
        return found

    def _layer_sums(self, step: Step) -> dict[str, int]:
        """Return the level of the tree up to which the layer adds the shards of its parameters.

        Empty if the batch is one shard, whose bits are those without shards.
        """
        if step.layer is None or self._shards.count == 1:
            return {}
        images = [stop - start for start, stop in pairwise(self._starts)]
        arguments = self.device.sizes, step.algorithms, step.node.geometry, self.plan.batch, images
        sums = step.layer.shards_at_once(*arguments)
        return {name: shards.bit_length() - 1 for name, shards in sums.items() if shards > 0}

    def _by_shard(
        self,
        step: Step,
        t: Bindings,
        work: Callable[[Bindings], None],
        synchronized: bool = False,
        level: int | None = None,
    ) -> list[Launch]:
        """Return the launches of a layer on each shard, and of the additions of its parameters' gradients.

        ``synchronized``: what forward saves is that of the whole batch. ``level``: the layer adds up to 2^level shards.
        """
        launches: list[Launch] = []
        ranges = self._ranges(step, t.frozen, level or 0)
        for number, group in enumerate(self._sums.groups(level or 0)):
            start, stop = self._starts[group.start], self._starts[group.stop]
            if start < stop:
                starts = tuple(each - start for each in self._starts[group.start : group.stop + 1])
                if step.training and step.dy is None and not synchronized:
                    check_training(step.node, min(map(sub, starts[1:], starts)))
                part = self._of_group(step, t, number, group, ranges, synchronized)
                if level is not None:
                    part.shards = starts
                    part.arrays |= self._shard_arrays(step, group, max(map(sub, starts[1:], starts)))
                launches += self._recorded(partial(work, part), step)
            else:
                launches += [(sums.targets[number].fill, (0,)) for _, sums in ranges]
            for _, sums in ranges:
                for addition in sums.additions[number]:
                    launches += self._recorded(addition)
        return launches

    def _recorded(self, work: Callable[[], None], step: Step | None = None) -> list[Launch]:
        if step is not None and step.layer is not None and not step.layer.only_launches:
            return [(work, ())]
        record = self.device.record(work)
        return record.preparations + record.launches

    # -- arrays of a shard --------------------------------------------------------------------------------------------

    def _ranges(self, step: Step, frozen: frozenset[str], level: int) -> Ranges:
        """Return the ranges of the gradients that a backward step writes, without gaps between them."""
        if step.dy is None:
            return []
        names = [name for name, own in step.node.parameters.items() if own not in frozen]
        slots = sorted(self.parameters.slots[name] for name in names)
        bounds: list[tuple[int, int]] = []
        for slot in slots:
            start, stop = slot.start, -(-slot.stop // ALIGNMENT) * ALIGNMENT
            if bounds and bounds[-1][1] == start:
                start = bounds.pop()[0]
            bounds.append((start, stop))
        return [(start, self._sums.range(start, stop, level)) for start, stop in bounds]

    def _of_group(
        self, step: Step, t: Bindings, number: int, group: slice, ranges: Ranges, synchronized: bool
    ) -> Bindings:
        """Return a step's arrays of one shard, or of a group of them whose parameters' gradients the layer adds."""
        rows, first = slice(self._starts[group.start], self._starts[group.stop]), group.start
        arrays = t.arrays | self._state_arrays(step, first)
        for name, scratch in step.scratch.items() if not synchronized else ():
            if id(scratch.buffer) in self._saved:
                arrays[name] = self._saved_array(scratch, rows, first)
        for name, own in step.node.parameters.items() if step.dy is not None else ():
            if own not in t.frozen:
                arrays[f"d_{own}"] = _gradient(self.parameters.slots[name], number, ranges)
        xs = [x[rows] for x in t.xs]
        return replace(
            t,
            xs=xs,
            y=t.y[rows],
            dy=t.dy if step.dy is None else t.dy[rows],
            dxs=[None if dx is None else dx[rows] for dx in t.dxs],
            mask=xs[0] if step.masks else None,
            random=self._randoms[first],
            batch_sums=None if t.batch_sums is None else t.batch_sums[first],
            arrays=arrays,
        )

    def _shard_arrays(self, step: Step, group: slice, images: int) -> dict[str, Float32]:
        """Return the arrays of a layer that computes several shards, of up to ``images`` images, each on its own."""
        layer, shards = step.node.layer, group.stop - group.start
        scratch = layer.shard_scratch(self.device.sizes, step.node.geometry, images, shards)
        if not scratch:
            return {}
        found = {name: self._shard_scratch(step, name, group.start, scratch[name]) for name in step.scratch}
        return found | self._state_arrays(step, group)

    def _shard_scratch(self, step: Step, name: str, first: int, spec: ScratchSpec) -> Float32:
        """Return scratch for several shards, which layers share unless backward reads what forward writes."""
        key = f"{step.node.name} {first}" if spec.when == "saved" else None, name, spec.shape
        if key not in self._scratch:
            self._scratch[key] = np.zeros(spec.shape, np.float32)
        return self._scratch[key]

    def _state_arrays(self, step: Step, number: int | slice) -> dict[str, Float32]:
        """Return the state of a step's layer after a shard; after several, as rows."""
        slots = {
            name: self.parameters.state_slots[f"{step.node.name}.{name}"]
            for name in step.node.layer.state(step.node.input_shapes)
        }
        states = self.states[number]
        return {name: states[..., s.start : s.stop].reshape(*states.shape[:-1], *s.shape) for name, s in slots.items()}

    def _saved_array(self, scratch: ScratchArray, rows: slice, number: int) -> Float32:
        """Return what forward saves for backward: the images of a shard, or if it has no images, a copy of its own."""
        (buffer, part), shape = scratch, scratch.part.shape
        if shape[0] == self.plan.batch:
            return self._scratch_array(scratch)[rows]
        key = id(buffer), part.start, number
        if key not in self._copies:
            self._copies[key] = np.zeros(shape, np.float32)
        return self._copies[key]

    # -- batch normalization over the whole batch ---------------------------------------------------------------------

    def _synchronized(self, step: Step, t: Bindings) -> list[Launch]:
        """Return the launches that sum each shard, add over all shards, and then normalize the images of all.

        Every shard's running statistics move to those of the whole batch.
        """
        layer, geometry, forward, reduce = step.layer, step.node.geometry, step.dy is None, self._reduce
        assert isinstance(layer, BatchNorm)
        assert reduce is not None
        sums = np.zeros((len(self._mine) + 1, layer.sums_size(geometry)))
        each, total = sums[:-1], sums[-1]
        add, apply = (
            (layer.sum_forward, layer.forward_from_sums) if forward else (layer.sum_backward, layer.backward_from_sums)
        )
        launches = self._by_shard(
            step, replace(t, batch_sums=each), lambda part: add(self.kernels, part, geometry), synchronized=True
        )
        launches.append((reduce, (each, total)))
        if self._starts[-1]:
            whole = replace(t, batch_sums=total, arrays=t.arrays | self._state_arrays(step, 0))
            launches += self._recorded(partial(apply, self.kernels, whole, geometry), step)
        if forward:
            for state in self._state_arrays(step, slice(None)).values():
                launches.append((np.copyto, (state[1:], state[:1])))
        return launches


def _gradient(slot: Slot, number: int, ranges: Ranges) -> Float32:
    """Return where a shard writes the gradient of a parameter."""
    start, sums = next((start, sums) for start, sums in reversed(ranges) if start <= slot.start)
    return Slot(slot.start - start, slot.shape).of(sums.targets[number])
