"""Data-parallel training: the shards of a batch, the tree that adds their gradients, and the ranks that share them.

A batch is cut into shards, whose number is part of a training's configuration. Their gradients are added in one binary
tree, so that the sum does not depend on the number of ranks that compute them. One rank needs no MPI; several exchange
their parts of the tree with mpi4py. docs/distributed.md describes it.
"""

from numbacnn.distributed.group import Communicator, Group, connect, engine_properties, launched_ranks
from numbacnn.distributed.shards import DEFAULT_SHARDS, Node, Shards, shards_of, subtrees
from numbacnn.distributed.threads import oversubscribed_hosts, threads_per_rank

__all__ = [
    "DEFAULT_SHARDS",
    "Communicator",
    "Group",
    "Node",
    "Shards",
    "connect",
    "engine_properties",
    "launched_ranks",
    "oversubscribed_hosts",
    "shards_of",
    "subtrees",
    "threads_per_rank",
]
