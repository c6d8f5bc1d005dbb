"""The steps of a graph, forward and backward, and the buffers that they use."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from numbacnn.engine.graph import Graph, Node
from numbacnn.engine.plan.arena import Buffer, View, allocate, as_image
from numbacnn.engine.plan.fusion import Fusions
from numbacnn.geometry import NO_HALO, Halo, PoolGeometry, Shape
from numbacnn.layers import Layer
from numbacnn.layers.base import ScratchSpec


@dataclass(eq=False)
class Step:
    """One call of a layer's forward or backward. Entries of ``dxs`` are None where no gradient is asked for."""

    node: Node
    layer: Layer | None  # None: the gradient is in place already, there are only sums to add
    xs: list[View]
    y: View
    dxs: list[View | None] = field(default_factory=list)
    dy: View | None = None
    scratch: dict[str, Buffer | None] = field(default_factory=dict)
    fused: str | None = None
    norm: Node | None = None  # the batch normalisation behind, which the layer's weights take in
    addend: View | None = None  # the other part of the sum behind, which the layer adds before the activation
    algorithm: str | None = None  # of a layer that has several
    pool: PoolGeometry | None = None  # of the max-pool behind, whose output y and gradient dy are; with its argmax
    clears: list[Buffer] = field(default_factory=list)  # whose halo must be zeroed first, since the memory was shared
    adds: list[tuple[View, View]] = field(default_factory=list)  # (sum, part) after the call: gradients meet at a fork
    frozen: frozenset[str] = frozenset()  # the layer's parameters whose gradients nobody reads
    masks: bool = False  # backward applies the gradient of the ReLU that made x
    training: bool = False  # whether the layer runs as training does: not in inference, nor where it is frozen


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
    bytes: int


def make_plan(
    graph: Graph,
    sizes: Any,
    batch: int,
    *,
    training: bool,
    input_gradient: bool = False,
    fuse: bool = True,
    frozen: frozenset[str] = frozenset(),
) -> Plan:
    """Plans ``graph`` for up to ``batch`` images.

    ``sizes``: the device's functions from geometry to scratch shapes. ``training`` keeps what backward reads and plans
    the gradients, and has the auxiliary outputs behind the others; without it, nodes that only those need are left out.
    ``input_gradient`` asks for the gradients of the model's inputs too. ``frozen``: names of parameters that need no
    gradient, and of layers without parameters, as ``Model.freeze`` takes them.
    """
    return _Planner(graph, sizes, batch, training, input_gradient, fuse and sizes.fuses, frozen).plan()


class _Planner:
    def __init__(
        self,
        graph: Graph,
        sizes: Any,
        batch: int,
        training: bool,
        input_gradient: bool,
        fuse: bool,
        frozen: frozenset[str],
    ) -> None:
        self.graph, self.sizes, self.batch = graph if training else graph.inference, sizes, batch
        self.outputs = graph.training_outputs if training else self.graph.outputs
        self.training, self.input_gradient, self.frozen = training, input_gradient, frozen
        self.buffers: list[Buffer] = []
        self.fusions = Fusions(self.graph, self.outputs, sizes, training, fuse)
        self.wants_gradient = self._find_wanted()
        self.values = self._place_values()
        self.time = 0

    def _find_wanted(self) -> list[bool]:
        """For every value, whether its gradient is asked for."""
        wanted = [self.training and self.input_gradient] * len(self.graph.input_shapes)
        for node in self.graph.nodes:
            trains = any(name not in self.frozen for name in node.parameters)
            wanted.append(self.training and (trains or any(wanted[x] for x in node.inputs)))
        return wanted

    # -- where values lie ---------------------------------------------------------------------------------------------

    def _new_buffer(self, name: str, shape: Shape, halo: Halo = NO_HALO) -> Buffer:
        h, w, c = as_image(shape)
        full = (self.batch, h + halo.top + halo.bottom, w + halo.left + halo.right, c)
        buffer = Buffer(name, full, halo)
        self.buffers.append(buffer)
        return buffer

    def _value_halo(self, value: int) -> Halo:
        """The zeros that the layers reading ``value`` expect around it."""
        halo = Halo()
        for i in self.graph.consumers[value]:
            node = self.graph.nodes[i]
            halo = halo.union(node.layer.input_halo(node.geometry))
        return halo

    def _place_values(self) -> list[View | None]:
        """A view for every value; None for one that never leaves the layer that computes it."""
        views: list[View | None] = [
            View(self._new_buffer(name, shape, self._value_halo(i)), shape)
            for i, (name, shape) in enumerate(zip(self.graph.input_names, self.graph.input_shapes, strict=True))
        ]
        inner = self.fusions.inner_values()
        for i, node in enumerate(self.graph.nodes):
            value = self.graph.value(i)
            halo = self._value_halo(value)
            source = views[node.inputs[0]]
            if value in inner:
                views.append(None)
            elif self._is_view(node) and source is not None and not any(source.buffer.halo) and not any(halo):
                views.append(View(source.buffer, node.shape))
            else:
                views.append(View(self._new_buffer(node.name, node.shape, halo), node.shape))
        return views

    def _view(self, value: int) -> View:
        """The view of a value; of one that never leaves its layer, that of what the layer does write."""
        view = self.values[value]
        return self._view(self.fusions.inner_values()[value]) if view is None else view

    def _is_copied(self, i: int) -> bool:
        """Whether node i's forward has something to do."""
        node = self.graph.nodes[i]
        return not (self._is_view(node) and self._view(self.graph.value(i)).buffer is self._view(node.inputs[0]).buffer)

    def _is_view(self, node: Node) -> bool:
        """Whether node's output may be its input's memory."""
        return node.layer.is_view or (node.layer.idle_in_inference and not self.training)

    # -- steps --------------------------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        inputs = [self._view(i) for i in range(len(self.graph.input_shapes))]
        for view in inputs:
            view.buffer.permanent = True
        forward = self._forward_steps()
        outputs = [self._view(value) for value in self.outputs]
        for view in outputs:
            view.buffer.use(self.time)
        gradients: dict[int, View] = {}
        output_gradients = self._output_gradients(gradients) if self.training else []
        self.time += 1
        backward = self._backward_steps(gradients) if self.training else []
        for view in outputs:  # still read after backward: the training loop counts its hits then
            view.buffer.use(self.time)
        input_gradients = [gradients.get(i) for i in range(len(inputs))]
        for gradient in input_gradients:
            if gradient is not None:
                gradient.buffer.use(self.time)
        size = allocate(self.buffers)
        self._clear_halos(forward, backward, [*inputs, *output_gradients])
        return Plan(
            self.batch,
            self.training,
            inputs,
            outputs,
            input_gradients,
            output_gradients,
            forward,
            backward,
            self.buffers,
            size,
        )

    def _forward_steps(self) -> list[Step]:
        steps = []
        self.saved: dict[int, dict[str, Buffer | None]] = {}
        for i, node in enumerate(self.graph.nodes):
            if i in self.fusions.absorbed or not self._is_copied(i):
                continue
            xs, y = [self._view(x) for x in node.inputs], self._view(self.graph.value(i))
            scratch = self._scratch(node, i, "forward")
            step = Step(node, node.layer, xs, y, scratch=scratch, training=self._trains(node))
            step.algorithm = node.layer.choose_algorithm(self.sizes, node.geometry)
            if i in self.fusions.fused:
                step.fused = self.graph.nodes[self.fusions.fused[i]].layer.op
            if i in self.fusions.folded:
                step.norm = self.graph.nodes[self.fusions.folded[i]]
                folded = node.layer.folded_scratch(node.input_shapes)
                scratch |= {name: self._scratch_buffer(node, name, wanted) for name, wanted in folded.items()}
            if i in self.fusions.added:
                step.addend = self._view(self.fusions.other_part(i, self.fusions.added[i]))
            if i in self.fusions.fused_pools:
                pool = self.fusions.fused_pools[i]
                step.pool = self.graph.nodes[pool].geometry
                scratch |= self._scratch(self.graph.nodes[pool], pool, "forward")
            steps.append(step)
            self._live([*xs, y, step.addend], scratch)
            self.time += 1
        return steps

    def _trains(self, node: Node) -> bool:
        """Whether a layer runs as training does: not where all of its parameters, or its own name, are frozen."""
        names = node.parameters or {node.name: ""}
        return self.training and not self.frozen.issuperset(names)

    def _scratch(self, node: Node, i: int, when: str) -> dict[str, Buffer | None]:
        """The step's scratch buffers; None for what an inference plan need not save."""
        buffers: dict[str, Buffer | None] = {}
        for name, scratch in node.layer.scratch(self.sizes, node.geometry, self.batch).items():
            if scratch.when == "saved" and not self.training:
                buffers[name] = None
            elif scratch.when == "saved" and when == "backward":
                buffers[name] = self.saved[i][name]
            elif scratch.when in ("saved", when) or (scratch.when == "prepared" and when == "forward"):
                buffers[name] = self._scratch_buffer(node, name, scratch)
        if when == "forward":
            self.saved[i] = buffers
        return buffers

    def _maxima_scratch(self, node: Node, pool: int) -> dict[str, Buffer | None]:
        """The scratch of a backward step that takes the gradient of the max-pool ``pool``."""
        geometry = self.graph.nodes[pool].geometry
        buffers: dict[str, Buffer | None] = {}
        for name, scratch in node.layer.maxima_scratch(self.sizes, node.geometry, geometry, self.batch).items():
            buffers[name] = self._scratch_buffer(node, name, scratch)
        return buffers | {"argmax": self.saved[pool]["argmax"]}

    def _scratch_buffer(self, node: Node, name: str, scratch: ScratchSpec) -> Buffer:
        kept = scratch.when == "prepared" and not self.training
        shape = scratch.trained if self.training and scratch.trained is not None else scratch.shape
        buffer = Buffer(f"{node.name}.{name}", shape, permanent=kept)
        self.buffers.append(buffer)
        return buffer

    def _live(self, views: Iterable[View | None], scratch: dict[str, Buffer | None]) -> None:
        for view in views:
            if view is not None:
                view.buffer.use(self.time)
        for buffer in scratch.values():
            if buffer is not None:
                buffer.use(self.time)

    def _output_gradients(self, gradients: dict[int, View]) -> list[View]:
        """Where the loss writes; every consumer of an output value then adds to it."""
        for value in self.outputs:
            gradients[value] = self._new_gradient(value)
            gradients[value].buffer.permanent = True
        return [gradients[value] for value in self.outputs]

    def _gradient_halo(self, value: int) -> Halo:
        """The zeros expected around a value's gradient by the layer that computed it, through in-place activations."""
        i = self.fusions.node_of(value)
        if i < 0:
            return Halo()
        node = self.graph.nodes[i]
        if node.layer.in_place_gradient:
            return self._gradient_halo(node.inputs[0])
        needed = self.wants_gradient[node.inputs[0]] or node.layer.weights_read_gradient_halo
        return node.layer.gradient_halo(node.geometry) if needed else Halo()

    def _new_gradient(self, value: int) -> View:
        shape = self.graph.shapes[value]
        i = self.fusions.node_of(value)
        name = self.graph.input_names[value] if i < 0 else self.graph.nodes[i].name
        return View(self._new_buffer(f"d_{name}", shape, self._gradient_halo(value)), shape)

    def _backward_steps(self, gradients: dict[int, View]) -> list[Step]:
        steps = []
        behind = {pool: activation for activation, pool in self.fusions.delayed.items()}
        for i in reversed(range(len(self.graph.nodes))):
            value = self.graph.value(i)
            if value not in gradients or not self.wants_gradient[value]:
                continue
            if i in behind and behind[i] not in self.fusions.masking:
                steps.append(self._activation_step(behind[i], self._view(value), gradients[value]))
            step = self._backward_step(i, gradients)
            if step is not None:
                steps.append(step)
        return steps

    def _activation_step(self, i: int, y: View, dy: View) -> Step:
        """The gradient of activation i, in place, from an output ``y`` with gradient ``dy``."""
        node = self.graph.nodes[i]
        step = Step(node, node.layer, [], y, [], dy, training=self._trains(node))
        self._live([y, dy], {})
        self.time += 1
        return step

    def _backward_step(self, i: int, gradients: dict[int, View]) -> Step | None:
        node, value = self.graph.nodes[i], self.graph.value(i)
        layer, dy = node.layer, gradients[value]
        dxs: list[View | None] = []
        adds: list[tuple[View, View]] = []
        for x in node.inputs:
            if not self.wants_gradient[x]:
                dxs.append(None)
                continue
            part = self._gradient_part(i, x, dy)
            dxs.append(part)
            if x in gradients:
                adds.append((gradients[x], part))
            else:
                gradients[x] = part
        done = (
            i in self.fusions.delayed
            or i in self.fusions.skipped
            or i in self.fusions.masking
            or (layer.is_view and dxs[0] is not None and dxs[0].buffer is dy.buffer)
        )
        if done and not adds:
            return None
        y = self._view(value)
        xs = [self._view(x) for x in node.inputs]
        pool = self.fusions.pooled.get(i)
        scratch = self._scratch(node, i, "backward") if pool is None else self._maxima_scratch(node, pool)
        step = Step(node, None if done else layer, xs, y, dxs, dy, scratch, adds=adds, training=self._trains(node))
        step.algorithm = layer.choose_algorithm(self.sizes, node.geometry)
        step.frozen = frozenset(own for name, own in node.parameters.items() if name in self.frozen)
        step.masks = i in self.fusions.masking.values()
        step.pool = None if pool is None else self.graph.nodes[pool].geometry
        read = [*(xs if layer.reads_x else []), *([y] if layer.reads_y else [])]
        self._live([*read, dy, *dxs, *(total for total, _ in adds)], scratch)
        self.time += 1
        return step

    def _gradient_part(self, i: int, x: int, dy: View) -> View:
        """Where node i writes its share of the gradient of value ``x``: in dy's own memory where it can."""
        node = self.graph.nodes[i]
        if node.layer.in_place_gradient or i in self.fusions.skipped:
            return View(dy.buffer, dy.shape)
        if node.layer.is_view and not any(dy.buffer.halo) and not any(self._gradient_halo(x)):
            return View(dy.buffer, self.graph.shapes[x])
        return self._new_gradient(x)

    def _clear_halos(self, forward: Sequence[Step], backward: Sequence[Step], outside: Sequence[View]) -> None:
        """Has the step that first writes a shared buffer zero its halo; ``outside``: written by no step."""
        written: set[int] = {id(view.buffer) for view in outside}
        for step in [*forward, *backward]:
            targets = [step.y] if step.dy is None else [dx for dx in step.dxs if dx is not None]
            for buffer in {id(view.buffer): view.buffer for view in targets}.values():
                if id(buffer) not in written and buffer.shared and any(buffer.halo):
                    step.clears.append(buffer)
                written.add(id(buffer))
