"""Fusion: the rules by which the step of one node also does the work of another.

By a forward rule a node also computes the node that follows it, and the value between them is never stored:
convolution, batch normalization, residual addition, ReLU and max-pool become one step, or convolution, batch
normalization and another activation, or these for all convolutions of an inverted residual. By a backward rule a node
applies the gradient of another, whose own step then has nothing to compute. A rule looks at one node and returns the
fusion that it finds there. Rules run in order, each over all nodes of the classes in ``CLASSES``, and may build on the
fusions found before.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, cast

from numbacnn.engine.graph import Graph, Kind, Node
from numbacnn.geometry import PoolGeometry
from numbacnn.layers import Layer
from numbacnn.layers.activations import Activation
from numbacnn.layers.base import CLAMPS
from numbacnn.layers.bindings import Sizes
from numbacnn.layers.registry import trusted_op

CONVOLUTIONS = {"conv2d", "depthwise_conv2d"}


class Fusion(NamedTuple):
    """The step of node number ``node`` also does the work of node number ``absorbed``."""

    node: int
    absorbed: int


Rule = Callable[["Fusions", int], Fusion | None]


# -- forward ----------------------------------------------------------------------------------------------------------


def fold_batch_norm(fusions: "Fusions", i: int) -> Fusion | None:
    """The weights take in the batch normalization that follows, which is linear in inference."""
    return fusions.absorb_next(i, "batch_norm")


def add_residual(fusions: "Fusions", i: int) -> Fusion | None:
    """A convolution adds the other input of the two-input Add that follows it, if that input is computed earlier."""
    fusion = fusions.absorb_next(i, "add")
    if fusion is None or len(fusions.graph.nodes[fusion.absorbed].inputs) != 2:
        return None
    return fusion if fusions.graph.producer(fusions.residual(i, fusion.absorbed)) < i else None


def fuse_activation(fusions: "Fusions", i: int) -> Fusion | None:
    """A layer applies the activation that follows as it stores its output.

    In training, or after a residual addition, that is ReLU, or after a normalization ReLU6.
    """
    following = fusions.next_node(fusions.last(i))
    if following not in fusions.activation_nodes or i in fusions.computed_elsewhere:
        return None
    node, op = fusions.graph.nodes[i], fusions.ops[following]
    if op in CLAMPS and op in node.layer.fuses:
        return Fusion(i, following)
    if fusions.training or fusions.absorbed_by(add_residual, i) is not None:
        return None
    return Fusion(i, following) if op in fusions.activations(node) else None


def fuse_pool(fusions: "Fusions", i: int) -> Fusion | None:
    """A convolution stores only the maxima of its output, after the activation that it applies."""
    last = fusions.last(i)
    pool = fusions.next_node(last)
    if pool is None or fusions.absorbed_by(add_residual, i) is not None or not fusions.is_window_pool(pool):
        return None
    activation = fusions.absorbed_by(fuse_activation, i)
    if activation is not None and fusions.ops[activation] != "relu":
        return None
    backward_reads_output = fusions.training and last != i and fusions.absorber(delay_gradient, last) is None
    node, geometry = fusions.graph.nodes[i], fusions.graph.nodes[pool].geometry
    if backward_reads_output or not node.layer.fuses_pool(fusions.sizes, node.geometry, geometry):
        return None
    return Fusion(i, pool)


def fuse_pointwise(fusions: "Fusions", i: int) -> Fusion | None:
    """A depthwise convolution is multiplied by the weights of the 1×1 convolution after it while it is in cache."""
    is_depthwise = fusions.graph.nodes[i].kind.geometry.groups > 1
    pointwise = fusions.next_convolution(i) if is_depthwise else None
    return None if pointwise is None else fusions.separable(i, pointwise)


def fuse_depthwise(fusions: "Fusions", i: int) -> Fusion | None:
    """A convolution computes rows just before the depthwise convolution after it, and the 1×1 after that, read them."""
    depthwise = fusions.next_convolution(i) if fusions.absorbed(fuse_pointwise) else None
    pointwise = None if depthwise is None else fusions.absorbed_by(fuse_pointwise, depthwise)
    if depthwise is None or pointwise is None:
        return None
    node = fusions.graph.nodes[i]
    algorithm = node.layer.algorithms(fusions.sizes, node.geometry, ["forward"])["forward"]
    return fusions.separable(i, depthwise, pointwise) if algorithm.name == "direct" else None


# -- backward ---------------------------------------------------------------------------------------------------------


def clamp_gradient(fusions: "Fusions", i: int) -> Fusion | None:
    """A normalization applies the gradient of the ReLU or ReLU6 that it applies: its own input says where that is zero.

    It reads its input anyway, so that the activation's gradient needs no pass over memory.
    """
    activation = fusions.absorbed_by(fuse_activation, i)
    return None if activation is None else Fusion(i, activation)


def delay_gradient(fusions: "Fusions", i: int) -> Fusion | None:
    """The gradient of a non-decreasing activation is applied at the output of the max-pool that follows it.

    max(f(x)) = f(max(x)) for such an f, and the output of the pool is smaller.
    """
    pool = None if i in fusions.gradient_elsewhere else fusions.next_node(i)
    if pool is None or fusions.only_consumer(fusions.graph.nodes[i].inputs[0]) != i:
        return None
    return Fusion(pool, i) if fusions.graph.nodes[pool].layer.is_max_pool else None


def take_pool_gradient(fusions: "Fusions", i: int) -> Fusion | None:
    """A convolution takes the gradient of the max-pool that follows it, which is never spread over the windows.

    Between the two there may be an activation whose gradient is applied after the pool.
    """
    graph, pool = fusions.graph, fusions.graph.nodes[i]
    if not fusions.is_window_pool(i) or fusions.only_consumer(pool.inputs[0]) != i:
        return None
    producer = graph.producer(pool.inputs[0])
    if fusions.absorber(delay_gradient, producer) is not None:
        producer = graph.producer(graph.nodes[producer].inputs[0])
    if producer < 0:
        return None
    node = graph.nodes[producer]
    takes = node.layer.accepts_pool_gradient(fusions.sizes, node.geometry, pool.geometry)
    return Fusion(producer, i) if takes else None


def mask_gradient(fusions: "Fusions", i: int) -> Fusion | None:
    """A layer applies the gradient of the ReLU before it: its own input says where that is zero."""
    if fusions.absorber(clamp_gradient, i) is not None:
        return None
    pool = fusions.absorber(delay_gradient, i)
    reader = fusions.next_node(i if pool is None else pool)
    while reader is not None and fusions.graph.nodes[reader].layer.is_view:
        reader = fusions.next_node(reader)
    if reader is None or not fusions.graph.nodes[reader].layer.masks_gradient:
        return None
    return Fusion(reader, i)


WITHIN_CONVOLUTION: tuple[Rule, ...] = (fold_batch_norm, add_residual, fuse_activation, fuse_pool)
FORWARD: tuple[Rule, ...] = (*WITHIN_CONVOLUTION, fuse_pointwise, fuse_depthwise)
BACKWARD: tuple[Rule, ...] = (clamp_gradient, delay_gradient, take_pool_gradient, mask_gradient)
INFERENCE_RULES = FORWARD
TRAINING_RULES = (fuse_activation, clamp_gradient, delay_gradient, fuse_pool, take_pool_gradient, mask_gradient)
CLASSES: Mapping[Rule, Callable[[type[Layer]], bool]] = {  # of the layers whose nodes a rule looks at
    fold_batch_norm: lambda layer: "batch_norm" in layer.fuses,
    add_residual: lambda layer: "add" in layer.fuses,
    fuse_activation: lambda layer: "relu" in layer.fuses,
    fuse_pool: lambda layer: layer.fuses_pool is not Layer.fuses_pool,
    fuse_pointwise: lambda layer: trusted_op(layer) in CONVOLUTIONS,
    fuse_depthwise: lambda layer: trusted_op(layer) in CONVOLUTIONS,
    clamp_gradient: lambda layer: layer.clamps_gradient,
    delay_gradient: lambda layer: layer.monotone,
    take_pool_gradient: lambda layer: layer.is_max_pool,
    mask_gradient: lambda layer: trusted_op(layer) == "relu",
}
NEEDS: Mapping[Rule, Callable[[type[Layer]], bool]] = {  # without such a layer, a rule finds nothing
    fold_batch_norm: lambda layer: trusted_op(layer) == "batch_norm",
    add_residual: lambda layer: trusted_op(layer) == "add",
    fuse_activation: lambda layer: issubclass(layer, Activation),
    fuse_pool: lambda layer: layer.is_max_pool,
    delay_gradient: lambda layer: layer.is_max_pool,
}


class Fusions:
    """All fusions of a graph with these outputs, and the questions that rules ask."""

    def __init__(self, graph: Graph, outputs: tuple[int, ...], sizes: Sizes, training: bool, fuse: bool) -> None:
        self.graph, self.sizes, self.training = graph, sizes, training
        self._absorbed: dict[Rule, dict[int, int]] = {rule: {} for rule in (*FORWARD, *BACKWARD)}
        self._absorbers: dict[Rule, dict[int, int]] = {rule: {} for rule in (*FORWARD, *BACKWARD)}
        self._within = [self._absorbed[rule] for rule in WITHIN_CONVOLUTION]
        self._activations: dict[tuple[Kind, str], frozenset[str]] = {}
        self.ops = graph.known_ops
        self.activation_nodes = set(graph.nodes_of(NEEDS[fuse_activation]))
        only = [nodes[0] if len(nodes) == 1 else None for nodes in graph.consumers]
        for value in outputs:
            only[value] = None
        self._only_consumers, self._next = only, only[graph.value(0) :]
        self._last = list(range(len(graph.nodes)))  # by node: the last one that its forward step computes
        self.computed_elsewhere: set[int] = set()
        self.gradient_elsewhere: set[int] = set()
        for rule in (TRAINING_RULES if training else INFERENCE_RULES) if fuse else ():
            self._apply(rule, self.computed_elsewhere if rule in FORWARD else self.gradient_elsewhere)
        self.starts = set().union(*[self._absorbed[rule] for rule in FORWARD])  # their steps compute other nodes too

    def _apply(self, rule: Rule, done_elsewhere: set[int]) -> None:
        """Find the fusions of a rule, and add the absorbed nodes to ``done_elsewhere``."""
        if rule in NEEDS and not any(map(NEEDS[rule], self.graph.by_class)):
            return
        absorbed, absorbers = self._absorbed[rule], self._absorbers[rule]
        for i in self.graph.nodes_of(CLASSES[rule]):
            fusion = rule(self, i)
            if fusion is not None:
                absorbed[fusion.node] = fusion.absorbed
                absorbers[fusion.absorbed] = fusion.node
                done_elsewhere.add(fusion.absorbed)
                if rule in FORWARD:
                    self._last[fusion.node] = self._last[fusion.absorbed]

    def absorbed_by(self, rule: Rule, i: int) -> int | None:
        """Return the node whose work node ``i`` does by ``rule``."""
        return self._absorbed[rule].get(i)

    def absorbed(self, rule: Rule) -> Mapping[int, int]:
        """Map nodes to those whose work they do by ``rule``."""
        return self._absorbed[rule]

    def absorbed_within(self, i: int) -> list[int | None]:
        """Return ``absorbed_by`` for each rule of ``WITHIN_CONVOLUTION``."""
        return [table.get(i) for table in self._within]

    def convolutions_after(self, i: int) -> list[int]:
        """Return the convolutions that the forward step of convolution ``i`` computes besides its own, in order."""
        following = self.absorbed_by(fuse_pointwise, i)
        if following is None:
            following = self.absorbed_by(fuse_depthwise, i)
        return [] if following is None else [following, *self.convolutions_after(following)]

    def absorber(self, rule: Rule, i: int) -> int | None:
        """Return the node that does the work of node ``i`` by ``rule``."""
        return self._absorbers[rule].get(i)

    def chain(self, i: int) -> list[int]:
        """Return the nodes that the forward step of node ``i`` computes: each alone reads the output of the last."""
        nodes, last = [i], self._last[i]
        while i != last:
            i = cast(int, self._next[i])
            nodes.append(i)
        return nodes

    def last(self, i: int) -> int:
        """Return the node whose output the forward step of node ``i`` stores."""
        return self._last[i]

    def stored_values(self) -> dict[int, int]:
        """Map each value that is never stored to the value that its step stores."""
        stored = dict[int, int]()
        for i in self.starts:
            *inner, last = map(self.graph.value, self.chain(i))
            stored.update(dict.fromkeys(inner, last))
        return stored

    def residual(self, i: int, total: int) -> int:
        """Return the value that the two-input Add ``total`` adds to the output of node ``i``."""
        own = self.graph.value(self._absorbed[fold_batch_norm].get(i, i))
        first, second = self.graph.nodes[total].inputs
        return second if first == own else first

    def only_consumer(self, value: int) -> int | None:
        """Return the one node that reads ``value``, unless the model outputs the value too."""
        return self._only_consumers[value]

    def next_node(self, i: int) -> int | None:
        """Return the only consumer of the output of node ``i``."""
        return self._next[i]

    def absorb_next(self, i: int, op: str) -> Fusion | None:
        """Return the fusion of node ``i`` with the ``op`` after the nodes that it already computes, if it can."""
        if op not in self.graph.nodes[i].layer.fuses or i in self.computed_elsewhere:
            return None
        following = self._next[self._last[i]]
        if following is None or self.ops[following] != op:
            return None
        return Fusion(i, following)

    def next_convolution(self, i: int) -> int | None:
        """Return the convolution that alone reads the output of convolution ``i``, if both store no maxima.

        ``i`` may apply an activation, but adds no residual, and is not yet computed by another.
        """
        adds, pools = self._absorbed[add_residual], self._absorbed[fuse_pool]
        if i in self.computed_elsewhere or i in adds or i in pools:
            return None
        following = self._next[self._last[i]]
        if following is None or self.ops[following] not in CONVOLUTIONS:
            return None
        return None if following in pools else following

    def separable(self, *convolutions: int) -> Fusion | None:
        """Return the fusion of the first of these nodes with the second, if one step of the first computes them all.

        The last may add a residual if that is computed before the step.
        """
        first, last = convolutions[0], convolutions[-1]
        total = self.absorbed_by(add_residual, last)
        if total is not None and self.graph.producer(self.residual(last, total)) >= first:
            return None
        able = self.sizes.separable(tuple([self.graph.nodes[i].kind.geometry for i in convolutions]))
        return None if able is None else Fusion(first, convolutions[1])

    def activations(self, node: Node) -> frozenset[str]:
        """Return the ops of activations that a node can apply in inference, if it adds no residual."""
        key = node.kind, node.algorithm
        if key not in self._activations:
            self._activations[key] = node.layer.fused_activations(self.sizes, node.geometry)
        return self._activations[key]

    def is_window_pool(self, i: int) -> bool:
        """Return whether node ``i`` is a max-pool over strided windows, as opposed to an adaptive one."""
        node = self.graph.nodes[i]
        return node.layer.is_max_pool and isinstance(node.geometry, PoolGeometry)
