"""Deferred code generation: a kernel is compiled as one module instead of compiling every callee separately.

Numba generates optimized machine code for every function that a kernel calls, for the body of its parallel loop, for
two wrappers around that body, and then for the kernel, which contains a copy of all of them. Only this last one ever
runs. In ``compiled_as_one``, the others stay unoptimized LLVM IR until they are linked into the kernel, which is
optimized as a whole, once. A first training step of LeNet-5 compiles in 9.5 s instead of 20.0 s
(``python benchmarks/start_up.py`` measures both, with the start of Python).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


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


@contextmanager
def compiled_as_one(name: str) -> Iterator[None]:
    """Generate machine code only for the function with the qualified name ``name``."""
    with global_compiler_lock:  # no other thread compiles in the meantime
        context = cpu_target.target_context
        codegen = context.codegen()
        environments: list[tuple[str, Any]] = []

        def library(codegen: Any, library_name: str, **options: Any) -> JITCodeLibrary:
            return (JITCodeLibrary if library_name == name else _Callee)(codegen, library_name, **options)

        def python_wrapper(library: JITCodeLibrary, *arguments: Any, **options: Any) -> None:
            if not isinstance(library, _Callee):
                type(context).create_cpython_wrapper(context, library, *arguments, **options)

        def set_environment(*environment: Any) -> None:
            environments.append(environment)

        codegen._library_class, codegen.set_env = library, set_environment
        context.create_cpython_wrapper = python_wrapper
        try:
            yield
        finally:
            del codegen._library_class, codegen.set_env, context.create_cpython_wrapper
        for symbol, environment in environments:  # a callee's symbol is there once the kernel is
            if codegen._engine.get_global_value_address(symbol):
                codegen.set_env(symbol, environment)
