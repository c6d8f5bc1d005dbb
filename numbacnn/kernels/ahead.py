"""Compilation ahead: forked processes compile kernels into the cache on the disk, while this one compiles others.

A forked child has only the thread that forked, and whatever the others held stays locked in it. So a process with
several Python threads, such as a server or a notebook, does not fork. Nor does one that uses MPI, whose libraries are
not made for it. The child computes nothing: it starts no threads, closes its parent's files and ends with its parent.
"""

import ctypes
import gc
import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

import llvmlite.binding as llvm
from numba.np.ufunc import parallel

from numbacnn.kernels.disk_cache import cache_folder
from numbacnn.kernels.jit import CpuKernel
from numbacnn.kernels.threads import STATE, SYMBOLS, ours

MAX_PROCESSES = 3  # each holds LLVM's memory, some 100 MiB
MAX_LAUNCHES = 256  # whose numbers are bytes
MAX_SECONDS = 300  # of a process
ANY_ADDRESS = 1  # of functions that are linked and never called
NUMBA_SYMBOLS = (  # that Numba's threading layer defines when it starts
    *SYMBOLS,
    *("allocate_sched", "deallocate_sched", "get_num_threads", "set_num_threads"),
    *("get_parallel_chunksize", "set_parallel_chunksize"),
)
PR_SET_PDEATHSIG = 1  # <sys/prctl.h>

FirstLaunch = tuple[CpuKernel, tuple[Any, ...]]  # a kernel and its arguments


def processes_ahead(threads: int) -> int:
    """Return how many processes may compile next to this one: as many as of its ``threads`` would be idle, or 0."""
    if sys.platform != "linux" or threading.active_count() > 1 or "mpi4py.MPI" in sys.modules:
        return 0
    folder = cache_folder()
    if folder is None or not os.access(folder, os.W_OK):
        return 0
    return max(0, min(threads, len(os.sched_getaffinity(0))) - 1)


def compile_ahead(launches: Sequence[FirstLaunch], processes: int) -> None:
    """Let up to this number of processes compile the kernels of these launches into the cache, and return at once.

    They begin with the last, this process with the first that it launches: it loads what it finds in the cache. The
    kernel at which they meet may be compiled twice. If the system allows no more processes, this one compiles all.
    """
    launches = launches[:MAX_LAUNCHES]
    processes = min(processes, MAX_PROCESSES, len(launches) // 2)
    if processes < 1:
        return
    children = list[int]()
    with suppress(OSError, RuntimeError):
        numbers, queue = os.pipe()
        try:
            os.write(queue, bytes(reversed(range(len(launches)))))
            os.close(queue)
            for _ in range(processes):
                children.append(_start(numbers, launches))
        finally:
            os.close(numbers)
            threading.Thread(target=_wait, args=(children,), daemon=True).start()


def _start(numbers: int, launches: Sequence[FirstLaunch]) -> int:
    """Fork a process that compiles the kernels whose numbers it reads; return its number.

    Signals are blocked meanwhile: a handler of Python must not raise KeyboardInterrupt in the child.
    """
    parent = os.getpid()
    masked = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about the threads of libraries
            child = os.fork()
        if child == 0:
            _compile_and_exit(numbers, launches, parent)
        return child
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, masked)


def _wait(children: Sequence[int]) -> None:
    for child in children:
        with suppress(ChildProcessError):  # the application has waited for it
            os.waitpid(child, 0)


def _compile_and_exit(numbers: int, launches: Sequence[FirstLaunch], parent: int) -> NoReturn:
    """Compile the kernels whose numbers are read from a pipe, each by one process, until none is left; then exit."""
    try:
        _detach(numbers)
        parallel._launch_threads = lambda: None
        for name in (STATE, *NUMBA_SYMBOLS, *map(ours, SYMBOLS)):  # of threads, which may not have been started
            llvm.add_symbol(name, ANY_ADDRESS)
        while os.getppid() == parent and (read := os.read(numbers, 1)):
            kernel, arguments = launches[read[0]]
            with suppress(Exception):  # the parent meets it too
                kernel.compile_into_cache(arguments)
    finally:
        os._exit(0)


def _detach(numbers: int) -> None:
    """End with the parent or after a time, leave signals to the system, and close the parent's files but one.

    Whoever reads the parent's output or connects to it must not wait for this process.
    """
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    signal.alarm(MAX_SECONDS)
    gc.freeze()  # no file object of the parent is closed later, when its number is another file's
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    for opened in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
        if opened > 2 and opened != numbers:
            with suppress(OSError):  # the listing's own
                os.close(opened)
