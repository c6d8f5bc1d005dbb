"""The decorators for CPU kernels: compiler flags, types, and compilation at the first call."""

import functools
import os
import threading
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from numbacnn._checks.garbage import without_collection
from numbacnn.errors import NumbacnnError
from numbacnn.kernels.deferred import compiled_as_one, compiled_separately
from numbacnn.kernels.disk_cache import KernelCache, cache_folder
from numbacnn.kernels.recording import Launch, tape
from numbacnn.kernels.threads import available

# NaN and Inf must survive, since they are reported. The compiler may reorder sums, the same way in every run. But a
# loop that both sums and writes an array is compiled twice, vectorized and scalar, and the addresses of its arrays
# decide which one runs: its sums would have different bits. Use a separate loop for the sum, or ``in_order``.
FAST_MATH = {"contract", "reassoc", "nsz"}

float32_4d = types.Array(types.float32, 4, "A")  # activations: N×H×W×C views into buffers with a halo
float32_2d = types.Array(types.float32, 2, "C")
float32_rows = types.Array(types.float32, 2, "A")  # rows that need not follow one another
float32_1d = types.Array(types.float32, 1, "C")
float64_1d = types.Array(types.float64, 1, "C")
int64 = types.int64
int64_1d = types.Array(types.int64, 1, "C")

CompileListener = Callable[[str, bool], None]
_listeners: list[CompileListener] = []


def add_compile_listener(listener: CompileListener) -> Callable[[], None]:
    """Call ``listener(kernel_name, done)`` before and after each compilation; return a function that removes it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def announce(kernel_name: str, done: bool) -> None:
    """Notify the listeners that a compilation begins, or is done."""
    for listener in list(_listeners):
        listener(kernel_name, done)


_threads_lock = threading.Lock()
_threads_started = False


def start_threads() -> None:
    """Load the threading layer, once. Raises NumbacnnError if Numba's, on which ours builds, cannot be loaded."""
    global _threads_started
    from numbacnn.kernels.threads import pool  # whose functions are compiled by this module

    with _threads_lock:
        if not _threads_started:
            _load_threading_layer()
            pool.start()
            _threads_started = True


def _load_threading_layer() -> None:
    """Load Numba's threading layer.

    Where kernels run on it instead of the package's threads: GNU OpenMP's spin for milliseconds after each parallel
    region. On a busy machine they occupy a core that other processes need: two trainings at the same time ran a hundred
    times slower. A tenth of a millisecond covers the Python between two regions; if workers fell asleep there, waking
    them would make a step of LeNet-5 take a quarter longer. The variable is read when the layer starts; the user's
    setting has precedence.
    """
    if not available() and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    try:
        numba.get_num_threads()
    except ValueError as error:
        layer, reason = numba.config.THREADING_LAYER, str(error).partition("\n")[0]
        raise NumbacnnError(
            f"NUMBA_THREADING_LAYER={layer}: {reason.removesuffix('.')}; unset it, or choose workqueue, omp or tbb"
        ) from None


class CpuKernel:
    """A function compiled for one fixed signature at its first call, or loaded from the cache.

    ``signature`` returns the types from the arguments of the first call. ``key`` distinguishes functions with the same
    name and file in the cache; if it returns None, the kernel is not cached. A ``custom`` kernel may call a user's
    compiled functions, which the user may call too.
    """

    __name__: str
    needs_threads = True

    def __init__(
        self,
        function: Callable[..., Any],
        signature: Callable[[tuple[Any, ...]], tuple[Any, ...]],
        parallel: bool,
        key: Callable[[], str | None],
        custom: bool,
        **options: Any,
    ) -> None:
        functools.update_wrapper(self, function)
        self._signature, self._key, self._custom = signature, key, custom
        self._lock = threading.Lock()
        self._compiled: Any = None
        self._dispatcher = _njit(FAST_MATH, parallel=parallel, **options)(function)

    @property
    def is_ready(self) -> bool:
        """Whether it is compiled or loaded."""
        return self._compiled is not None

    def __call__(self, *arguments: Any) -> None:
        """Run the kernel, or record the launch. A TypeError means that a launcher passed another type than declared."""
        launches = tape()
        if launches is not None:
            launches.append(self.recorded(*arguments))
        else:
            (self._compiled or self._compile(arguments))(*arguments)

    def recorded(self, *arguments: Any) -> Launch:
        """The compiled code and its arguments. It skips Numba's dispatch on types, two thirds of the 4 µs of a call."""
        compiled = self._compiled or self._compile(arguments)
        (signature,) = compiled.signatures
        for argument, kind in zip(arguments, signature, strict=True):
            if compiled.typingctx.can_convert(numba.typeof(argument), kind) is None:
                raise TypeError(f"{self.__name__} takes {kind}, not {numba.typeof(argument)}")
        return compiled.overloads[signature].entry_point, arguments

    def _compile(self, arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._compiled is None:
                signature = self._signature(arguments)
                if self.needs_threads:
                    start_threads()
                if not (self._use_cache() and self._load(signature)):
                    self._announce(done=False)
                    self._generate(signature)
                    self._announce(done=True)
                self._dispatcher.disable_compile()
                self._compiled = self._dispatcher
        return self._compiled

    def compile_into_cache(self, arguments: tuple[Any, ...]) -> None:
        """Compile the kernel into the cache on the disk, unless it is there. It cannot run, since threads may not."""
        signature = self._signature(arguments)
        if self._use_cache() and not self._load(signature):
            self._generate(signature)

    def _use_cache(self) -> bool:
        """Let the dispatcher use the cache on the disk, and return whether there is one for this kernel."""
        key = self._key()
        folder = None if key is None else cache_folder()
        if key is None or folder is None:
            return False
        self._dispatcher._cache = KernelCache(self._dispatcher.py_func, key, folder)
        return True

    def _generate(self, signature: tuple[Any, ...]) -> None:
        """Compile, and write to the cache."""
        compiling = compiled_separately if self._custom else compiled_as_one
        try:
            with compiling(self._dispatcher.py_func.__qualname__), without_collection():
                self._dispatcher.compile(signature)
        except NumbaError as error:  # of a custom kernel
            raise NumbacnnError(f"{self.__name__} cannot be compiled: {_reason(error)}") from error

    def _announce(self, done: bool) -> None:
        announce(self.__name__, done)

    def _load(self, signature: tuple[Any, ...]) -> bool:
        with global_compiler_lock:  # ``compiled_as_one`` in another thread replaces the class of libraries
            result = self._dispatcher._cache.load_overload(signature, self._dispatcher.targetctx)
        if result is not None:
            self._dispatcher.add_overload(result)
        return result is not None


class CFunction(CpuKernel):
    """A serial function that C can call at its ``address``; those of the threads are made before any kernel."""

    needs_threads = False

    def _announce(self, done: bool) -> None:
        """Stay silent: these are no kernels."""

    @property
    def address(self) -> int:
        """The address of the compiled function."""
        compiled = self._compiled or self._compile(())
        (result,) = compiled.overloads.values()
        return int(result.library.get_pointer_to_function(result.fndesc.llvm_cfunc_wrapper_name))


def c_function(*arguments: Any) -> Callable[[Callable[..., Any]], CFunction]:
    """Make a function for C from one with arguments of these Numba types."""

    def decorate(function: Callable[..., Any]) -> CFunction:
        line = str(function.__code__.co_firstlineno)
        return CFunction(function, lambda _: arguments, False, lambda: line, custom=False, no_cfunc_wrapper=False)

    return decorate


def _reason(error: Exception) -> str:
    """The line of Numba's message that says what is wrong; earlier lines say where."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Failed in")), type(error).__name__)


def cpu_kernel(
    *signature: Any, parallel: bool = True, key: Callable[[], str | None] | None = None
) -> Callable[[Callable[..., None]], CpuKernel]:
    """Make a CPU kernel from a function with parameters of these types (see ``numba_type``).

    ``key`` as in CpuKernel, for custom kernels; the package's are distinguished by the line of their definition.
    """

    def decorate(function: Callable[..., None]) -> CpuKernel:
        line = str(function.__code__.co_firstlineno)
        return CpuKernel(
            function,
            lambda arguments: tuple(map(numba_type, signature)),
            parallel,
            key or (lambda: line),
            custom=key is not None,
        )

    return decorate


def inlined(function: Callable[..., Any], always: bool = False) -> Any:
    """Compile a serial function for kernels to call. Python cannot call it: it is compiled into them (``deferred``).

    ``always`` inlines it at any size: a call would keep the loop around it from being vectorized.
    """
    function = getattr(function, "py_func", function)  # the source of a function that is compiled already
    return _njit(FAST_MATH, forceinline=always)(function)


def in_order(function: Callable[..., Any]) -> Any:
    """``inlined`` without fast-math: operations are rounded in the order in which they are written."""
    return _njit(False)(function)  # pass False explicitly; an unset flag is inherited from the caller


def _njit(fast_math: Any, **options: Any) -> Any:
    """Numba's decorator with the flags of all kernels. They are never called from C and need no wrapper for it.

    They are compiled under NUMBA_DISABLE_JIT too, which is for debugging the user's functions.
    """
    flags = {"nogil": True, "error_model": "numpy", "boundscheck": None, "no_cfunc_wrapper": True} | options

    def decorate(function: Callable[..., Any]) -> Any:
        config = vars(numba.config)
        disabled, config["DISABLE_JIT"] = config["DISABLE_JIT"], 0
        try:
            return numba.njit(fastmath=fast_math, **flags)(function)
        finally:
            config["DISABLE_JIT"] = disabled

    return decorate


_NUMBA_TYPES: dict[Any, Any] = {
    int: types.int64,
    float: types.float64,
    bool: types.boolean,
    np.float32: types.float32,
    np.float64: types.float64,
    NDArray[np.int64]: int64_1d,
    NDArray[np.float64]: float64_1d,
}


def numba_type(kind: Any) -> Any:
    """Return Numba's type for a number, a vector, or a NamedTuple class of such fields; Numba types unchanged."""
    if isinstance(kind, type) and issubclass(kind, tuple):
        fields = [numba_type(hint) for hint in kind.__annotations__.values()]
        if len(set(fields)) == 1:
            return types.NamedUniTuple(fields[0], len(fields), kind)
        return types.NamedTuple(fields, kind)
    return _NUMBA_TYPES.get(kind, kind)
