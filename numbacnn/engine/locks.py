"""The engine's lock, which also applies the number of threads, and what happens to both in a forked process."""

import os
import struct
import sys
import threading

from numbacnn._checks import python_numbers, shown
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.kernels.threads import available

# One parallel region at a time: some threading layers abort when two Python threads launch at once.
PROCESS_LOCK = threading.RLock()

# Numba stores the number of threads per Python thread; ours is one for the process (0: Numba's default). The lock
# applies it once in each Python thread, since that takes a microsecond, of the 25 of LeNet-5's inference.
_threads: list[int] = [0]


class _Applied(threading.local):
    count = 0  # applied in this Python thread


_applied = _Applied()
_ONCE = (True,)

(_SUBNORMAL,) = struct.unpack("<d", b"\1" + bytes(7))  # 2⁻¹⁰⁷⁴, without arithmetic
_SMALLEST_NORMAL, _HALF, _LARGE = sys.float_info.min, 0.5, 2.0**1000


def flushes_subnormals() -> bool:
    """Return whether this thread's processor takes subnormal numbers for zero, in results or in operands."""
    return _SMALLEST_NORMAL * _HALF == 0.0 or _SUBNORMAL * _LARGE == 0.0


def keep_subnormals() -> None:
    """Let this thread compute with subnormal numbers, as threads that it starts then do, with C's default environment.

    Libraries compiled with -ffast-math, and torch.set_flush_denormal, change only the thread that calls them, so that
    results would depend on the thread.
    """
    import ctypes

    if os.name == "nt":  # untested there
        return
    process = ctypes.CDLL(None)
    if sys.platform == "darwin":
        process.fesetenv(ctypes.byref(ctypes.c_char.in_dll(process, "_FE_DFL_ENV")))
    else:
        process.fesetenv(ctypes.c_void_p(-1))  # FE_DFL_ENV


@checks_call
def set_num_threads(count: int) -> None:
    """Set the number of threads of all kernels. Raises ArgumentError outside 1 … NUMBA_NUM_THREADS."""
    limit = thread_limit()
    count = python_numbers(count)
    if not isinstance(count, int) or not 1 <= count <= limit:
        raise ArgumentError(
            f"{shown(count)} threads: choose 1 to {limit}; "
            "to go higher, set NUMBA_NUM_THREADS before the process starts"
        )
    _threads[0] = count


@checks_call
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
    """A context that holds ``PROCESS_LOCK``, and makes this Python thread ready for kernels.

    Ctrl-C raises KeyboardInterrupt after any call in Python code. So that none can come between taking the lock and
    entering the block, or between leaving it and releasing the lock, both are done by C functions: on entering by the
    unpacking of a ``map`` as the last instruction before the return.
    """

    _lost = False  # in a child forked after OpenMP's threads had started, which do not exist in the child

    def __enter__(self) -> None:
        self.require_threads()
        count = _threads[0]
        if _applied.count != count:
            import numba

            numba.set_num_threads(count)  # of this Python thread, which needs no lock
            _applied.count = count
        if flushes_subnormals():
            keep_subnormals()
        (_,) = map(PROCESS_LOCK.acquire, _ONCE)

    __exit__ = PROCESS_LOCK.__exit__  # a bound method of a C class

    def require_threads(self) -> None:
        """Raise NumbacnnError in a forked child whose threads are lost."""
        if self._lost:
            raise NumbacnnError(
                "this process was forked from one in which OpenMP had run, and OpenMP cannot run here: start processes "
                'with multiprocessing.get_context("spawn"), or before the first use of the engine'
            )

    def after_fork(self) -> None:
        """Note in a forked child whether threads are lost: ours, TBB's and workqueue's start again, GNU OpenMP crashes.

        If only another library, such as PyTorch, may have started OpenMP's, Numba uses another layer here.
        """
        PROCESS_LOCK.release()
        parallel = sys.modules.get("numba.np.ufunc.parallel")
        try:
            lost = parallel is not None and parallel.threading_layer() == "omp"
            started = parallel is not None
        except ValueError:
            lost = started = False
        if not started and _gnu_openmp_is_loaded():
            lost = _avoid_openmp()
        self._lost = self._lost or (lost and not available())


engine_lock = _EngineLock()
if hasattr(os, "register_at_fork"):  # the child must not inherit a lock held by a thread that it does not have
    os.register_at_fork(
        before=PROCESS_LOCK.acquire, after_in_parent=PROCESS_LOCK.release, after_in_child=engine_lock.after_fork
    )
