"""The engine's lock, which also applies the number of threads, and what happens to both in a forked process."""

import os
import sys
import threading

from numbacnn._checks import python_numbers
from numbacnn.errors import ArgumentError, NumbacnnError

# One parallel region at a time: some threading layers abort when two Python threads launch at once.
PROCESS_LOCK = threading.RLock()

# Numba stores the number of threads per Python thread; ours is one for the process (0: Numba's default). The lock
# applies it once in each Python thread, since that takes a microsecond, of the 25 of LeNet-5's inference.
_threads: list[int] = [0]


class _Applied(threading.local):
    count = 0  # applied in this Python thread


_applied = _Applied()


def set_num_threads(count: int) -> None:
    """Set the number of threads of all kernels. Raises ArgumentError outside 1 … NUMBA_NUM_THREADS."""
    limit = thread_limit()
    count = python_numbers(count)
    if not isinstance(count, int) or not 1 <= count <= limit:
        raise ArgumentError(
            f"{count} threads: choose 1 to {limit}; to go higher, set NUMBA_NUM_THREADS before the process starts"
        )
    _threads[0] = count


def get_num_threads() -> int:
    """Return the number of threads of all kernels."""
    return _threads[0] or thread_limit()


def thread_limit() -> int:
    """Return Numba's limit. Raises ArgumentError if Numba cannot be imported with the variable that sets it."""
    try:
        import numba
    except ValueError as error:
        given = os.environ.get("NUMBA_NUM_THREADS")
        raise ArgumentError(f"NUMBA_NUM_THREADS={given}: {error}".removesuffix(".")) from None
    return int(numba.config.NUMBA_NUM_THREADS)


def _gnu_openmp_is_loaded() -> bool:
    import ctypes

    try:
        ctypes.CDLL("libgomp.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except (AttributeError, OSError):  # other systems do not have the flag
        return False
    return True


def _avoid_openmp() -> bool:
    """Make Numba prefer its other threading layers; return whether the user requires OpenMP."""
    if "numba" not in sys.modules:
        os.environ["NUMBA_THREADING_LAYER_PRIORITY"] = "tbb workqueue omp"
        return os.environ.get("NUMBA_THREADING_LAYER") == "omp"
    import numba

    numba.config.THREADING_LAYER_PRIORITY = ["tbb", "workqueue", "omp"]
    return bool(numba.config.THREADING_LAYER == "omp")


class _EngineLock:
    """A context that holds ``PROCESS_LOCK`` and applies the number of threads to this Python thread."""

    _lost = False  # in a child forked after OpenMP's threads had started, which do not exist in the child

    def __enter__(self) -> None:
        if self._lost:
            raise NumbacnnError(
                "this process was forked from one in which OpenMP had run, and OpenMP cannot run here: start processes "
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
        """Note in a forked child whether threads are lost: TBB and workqueue start them again, GNU OpenMP crashes.

        If only another library, such as PyTorch, may have started OpenMP's, Numba uses another layer here.
        """
        PROCESS_LOCK.release()
        parallel = sys.modules.get("numba.np.ufunc.parallel")
        try:
            self._lost = self._lost or (parallel is not None and parallel.threading_layer() == "omp")
            started = parallel is not None
        except ValueError:
            started = False
        if not started and _gnu_openmp_is_loaded():
            self._lost = _avoid_openmp()


engine_lock = _EngineLock()
if hasattr(os, "register_at_fork"):  # the child must not inherit a lock held by a thread that it does not have
    os.register_at_fork(
        before=PROCESS_LOCK.acquire, after_in_parent=PROCESS_LOCK.release, after_in_child=engine_lock.after_fork
    )
