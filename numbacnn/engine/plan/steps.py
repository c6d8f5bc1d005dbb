"""The planner: one forward and, for training, one backward step for every node that has something to compute."""

import gc
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple

from numbacnn.engine.graph import Graph, Kind, Node
from numbacnn.engine.plan import fusion
from numbacnn.engine.plan.arena import Buffer, View, allocate, full_shape
from numbacnn.engine.plan.fusion import Fusions
from numbacnn.geometry import NO_HALO, Halo, PoolGeometry, Shape
from numbacnn.layers import Layer
from numbacnn.layers.algorithms import ConvAlgorithm
from numbacnn.layers.base import ScratchSpec
from numbacnn.layers.bindings import Sizes

Scratch = dict[str, Buffer | None]


class ScratchItem(NamedTuple):
    """A scratch buffer to make."""

    name: str
    shape: Shape
    permanent: bool


@dataclass(eq=False, slots=True)
class Step:
    """One call of a layer's forward or backward."""

    node: Node
    layer: Layer | None  # None: the gradient is in place already, only ``adds`` remain
    xs: list[View]
    y: View
    dxs: Sequence[View | None] = ()  # None for a gradient that nobody reads
    dy: View | None = None
    scratch: Scratch = field(default_factory=dict)  # None for what an inference plan need not save
    fused: str | None = None  # op of the activation that forward applies, or whose gradient backward applies
    norm: Node | None = None  # the batch normalization that the layer's weights take in
    residual: View | None = None  # the residual that forward adds before the activation
    algorithms: Mapping[str, ConvAlgorithm] = field(default_factory=dict)  # by direction of the convolution
    pool: PoolGeometry | None = None  # of the max-pool whose output and argmax forward writes, or backward reads
    clears: tuple[Buffer, ...] = ()  # their halo must be zeroed first: the memory was shared
    adds: Sequence[tuple[View, View]] = ()  # (total, part) to add afterwards: gradients at a fork
    frozen: frozenset[str] = frozenset()  # the layer's parameters whose gradients nobody reads
    masks: bool = False  # backward applies the gradient of the ReLU that computed x
    training: bool = False  # False in inference, and if the layer is frozen


@dataclass(eq=False)
class Plan:
    """The steps of a graph for up to ``batch`` images, and the buffers they use."""

    batch: int
    training: bool
    inputs: list[View]
    outputs: list[View]
    input_gradients: list[View | None]
    output_gradients: list[View]
    forward: list[Step]
    backward: list[Step]
    buffers: list[Buffer]
    bytes: int  # of the arena


def make_plan(
    graph: Graph,
    sizes: Sizes,
    batch: int,
    *,
    training: bool,
    input_gradient: bool = False,
    fuse: bool = True,
    frozen: frozenset[str] = frozenset(),
) -> Plan:
    """Plan ``graph`` for up to ``batch`` images.

    ``sizes`` are the device's functions from geometry to scratch shapes. A ``training`` plan keeps the values that
    backward reads, has the gradients, and ends in the outputs followed by the auxiliary ones; an inference plan leaves
    out the nodes that only auxiliary outputs need. ``input_gradient`` asks for the gradients of the inputs too.
    ``frozen`` names parameters that need no gradient, and layers without parameters, as ``Model.freeze`` does.
    """
    with without_collection():
        return _Planner(graph, sizes, batch, training, input_gradient, fuse and sizes.fuses, frozen).plan()


@contextmanager
def without_collection() -> Iterator[None]:
    """Collect no cyclic garbage in the block: there is none, and each collection would visit a large graph and plan."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Planner:
    def __init__(
        self,
        graph: Graph,
        sizes: Sizes,
        batch: int,
        training: bool,
        input_gradient: bool,
        fuse: bool,
        frozen: frozenset[str],
    ) -> None:
        self.graph, self.sizes, self.batch = graph if training else graph.inference, sizes, batch
        self.outputs = graph.training_outputs if training else self.graph.outputs
        self.training, self.frozen = training, frozen
        self.fusions = Fusions(self.graph, self.outputs, sizes, training, fuse)
        self.needs_gradient = self._needs_gradient(training and input_gradient)
        self.clamped, self.delayed, self.pooled, self.masked = map(self.fusions.absorbed, fusion.BACKWARD)
        self.pools_taken = set(self.pooled.values())
        self.buffers: list[Buffer] = []
        self.saved: dict[int, Scratch] = {}  # by node: the scratch of its forward step
        self.scratch_of_kind: dict[tuple[Kind, str], tuple[Sequence[ScratchItem], Sequence[str]]] = {}
        self.algorithms_of_kind: dict[
            tuple[Kind, str, tuple[str, ...], PoolGeometry | None],
            tuple[Mapping[str, ConvAlgorithm], Sequence[ScratchItem]],
        ] = {}
        self.gradient_halos = self._gradient_halos() if training else {}
        self.with_view = set(  # nodes whose output may be their input's memory
            self.graph.nodes_of(lambda layer: layer.is_view or (layer.idle_in_inference and not training))
        )
        self.with_scratch = set(self.graph.nodes_of(lambda layer: layer.scratch is not Layer.scratch))
        self.with_algorithms = set(self.graph.nodes_of(lambda layer: layer.algorithms is not Layer.algorithms))
        self.gradients: dict[int, View] = {}  # by value
        self.time = 0
        self.values = self._make_values()

    def plan(self) -> Plan:
        inputs = self.values[: len(self.graph.input_shapes)]
        for view in inputs:
            view.buffer.permanent = True
        forward = [*filter(None, map(self._forward_step, range(len(self.graph.nodes))))]
        outputs = [self.values[value] for value in self.outputs]
        self._use(outputs)
        output_gradients = self._output_gradients() if self.training else []
        self.time += 1
        backward = list[Step]()
        for i in reversed(range(len(self.graph.nodes))) if self.training else ():
            backward += self._backward_steps(i)
        input_gradients = [self.gradients.get(i) for i in range(len(inputs))]
        self._use([*outputs, *input_gradients])  # the training loop still reads the outputs after backward
        size = allocate(self.buffers)
        _clear_halos([*forward, *backward], [*inputs, *output_gradients])
        views = inputs, outputs, input_gradients, output_gradients
        return Plan(self.batch, self.training, *views, forward, backward, self.buffers, size)

    # -- values -------------------------------------------------------------------------------------------------------

    def _make_values(self) -> list[View]:
        """Return a view for every value; of one that is never stored, the view of what its step stores."""
        graph, halos, stored = self.graph, self._value_halos(), self.fusions.stored_values()
        views: dict[int, View] = {}
        names = zip(graph.names, graph.shapes, strict=True)
        for i, (name, shape) in enumerate(names, graph.producer(0)):
            value = graph.value(i)
            if value in stored:
                continue
            halo = halos.get(value, NO_HALO)
            source = views.get(graph.nodes[i].inputs[0]) if i in self.with_view else None
            if source is not None and not any(source.buffer.halo) and not any(halo):
                views[value] = View(source.buffer, shape)
            else:
                views[value] = self._new_view(name, shape, halo)
        return [views[stored.get(value, value)] for value in range(len(graph.shapes))]

    def _new_view(self, name: str, shape: Shape, halo: Halo) -> View:
        buffer = Buffer(name, full_shape(shape, self.batch, halo), halo)
        self.buffers.append(buffer)
        return View(buffer, shape)

    def _value_halos(self) -> dict[int, Halo]:
        """Map values to the halo of zeros that their consumers expect around them, if any."""
        halos: dict[int, Halo] = {}
        for i in self.graph.nodes_of(lambda layer: layer.input_halo is not Layer.input_halo):
            node = self.graph.nodes[i]
            needed = node.kind.input_halo
            for value in node.inputs if needed is not NO_HALO else ():
                halos[value] = needed.union(halos[value]) if value in halos else needed
        return halos

    # -- forward ------------------------------------------------------------------------------------------------------

    def _forward_step(self, i: int) -> Step | None:
        """Return the forward step of node ``i``, if it has anything to compute."""
        if i in self.fusions.computed_elsewhere:
            return None
        node, values = self.graph.nodes[i], self.values
        xs, y = [values[x] for x in node.inputs], values[self.graph.value(i)]
        if i in self.with_view and y.buffer is xs[0].buffer:
            return None
        step = Step(node, node.layer, xs, y, scratch=self._scratch(i, "forward"), training=self._trains(node))
        if i in self.fusions.starts:
            self._fuse(step, i)
        if i in self.with_algorithms:
            self._choose_algorithms(step, ("forward",))
        self._use([*xs, y, step.residual])
        self.time += 1
        return step

    def _fuse(self, step: Step, i: int) -> None:
        """Let the forward step of node ``i`` also compute the nodes that it absorbs."""
        node = step.node
        norm, total, relu, pool = self.fusions.absorbed_forward(i)
        if relu is not None:
            step.fused = self.graph.nodes[relu].layer.op
        if norm is not None:
            step.norm = self.graph.nodes[norm]
            step.scratch |= self._new_scratch(node, self._wanted(node.layer.folded_scratch(node.input_shapes)))
        if total is not None:
            step.residual = self.values[self.fusions.residual(i, total)]
        if pool is not None:
            step.pool = self.graph.nodes[pool].geometry
            step.scratch |= self._scratch(pool, "forward")

    def _trains(self, node: Node) -> bool:
        """Return whether a layer runs as in training: not if all of its parameters, or its own name, are frozen."""
        if not self.training or not self.frozen:
            return self.training
        return not self.frozen.issuperset(node.parameters or [node.name])

    def _use(self, views: Iterable[View | None]) -> None:
        """Extend the lifetime of the buffers of these views to the current step."""
        time = self.time
        for view in views:
            if view is not None:
                view.buffer.use(time)

    # -- scratch ------------------------------------------------------------------------------------------------------

    def _scratch(self, i: int, direction: str) -> Scratch:
        """Return the scratch of node ``i`` in a "forward" or "backward" step."""
        if i not in self.with_scratch:
            return {}
        node = self.graph.nodes[i]
        wanted, saved = self._scratch_of_kind(node.kind, direction)
        found = self._new_scratch(node, wanted)
        if direction == "forward":
            self.saved[i] = found
        for name in saved:
            found[name] = self._saved_scratch(i, name)
        return found

    def _saved_scratch(self, i: int, name: str) -> Buffer | None:
        """Return scratch that the forward step of node ``i`` has saved for the current step; None in inference."""
        buffer = self.saved[i].get(name)
        if buffer is not None:
            buffer.use(self.time)
        return buffer

    def _scratch_of_kind(self, kind: Kind, direction: str) -> tuple[Sequence[ScratchItem], Sequence[str]]:
        """Return the scratch to make for a direction, and the names of what else it takes: scratch that is saved."""
        key = kind, direction
        found = self.scratch_of_kind.get(key)
        if found is None:
            is_forward = direction == "forward"
            made = {direction, "prepared"} if is_forward else {direction}
            if is_forward and self.training:
                made.add("saved")
            specs = kind.layer.scratch(self.sizes, kind.geometry, self.batch)
            saved = [name for name, spec in specs.items() if spec.when == "saved" and spec.when not in made]
            wanted = self._wanted({name: spec for name, spec in specs.items() if spec.when in made})
            found = self.scratch_of_kind[key] = wanted, saved
        return found

    def _wanted(self, specifications: Mapping[str, ScratchSpec]) -> Sequence[ScratchItem]:
        return [
            ScratchItem(
                name,
                spec.trained if self.training and spec.trained is not None else spec.shape,
                spec.when == "prepared" and not self.training,
            )
            for name, spec in specifications.items()
        ]

    def _new_scratch(self, node: Node, wanted: Sequence[ScratchItem]) -> Scratch:
        """Return new scratch for the current step."""
        time, found = self.time, Scratch()
        for name, shape, permanent in wanted:
            found[name] = Buffer(node.name, shape, NO_HALO, time, time, permanent, name)
        self.buffers += filter(None, found.values())
        return found

    def _choose_algorithms(self, step: Step, parts: tuple[str, ...]) -> None:
        """Choose the step's convolution algorithms, if its layer has any, and add their scratch."""
        layer, kind, pool = step.node.layer, step.node.kind, step.pool
        key = kind, getattr(layer, "algorithm", ""), parts, pool  # a layer's algorithm may be set after it was recorded
        found = self.algorithms_of_kind.get(key)
        if found is None:
            when = "forward" if step.dy is None else "backward"
            algorithms = layer.algorithms(self.sizes, kind.geometry, parts, pool)
            scratch = {
                f"{direction}.{name}": ScratchSpec(spec.shape, "prepared" if spec.prepared else when)
                for direction, algorithm in algorithms.items()
                for name, spec in algorithm.scratch(direction, kind.geometry, self.batch, pool).items()
            }
            found = self.algorithms_of_kind[key] = algorithms, self._wanted(scratch)
        step.algorithms, wanted = found
        added = self._new_scratch(step.node, wanted)
        step.scratch = step.scratch | added if step.scratch else added

    # -- backward -----------------------------------------------------------------------------------------------------

    def _needs_gradient(self, of_inputs: bool) -> list[bool]:
        """Return for every value whether its gradient is needed."""
        if not self.training:
            return [False] * len(self.graph.shapes)
        needed = [of_inputs] * len(self.graph.input_shapes)
        for node in self.graph.nodes:
            trains = bool(node.kind.parameters) and not (self.frozen and self.frozen.issuperset(node.parameters))
            needed.append(trains or any(map(needed.__getitem__, node.inputs)))
        return needed

    def _output_gradients(self) -> list[View]:
        """Return the views that the loss writes; every consumer of an output value then adds to its gradient."""
        for value in self.outputs:
            self.gradients[value] = self._new_gradient(value)
            self.gradients[value].buffer.permanent = True
        return [self.gradients[value] for value in self.outputs]

    def _backward_steps(self, i: int) -> list[Step]:
        """Return the backward steps at node ``i``: of an activation delayed to it, and its own."""
        value = self.graph.value(i)
        if value not in self.gradients or not self.needs_gradient[value]:
            return []
        steps, activation = list[Step](), self.delayed.get(i)
        if activation is not None and self.fusions.absorber(fusion.mask_gradient, activation) is None:
            steps.append(self._activation_step(activation, self.values[value], self.gradients[value]))
        step = self._backward_step(i)
        if step is not None:
            steps.append(step)
        return steps

    def _activation_step(self, i: int, y: View, dy: View) -> Step:
        """Return the step that applies the gradient of activation ``i`` in place, to ``dy`` at the output ``y``."""
        node = self.graph.nodes[i]
        self._use([y, dy])
        self.time += 1
        return Step(node, node.layer, [], y, [], dy, training=self._trains(node))

    def _backward_step(self, i: int) -> Step | None:
        node, value = self.graph.nodes[i], self.graph.value(i)
        layer, xs, y, dy = node.layer, [self.values[x] for x in node.inputs], self.values[value], self.gradients[value]
        dxs, adds = self._input_gradients(i, dy)
        in_place = layer.is_view and dxs[0] is not None and dxs[0].buffer is dy.buffer
        done = in_place or i in self.fusions.gradient_elsewhere
        if done and not adds:
            return None
        step = Step(node, None if done else layer, xs, y, dxs, dy, adds=adds, training=self._trains(node))
        if self.frozen:
            step.frozen = frozenset(own for name, own in node.parameters.items() if name in self.frozen)
        step.masks = i in self.masked
        if i in self.clamped:
            step.fused = self.graph.nodes[self.clamped[i]].layer.op
        pool = self.pooled.get(i)
        if pool is None:
            step.scratch = self._scratch(i, "backward")
        else:
            step.pool = geometry = self.graph.nodes[pool].geometry
            wanted = layer.pool_gradient_scratch(self.sizes, node.geometry, geometry, self.batch)
            step.scratch = self._new_scratch(node, self._wanted(wanted))
            step.scratch["argmax"] = self._saved_scratch(pool, "argmax")
        if i in self.with_algorithms:
            weight, inputs = "weight" not in step.frozen, dxs.count(None) < len(dxs)
            self._choose_algorithms(step, ("weight",) * weight + ("input",) * inputs)
        used = [dy, *dxs, *[total for total, _ in adds]]
        if layer.reads_x:
            used += xs
        if layer.reads_y:
            used.append(y)
        self._use(used)
        self.time += 1
        return step

    def _input_gradients(self, i: int, dy: View) -> tuple[list[View | None], list[tuple[View, View]]]:
        """Return the views that node ``i`` writes its inputs' gradients to, and the sums at a fork."""
        dxs, adds = list[View | None](), list[tuple[View, View]]()
        for x in self.graph.nodes[i].inputs:
            part = self._gradient_part(i, x, dy) if self.needs_gradient[x] else None
            dxs.append(part)
            if part is None:
                continue
            if x in self.gradients:
                adds.append((self.gradients[x], part))
            else:
                self.gradients[x] = part
        return dxs, adds

    def _gradient_part(self, i: int, x: int, dy: View) -> View:
        """Return the view for node ``i``'s share of the gradient of value ``x``: the memory of dy if possible."""
        layer = self.graph.nodes[i].layer
        if layer.in_place_gradient or i in self.pools_taken:
            return dy
        if layer.is_view and not any(dy.buffer.halo) and not any(self.gradient_halos.get(x, NO_HALO)):
            return View(dy.buffer, self.graph.shapes[x])
        return self._new_gradient(x)

    def _new_gradient(self, value: int) -> View:
        return self._new_view(
            f"d_{self.graph.names[value]}", self.graph.shapes[value], self.gradient_halos.get(value, NO_HALO)
        )

    def _gradient_halos(self) -> dict[int, Halo]:
        """Map values to the halo that their producers expect around the gradient, through in-place activations."""
        halos: dict[int, Halo] = {}
        own = self.graph.nodes_of(
            lambda layer: layer.in_place_gradient or layer.gradient_halo is not Layer.gradient_halo
        )
        for i in own:
            node = self.graph.nodes[i]
            if node.layer.in_place_gradient:
                halo = halos.get(node.inputs[0], NO_HALO)
            elif self.needs_gradient[node.inputs[0]] or node.layer.weights_read_gradient_halo:
                halo = node.kind.gradient_halo
            else:
                halo = NO_HALO
            if halo is not NO_HALO:
                halos[self.graph.value(i)] = halo
        return halos


def _clear_halos(steps: Sequence[Step], outside: Sequence[View]) -> None:
    """Let the step that first writes a shared buffer zero its halo; no step writes the views ``outside``."""
    written = {id(view.buffer) for view in outside}
    for step in steps:
        for view in [step.y] if step.dy is None else step.dxs:
            if view is None or not view.buffer.shared or not any(view.buffer.halo):
                continue
            if id(view.buffer) not in written:
                step.clears += (view.buffer,)
            written.add(id(view.buffer))
