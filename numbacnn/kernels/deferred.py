"""Deferred code generation: a kernel is compiled as one module instead of compiling every callee separately.

Numba generates optimized machine code for every function that a kernel calls, for the body of its parallel loop, for
two wrappers around that body, and then for the kernel, which contains a copy of all of them. Only this last one ever
runs. In ``compiled_as_one``, the others stay unoptimized LLVM IR until they are linked into the kernel, which is
optimized as a whole, once. In one process, a first training step of LeNet-5 compiles in 9.5 s instead of 20.0 s
(``python benchmarks/start_up.py`` measures both, with the start of Python).
"""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target

from numbacnn.kernels.threads import SYMBOLS, ours


class _Kernel(JITCodeLibrary):  # type: ignore[misc]
    """A kernel, whose parallel loops run on the package's threads (``threads.pool``)."""

    def _optimize_final_module(self) -> None:
        """Replace the names of Numba's threading layer in the kernel and in all that is linked into it."""
        for name in SYMBOLS:
            with suppress(NameError):
                self._final_module.get_function(name).name = ours(name)
        super()._optimize_final_module()


class _Callee(JITCodeLibrary):  # type: ignore[misc]
    """A function that only becomes part of others. It has no address, and Python cannot call it."""

    def _optimize_final_module(self) -> None:
        """Do nothing: the kernel's module is optimized with it."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0


# How the names of a parallel loop's libraries begin
PARALLEL_LOOP = "__numba_parfor_gufunc", "<numba.np.ufunc.wrappers._GufuncWrapper", "parallelgufuncwrapper"


@contextmanager
def compiled_separately(name: str) -> Iterator[None]:
    """Compile the kernel with the qualified name ``name``, and functions of the user, which Python may call too.

    The user's functions keep Numba's threads: they may be kept in caches of the user, for processes without this
    package.
    """
    being_compiled = set()

    class Function(JITCodeLibrary):  # type: ignore[misc]
        def _finalize_final_module(self) -> None:  # also of one that is loaded from the user's cache
            super()._finalize_final_module()
            being_compiled.discard(self)

    def library(codegen: Any, library_name: str, **options: Any) -> JITCodeLibrary:
        belongs = not being_compiled and (library_name == name or library_name.startswith(PARALLEL_LOOP))
        made = (_Kernel if belongs else Function)(codegen, library_name, **options)
        if not belongs:
            being_compiled.add(made)
        return made

    with global_compiler_lock:
        codegen = cpu_target.target_context.codegen()
        library._unserialize = JITCodeLibrary._unserialize  # type: ignore[attr-defined]
        codegen._library_class = library
        try:
            yield
        finally:
            del codegen._library_class


@contextmanager
def compiled_as_one(name: str) -> Iterator[None]:
    """Generate machine code only for the function with the qualified name ``name``."""
    with global_compiler_lock:  # no other thread compiles in the meantime
        context = cpu_target.target_context
        codegen = context.codegen()
        environments: list[tuple[str, Any]] = []

        def library(codegen: Any, library_name: str, **options: Any) -> JITCodeLibrary:
            return (_Kernel if library_name == name else _Callee)(codegen, library_name, **options)

        def python_wrapper(library: JITCodeLibrary, *arguments: Any, **options: Any) -> None:
            if not isinstance(library, _Callee):
                type(context).create_cpython_wrapper(context, library, *arguments, **options)

        def set_environment(*environment: Any) -> None:
            environments.append(environment)

        library._unserialize = JITCodeLibrary._unserialize  # type: ignore[attr-defined]
        codegen._library_class, codegen.set_env = library, set_environment
        context.create_cpython_wrapper = python_wrapper
        try:
            yield
        finally:
            del codegen._library_class, codegen.set_env, context.create_cpython_wrapper
        for symbol, environment in environments:  # a callee's symbol is there once the kernel is
            if codegen._engine.get_global_value_address(symbol):
                codegen.set_env(symbol, environment)
