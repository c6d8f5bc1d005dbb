"""The number of threads of each rank: the cores of a machine, divided by its ranks."""

import os
from collections.abc import Iterator
from typing import NamedTuple

from numbacnn.distributed.group import Group


class Cores(NamedTuple):
    """The cores that a rank may use: those that mpiexec has bound it to, or all of its machine."""

    host: str
    numbers: frozenset[int]


def _cores(group: Group) -> Cores:
    known = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    return Cores(group.hosts[group.rank], frozenset(known))


def threads_per_rank(group: Group) -> int:
    """Return ``OMP_NUM_THREADS`` if it is set, else this rank's share of the cores that it may use."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    mine = _cores(group)
    ranks = sum(other.host == mine.host and bool(other.numbers & mine.numbers) for other in group.gather(mine))
    return int(given) if given.isdecimal() and int(given) else max(1, len(mine.numbers) // ranks)


def oversubscribed_hosts(group: Group, threads: int) -> Iterator[str]:
    """Yield a line for each machine whose ranks have more threads than cores. All ranks call this.

    ``threads``: of this rank.
    """
    found = group.gather((_cores(group), threads))
    for host in dict.fromkeys(cores.host for cores, _ in found):
        counts = [count for cores, count in found if cores.host == host]
        cores = len(frozenset().union(*(cores.numbers for cores, _ in found if cores.host == host)))
        if sum(counts) > cores:
            yield f"{host}: {len(counts)} ranks have {sum(counts)} threads on {cores} cores; set --threads lower"
