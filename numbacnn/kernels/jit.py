"""The one decorator for CPU kernels: flags, fast-math subset, a disk cache of our own, and word of what compiles.

Numba's own cache watches one file and fails on read-only installs. This one lives in the user's cache folder, keyed by
the source of every kernel, the versions and the vector width, and steps aside where nothing is writable. Kernels of a
user's own (``own.py``) have keys besides, made from their code.
"""

import errno
import functools
import hashlib
import os
import shutil
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import caching
from numba.core.compiler_lock import global_compiler_lock
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from numbacnn.errors import NumbacnnError
from numbacnn.kernels.deferred import parts_of
from numbacnn.kernels.recording import Launch, tape
from numbacnn.kernels.target import host_target

# GNU OpenMP's workers spin for milliseconds after each parallel region. On a busy machine they then hold a core that
# the others need: two trainings side by side ran a hundred times slower. A tenth of a millisecond covers the Python
# between two regions; where they fall asleep there, and have to be woken, LeNet-5's step takes a quarter longer.
# Read when the threading layer starts; a choice of the user's own stands.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")

# NaN and Inf must survive, since they are reported; sums may be reordered at compile time, the same way every run.
# A loop that both sums and writes an array is compiled twice, in vectors and one by one, and which one runs depends on
# how far apart its arrays lie: such a sum would have other bits elsewhere. Sum in a loop of its own, or in order.
FAST_MATH = {"contract", "reassoc", "nsz"}

NUMBA_SETTINGS = ("BOUNDSCHECK", "OPT", "LOOP_VECTORIZE", "SLP_VECTORIZE")  # environment variables that change the code

float32_4d = types.Array(types.float32, 4, "A")  # activations: N×H×W×C views into buffers with a halo
float32_2d = types.Array(types.float32, 2, "C")
float32_1d = types.Array(types.float32, 1, "C")
int64 = types.int64
int64_1d = types.Array(types.int64, 1, "C")

CompileListener = Callable[[str, bool], None]
_listeners: list[CompileListener] = []


def add_compile_listener(listener: CompileListener) -> Callable[[], None]:
    """Calls ``listener(kernel_name, done)`` before and after each compilation; returns a function that removes it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def announce(kernel_name: str, done: bool) -> None:
    """Tells the listeners that a compilation begins, or is done."""
    for listener in list(_listeners):
        listener(kernel_name, done)


class CpuKernel:
    """A function compiled for one fixed signature, at its first call; loaded from the cache where it is there.

    ``signature`` gives the types, from the arguments of the first call. ``key`` tells functions apart that have the
    same name and place in a file; where it gives None, nothing is cached. ``own``: it may call functions of a user's,
    who may call them too.
    """

    def __init__(
        self,
        function: Callable[..., None],
        signature: Callable[[tuple[Any, ...]], tuple[Any, ...]],
        parallel: bool,
        key: Callable[[], str | None],
        own: bool,
    ) -> None:
        functools.update_wrapper(self, function)
        self._signature, self._key, self._own = signature, key, own
        self._lock = threading.Lock()
        self._compiled: Any = None
        self._dispatcher = _njit(FAST_MATH, parallel=parallel)(function)

    def __call__(self, *arguments: Any) -> None:
        """Runs the kernel, or records the launch; a TypeError means that the launcher passed another type than it
        declared."""
        launches = tape()
        if launches is not None:
            launches.append(self.recorded(*arguments))
        else:
            (self._compiled or self._compile(arguments))(*arguments)

    def recorded(self, *arguments: Any) -> Launch:
        """The compiled code behind the dispatcher, which no longer looks at the types of what it is given: through
        Python a launch takes 4 µs, two thirds of them for that."""
        compiled = self._compiled or self._compile(arguments)
        (signature,) = compiled.signatures
        for argument, kind in zip(arguments, signature, strict=True):
            if compiled.typingctx.can_convert(numba.typeof(argument), kind) is None:
                raise TypeError(f"{self.__name__} takes {kind}, not {numba.typeof(argument)}")  # type: ignore[attr-defined]
        return compiled.overloads[signature].entry_point, arguments

    def _compile(self, arguments: tuple[Any, ...]) -> Any:
        with self._lock:
            if self._compiled is None:
                key, function = self._key(), self._dispatcher.py_func
                caches = key is not None and cache_folder() is not None
                if caches:
                    function.cache_key = key
                    self._dispatcher._cache = _Cache(function)
                signature = self._signature(arguments)
                cached = caches and self._load(signature)
                if not cached:
                    announce(self.__name__, done=False)  # type: ignore[attr-defined]
                    try:
                        with nullcontext() if self._own else parts_of(function.__qualname__):
                            self._dispatcher.compile(signature)
                    except NumbaError as error:  # a user's own function; Numba's many lines are its cause
                        name = self.__name__  # type: ignore[attr-defined]
                        raise NumbacnnError(f"{name} cannot be compiled: {_reason(error)}") from error
                    announce(self.__name__, done=True)  # type: ignore[attr-defined]
                self._dispatcher.disable_compile()
                self._compiled = self._dispatcher
        return self._compiled

    def _load(self, signature: tuple[Any, ...]) -> bool:
        with global_compiler_lock:  # while another kernel is compiled from parts, libraries are not what they are
            result = self._dispatcher._cache.load_overload(signature, self._dispatcher.targetctx)
        if result is not None:
            self._dispatcher.add_overload(result)
        return result is not None


def _reason(error: Exception) -> str:
    """The line of Numba's message that says what is wrong, behind those that say where it was noticed."""
    lines = [line.strip() for line in str(error).splitlines()]
    return next((line for line in lines if line and not line.startswith("Failed in")), type(error).__name__)


def cpu_kernel(
    *signature: Any, parallel: bool = True, key: Callable[[], str | None] | None = None
) -> Callable[[Callable[..., None]], CpuKernel]:
    """Makes a CPU kernel from a function of these argument types (Numba types, or NamedTuple classes of numbers).

    ``key`` as in CpuKernel, of one that may call functions of a user's; by default the line where the function stands.
    """

    def decorate(function: Callable[..., None]) -> CpuKernel:
        line = str(function.__code__.co_firstlineno)
        return CpuKernel(
            function,
            lambda arguments: tuple(map(numba_type, signature)),
            parallel,
            key or (lambda: line),
            own=key is not None,
        )

    return decorate


def inlined(function: Callable[..., Any], always: bool = False) -> Any:
    """One thread's work as its own function: serial code that kernels call, compiled into them.

    Python must not call it: as a part of a kernel (``parts.py``) it has no address.

    ``always``, whatever its size: a call would keep the loop around it from becoming vectors.
    """
    function = getattr(function, "py_func", function)  # what somebody compiled already
    return _njit(FAST_MATH, forceinline=always)(function)


def in_order(function: Callable[..., Any]) -> Any:
    """As ``inlined``, but without fast-math: what is written first is rounded first, also where it is compiled into."""
    # False must be said: what is not said is inherited from the caller.
    return _njit(False)(function)


def _njit(fast_math: Any, **options: Any) -> Any:
    """Numba's decorator with the flags of all kernels. Nothing calls them as C functions: no wrapper for that."""
    flags = {"nogil": True, "error_model": "numpy", "boundscheck": None, "no_cfunc_wrapper": True}
    return numba.njit(fastmath=fast_math, **flags, **options)


def numba_type(kind: Any) -> Any:
    """Return Numba's type for a number, a vector, or a NamedTuple class of such fields; Numba types unchanged."""
    if isinstance(kind, type) and issubclass(kind, tuple):
        fields = [numba_type(hint) for hint in kind.__annotations__.values()]
        if len(set(fields)) == 1:
            return types.NamedUniTuple(fields[0], len(fields), kind)
        return types.NamedTuple(fields, kind)
    return _NUMBA_TYPES.get(kind, kind)


_NUMBA_TYPES: dict[Any, Any] = {
    int: types.int64,
    float: types.float64,
    bool: types.boolean,
    np.float32: types.float32,
    np.float64: types.float64,
    NDArray[np.int64]: int64_1d,
    NDArray[np.float64]: types.Array(types.float64, 1, "C"),
}


# -- the disk cache ---------------------------------------------------------------------------------------------------


@functools.cache
def cache_folder() -> Path | None:
    """Where compiled kernels are kept, or None (with one warning) where nothing is writable.

    ``NUMBACNN_CACHE_DIR`` names another place than the user's cache folder.
    """
    folder = cache_root() / source_key()
    try:
        if folder.parts[0] == "~":  # else a folder of that name would be made here
            raise OSError(errno.ENOENT, "there is no home folder")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        warnings.warn(
            f"compiled kernels are not kept, each start compiles them again: {folder} is not writable "
            f"({error.strerror}); set NUMBACNN_CACHE_DIR to a writable folder",
            RuntimeWarning,
            stacklevel=2,
        )
        return None
    return folder


def cache_root() -> Path:
    """The folder that holds the caches of every version of the kernels."""
    from platformdirs import user_cache_path

    chosen = os.environ.get("NUMBACNN_CACHE_DIR")
    try:
        return (Path(chosen).expanduser() if chosen else user_cache_path("numbacnn", appauthor=False)) / "jit"
    except RuntimeError:  # no HOME, and a user that the system does not know
        return Path("~/.cache/numbacnn/jit")


def clear_cache() -> None:
    """Deletes the compiled kernels of every version."""
    shutil.rmtree(cache_root(), ignore_errors=True)
    cache_folder.cache_clear()


def cache_size() -> int:
    """Bytes of compiled kernels on disk, of every version."""
    return sum(map(_size, cache_root().rglob("*")))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:  # another process renamed its temporary file
        return 0


@functools.cache
def source_key() -> str:
    """A hash of all that decides what the compiled kernels are: their source, versions, and the target."""
    digest = hashlib.sha256()
    for part in _key_parts():
        digest.update(part)
    return digest.hexdigest()[:16]


def _key_parts() -> Iterator[bytes]:
    try:
        yield version("numbacnn").encode()
    except PackageNotFoundError:  # run from a source tree that is not installed
        yield b"source"
    yield numba.__version__.encode()
    yield repr(host_target()).encode()
    yield repr([getattr(numba.config, name) for name in NUMBA_SETTINGS]).encode()
    kernels = Path(__file__).parent
    sources = [
        path
        for path in sorted(kernels.rglob("*.py"))
        if not {"cuda", "reference"} & set(path.relative_to(kernels).parts)
    ]
    for path in [*sources, kernels.parent / "geometry.py"]:
        yield str(path.relative_to(kernels.parent)).encode()
        yield path.read_bytes()


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Tells Numba's cache to use our folder, and that a kernel is current when its folder's key is."""

    def __init__(self, py_func: Any) -> None:
        self._py_func = py_func

    def get_cache_path(self) -> str:
        return str(cache_folder())

    def get_source_stamp(self) -> str:
        return source_key()

    def get_disambiguator(self) -> str:
        return str(self._py_func.cache_key)

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> "_Locator":
        return cls(py_func)


class _CacheImpl(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = [_Locator]  # noqa: RUF012 (Numba's own form)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    _impl_class = _CacheImpl

    def load_overload(self, signature: Any, target_context: Any) -> Any:
        try:
            return super().load_overload(signature, target_context)
        except Exception:  # a damaged file, whatever it makes unpickling raise: compile anew
            self.flush()
            return None

    def save_overload(self, signature: Any, data: Any) -> None:
        try:
            super().save_overload(signature, data)
        except OSError as error:
            warnings.warn(f"a compiled kernel could not be kept: {error}", RuntimeWarning, stacklevel=2)

    def _index_key(self, signature: Any, codegen: Any) -> tuple[Any, ...]:
        # The folder's key covers the bytecode; Numba's own key would add closures, which differ in every process.
        return signature, codegen.magic_tuple()
