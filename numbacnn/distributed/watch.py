"""A thread on every rank that notices when another rank has stopped or failed.

The ranks form a ring: each sends a message to the next one every second. If messages stop, because the process or its
machine has stopped, the next rank ends the job. A rank with an error sends it to all others.
"""

import atexit
import threading
import time
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numbacnn.distributed.group import Group

Communicator: TypeAlias = Any  # of mpi4py
INTERVAL = 1.0  # seconds between two messages
LIMIT = 7.0  # seconds without one after which a rank counts as stopped
GRACE = 2.0  # seconds in which a rank may still wait for one that has ended
FAREWELL = 1.0  # seconds that a rank waits at most for its last messages to arrive
BEAT, BYE, ERROR = range(3)  # tags


class Watch:
    """Watches the rank before this one, from its own thread."""

    def __init__(self, group: "Group", communicator: Communicator) -> None:
        self._group, self._communicator = group, communicator
        self._next, self._before = (group.rank + 1) % group.size, (group.rank - 1) % group.size
        self._sent: list[Any] = []
        self._error: str | None = None
        self._ended: float | None = None  # when the rank before this one said that it ends
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def _run(self) -> None:
        last = time.monotonic()
        while not self._end.wait(INTERVAL):
            self._send(self._next, BEAT)
            now = time.monotonic()
            if self._receive() or self._ended is not None:
                last = now
            else:
                self._limit(now - last)

    def _limit(self, silence: float) -> None:
        """End the job if the rank before this one has been silent for too many seconds."""
        if silence > LIMIT:
            self._group.abort(
                f"{self._group.name(self._before)} has not answered for {silence:.0f} s, so all ranks stop; "
                "resume from the last checkpoint"
            )

    @property
    def failure(self) -> str | None:
        """The error that another rank has reported, or that this rank waits for one that has ended; None otherwise."""
        if self._error is None and self._ended is not None and time.monotonic() - self._ended > GRACE:
            return f"{self._group.name(self._before)} has ended before the others"
        return self._error

    def _send(self, rank: int, tag: int, text: str = "") -> None:
        data = np.frombuffer(text.encode() or b" ", np.uint8)
        with self._group.lock:
            self._sent = [request for request in self._sent if not request.Test()]
            self._sent.append(self._communicator.Isend(data, rank, tag))

    def _receive(self) -> bool:
        """Receive what has arrived; return whether the rank before this one has sent something."""
        mpi, alive = self._group.mpi, False
        with self._group.lock:
            status = mpi.Status()
            while self._communicator.Iprobe(mpi.ANY_SOURCE, mpi.ANY_TAG, status):
                data = np.empty(status.Get_count(mpi.BYTE), np.uint8)
                self._communicator.Recv(data, status.source, status.tag)
                alive |= status.source == self._before
                if status.tag == BYE:
                    self._ended = time.monotonic()
                elif status.tag == ERROR:
                    self._error = self._error or data.tobytes().decode()
        return alive

    def report(self, message: str) -> None:
        """Send an error to all other ranks."""
        for rank in range(self._group.size):
            if rank != self._group.rank:
                self._send(rank, ERROR, message)
        self._flush()

    def close(self) -> None:
        """End the thread; the next rank no longer waits for messages of this one, which waits for the one before it.

        MPI itself would wait for a rank that has stopped at its end without limit.
        """
        self._end.set()
        self._thread.join(2 * INTERVAL)
        if not self._group.mpi.Is_finalized():
            self._send(self._next, BYE)
            self._flush()
            self._await_end()

    def _await_end(self) -> None:
        last = time.monotonic()
        while self._ended is None and self._error is None:
            if self._receive():
                last = time.monotonic()
            self._limit(time.monotonic() - last)
            time.sleep(0.01)

    def _flush(self) -> None:
        until = time.monotonic() + FAREWELL
        while self._sent and time.monotonic() < until:
            with self._group.lock:
                self._sent = [request for request in self._sent if not request.Test()]
            time.sleep(0.01)
