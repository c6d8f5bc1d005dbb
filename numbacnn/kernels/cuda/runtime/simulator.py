"""Replacements for device functions in Numba's simulator."""

import math
import sys
import threading
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numba
import numpy as np


def _context() -> Any:
    """Return the context of the running kernel, for the calling thread's block."""
    from numba.cuda.simulator.kernel import _get_kernel_context

    return _get_kernel_context()


class SimulatedCuda:
    """``cuda`` in the running kernel.

    Numba replaces ``cuda`` only in the module of the kernel, and restores it while other threads still run functions of
    other modules.
    """

    _lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(_context(), name)

    @property
    def shared(self) -> Any:
        """``cuda.shared``."""
        return SimpleNamespace(array=self._shared_array)

    def _shared_array(self, shape: Any, dtype: Any, alignment: int | None = None) -> Any:
        """Return one array for all threads of a block, per line of code that requests one."""
        caller = sys._getframe(1)
        with self._lock:
            arrays = _context().__dict__.setdefault("numbacnn_shared", {})
            key = caller.f_code, caller.f_lineno
            if key not in arrays:
                arrays[key] = np.full(shape, np.nan, numba.np.numpy_support.as_dtype(dtype))
            return arrays[key]


def quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a float32 function that returns infinity or NaN without a warning, as on the device."""

    def call(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.float32(function(*arguments))

    return call


FUNCTIONS = {
    name: quiet(getattr(np, name))
    for name in ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "pow", "floor", "sin", "cos")
} | {"erfc": quiet(math.erfc), "fma": quiet(lambda x, y, z: np.float64(x) * y + z)}


def warp_function(function: Callable[[list[Any]], Sequence[Any]]) -> Callable[[Any], Any]:
    """Make an instruction that a warp executes together, called by each thread with its own operands.

    ``function`` computes the results of all 32 lanes from the operands of all. Every thread of the block must execute
    the instruction the same number of times.
    """

    def run(operands: Any) -> Any:
        context = _context()
        calls, given, results = context.__dict__.setdefault("numbacnn_warps", ({}, {}, {}))
        thread = context.threadIdx.x
        warp, lane = thread // 32, thread % 32
        calls[thread] = calls.get(thread, 0) + 1
        turn = warp, calls[thread] % 2  # two buffers: one barrier between writing and reading is enough
        given[*turn, lane] = operands
        results.pop(turn, None)
        context.syncthreads()
        if turn not in results:
            results[turn] = function([given[*turn, each] for each in range(32)])
        return results[turn][lane]

    return run


def simulated(argument: Any, kind: Any) -> Any:
    """Convert an argument of a Numba type to what a kernel gets in the simulator."""
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    if isinstance(kind, numba.types.BaseTuple) and not hasattr(argument, "_fields"):
        return tuple(map(simulated, argument, kind))
    if isinstance(kind, numba.types.Array):
        start = argument.offset * argument.dtype.itemsize if argument.size else 0
        memory = argument.memory.array
        return FakeCUDAArray(np.ndarray(argument.shape, argument.dtype, memory, start, argument.strides))
    if isinstance(kind, numba.types.Number | numba.types.Boolean):
        return numba.np.numpy_support.as_dtype(kind).type(argument)
    return argument
