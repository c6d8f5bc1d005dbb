"""Owns a plan's memory and runs its steps: forward and backward are two short loops."""

import zlib
from collections import OrderedDict
from collections.abc import Iterator
from math import prod
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.device import Device
from numbacnn.engine.graph import Node
from numbacnn.engine.parameters import Parameters
from numbacnn.engine.plan import Buffer, Plan, Step, View
from numbacnn.errors import ArgumentError
from numbacnn.kernels.recording import Launch, run

Float32 = NDArray[np.float32]
KEPT_BINDINGS = 8  # batch sizes whose views are kept


class BoundStep(NamedTuple):
    """The launches of a step, for one batch size: functions and their arguments."""

    node: Node
    launches: list[Launch]


class Binding(NamedTuple):
    """All arrays of a plan for one batch size: views into the arena, the inputs and outputs in their own shapes."""

    inputs: list[Float32]
    outputs: list[Float32]
    input_gradients: list[Float32 | None]
    output_gradients: list[Float32]
    preparations: list[Launch]  # of inference, after a change of the parameters; in training they are in the steps
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
        self._nothing = device.zeros((0, 1, 1, 1))  # in place of scratch that inference need not keep
        self._ran: set[tuple[int, str]] = set()  # batch sizes and directions that have been run
        self._bindings: OrderedDict[int, Binding] = OrderedDict()
        self._prepared = -1  # the version of the parameters that inference's preparations were made from

    def forward(self, n: int) -> Binding:
        """Runs the ``n`` images that were written to the binding's inputs; in training with new random numbers."""
        binding = self.bind(n)
        if self.plan.training:
            self._next_random()
            self.parameters.changed()  # running statistics
        elif self._prepared != self.parameters.version:
            run(binding.preparations)
            self._prepared = self.parameters.version
        self._run(binding.forward, n, "forward")
        return binding

    def backward(self, n: int) -> Binding:
        """After ``forward(n)``, from the gradients that were written to the binding's output gradients."""
        binding = self.bind(n)
        self._run(binding.backward, n, "backward")
        return binding

    def _run(self, steps: list[BoundStep], n: int, direction: str) -> None:
        """Runs the steps. On a device that fails later than it is launched, the first time one by one, so that a
        failure is named by its layer."""
        if self.device.is_watched((n, direction) not in self._ran):
            for step in steps:
                with self.device.watch(f'the {direction} pass of {type(step.node.layer).__name__} "{step.node.name}"'):
                    run(step.launches)
            self._ran.add((n, direction))
        else:
            for step in steps:
                run(step.launches)

    def _next_random(self) -> None:
        self.parameters.random[1] += np.uint64(1)
        self.device.write(self.random, self.parameters.random)

    def watch_forward(self, n: int) -> Iterator[tuple[Node, list[Float32]]]:
        """``forward``, layer by layer: each with its output, whose memory may serve another when this goes on."""
        binding = self.bind(n)
        self._next_random()
        for step, bound in zip(self.plan.forward, binding.forward, strict=True):
            run(bound.launches)
            yield step.node, [self._array(step.y, n)]

    def watch_backward(self, n: int) -> Iterator[tuple[Node, list[Float32]]]:
        """``backward``, layer by layer: each with the gradients that it wrote."""
        for step, bound in zip(self.plan.backward, self.bind(n).backward, strict=True):
            run(bound.launches)
            views = [*step.dxs, *(total for total, _ in step.adds)]
            slots = [
                self.parameters.slots[full] for full, name in step.node.parameters.items() if name not in step.frozen
            ]
            wrote = [] if step.layer is None else [slot.of(self.parameters.gradients) for slot in slots]
            yield step.node, [self._array(view, n) for view in views if view is not None] + wrote

    def bind(self, n: int) -> Binding:
        """The plan's arrays for batches of ``n`` images."""
        if n in self._bindings:
            self._bindings.move_to_end(n)
        else:
            if len(self._bindings) == KEPT_BINDINGS:
                self._bindings.popitem(last=False)
            self._bindings[n] = self._bind(n)
        return self._bindings[n]

    def _bind(self, n: int) -> Binding:
        plan = self.plan
        preparations: list[Launch] = []
        return Binding(
            [self._array(view, n) for view in plan.inputs],
            [self._array(view, n) for view in plan.outputs],
            [self._optional(view, n) for view in plan.input_gradients],
            [self._array(view, n) for view in plan.output_gradients],
            preparations,
            [self._bind_step(step, n, preparations) for step in plan.forward],
            [self._bind_step(step, n, preparations) for step in plan.backward],
        )

    def _bind_step(self, step: Step, n: int, preparations: list[Launch]) -> BoundStep:
        """Layers that only launch kernels do so once, for the record; others are called in every step.

        What inference prepares is added to ``preparations``; in training it comes first in the step.
        """
        layer, tensors, geometry = step.layer, self._tensors(step, n), step.node.geometry
        if tensors.training and step.dy is None:
            _check_training(step.node, n)
        clears = [(self._whole(buffer)[:n], buffer.halo) for buffer in step.clears]
        adds = [(self._array(total, n), self._array(part, n)) for total, part in step.adds]

        def work() -> None:
            for buffer, halo in clears:
                self.kernels.clear_halo(buffer, halo)
            if layer is not None:
                (layer.forward if step.dy is None else layer.backward)(self.kernels, tensors, geometry)
            for total, part in adds:
                self.kernels.add_in_place(total, part)

        if layer is not None and not layer.only_launches:
            return BoundStep(step.node, [(work, ())])
        record = self.device.record(work)
        if self.plan.training:
            return BoundStep(step.node, record.preparations + record.launches)
        preparations += record.preparations
        return BoundStep(step.node, record.launches)

    def _tensors(self, step: Step, n: int) -> SimpleNamespace:
        """The arrays of a step, as ``Layer`` describes them."""
        tensors = SimpleNamespace(fused=step.fused, pool=step.pool, training=step.training, frozen=step.frozen)
        tensors.algorithm, tensors.addend = step.algorithm, self._optional(step.addend, n)
        tensors.norm = None
        if step.norm is not None:
            tensors.norm = SimpleNamespace(**self._custom_arrays(step.norm), **step.norm.layer.attributes())
        tensors.random, tensors.stream = self.random, np.uint64(zlib.crc32(step.node.name.encode()))
        tensors.xs = [self._array(view, n) for view in step.xs]
        tensors.y = self._array(step.y, n)
        tensors.dxs = [self._optional(view, n) for view in step.dxs]
        tensors.dy = self._optional(step.dy, n)
        tensors.x = tensors.xs[0] if tensors.xs else None
        tensors.dx = tensors.dxs[0] if tensors.dxs else None
        tensors.mask = tensors.x if step.masks else None
        for name, array in self._custom_arrays(step.node).items():
            setattr(tensors, name, array)
        for full_name, name in step.node.parameters.items() if self.plan.training else ():
            gradients = self.parameters.discarded if name in step.frozen else self.parameters.gradients
            setattr(tensors, f"d_{name}", self.parameters.slots[full_name].of(gradients))
        for name, buffer in step.scratch.items():
            setattr(tensors, name, self._nothing if buffer is None else self._whole(buffer))
        return tensors

    def _custom_arrays(self, node: Node) -> dict[str, Float32]:
        """A layer's parameters and state, by its own names."""
        store = self.parameters
        arrays = {own: store.slots[name].of(store.values) for name, own in node.parameters.items()}
        for name in node.layer.state(node.input_shapes):
            arrays[name] = store.state_slots[f"{node.name}.{name}"].of(store.state)
        return arrays

    def _whole(self, buffer: Buffer) -> Float32:
        start = buffer.offset // 4
        whole: Float32 = self.arena[start : start + prod(buffer.shape)].reshape(buffer.shape)
        return whole

    def _array(self, view: View, n: int) -> Float32:
        """N×H×W×C without the halo; features (c,) as N×1×1×C."""
        top, bottom, left, right = view.buffer.halo
        whole = self._whole(view.buffer)[:n]
        inner = whole[:, top : whole.shape[1] - bottom, left : whole.shape[2] - right]
        h, w, c = view.shape if len(view.shape) == 3 else (1, 1, *view.shape)
        return inner if inner.shape == (n, h, w, c) else inner.reshape(n, h, w, c)

    def _optional(self, view: View | None, n: int) -> Float32 | None:
        return None if view is None else self._array(view, n)


def _check_training(node: Node, n: int) -> None:
    """ArgumentError that names the layer where it cannot be trained on ``n`` images."""
    try:
        node.layer.check_training(node.geometry, n)
    except ArgumentError as error:
        raise ArgumentError(f'{type(node.layer).__name__} "{node.name}": {error}') from None
