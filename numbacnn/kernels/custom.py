"""Custom kernels, and the key under which the disk cache keeps them.

Numba compiles a function for the values of its globals and closures, so the key must cover them: two functions of the
same name, or one function before and after a constant has changed, have different keys.
"""

import hashlib
import sys
from collections.abc import Callable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numba
import numpy as np
from numba import types
from numba.core.typing.templates import builtin_registry

from numbacnn.kernels.jit import CpuKernel, float32_4d, numba_type

# The key of the cache folder covers their versions or source.
KNOWN = frozenset({"builtins", "math", "cmath", "operator", "numpy", "numba", "numbacnn"})
NUMBERS = (bool, int, float, complex, str, bytes, type(None), type(...), np.generic)


def custom_kernel(function: Callable[..., None]) -> CpuKernel:
    """Make a parallel CPU kernel from a user's function, for the types of its first arguments (``device.kernel``)."""
    return CpuKernel(
        function,
        lambda arguments: tuple(map(_type_of, arguments)),
        parallel=True,
        key=lambda: code_key(function),
        custom=True,
    )


def _type_of(argument: Any) -> Any:
    """The Numba type for which a kernel is compiled when it is first called with ``argument``."""
    if isinstance(argument, np.ndarray) and argument.ndim == 4 and argument.dtype == np.float32:
        return float32_4d
    if isinstance(argument, float | np.floating):
        return types.float32
    if isinstance(argument, tuple) and hasattr(argument, "_fields"):
        return numba_type(type(argument))
    return numba.typeof(argument)


def code_key(*functions: Callable[..., Any]) -> str | None:
    """Hash everything that determines the compiled code of the functions; None if a value they use has no hash."""
    digest = hashlib.sha256()
    seen: set[int] = set()
    try:
        for function in functions:
            for part in _parts(function, seen):
                digest.update(part.encode() + b"\0")
    except _NoKey:
        return None
    return digest.hexdigest()[:16]


class _NoKey(Exception):  # noqa: N818 (not an error: the kernel is not cached)
    """A value has no representation that identifies it in another process."""


def _parts(value: Any, seen: set[int]) -> Iterator[str]:
    """Strings that are equal, in every process, for values that compile to the same code."""
    if isinstance(value, NUMBERS):
        yield f"{type(value).__name__} {value!r}"
    elif isinstance(value, tuple):
        yield f"tuple of {len(value)} {getattr(value, '_fields', '')}"
        for item in value:
            yield from _parts(item, seen)
    elif isinstance(value, frozenset):  # of constants; its order differs from process to process
        yield f"set of {len(value)}"
        yield from sorted(" ".join(_parts(item, seen)) for item in value)
    elif isinstance(value, slice):  # a constant from Python 3.14 on
        yield "slice"
        yield from _parts((value.start, value.stop, value.step), seen)
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape} {value.tobytes().hex()}"
    elif isinstance(value, types.Type):
        yield f"type {value!r}"
    elif name := _known_name(value):
        yield name
    elif hasattr(value, "py_func"):  # compiled by numba.njit
        yield str(sorted((name, _sorted(option)) for name, option in value.targetoptions.items()))
        yield f"{sorted(map(str, value.locals.items()))} {[] if value._can_compile else value.signatures}"
        yield from _parts(value.py_func, seen)
    elif isinstance(value, FunctionType):
        if id(value) not in seen:
            seen.add(id(value))
            yield from _function_parts(value, seen)
            for implementation in _overloads(value):
                yield from _parts(implementation, seen)
    else:
        raise _NoKey


def _known_name(value: Any) -> str | None:
    """The name of a module of a known package, or of what is found there by its name; None for anything else.

    What a user makes with a known package, such as a stencil or a C callback, may have a class of that package.
    """
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if module is None and isinstance(value, np.ufunc):  # NumPy 1 gives them no module
        module = "numpy"
    if not isinstance(module, str) or module.partition(".")[0] not in KNOWN:
        return None
    if isinstance(value, ModuleType):
        return module
    name = getattr(value, "__qualname__", getattr(value, "__name__", ""))
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return f"{module} {name}" if found is value else None


def _overloads(function: FunctionType) -> Iterator[FunctionType]:
    """Functions that ``numba.extending.overload`` compiles instead of this one."""
    for value, kind in builtin_registry.globals:
        if value is function:
            for template in getattr(kind, "templates", ()):
                if hasattr(template, "_overload_func"):
                    yield template._overload_func


def _sorted(option: Any) -> str:
    return str(sorted(option) if isinstance(option, set) else option)


def _function_parts(function: FunctionType, seen: set[int]) -> Iterator[str]:
    yield from _parts(function.__defaults__, seen)
    for cell in function.__closure__ or ():
        yield from _parts(cell.cell_contents, seen)
    for code in _nested(function.__code__):
        yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames} {code.co_freevars} {code.co_argcount}"
        for constant in code.co_consts:
            if not isinstance(constant, CodeType):
                yield from _parts(constant, seen)
        for name in code.co_names:
            if name in function.__globals__:
                yield name
                yield from _parts(function.__globals__[name], seen)


def _nested(code: CodeType) -> Iterator[CodeType]:
    """A function's code, and the code of the functions defined in it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)
