"""Decisions on the graph before any buffer is placed: which layers also do the work of those that follow them."""

from typing import Any

from numbacnn.engine.graph import Graph
from numbacnn.geometry import PoolGeometry


class Fusions:
    """What each layer of a graph computes besides its own output."""

    def __init__(self, graph: Graph, outputs: tuple[int, ...], sizes: Any, training: bool, fuse: bool) -> None:
        self.graph, self.outputs, self.sizes, self.training = graph, outputs, sizes, training
        self.folded = self._find_folded() if fuse and not training else {}
        self.added = self._find_added() if fuse and not training else {}
        self.fused = self._find_fused() if fuse else {}
        self.delayed = self._find_delayed() if fuse and training else {}
        self.fused_pools = self._find_fused_pools() if fuse else {}
        self.pooled = self._find_pooled() if fuse and training else {}
        self.skipped = set(self.pooled.values())
        self.masking = self._find_masking() if fuse and training else {}
        self.absorbed = {*self.folded.values(), *self.added.values(), *self.fused.values(), *self.fused_pools.values()}

    def only_consumer(self, value: int) -> int | None:
        """The one node that reads ``value``, unless it is an output of the model too."""
        consumers = self.graph.consumers[value]
        return consumers[0] if len(consumers) == 1 and value not in self.outputs else None

    def _find_folded(self) -> dict[int, int]:
        """node → the batch normalisation behind it, which is linear in inference: the weights take it in."""
        folded = {}
        for i, node in enumerate(self.graph.nodes):
            consumer = self.only_consumer(self.graph.value(i))
            if consumer is not None and self.graph.nodes[consumer].layer.known_op in node.layer.folds:
                folded[i] = consumer
        return folded

    def _find_added(self) -> dict[int, int]:
        """node → the sum of two behind it, and behind its normalisation, whose other part is there before it runs."""
        added = {}
        absorbed = set(self.folded.values())
        for i, node in enumerate(self.graph.nodes):
            consumer = self.only_consumer(self.graph.value(self.folded.get(i, i)))
            if i in absorbed or consumer is None:
                continue
            total = self.graph.nodes[consumer]
            takes_part = total.layer.known_op in node.layer.adds and len(total.inputs) == 2
            if takes_part and self.node_of(self.other_part(i, consumer)) < i:
                added[i] = consumer
        return added

    def other_part(self, i: int, total: int) -> int:
        """The value that the sum ``total`` adds to node i's."""
        own = self.graph.value(self.folded.get(i, i))
        first, second = self.graph.nodes[total].inputs
        return second if first == own else first

    def last(self, i: int) -> int:
        """The last node that i's step computes, but for an activation."""
        return self.added.get(i, self.folded.get(i, i))

    def _find_fused(self) -> dict[int, int]:
        """node → the activation that it applies in its store, behind a normalisation and a sum that it computes."""
        fused = {}
        absorbed = {*self.folded.values(), *self.added.values()}
        for i, node in enumerate(self.graph.nodes):
            if i in absorbed:
                continue
            consumer = self.only_consumer(self.graph.value(self.last(i)))
            if consumer is not None and self.graph.nodes[consumer].layer.known_op in node.layer.fuses:
                fused[i] = consumer
        return fused

    def _find_delayed(self) -> dict[int, int]:
        """activation → the max-pool behind it, where its gradient is applied instead.

        max(f(x)) = f(max(x)) for f that does not decrease, and behind the pool there are fewer elements.
        """
        delayed = {}
        for i, node in enumerate(self.graph.nodes):
            consumer = self.only_consumer(self.graph.value(i))
            alone = node.layer.monotone and self.only_consumer(node.inputs[0]) == i
            if alone and consumer is not None and self.graph.nodes[consumer].layer.is_max_pool:
                delayed[i] = consumer
        return delayed

    def _find_fused_pools(self) -> dict[int, int]:
        """layer → the max-pool whose maxima it takes of its own output, behind the activation that it applies."""
        fused = {}
        for i, node in enumerate(self.graph.nodes):
            last = self.fused.get(i, self.last(i))
            pool = self.only_consumer(self.graph.value(last))
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
            producer = self.node_of(before.get(self.node_of(source), source))
            if producer >= 0 and self.only_consumer(source) == i:
                layer, geometry = self.graph.nodes[producer].layer, self.graph.nodes[producer].geometry
                if layer.accepts_pool_gradient(self.sizes, geometry, node.geometry):
                    pooled[producer] = i
        return pooled

    def _find_masking(self) -> dict[int, int]:
        """ReLU → the layer behind it that applies its gradient: its own input says where that is zero."""
        masking = {}
        for i, node in enumerate(self.graph.nodes):
            if node.layer.known_op == "relu":
                reader = self.only_consumer(self.graph.value(self.delayed.get(i, i)))
                while reader is not None and self.graph.nodes[reader].layer.is_view:
                    reader = self.only_consumer(self.graph.value(reader))
                if reader is not None and self.graph.nodes[reader].layer.masks_gradient:
                    masking[i] = reader
        return masking

    def _takes_windows(self, i: int) -> bool:
        """Whether node i is a max-pool of windows at even steps, as the bins of an adaptive one are not."""
        return self.graph.nodes[i].layer.is_max_pool and isinstance(self.graph.nodes[i].geometry, PoolGeometry)

    def node_of(self, value: int) -> int:
        """The node that computes ``value``; negative for an input of the model."""
        return value - len(self.graph.input_shapes)

    def inner_values(self) -> dict[int, int]:
        """value → what its layer computes from it on its way: an activation, maxima."""
        value = self.graph.value
        inner = {value(i): value(norm) for i, norm in self.folded.items()}
        inner |= {value(self.folded.get(i, i)): value(total) for i, total in self.added.items()}
        inner |= {value(self.last(i)): value(activation) for i, activation in self.fused.items()}
        last = {i: self.fused.get(i, self.last(i)) for i in self.fused_pools}
        return inner | {value(last[i]): value(pool) for i, pool in self.fused_pools.items()}
