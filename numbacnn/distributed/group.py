"""The ranks of a job: their communicator, collective operations that never block the process, and a common end.

Every wait polls, so that a rank notices at once when another one has stopped. mpi4py is only imported for a job of
several ranks.
"""

import os
import pickle
import socket
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from itertools import pairwise
from types import ModuleType
from typing import Any, TypeAlias, TypeVar

import numpy as np

from numbacnn._checks import shown
from numbacnn.distributed.watch import Watch
from numbacnn.errors import ArgumentError, NumbacnnError

T = TypeVar("T")
Communicator: TypeAlias = Any  # of mpi4py, which has no types here
Request: TypeAlias = Any
SIZES = ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE")  # by which launchers announce the number of ranks
SPIN = 0.02  # seconds in which a wait polls without pauses: many transfers take less
BURST = 100  # polls between two pauses later, since each moves some 16 KB of a large message at most
PAUSE, LONG_PAUSE = 2e-4, 2e-3  # seconds; the long one after LONG_WAIT
LONG_WAIT = 1.0
FORWARDING = 0.3  # seconds in which the launcher passes a last line on, once it has read it; it drops what it has not
READING = 1.0  # seconds that a rank waits at most until the launcher has read it, on a busy machine


def launched_ranks() -> int:
    """Return the number of ranks that mpiexec has started, from its environment variables; 1 without mpiexec."""
    return next((int(os.environ[name]) for name in SIZES if os.environ.get(name, "").isdecimal()), 1)


def connect() -> "Group":
    """Return the group of all ranks that mpiexec has started.

    Raises:
        NumbacnnError: mpi4py is not installed, or finds no MPI.
    """
    return Group.of(_mpi().COMM_WORLD) if launched_ranks() > 1 else Group()


def _mpi() -> ModuleType:
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise NumbacnnError(
            f"training on several ranks needs mpi4py and an MPI library ({error}): pip install 'numbacnn[mpi]' mpich"
        ) from None
    module: ModuleType = MPI
    return module


class Group:
    """The ranks of a training. Without a communicator it is one rank, and needs no MPI.

    Attributes:
        rank: the number of this process, from 0.
        size: the number of ranks.
        stop_requested: whether this rank has to stop; all stop together after the next step.
    """

    def __init__(self, communicator: Communicator | None = None) -> None:
        self.rank, self.size, self.stop_requested = 0, 1, False
        self._failure: str | None = None  # the error that a block of ``reporting`` has ended with
        self._watch: Watch | None = None
        self.lock = threading.RLock()  # so that MPI.THREAD_SERIALIZED suffices
        if communicator is not None and communicator.size > 1:
            self.mpi = _mpi()
            self.rank, self.size = communicator.rank, communicator.size
            self._world = communicator
            self._small, beats = communicator.Dup(), communicator.Dup()
            self.channels = [(communicator.Dup(), communicator.Dup()) for _ in range(2)]
            self.hosts = self.gather(socket.gethostname())
            self._watch = Watch(self, beats)

    @classmethod
    def of(cls, given: "Communicator | Group | None") -> "Group":
        """Return a group as it is, or that of a communicator of mpi4py; the same for the same communicator.

        Raises:
            ArgumentError: it is something else.
            NumbacnnError: the ranks have failed before.
        """
        if given is None or isinstance(given, Group):
            return given or cls()
        if not hasattr(given, "Ialltoallv"):
            raise ArgumentError(f"communicator={shown(given)}: give a communicator of mpi4py, such as MPI.COMM_WORLD")
        if given.size == 1:
            return cls()
        key = _mpi()._handleof(given)
        if key not in _groups or _groups[key]._world != given:  # MPI uses the handle of a freed communicator again
            _groups[key] = cls(given)
        _groups[key].require_usable()
        return _groups[key]

    @property
    def is_first(self) -> bool:
        """Whether this is rank 0, which alone writes and prints."""
        return self.rank == 0

    # -- waiting ------------------------------------------------------------------------------------------------------

    def done(self, requests: Sequence[Request]) -> bool:
        """Return whether all requests are complete."""
        with self.lock:
            return bool(self.mpi.Request.Testall(list(requests)))

    def wait(self, requests: Sequence[Request]) -> None:
        """Return when all requests are complete."""
        self.wait_for(lambda: self.done(requests))

    def wait_for(self, complete: Callable[[], bool]) -> None:
        """Poll until ``complete`` returns True. Other processes that need the core get it between two polls."""
        polls, start = 0, time.perf_counter()
        while not complete():
            polls += 1
            give_way()
            if polls % BURST == 0 and (waited := time.perf_counter() - start) > SPIN:
                self.check()
                time.sleep(PAUSE if waited < LONG_WAIT else LONG_PAUSE)

    def check(self) -> None:
        """Raise NumbacnnError if another rank has failed."""
        failure = None if self._watch is None else self._watch.failure
        if failure is not None:
            raise NumbacnnError(failure)

    def require_usable(self) -> None:
        """Raise NumbacnnError if a rank has failed before: what the ranks still send belongs to different calls."""
        failure = self._failure if self._watch is None else self._failure or self._watch.failure
        if failure is not None:
            raise NumbacnnError(f"this communicator has failed ({failure}); start the job again")

    # -- small objects ------------------------------------------------------------------------------------------------

    def begin_gather(self, item: T) -> Callable[[], list[T]]:
        """Start to send an object to all ranks; the function returned waits for those of all ranks, in order."""
        if self.size == 1:
            return lambda: [item]
        mine = np.frombuffer(pickle.dumps(item), np.uint8)
        sizes = np.empty(self.size, np.int64)
        with self.lock:
            request = self._small.Iallgather(np.array([len(mine)], np.int64), sizes)

        def finish() -> list[T]:
            self.wait([request])
            counts = sizes.tolist()
            starts = [0, *np.cumsum(counts).tolist()]
            data = np.empty(starts[-1], np.uint8)
            with self.lock:
                gathered = self._small.Iallgatherv(mine, [data, counts, starts[:-1], self.mpi.BYTE])
            self.wait([gathered])
            return [pickle.loads(data[a:b].tobytes()) for a, b in pairwise(starts)]

        return finish

    def gather(self, item: T) -> list[T]:
        """Return the objects of all ranks, in order, on every rank."""
        return self.begin_gather(item)()

    def broadcast(self, item: T) -> T:
        """Return rank 0's object."""
        return self.gather(item if self.is_first else None)[0]  # type: ignore[return-value]  # that of rank 0 is a T

    def barrier(self) -> None:
        """Wait for all ranks."""
        self.gather(None)

    # -- agreement ----------------------------------------------------------------------------------------------------

    def any(self, flag: bool) -> bool:
        """Return whether ``flag`` is true on any rank."""
        return flag if self.size == 1 else any(self.gather(flag))

    def require_same(self, properties: Mapping[str, object]) -> None:
        """Raise an error on every rank if a property of one differs from that of rank 0, with the property's name.

        Raises:
            ArgumentError: they differ.
        """
        found = self.gather(dict(properties))
        for rank, own in enumerate(found):
            for name, value in own.items():
                if value != found[0].get(name):
                    raise ArgumentError(
                        f"{self.name(rank)} has {name} {value}, rank 0 has {found[0].get(name)}: start all ranks with "
                        "the same options, data and versions, on processors of one kind"
                    )

    # -- the end ------------------------------------------------------------------------------------------------------

    def name(self, rank: int) -> str:
        """Return how errors name a rank."""
        return f"rank {rank} on {self.hosts[rank]}"

    def fail(self, message: str) -> None:
        """Report an error of this rank to the others, which raise it while they wait for this one."""
        if self._watch is not None and self._watch.failure is None:
            self._watch.report(f"{self.name(self.rank)}: {message}")

    @contextmanager
    def reporting(self) -> Iterator[None]:
        """Report an error of the block to the other ranks; they need a new job.

        Raises:
            NumbacnnError: the ranks have failed before.
        """
        self.require_usable()
        try:
            yield
        except Exception as error:
            message = str(error) or type(error).__name__
            self.fail(message)
            if self.size > 1:
                self._failure = message
            raise

    def abort(self, message: str) -> None:
        """End all ranks at once with exit code 1, after a line on standard error. Does not return."""
        os.write(2, f"error: {message}\n".encode())
        sys.stdout.flush()
        await_reader(2)
        time.sleep(FORWARDING)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # MPI would add a line of its own
        self._world.Abort(1)


def give_way() -> None:
    """Let another process or thread run that waits for this core."""
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0)


def await_reader(file: int) -> None:
    """Wait until all that was written to a pipe has been read, at most READING seconds; not for other files."""
    if sys.platform == "win32":
        return
    import fcntl
    import termios

    until = time.monotonic() + READING
    while stat.S_ISFIFO(os.fstat(file).st_mode) and time.monotonic() < until:
        unread = fcntl.ioctl(file, termios.FIONREAD, bytes(4))
        if not any(unread):
            return
        time.sleep(0.01)


_groups: dict[int, Group] = {}  # by handle of the communicator


def engine_properties() -> dict[str, object]:
    """Return what the bits of a training depend on besides its arguments: versions, kernels and processor."""
    from numbacnn.kernels.disk_cache import source_key
    from numbacnn.kernels.target import host_target

    target = host_target()
    found = {f"version of {name}": version(name) for name in ("numba", "llvmlite", "numpy")}
    return {
        "vector width": target.lanes,
        "instruction set": target.instruction_set,
        **found,
        "checksum of kernels": source_key(),
    }
