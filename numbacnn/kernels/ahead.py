"""Compilation ahead: forked processes compile kernels into the cache on the disk, while this one compiles others."""

import os
import signal
import sys
import threading
import warnings
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import llvmlite.binding as llvm
from numba.core.compiler_lock import global_compiler_lock

from numbacnn.kernels.disk_cache import cache_folder
from numbacnn.kernels.jit import CpuKernel
from numbacnn.kernels.threads import STATE, SYMBOLS, ours

MAX_PROCESSES = 3  # each holds LLVM's memory, some 100 MiB; more find little to do
ANY_ADDRESS = 1  # of functions that are linked and never called

FirstLaunch = tuple[CpuKernel, tuple[Any, ...]]  # a kernel and its arguments


def compile_ahead(launches: Sequence[FirstLaunch], threads: int) -> None:
    """Let other processes compile the kernels of these launches into the cache, and return at once.

    They begin with the last, this process with the first that it launches: it loads what it finds in the cache. The
    kernel at which they meet may be compiled twice. There is one process for each of the ``threads`` that would be
    idle; none without a cache, or on other systems than Linux, where forking is not safe.
    """
    idle = min(threads, len(os.sched_getaffinity(0))) - 1 if sys.platform == "linux" else 0
    processes = min(idle, MAX_PROCESSES, len(launches) // 2)
    if processes < 1 or cache_folder() is None:
        return
    numbers, queue = os.pipe()
    os.write(queue, bytes(reversed(range(min(len(launches), 256)))))
    os.close(queue)
    parent = os.getpid()
    with suppress(OSError):  # no more processes are allowed: this one compiles all
        for _ in range(processes):
            child = _fork()
            if child == 0:
                _compile_from(numbers, launches, parent)
            threading.Thread(target=os.waitpid, args=(child, 0), daemon=True).start()
    os.close(numbers)


def _fork() -> int:
    with global_compiler_lock, warnings.catch_warnings():  # no other thread compiles, whose locks would stay locked
        warnings.simplefilter("ignore")  # Python's, about threads: the child uses none
        return os.fork()


def _compile_from(numbers: int, launches: Sequence[FirstLaunch], parent: int) -> None:
    """Compile the kernels whose numbers are read from a pipe, each by one process, until none is left; then exit."""
    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        _close_all_but(numbers)
        for name in (STATE, *map(ours, SYMBOLS)):  # of threads, which may not have been started
            llvm.add_symbol(name, ANY_ADDRESS)
        while os.getppid() == parent and (read := os.read(numbers, 1)):
            kernel, arguments = launches[read[0]]
            kernel.compile_into_cache(arguments)
    finally:
        os._exit(0)


def _close_all_but(kept: int) -> None:
    """Close the parent's files: whoever reads its output or connects to it must not wait for this process."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in range(3):
        os.dup2(nothing, standard)
    os.closerange(3, kept)
    os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
