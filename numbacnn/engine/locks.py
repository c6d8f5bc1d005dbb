"""The engine's lock, which also applies the number of threads, and what becomes of both in a forked process."""

import os
import sys
import threading
from contextlib import suppress

from numbacnn.errors import ArgumentError, NumbacnnError

# Some threading layers abort when two Python threads launch at once.
PROCESS_LOCK = threading.RLock()


def set_num_threads(count: int) -> None:
    """Sets the threads that kernels run on. Raises ArgumentError outside 1 … the number the process started with."""
    import numba

    limit: int = numba.config.NUMBA_NUM_THREADS
    if not isinstance(count, int) or not 1 <= count <= limit:
        raise ArgumentError(
            f"{count} threads: choose 1 to {limit}; to go higher, set NUMBA_NUM_THREADS before the process starts"
        )
    _threads[0] = count


def get_num_threads() -> int:
    """The threads that kernels run on."""
    import numba

    return _threads[0] or int(numba.config.NUMBA_NUM_THREADS)


class _Applied(threading.local):
    """The number that this Python thread launches on, 0 for Numba's own."""

    count = 0


# Numba keeps the number per launching Python thread; ours is one for the process, applied where work is launched, once
# in each Python thread: that takes a microsecond, of the 25 of an inference of LeNet-5.
_threads: list[int] = [0]
_applied = _Applied()


class _EngineLock:
    """``with engine_lock:`` holds the engine lock and applies the number of threads to this Python thread."""

    _lost = False  # in a child forked from a process whose OpenMP threads had started: they are not in the child

    def __enter__(self) -> None:
        if self._lost:
            raise NumbacnnError(
                "this process was forked from one that had run the engine, and OpenMP cannot run here: start processes "
                'with multiprocessing.get_context("spawn"), or before the first use of the engine'
            )
        PROCESS_LOCK.acquire()
        count = _threads[0]
        if _applied.count != count:
            import numba

            numba.set_num_threads(count)
            _applied.count = count

    def __exit__(self, *exception: object) -> None:
        PROCESS_LOCK.release()

    def after_fork(self) -> None:
        """In a forked child. TBB and workqueue start their threads anew there; GNU OpenMP kills it, or hangs."""
        PROCESS_LOCK.release()
        parallel = sys.modules.get("numba.np.ufunc.parallel")
        with suppress(ValueError):  # no threads were started yet
            self._lost = self._lost or (parallel is not None and parallel.threading_layer() == "omp")


engine_lock = _EngineLock()
if hasattr(os, "register_at_fork"):  # the child must not inherit a lock that a thread it lacks will never release
    os.register_at_fork(
        before=PROCESS_LOCK.acquire, after_in_parent=PROCESS_LOCK.release, after_in_child=engine_lock.after_fork
    )
