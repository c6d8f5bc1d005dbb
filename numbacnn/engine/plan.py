"""From a graph to buffers and steps, before any array exists.

A plan decides what is fused, which values share a buffer, what halo each buffer has, and where in one arena it lies:
buffers that never live together share memory. Time runs 0, 1, … over the forward steps, then once for the loss, then
over the backward steps.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any, NamedTuple

from numbacnn.engine.graph import Graph, Node
from numbacnn.geometry import NO_HALO, Halo, PoolGeometry, Shape
from numbacnn.layers import Layer
from numbacnn.layers.base import ScratchSpec

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
THICK_HALO = 0.25  # share of a buffer; a halo thicker than this is not worth clearing in every step


@dataclass(eq=False)
class Buffer:
    """Memory for one value, gradient or scratch of ``batch`` images; alive from ``first`` to ``last``."""

    name: str
    shape: Shape  # of the whole buffer: N×H×W×C with its halo, or a scratch's own
    halo: Halo = NO_HALO
    first: int = 1 << 30
    last: int = -1
    permanent: bool = False  # lives all the time: written from outside, or costly to clear
    offset: int = -1  # bytes into the arena
    shared: bool = False  # some of its memory serves another buffer at another time

    @property
    def bytes(self) -> int:
        """Size in the arena."""
        return -(-4 * prod(self.shape) // ALIGNMENT) * ALIGNMENT

    @property
    def halo_share(self) -> float:
        """What part of the buffer is halo."""
        _, h, w, _ = (*self.shape, 1, 1, 1)[:4]
        inner = (h - self.halo.top - self.halo.bottom) * (w - self.halo.left - self.halo.right)
        return 1 - inner / (h * w)

    def use(self, time: int) -> None:
        """Extends the life to ``time``."""
        self.first, self.last = min(self.first, time), max(self.last, time)


class View(NamedTuple):
    """A value or gradient: its buffer, seen in its own shape."""

    buffer: Buffer
    shape: Shape


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
    return _Planner(graph, sizes, batch, training, input_gradient, fuse, frozen).plan()


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
        self.folded = self._find_folded() if fuse and not training else {}
        self.added = self._find_added() if fuse and not training else {}
        self.fused = self._find_fused() if fuse else {}
        self.delayed = self._find_delayed() if fuse and training else {}
        self.fused_pools = self._find_fused_pools() if fuse else {}
        self.pooled = self._find_pooled() if fuse and training else {}
        self.skipped = set(self.pooled.values())
        self.masking = self._find_masking() if fuse and training else {}
        self.wants_gradient = self._find_wanted()
        self.values = self._place_values()
        self.time = 0

    # -- decisions on the graph ---------------------------------------------------------------------------------------

    def _only_consumer(self, value: int) -> int | None:
        """The one node that reads ``value``, unless it is an output of the model too."""
        consumers = self.graph.consumers[value]
        return consumers[0] if len(consumers) == 1 and value not in self.outputs else None

    def _find_folded(self) -> dict[int, int]:
        """node → the batch normalisation behind it, which is linear in inference: the weights take it in."""
        folded = {}
        for i, node in enumerate(self.graph.nodes):
            consumer = self._only_consumer(self.graph.value(i))
            if consumer is not None and self.graph.nodes[consumer].layer.known_op in node.layer.folds:
                folded[i] = consumer
        return folded

    def _find_added(self) -> dict[int, int]:
        """node → the sum of two behind it, and behind its normalisation, whose other part is there before it runs."""
        added = {}
        absorbed = set(self.folded.values())
        for i, node in enumerate(self.graph.nodes):
            consumer = self._only_consumer(self.graph.value(self.folded.get(i, i)))
            if i in absorbed or consumer is None:
                continue
            total = self.graph.nodes[consumer]
            takes_part = total.layer.known_op in node.layer.adds and len(total.inputs) == 2
            if takes_part and self._node(self._other_part(i, consumer)) < i:
                added[i] = consumer
        return added

    def _other_part(self, i: int, total: int) -> int:
        """The value that the sum ``total`` adds to node i's."""
        own = self.graph.value(self.folded.get(i, i))
        first, second = self.graph.nodes[total].inputs
        return second if first == own else first

    def _last(self, i: int) -> int:
        """The last node that i's step computes, but for an activation."""
        return self.added.get(i, self.folded.get(i, i))

    def _find_fused(self) -> dict[int, int]:
        """node → the activation that it applies in its store, behind a normalisation and a sum that it computes."""
        fused = {}
        absorbed = {*self.folded.values(), *self.added.values()}
        for i, node in enumerate(self.graph.nodes):
            if i in absorbed:
                continue
            consumer = self._only_consumer(self.graph.value(self._last(i)))
            if consumer is not None and self.graph.nodes[consumer].layer.known_op in node.layer.fuses:
                fused[i] = consumer
        return fused

    def _find_delayed(self) -> dict[int, int]:
        """activation → the max-pool behind it, where its gradient is applied instead.

        max(f(x)) = f(max(x)) for f that does not decrease, and behind the pool there are fewer elements.
        """
        delayed = {}
        for i, node in enumerate(self.graph.nodes):
            consumer = self._only_consumer(self.graph.value(i))
            alone = node.layer.monotone and self._only_consumer(node.inputs[0]) == i
            if alone and consumer is not None and self.graph.nodes[consumer].layer.is_max_pool:
                delayed[i] = consumer
        return delayed

    def _find_fused_pools(self) -> dict[int, int]:
        """layer → the max-pool whose maxima it takes of its own output, behind the activation that it applies."""
        fused = {}
        for i, node in enumerate(self.graph.nodes):
            last = self.fused.get(i, self._last(i))
            pool = self._only_consumer(self.graph.value(last))
            if pool is None or i in self.added or not self._takes_windows(pool):
                continue
            wants_output = self.training and last != i and last not in self.delayed
            if not wants_output and node.layer.fuses_pool(self.sizes, node.geometry, self.graph.nodes[pool].geometry):
                fused[i] = pool
        return fused

    def _find_pooled(self) -> dict[int, int]:
        """layer → the max-pool behind it, whose gradient it takes as it is, never spread over the windows.

        Between the two may be an activation whose gradient is applied behind the pool.
        """
        before = {activation: self.graph.nodes[activation].inputs[0] for activation in self.delayed}
        pooled = {}
        for i, node in enumerate(self.graph.nodes):
            if not self._takes_windows(i):
                continue
            source = node.inputs[0]
            producer = self._node(before.get(self._node(source), source))
            if producer >= 0 and self._only_consumer(source) == i:
                layer, geometry = self.graph.nodes[producer].layer, self.graph.nodes[producer].geometry
                if layer.accepts_pool_gradient(self.sizes, geometry, node.geometry):
                    pooled[producer] = i
        return pooled

    def _find_masking(self) -> dict[int, int]:
        """ReLU → the layer behind it that applies its gradient: its own input says where that is zero."""
        masking = {}
        for i, node in enumerate(self.graph.nodes):
            if node.layer.known_op == "relu":
                reader = self._only_consumer(self.graph.value(self.delayed.get(i, i)))
                while reader is not None and self.graph.nodes[reader].layer.is_view:
                    reader = self._only_consumer(self.graph.value(reader))
                if reader is not None and self.graph.nodes[reader].layer.masks_gradient:
                    masking[i] = reader
        return masking

    def _takes_windows(self, i: int) -> bool:
        """Whether node i is a max-pool of windows at even steps, as the bins of an adaptive one are not."""
        return self.graph.nodes[i].layer.is_max_pool and isinstance(self.graph.nodes[i].geometry, PoolGeometry)

    def _node(self, value: int) -> int:
        """The node that computes ``value``; negative for an input of the model."""
        return value - len(self.graph.input_shapes)

    def _find_wanted(self) -> list[bool]:
        """For every value, whether its gradient is asked for."""
        wanted = [self.training and self.input_gradient] * len(self.graph.input_shapes)
        for node in self.graph.nodes:
            trains = any(name not in self.frozen for name in node.parameters)
            wanted.append(self.training and (trains or any(wanted[x] for x in node.inputs)))
        return wanted

    # -- where values lie ---------------------------------------------------------------------------------------------

    def _new_buffer(self, name: str, shape: Shape, halo: Halo = NO_HALO) -> Buffer:
        h, w, c = _as_image(shape)
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
        inner = self._inner_values()
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
        return self._view(self._inner_values()[value]) if view is None else view

    def _inner_values(self) -> dict[int, int]:
        """value → what its layer computes from it on its way: an activation, maxima."""
        value = self.graph.value
        inner = {value(i): value(norm) for i, norm in self.folded.items()}
        inner |= {value(self.folded.get(i, i)): value(total) for i, total in self.added.items()}
        inner |= {value(self._last(i)): value(activation) for i, activation in self.fused.items()}
        last = {i: self.fused.get(i, self._last(i)) for i in self.fused_pools}
        return inner | {value(last[i]): value(pool) for i, pool in self.fused_pools.items()}

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
        size = _allocate(self.buffers)
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
        absorbed = {*self.folded.values(), *self.added.values(), *self.fused.values(), *self.fused_pools.values()}
        self.saved: dict[int, dict[str, Buffer | None]] = {}
        for i, node in enumerate(self.graph.nodes):
            if i in absorbed or not self._is_copied(i):
                continue
            xs, y = [self._view(x) for x in node.inputs], self._view(self.graph.value(i))
            scratch = self._scratch(node, i, "forward")
            step = Step(node, node.layer, xs, y, scratch=scratch, training=self._trains(node))
            step.algorithm = node.layer.choose_algorithm(self.sizes, node.geometry)
            if i in self.fused:
                step.fused = self.graph.nodes[self.fused[i]].layer.op
            if i in self.folded:
                step.norm = self.graph.nodes[self.folded[i]]
                folded = node.layer.folded_scratch(node.input_shapes)
                scratch |= {name: self._scratch_buffer(node, name, wanted) for name, wanted in folded.items()}
            if i in self.added:
                step.addend = self._view(self._other_part(i, self.added[i]))
            if i in self.fused_pools:
                pool = self.fused_pools[i]
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
        i = self._node(value)
        if i < 0:
            return Halo()
        node = self.graph.nodes[i]
        if node.layer.in_place_gradient:
            return self._gradient_halo(node.inputs[0])
        needed = self.wants_gradient[node.inputs[0]] or node.layer.weights_read_gradient_halo
        return node.layer.gradient_halo(node.geometry) if needed else Halo()

    def _new_gradient(self, value: int) -> View:
        shape = self.graph.shapes[value]
        i = self._node(value)
        name = self.graph.input_names[value] if i < 0 else self.graph.nodes[i].name
        return View(self._new_buffer(f"d_{name}", shape, self._gradient_halo(value)), shape)

    def _backward_steps(self, gradients: dict[int, View]) -> list[Step]:
        steps = []
        behind = {pool: activation for activation, pool in self.delayed.items()}
        for i in reversed(range(len(self.graph.nodes))):
            value = self.graph.value(i)
            if value not in gradients or not self.wants_gradient[value]:
                continue
            if i in behind and behind[i] not in self.masking:
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
            i in self.delayed
            or i in self.skipped
            or i in self.masking
            or (layer.is_view and dxs[0] is not None and dxs[0].buffer is dy.buffer)
        )
        if done and not adds:
            return None
        y = self._view(value)
        xs = [self._view(x) for x in node.inputs]
        pool = self.pooled.get(i)
        scratch = self._scratch(node, i, "backward") if pool is None else self._maxima_scratch(node, pool)
        step = Step(node, None if done else layer, xs, y, dxs, dy, scratch, adds=adds, training=self._trains(node))
        step.algorithm = layer.choose_algorithm(self.sizes, node.geometry)
        step.frozen = frozenset(own for name, own in node.parameters.items() if name in self.frozen)
        step.masks = i in self.masking.values()
        step.pool = None if pool is None else self.graph.nodes[pool].geometry
        read = [*(xs if layer.reads_x else []), *([y] if layer.reads_y else [])]
        self._live([*read, dy, *dxs, *(total for total, _ in adds)], scratch)
        self.time += 1
        return step

    def _gradient_part(self, i: int, x: int, dy: View) -> View:
        """Where node i writes its share of the gradient of value ``x``: in dy's own memory where it can."""
        node = self.graph.nodes[i]
        if node.layer.in_place_gradient or i in self.skipped:
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


def _as_image(shape: Shape) -> tuple[int, int, int]:
    """Features (c,) lie as images of one pixel."""
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def _allocate(buffers: Sequence[Buffer]) -> int:
    """Gives every buffer its offset, the largest first, each at the lowest place that is free all its life.

    Returns the arena's size in bytes. (Pisarchyk and Lee 2020, "Efficient memory management for deep neural net
    inference", greedy by size.)
    """
    end = 0
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda item: -item.bytes):
        if buffer.permanent or buffer.halo_share > THICK_HALO:
            buffer.first, buffer.last = -1, 1 << 30
        offset = 0
        for other in sorted(placed, key=lambda item: item.offset):
            together = buffer.first <= other.last and other.first <= buffer.last
            if together and offset < other.offset + other.bytes and other.offset < offset + buffer.bytes:
                offset = other.offset + other.bytes
        buffer.offset = offset
        for other in placed:
            if offset < other.offset + other.bytes and other.offset < offset + buffer.bytes:
                buffer.shared = other.shared = True
        placed.append(buffer)
        end = max(end, offset + buffer.bytes)
    return end
