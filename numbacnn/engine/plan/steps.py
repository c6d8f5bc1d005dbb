"""The planner: one forward and, for training, one backward step for every node that has something to compute."""

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, cast

from numbacnn._checks.garbage import without_collection
from numbacnn.engine.graph import Graph, Kind, Node
from numbacnn.engine.plan import fusion
from numbacnn.engine.plan.arena import Buffer, Layout, Part, View, allocate, image_layout, scratch_layout
from numbacnn.engine.plan.fusion import Fusions
from numbacnn.geometry import NO_HALO, Halo, PoolGeometry, Shape
from numbacnn.layers import Layer
from numbacnn.layers.algorithms import ConvAlgorithm
from numbacnn.layers.base import Geometry, ScratchSpec
from numbacnn.layers.bindings import Sizes

UNSAVED: Shape = (0, 1, 1, 1)  # of scratch that inference need not save
GRADIENTS: Mapping[tuple[bool, bool], tuple[str, ...]] = {
    (weight, inputs): ("weight",) * weight + ("input",) * inputs for weight in (False, True) for inputs in (False, True)
}


class ScratchArray(NamedTuple):
    """A scratch array in a buffer."""

    buffer: Buffer
    part: Part


@dataclass(eq=False, slots=True)
class Step:
    """One call of a layer's forward or backward."""

    node: Node
    layer: Layer | None  # None: the gradient is in place already, only ``adds`` remain
    xs: list[View]
    y: View
    dxs: Sequence[View | None] = ()  # None for a gradient that nobody reads
    dy: View | None = None
    training: bool = False  # False in inference, and if the layer is frozen
    algorithms: Mapping[str, ConvAlgorithm] = field(default_factory=dict)  # by direction of the convolution
    workspaces: tuple[Buffer, ...] = ()  # the buffers of its scratch
    fused: str | None = None  # op of the activation that forward applies, or whose gradient backward applies
    norm: Node | None = None  # the batch normalization that the layer's weights take in
    residual: View | None = None  # the residual that forward adds before the activation
    then: "Sequence[Step]" = ()  # of convolutions that forward computes too, each from the output of the one before
    pool: PoolGeometry | None = None  # of the max-pool whose output and argmax forward writes, or backward reads
    clears: tuple[Buffer, ...] = ()  # their halo must be zeroed first: the memory was shared
    adds: Sequence[tuple[View, View]] = ()  # (total, part) to add afterwards: gradients at a fork
    frozen: frozenset[str] = frozenset()  # the layer's parameters whose gradients nobody reads
    masks: bool = False  # backward applies the gradient of the ReLU that computed x

    @property
    def scratch(self) -> dict[str, ScratchArray]:
        """The scratch by name."""
        return {
            name: ScratchArray(buffer, part) for buffer in self.workspaces for name, part in buffer.layout.parts.items()
        }


class Work(NamedTuple):
    """The common part of the steps of equal nodes: algorithms and layouts of scratch."""

    algorithms: Mapping[str, ConvAlgorithm]
    layouts: Sequence[tuple[Layout, bool]] = ()  # and whether the buffer is permanent
    saved: bool = False  # whether the last buffer is what forward writes for backward


NO_WORK = Work({})


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
        self.saved: dict[int, Buffer] = {}  # by node: the scratch that its forward step writes for backward
        self.work: dict[Hashable, Work] = {}  # by what it depends on
        self.layouts: dict[tuple[Shape, Halo], Layout] = {}  # of values and gradients
        self.gradient_halos = self._gradient_halos() if training else {}
        self.with_view = set(  # nodes whose output may be their input's memory
            self.graph.nodes_of(lambda layer: layer.is_view or (layer.idle_in_inference and not training))
        )
        self.with_work = set(  # nodes that may have algorithms or scratch
            self.graph.nodes_of(
                lambda layer: layer.scratch is not Layer.scratch or layer.algorithms is not Layer.algorithms
            )
        )
        self.gradients: list[View | None] = [None] * len(self.graph.shapes)  # of each value
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
            self._add_backward_steps(backward, i, i + len(inputs))
        input_gradients = self.gradients[: len(inputs)]
        self._use([*outputs, *input_gradients])  # the training loop still reads the outputs after backward
        size = allocate(self.buffers)
        _clear_halos([*forward, *backward], [*inputs, *output_gradients])
        views = inputs, outputs, input_gradients, output_gradients
        return Plan(self.batch, self.training, *views, forward, backward, self.buffers, size)

    # -- values -------------------------------------------------------------------------------------------------------

    def _make_values(self) -> list[View]:
        """Return a view for every value; of one that is never stored, the view of what its step stores."""
        graph, halos, stored = self.graph, self._value_halos(), self.fusions.stored_values()
        with_view = set(map(graph.value, self.with_view))
        views = list[View | None]()
        for value, (name, shape) in enumerate(zip(graph.names, graph.shapes, strict=True)):
            if value in stored:
                views.append(None)
                continue
            halo = halos.get(value, NO_HALO)
            source = views[graph.nodes[graph.producer(value)].inputs[0]] if value in with_view else None
            if source is not None and not source.buffer.layout.has_halo and not any(halo):
                views.append(View(source.buffer, shape))
            else:
                views.append(self._new_view(name, shape, halo))
        for value, of in stored.items():
            views[value] = views[of]
        return cast(list[View], views)

    def _new_view(self, name: str, shape: Shape, halo: Halo) -> View:
        layout = self.layouts.get((shape, halo))
        if layout is None:
            layout = self.layouts[shape, halo] = image_layout(shape, self.batch, halo)
        buffer = Buffer(name, layout)
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
        step = Step(node, node.layer, xs, y, (), None, self._trains(node) if self.frozen else self.training)
        if i in self.fusions.starts:
            self._fuse(step, i)
            then = self.fusions.convolutions_after(i)
            self._add_forward_work(step, i, self.fusions.absorbed_by(fusion.fuse_pool, i), then)
            step.then = [self._part(after, y, step.algorithms) for after in then]
        elif i in self.with_work:
            self._add_forward_work(step, i)
        self._use(xs)
        y.buffer.use(self.time)
        self.time += 1
        return step

    def _part(self, i: int, y: View, algorithms: Mapping[str, ConvAlgorithm]) -> Step:
        """Return what the step of an earlier convolution has to know to compute convolution ``i`` too."""
        node = self.graph.nodes[i]
        part = Step(node, node.layer, [], y)
        self._add_work(part, self._folded_work(i))
        part.algorithms = algorithms
        self._fuse(part, i)
        return part

    def _fuse(self, step: Step, i: int) -> None:
        """Let the forward step of node ``i`` also compute the nodes that its convolution absorbs."""
        norm, total, activation, pool = self.fusions.absorbed_within(i)
        if activation is not None:
            step.fused = self.graph.nodes[activation].layer.op
        if norm is not None:
            step.norm = self.graph.nodes[norm]
        if total is not None:
            step.residual = self.values[self.fusions.residual(i, total)]
            step.residual.buffer.use(self.time)
        if pool is not None:
            step.pool = self.graph.nodes[pool].geometry

    def _trains(self, node: Node) -> bool:
        """Return whether a layer runs as in training: not if all of its parameters, or its own name, are frozen."""
        return self.training and not self.frozen.issuperset(node.parameters or [node.name])

    # -- scratch ------------------------------------------------------------------------------------------------------

    def _add_forward_work(self, step: Step, i: int, pool: int | None = None, then: Sequence[int] = ()) -> None:
        """Give the forward step of node ``i``, which may also compute a pool, or convolutions, its work."""
        fused = None if pool is None else self.graph.nodes[pool].kind
        geometries = tuple([self.graph.nodes[after].geometry for after in then]) if then else ()
        work = self._forward_work(step.node, step.norm is not None, fused, geometries)
        self._add_work(step, work)
        if work.saved:
            self.saved[i if pool is None else pool] = self.saved[i] = step.workspaces[-1]

    def _forward_work(self, node: Node, folds_norm: bool, fused: Kind | None, then: tuple[Geometry, ...]) -> Work:
        """Return the work of a forward step, with the pool and the convolutions that it also computes."""
        key = node.kind, node.algorithm, folds_norm, fused, then
        found = self.work.get(key)
        if found is None:
            specs = dict(node.kind.scratch(self.sizes, self.batch))
            if folds_norm:
                specs |= node.layer.folded_scratch(node.input_shapes)
            if fused is not None:
                specs |= fused.layer.scratch(self.sizes, fused.geometry, self.batch)
            specs = {name: spec for name, spec in specs.items() if spec.when != "backward"}
            geometry = None if fused is None else fused.geometry
            algorithms = node.layer.algorithms(self.sizes, node.geometry, ("forward",), geometry)
            if then:
                algorithms = {"forward": self.sizes.separable((node.geometry, *then))}
            found = self.work[key] = self._work(node, specs, algorithms, geometry)
        return found

    def _folded_work(self, i: int) -> Work:
        """Return the scratch of convolution ``i`` in the step of another: weights with a batch normalization."""
        if self.fusions.absorbed_by(fusion.fold_batch_norm, i) is None:
            return NO_WORK
        node = self.graph.nodes[i]
        key = node.kind, fusion.fold_batch_norm
        if key not in self.work:
            self.work[key] = self._work(node, node.layer.folded_scratch(node.input_shapes), {}, None)
        return self.work[key]

    def _backward_work(self, i: int, pool: int | None, gradients: tuple[str, ...]) -> Work:
        """Return the work of the backward step of node ``i``, which may take the gradient of a pool."""
        node, taken = self.graph.nodes[i], None if pool is None else self.graph.nodes[pool].kind
        key = node.kind, node.algorithm, gradients, taken
        found = self.work.get(key)
        if found is None:
            if taken is None:
                specs = node.kind.scratch(self.sizes, self.batch)
                specs = {name: spec for name, spec in specs.items() if spec.when == "backward"}
            else:
                specs = node.layer.pool_gradient_scratch(self.sizes, node.geometry, taken.geometry, self.batch)
            geometry = None if taken is None else taken.geometry
            algorithms = node.layer.algorithms(self.sizes, node.geometry, gradients, geometry)
            found = self.work[key] = self._work(node, specs, algorithms, geometry)
        return found

    def _work(
        self,
        node: Node,
        specs: Mapping[str, ScratchSpec],
        algorithms: Mapping[str, ConvAlgorithm],
        pool: PoolGeometry | None,
    ) -> Work:
        """Return the work with this scratch and that of these algorithms."""
        added = {
            f"{part}.{name}": ScratchSpec(spec.shape, "prepared" if spec.prepared else "forward")
            for part, algorithm in algorithms.items()
            for name, spec in algorithm.scratch(part, node.geometry, self.batch, pool).items()
        }
        own, prepared, saved = dict[str, Shape](), dict[str, Shape](), dict[str, Shape]()
        for name, spec in {**specs, **added}.items():
            shape = spec.trained if self.training and spec.trained is not None else spec.shape
            if spec.when == "saved":
                (saved if self.training else own)[name] = shape if self.training else UNSAVED
            else:
                (prepared if spec.when == "prepared" and not self.training else own)[name] = shape
        # inference keeps prepared weights from one run to the next
        layouts = [(scratch_layout(shapes), shapes is prepared) for shapes in (own, prepared, saved) if shapes]
        return Work(algorithms, layouts, bool(saved))

    def _add_work(self, step: Step, work: Work) -> None:
        """Give the current step algorithms, and new buffers for its scratch."""
        step.algorithms = work.algorithms
        for layout, permanent in work.layouts:
            buffer = Buffer(step.node.name, layout, self.time, self.time, permanent)
            self.buffers.append(buffer)
            step.workspaces += (buffer,)

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
        gradients = [self._new_gradient(value) for value in self.outputs]
        for value, view in zip(self.outputs, gradients, strict=True):
            self.gradients[value] = view
            view.buffer.permanent = True
        return gradients

    def _add_backward_steps(self, steps: list[Step], i: int, value: int) -> None:
        """Append the backward steps at node ``i``, which computes ``value``: of a delayed activation, and its own."""
        y, dy = self.values[value], self.gradients[value]
        if dy is None or not self.needs_gradient[value]:
            return
        activation = self.delayed.get(i)
        if activation is not None and self.fusions.absorber(fusion.mask_gradient, activation) is None:
            steps.append(self._activation_step(activation, y, dy))
        step = self._backward_step(i, y, dy)
        if step is not None:
            steps.append(step)

    def _activation_step(self, i: int, y: View, dy: View) -> Step:
        """Return the step that applies the gradient of activation ``i`` in place, to ``dy`` at the output ``y``."""
        node = self.graph.nodes[i]
        self._use([y, dy])
        self.time += 1
        return Step(node, node.layer, [], y, [], dy, self._trains(node))

    def _backward_step(self, i: int, y: View, dy: View) -> Step | None:
        node = self.graph.nodes[i]
        layer, xs = node.layer, [self.values[x] for x in node.inputs]
        dxs, adds = self._input_gradients(i, dy)
        in_place = layer.is_view and dxs[0] is not None and dxs[0].buffer is dy.buffer
        done = in_place or i in self.fusions.gradient_elsewhere
        if done and not adds:
            return None
        step = Step(node, None if done else layer, xs, y, dxs, dy, True)
        if self.frozen:
            step.training = self._trains(node)
            step.frozen = frozenset(own for name, own in node.parameters.items() if name in self.frozen)
        step.masks = i in self.masked
        if i in self.clamped:
            step.fused = self.graph.nodes[self.clamped[i]].layer.op
        if not done and i in self.with_work:
            self._add_backward_work(step, i)
        dy.buffer.use(self.time)
        self._use(dxs)
        if adds:
            step.adds = adds
            self._use([total for total, _ in adds])
        if layer.reads_x:
            self._use(xs)
        if layer.reads_y:
            y.buffer.use(self.time)
        self.time += 1
        return step

    def _add_backward_work(self, step: Step, i: int) -> None:
        """Give the backward step of node ``i`` its algorithms and scratch."""
        pool = self.pooled.get(i)
        gradients = GRADIENTS["weight" not in step.frozen, step.dxs.count(None) < len(step.dxs)]
        work = self._backward_work(i, pool, gradients)
        self._add_work(step, work)
        if pool is not None:
            step.pool = self.graph.nodes[pool].geometry
        saved = self.saved.get(i if pool is None else pool)
        if saved is not None:
            step.workspaces += (saved,)
            saved.use(self.time)

    def _use(self, views: Iterable[View | None]) -> None:
        """Extend the lifetime of the buffers of these views to the current step."""
        time = self.time
        for view in views:
            if view is not None:
                view.buffer.use(time)

    def _input_gradients(self, i: int, dy: View) -> tuple[list[View | None], list[tuple[View, View]]]:
        """Return the views that node ``i`` writes its inputs' gradients to, and the sums at a fork."""
        dxs: list[View | None] = []  # not list[…](), which first makes that type
        adds: list[tuple[View, View]] = []
        for x in self.graph.nodes[i].inputs:
            if not self.needs_gradient[x]:
                dxs.append(None)
                continue
            part = self._gradient_part(i, x, dy)
            dxs.append(part)
            total = self.gradients[x]
            if total is None:
                self.gradients[x] = part
            else:
                adds.append((total, part))
        return dxs, adds

    def _gradient_part(self, i: int, x: int, dy: View) -> View:
        """Return the view for node ``i``'s share of the gradient of value ``x``: the memory of dy if possible."""
        layer = self.graph.nodes[i].layer
        if layer.in_place_gradient or i in self.pools_taken:
            return dy
        if layer.is_view and not dy.buffer.layout.has_halo and not any(self.gradient_halos.get(x, NO_HALO)):
            return View(dy.buffer, self.graph.shapes[x])
        return self._new_gradient(x)

    def _new_gradient(self, value: int) -> View:
        graph = self.graph
        return self._new_view(f"d_{graph.names[value]}", graph.shapes[value], self.gradient_halos.get(value, NO_HALO))

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
            if view is None or not view.buffer.shared or not view.buffer.layout.has_halo:
                continue
            if id(view.buffer) not in written:
                step.clears += (view.buffer,)
            written.add(id(view.buffer))
