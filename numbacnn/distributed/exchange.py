"""The exchange of partial sums: each rank finishes the tree for a slice of the array, and all get the finished slices.

Each rank has the sums at a few nodes of the tree. It cuts them into slices and sends each slice to its owner
(``Alltoallv``). The owner adds what it receives in the order of the tree, and sends the finished slice to all
(``Allgatherv``). A large array is sent in buckets, so that the transfer of its end overlaps with the computation of its
beginning. Sums are elementwise: neither slices nor buckets change bits.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.distributed.group import Group, Request
from numbacnn.distributed.shards import Node, Shards, subtrees
from numbacnn.distributed.sums import add_in_place, finish
from numbacnn.engine.parameters import ALIGNMENT, Slot
from numbacnn.layers.bindings import Kernels

BUCKET_BYTES = 4 << 20
POLLS = 16  # between two layers: each moves up to some 16 KB
Array = NDArray[Any]
Sums = Sequence[tuple[Node, Array]]


class Bucket(NamedTuple):
    """A range of the gradients, complete after the backward step with the number ``after``."""

    start: int
    stop: int
    after: int


def buckets(size: int, steps: Sequence[Sequence[Slot]], max_bytes: int = BUCKET_BYTES) -> list[Bucket]:
    """Divide an array of ``size`` floats into buckets, in the order in which they are complete.

    ``steps`` are the slots that each backward step writes. Slots that no step writes are always zeros.
    """
    written: dict[int, int] = {}
    for number, slots in enumerate(steps):
        written |= {slot.start: number for slot in slots}
    starts = sorted(written)
    found, start, after = list[Bucket](), 0, 0
    for position, end in zip(starts, [*starts[1:], size], strict=True):
        after = max(after, written[position])
        if 4 * (end - start) >= max_bytes or end == size:
            found.append(Bucket(start, end, after))
            start, after = end, 0
    return sorted(found or [Bucket(0, size, -1)], key=lambda bucket: bucket.after)


@dataclass
class _Transfer:
    """One exchange: its slices are sent to their owners, and back when the owners have finished them."""

    total: Array
    bounds: list[int]  # of the slices
    known: dict[Node, Array]  # what arrives
    requests: list[Request]
    returning: bool = False


class Exchange:
    """Exchanges arrays; which sums each rank has follows from the number of shards and ranks.

    Exchanges of one ``channel`` of the group, 0 or 1, are complete in the order in which they began; those of the other
    one do not wait for them.

    Attributes:
        bytes: sent by this rank so far.
        waited: seconds in which this rank waited for others.
    """

    def __init__(self, group: Group, shards: Shards, kernels: Kernels, channel: int = 0) -> None:
        self.group, self._shards, self._kernels = group, shards, kernels
        self._nodes = [subtrees(shards.share(rank, group.size)) for rank in range(group.size)]
        self._scatters, self._gathers = group.channels[channel]
        self._buffers: dict[tuple[int, int], Array] = {}  # for what arrives, by exchange of a step and row
        self._transfers: list[_Transfer] = []
        self.bytes, self.waited = 0, 0.0

    def begin(self, total: Array, sums: Sums) -> None:
        """Begin to make ``total`` the sum at the root, from this rank's sums, flat arrays of the same length.

        All ranks begin the same exchanges in the same order. The arrays must not change until ``finish`` returns;
        ``total`` may be one of the sums.
        """
        blocks, ranks = -(-len(total) // ALIGNMENT), self.group.size
        bounds = [min(len(total), ALIGNMENT * (blocks * rank // ranks)) for rank in range(ranks + 1)]
        known, requests = dict[Node, Array](), list[Request]()
        for row in range(max(map(len, self._nodes))):
            requests.append(self._scatter(row, total, sums, bounds, known))
        self._transfers.append(_Transfer(total, bounds, known, requests))

    def _scatter(self, row: int, total: Array, sums: Sums, bounds: list[int], known: dict[Node, Array]) -> Request:
        """Send this rank's sum number ``row`` to the owners of its slices; receive those of others into ``known``."""
        counts, rank, ranks = np.diff(bounds).tolist(), self.group.rank, self.group.size
        own, sends = counts[rank], row < len(sums)
        sources = [source for source in range(ranks) if row < len(self._nodes[source])]
        arrived = self._buffer(row, total, len(sources), own)
        known |= {self._nodes[source][row]: arrived[i] for i, source in enumerate(sources)}
        expected = [own if row < len(self._nodes[source]) else 0 for source in range(ranks)]
        starts = np.cumsum([0, *expected[:-1]]).tolist()
        kind = self.group.mpi.FLOAT if total.dtype == np.float32 else self.group.mpi.DOUBLE
        sent = [sums[row][1], counts, bounds[:-1], kind] if sends else [total, [0] * ranks, [0] * ranks, kind]
        self.bytes += (len(total) - own) * total.itemsize * sends
        with self.group.lock:
            return self._scatters.Ialltoallv(sent, [arrived, expected, starts, kind])

    def _buffer(self, row: int, total: Array, sources: int, own: int) -> Array:
        """Return memory for what arrives, which the next exchange of the same shape uses again."""
        key = len(self._transfers), row
        kept = self._buffers.get(key)
        if kept is None or kept.dtype != total.dtype or kept.shape != (sources, own):
            kept = self._buffers[key] = np.empty((sources, own), total.dtype)
        return kept

    def advance(self) -> None:
        """Move some data, while there is other work to do."""
        for _ in range(POLLS):
            if self.progress():
                return

    def progress(self) -> bool:
        """Advance the exchanges as far as possible without waiting; return whether all are complete.

        Slices return in the order of the exchanges, since MPI matches collective calls by their order.
        """
        for transfer in self._transfers:
            if not transfer.returning:
                if not self.group.done(transfer.requests):
                    return False
                transfer.requests, transfer.returning = [self._gather(transfer)], True
        return self.group.done([request for transfer in self._transfers for request in transfer.requests])

    def _gather(self, transfer: _Transfer) -> Request:
        """Finish this rank's slice, and send it to all."""
        total, bounds, rank = transfer.total, transfer.bounds, self.group.rank
        mine = total[bounds[rank] : bounds[rank + 1]]
        mine[:] = finish(partial(add_in_place, self._kernels), self._shards.root, transfer.known, self._shards.count)
        kind = self.group.mpi.FLOAT if total.dtype == np.float32 else self.group.mpi.DOUBLE
        self.bytes += mine.nbytes * (self.group.size - 1)
        with self.group.lock:
            return self._gathers.Iallgatherv(
                self.group.mpi.IN_PLACE, [total, np.diff(bounds).tolist(), bounds[:-1], kind]
            )

    def finish(self, other: "Exchange | None" = None) -> None:
        """Wait until all exchanges are complete; meanwhile those of ``other`` advance too."""
        start = time.perf_counter()

        def complete() -> bool:
            if other is not None:
                other.progress()
            return self.progress()

        self.group.wait_for(complete)
        self._transfers.clear()
        self.waited += time.perf_counter() - start
