"""The executor owns a plan's memory and runs its steps: forward and backward are two short loops."""

import zlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Iterator
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.device import Device
from numbacnn.engine.graph import Node
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters, Slot
from numbacnn.engine.plan import Buffer, Plan, ScratchArray, Step, View
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape, as_image
from numbacnn.kernels.recording import Launch, run
from numbacnn.layers.bindings import Bindings, Norm

Float32 = NDArray[np.float32]
KEPT_BATCH_SIZES = 8  # for which views and launches are kept


class BoundStep(NamedTuple):
    """The launches of a step for one batch size: functions and their arguments."""

    node: Node
    launches: list[Launch]


class BoundPlan(NamedTuple):
    """A plan for one batch size: views into the arena, N×H×W×C, and the launches of its steps."""

    inputs: list[Float32]
    outputs: list[Float32]
    input_gradients: list[Float32 | None]
    output_gradients: list[Float32]
    preparations: list[Launch]  # run by inference after a change of the parameters; in training, part of the steps
    forward: list[BoundStep]
    backward: list[BoundStep]


class Executor:
    """Runs a plan on a device. All memory is allocated here, once; a smaller batch runs in the same buffers."""

    def __init__(self, plan: Plan, parameters: Parameters, device: Device) -> None:
        self.plan, self.parameters, self.device = plan, parameters, device
        self.kernels = device.kernels
        self.arena = device.arena(plan.bytes, plan.batch)
        self.pixel_losses = device.zeros(plan.batch * max(prod(view.shape[:-1]) for view in plan.outputs))
        self.random = device.zeros(2, np.uint64)  # the key of the numbers that layers draw
        self._empty = device.zeros((0, 1, 1, 1))
        self._ran: set[tuple[int, str]] = set()  # batch sizes and directions that have run
        self._bound: OrderedDict[Hashable, BoundPlan] = OrderedDict()  # by batch size
        self._prepared = -1  # the version of the parameters that the preparations ran with

    # -- running ------------------------------------------------------------------------------------------------------

    def forward(self, n: int) -> BoundPlan:
        """Run the ``n`` images that were written to ``bind(n).inputs``; in training, with new random numbers."""
        bound = self.bind(n)
        if self.plan.training:
            self._next_random()
            self.parameters.changed()  # running statistics
        elif self._prepared != self.parameters.version:
            run(bound.preparations)
            self._prepared = self.parameters.version
        self._run(bound.forward, n, "forward")
        return bound

    def backward(self, n: int) -> BoundPlan:
        """After ``forward(n)``, compute all gradients from those that were written to ``bind(n).output_gradients``."""
        bound = self.bind(n)
        self._run(bound.backward, n, "backward")
        return bound

    def backward_stepwise(self, n: int) -> Iterator[int]:
        """Run backward, and yield the number of each step after it has run."""
        for number, step in enumerate(self.bind(n).backward):
            run(step.launches)
            yield number

    def gradient_slots(self) -> list[list[Slot]]:
        """Return the slots of the gradients that each backward step writes."""
        slots = self.parameters.slots
        return [[slots[name] for name in step.node.parameters] if step.layer else [] for step in self.plan.backward]

    def _run(self, steps: list[BoundStep], n: int, direction: str) -> None:
        """Run the steps; on a device that reports failures late, one by one the first time, to name the layer."""
        if self.device.is_watched((n, direction) not in self._ran):
            for step in steps:
                with self.device.watch(f'the {direction} pass of {type(step.node.layer).__name__} "{step.node.name}"'):
                    run(step.launches)
            self._ran.add((n, direction))
        else:
            for step in steps:
                run(step.launches)

    def _next_random(self) -> None:
        """Begin a training step: the layers draw new numbers."""
        self.parameters.random[1] += np.uint64(1)
        self.device.write(self.random, self.parameters.random)

    def watch_forward(self, n: int) -> Iterator[tuple[Node, list[Float32]]]:
        """Run forward layer by layer, and yield each with its output, whose memory later layers may overwrite."""
        bound = self.bind(n)
        self._next_random()
        for step, bound_step in zip(self.plan.forward, bound.forward, strict=True):
            run(bound_step.launches)
            yield step.node, [self._array(step.y, n)]

    def watch_backward(self, n: int) -> Iterator[tuple[Node, list[Float32]]]:
        """Run backward layer by layer, and yield each with the gradients that it wrote."""
        store = self.parameters
        for step, bound_step in zip(self.plan.backward, self.bind(n).backward, strict=True):
            run(bound_step.launches)
            views = [*step.dxs, *(total for total, _ in step.adds)]
            trained = [name for name, own in step.node.parameters.items() if step.layer and own not in step.frozen]
            gradients = [store.slots[name].of(store.gradients) for name in trained]
            yield step.node, [self._array(view, n) for view in views if view is not None] + gradients

    # -- binding ------------------------------------------------------------------------------------------------------

    @property
    def bound_sizes(self) -> Iterable[Hashable]:
        """The batch sizes for which launches are recorded."""
        return self._bound.keys()

    def unbind(self, sizes: Iterable[Hashable]) -> None:
        """Forget the launches that are recorded for some batch sizes."""
        for n in sizes:
            self._bound.pop(n, None)

    def bind(self, n: int) -> BoundPlan:
        """Return the plan's arrays and launches for batches of ``n`` images."""
        key = self._key(n)
        if key in self._bound:
            self._bound.move_to_end(key)
        else:
            if len(self._bound) == KEPT_BATCH_SIZES:
                self._bound.popitem(last=False)
            self._bound[key] = self._bind(n)
        return self._bound[key]

    def _key(self, n: int) -> Hashable:
        """Return what the launches for ``n`` images depend on."""
        return n

    def _bind(self, n: int) -> BoundPlan:
        plan = self.plan
        preparations: list[Launch] = []
        return BoundPlan(
            [self._array(view, n) for view in plan.inputs],
            [self._array(view, n) for view in plan.outputs],
            [self._optional(view, n) for view in plan.input_gradients],
            [self._array(view, n) for view in plan.output_gradients],
            preparations,
            [self._bind_step(step, n, preparations) for step in plan.forward],
            [self._bind_step(step, n, preparations) for step in plan.backward],
        )

    def _bind_step(self, step: Step, n: int, preparations: list[Launch]) -> BoundStep:
        """Record the launches of a step. A layer that does more than launch kernels is called in every step instead.

        In inference, launches that only depend on the parameters are appended to ``preparations``.
        """
        if step.training and step.dy is None:
            check_training(step.node, n)
        call = self._call(step, self._bindings(step, n))

        def work() -> None:
            self._clear(step, n)
            call()
            self._add(step, n)

        if step.layer is not None and not step.layer.only_launches:
            return BoundStep(step.node, [(work, ())])
        record = self.device.record(work)
        if self.plan.training:
            return BoundStep(step.node, record.preparations + record.launches)
        preparations += record.preparations
        return BoundStep(step.node, record.launches)

    def _call(self, step: Step, bindings: Bindings) -> Callable[[], None]:
        """Return the call of a step's layer, if it has one."""
        layer, geometry = step.layer, step.node.geometry

        def call() -> None:
            if layer is not None:
                with self.device.in_precision():
                    (layer.forward if step.dy is None else layer.backward)(self.kernels, bindings, geometry)
                if not layer.only_launches:
                    engine_lock.require_threads()  # it may have forked, and this may be the child

        return call

    def _clear(self, step: Step, n: int) -> None:
        """Zero the halos that a step finds in memory that was shared."""
        for buffer in step.clears:
            self.kernels.clear_halo(self._whole(buffer)[:n], buffer.halo)

    def _add(self, step: Step, n: int) -> None:
        """Add the gradients of a value that several layers read."""
        for total, part in step.adds:
            self.kernels.add_in_place(self._array(total, n), self._array(part, n))

    def _bindings(self, step: Step, n: int) -> Bindings:
        xs = [self._array(view, n) for view in step.xs]
        arrays = self._layer_arrays(step.node)
        for name, own in step.node.parameters.items() if self.plan.training else ():
            gradients = self.parameters.discarded if own in step.frozen else self.parameters.gradients
            arrays[f"d_{own}"] = self.parameters.slots[name].of(gradients)
        for name, scratch in step.scratch.items():
            arrays[name] = self._scratch_array(scratch)
        return Bindings(
            xs=xs,
            y=self._array(step.y, n),
            dy=self._empty if step.dy is None else self._array(step.dy, n),
            dxs=[self._optional(view, n) for view in step.dxs],
            training=step.training,
            frozen=step.frozen,
            algorithms=step.algorithms,
            fused=step.fused,
            norm=None if step.norm is None else self._norm(step.norm),
            residual=self._optional(step.residual, n),
            then=[(part.node.layer, self._bindings(part, n), part.node.geometry) for part in step.then],
            pool=step.pool,
            mask=xs[0] if step.masks else None,
            random=self.random,
            stream=np.uint64(zlib.crc32(step.node.name.encode())),
            arrays=arrays,
        )

    def _layer_arrays(self, node: Node) -> dict[str, Float32]:
        """Return a layer's parameters and state by its own names."""
        store = self.parameters
        arrays = {own: store.slots[name].of(store.values) for name, own in node.parameters.items()}
        for name in node.layer.state(node.input_shapes):
            arrays[name] = store.state_slots[f"{node.name}.{name}"].of(store.state)
        return arrays

    def _norm(self, node: Node) -> Norm:
        return Norm(**self._layer_arrays(node), eps=node.layer.attributes()["eps"])

    def _whole(self, buffer: Buffer) -> Float32:
        return self._memory(buffer.offset, buffer.shape)

    def _scratch_array(self, scratch: ScratchArray) -> Float32:
        return self._memory(scratch.buffer.offset + scratch.part.start, scratch.part.shape)

    def _memory(self, offset: int, shape: Shape) -> Float32:
        start = offset // 4
        found: Float32 = self.arena[start : start + prod(shape)].reshape(shape)
        return found

    def _array(self, view: View, n: int) -> Float32:
        """Return a view N×H×W×C of the arena without the halo; features (c,) are N×1×1×C."""
        top, bottom, left, right = view.buffer.halo
        whole = self._whole(view.buffer)[:n]
        inner = whole[:, top : whole.shape[1] - bottom, left : whole.shape[2] - right]
        shape = (n, *as_image(view.shape))
        return inner if inner.shape == shape else inner.reshape(shape)

    def _optional(self, view: View | None, n: int) -> Float32 | None:
        return None if view is None else self._array(view, n)


def check_training(node: Node, n: int) -> None:
    """Raise ArgumentError, with the layer's name, if it cannot be trained on ``n`` images."""
    try:
        node.layer.check_training(node.geometry, n)
    except ArgumentError as error:
        raise ArgumentError(f'{type(node.layer).__name__} "{node.name}": {error}') from None
