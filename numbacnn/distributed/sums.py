"""Sums of the shards' arrays in the order of the tree."""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.distributed.shards import Node, subtrees
from numbacnn.layers.bindings import Kernels

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Array = NDArray[Any]
Work = Callable[[], None]
ROW = 4096  # floats that one thread adds at a time
BLOCK_ROW = 512
BLOCK_BYTES = 4 << 20  # of a range's gradients of a subtree, up to which each shard has an array of its own


def rows(array: Float32) -> Iterator[Float32]:
    """Yield a flat array as images of rows, which kernels divide among threads; the remainder is a separate row."""
    whole = len(array) // ROW * ROW
    if whole:
        yield array[:whole].reshape(1, -1, 1, ROW)
    if whole < len(array):
        yield array[whole:].reshape(1, 1, 1, -1)


def add_in_place(kernels: Kernels, total: Array, part: Array) -> None:
    """total += part, flat arrays of equal length; those of float32 by the device's kernels."""
    if total.dtype != np.float32:
        total += part
        return
    for y, x in zip(rows(total), rows(part), strict=True):
        kernels.add_in_place(y, x)


def copy(kernels: Kernels, target: Float32, source: Float32) -> None:
    """Copy a flat array to another of equal length."""
    for y, x in zip(rows(target), rows(source), strict=True):
        kernels.copy(y, x)


def finish(add: Callable[[Array, Array], None], node: Node, known: Mapping[Node, Array], shards: int) -> Array:
    """Return the sum at a node of the tree over ``shards`` shards, in the memory of one of the arrays below it."""
    if node in known:
        return known[node]
    left, right = node.children
    total = finish(add, left, known, shards)
    if right.number << right.level < shards:
        add(total, finish(add, right, known, shards))
    return total


def subtree_sums(leaves: Float64, shards: range) -> list[tuple[Node, Float64]]:
    """Return the sums at the largest complete subtrees of consecutive shards, from a row for each shard."""
    found, start = list[tuple[Node, Float64]](), 0
    for node in subtrees(shards):
        stop = start + (1 << node.level)
        level, start = leaves[start:stop], stop
        while len(level) > 1:
            level = level[::2] + level[1::2]
        found.append((node, level[0].copy()))
    return found


class GradientSums:
    """The sums of gradients over the largest complete subtrees of a rank's shards, each in an array like the gradients.

    Shards run one after another, and parameter by parameter: ``range`` gives the arrays to which the shards write a
    range of the gradients, and the launches that add these. Where kernels add up to 2^level shards themselves, a group
    of shards is handled as one shard.

    Attributes:
        nodes: the subtrees, left to right.
        totals: their arrays; the first is that of the gradients themselves.
    """

    def __init__(self, kernels: Kernels, gradients: Float32, shards: range) -> None:
        self._kernels = kernels
        self.nodes = subtrees(shards)
        self.totals = [gradients, *(np.zeros_like(gradients) for _ in self.nodes[1:])]
        self._ranges: dict[tuple[int, int, int], RangeSums] = {}

    def groups(self, level: int) -> list[slice]:
        """Return the groups of up to 2^level shards, complete subtrees, as slices of the rank's shards."""
        found, start = list[slice](), 0
        for node in self.nodes:
            size = 1 << min(node.level, level)
            for _ in range(1 << node.level - min(node.level, level)):
                found.append(slice(start, start + size))
                start += size
        return found

    def range(self, start: int, stop: int, level: int = 0) -> "RangeSums":
        """Return the sums of a range of the gradients, in arrays that all batch sizes share."""
        if (start, stop, level) not in self._ranges:
            self._ranges[start, stop, level] = self._sums(start, stop, level)
        return self._ranges[start, stop, level]

    def _sums(self, start: int, stop: int, level: int) -> "RangeSums":
        found = RangeSums([], [])
        for node, total in zip(self.nodes, self.totals, strict=True):
            groups, end = 1 << node.level - min(node.level, level), total[start:stop]
            part = self._in_block(groups, end) if groups * end.nbytes <= BLOCK_BYTES else self._in_turn(groups, end)
            found.targets.extend(part.targets)
            found.additions.extend(part.additions)
        return found

    def _in_block(self, shards: int, total: Float32) -> "RangeSums":
        """Return sums of few numbers: every shard has a row, and a level of the tree is added in one launch."""
        if shards == 1:
            return RangeSums([total], [[]])
        block = np.zeros((shards, -(-len(total) // BLOCK_ROW), 1, BLOCK_ROW), np.float32)
        targets = [row.reshape(-1)[: len(total)] for row in block]
        steps = [1 << level for level in range(shards.bit_length() - 1)]
        adds: list[Work] = [
            partial(self._kernels.add_in_place, block[:: 2 * step], block[step :: 2 * step]) for step in steps
        ]
        adds.append(partial(copy, self._kernels, total, targets[0]))
        return RangeSums(targets, [*([] for _ in range(shards - 1)), adds])

    def _in_turn(self, shards: int, total: Float32) -> "RangeSums":
        """Return sums of many numbers: two siblings are added as soon as both are known.

        At most as many arrays are in use as the tree has levels.
        """
        found, free = RangeSums([], []), list[Float32]()
        known: list[tuple[Node, Float32]] = []
        for shard in range(shards):
            own = total if shard == 0 else free.pop() if free else np.zeros_like(total)
            node, adds, target = Node(0, shard), list[Work](), own
            while node.number % 2:
                sibling = known.pop()[1]
                adds.append(partial(add_in_place, self._kernels, sibling, target))
                free.append(target)
                node, target = node.parent, sibling
            known.append((node, target))
            found.targets.append(own)
            found.additions.append(adds)
        return found


class RangeSums(NamedTuple):
    """For each shard, or group of shards: the flat array that its values are written to, and what to run then."""

    targets: list[Float32]
    additions: list[list[Work]]
