"""The shards of a batch, and the nodes of the binary tree over them."""

from typing import NamedTuple

from numbacnn._checks import whole
from numbacnn.distributed.group import Group
from numbacnn.errors import ArgumentError

DEFAULT_SHARDS = 16
MAX_SHARDS = 1 << 16


class Node(NamedTuple):
    """A node of the tree: ``level`` 0 are the shards, and node (l, i) is the sum of (l − 1, 2i) and (l − 1, 2i + 1).

    If the number of shards is not a power of two, nodes at the end have one child, or none.
    """

    level: int
    number: int

    @property
    def parent(self) -> "Node":
        """The node that this one is added to."""
        return Node(self.level + 1, self.number // 2)

    @property
    def children(self) -> "tuple[Node, Node]":
        """The two nodes whose sum this is."""
        return Node(self.level - 1, 2 * self.number), Node(self.level - 1, 2 * self.number + 1)


class Shards:
    """A batch in ``count`` shards.

    Shard s of a batch of n images has the images from ⌊n·s / count⌋ to ⌊n·(s + 1) / count⌋ − 1: sizes differ by at most
    one, and some shards are empty if there are more shards than images.

    Raises:
        ArgumentError: ``count`` is out of range.
    """

    def __init__(self, count: int) -> None:
        self.count = whole(count, "shards")
        if count > MAX_SHARDS:
            raise ArgumentError(f"shards={count}: give at most {MAX_SHARDS}, such as {DEFAULT_SHARDS}")

    @property
    def root(self) -> Node:
        """The sum of all shards."""
        return Node((self.count - 1).bit_length(), 0)

    def start(self, shard: int, images: int) -> int:
        """Return the first image of a shard, or for ``shard == count`` the number of images."""
        return images * shard // self.count

    def sizes(self, images: int) -> set[int]:
        """Return the sizes of the shards that are not empty."""
        return {-(-images // self.count), images // self.count} - {0}

    def share(self, rank: int, ranks: int) -> range:
        """Return the shards that a rank computes.

        Raises:
            ArgumentError: there are more ranks than shards.
        """
        if ranks > self.count:
            enough = 1 << (ranks - 1).bit_length()
            raise ArgumentError(
                f"{ranks} ranks for {self.count} shards: start at most {self.count} ranks, or a training with "
                f"shards={enough}, --shards {enough}"
            )
        return range(self.count * rank // ranks, self.count * (rank + 1) // ranks)


def subtrees(leaves: range) -> list[Node]:
    """Return the largest complete subtrees of consecutive shards, left to right."""
    found: list[Node] = []
    for leaf in leaves:
        node = Node(0, leaf)
        while found and node.number % 2 and found[-1] == Node(node.level, node.number - 1):
            found.pop()
            node = node.parent
        found.append(node)
    return found


def shards_of(given: int | None, group: Group) -> Shards | None:
    """Return the shards of a training: those given, else the default for several ranks, and None for one."""
    if given is None:
        return None if group.size == 1 else Shards(DEFAULT_SHARDS)
    return Shards(given)
