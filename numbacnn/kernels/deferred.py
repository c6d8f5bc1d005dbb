"""Spares the parts of a kernel from being compiled each by itself.

Numba makes optimised machine code of every function that a kernel calls, of the body of its parallel loop, and of two
wrappers around that, and then of the kernel, which holds a copy of them all. Of a kernel only the last is ever run. In
``parts_of`` the others stay LLVM's intermediate code, as they were written, until they are linked into the kernel:
it is optimised as a whole, once. Measured on all that a first training step of LeNet-5 needs: 9.5 s instead of 20.0
(``python benchmarks/start_up.py`` tells both with the start of Python).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target


class _Part(JITCodeLibrary):  # type: ignore[misc]
    """A function that only becomes part of others. Python cannot call it: it has no address."""

    def _optimize_final_module(self) -> None:
        """Nothing: that comes with the kernel."""

    def _finalize_final_module(self) -> None:
        self._finalize_dynamic_globals()
        self._verify_declare_only_symbols()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        return 0


@contextmanager
def parts_of(name: str) -> Iterator[None]:
    """Here every function is compiled as a part, but for the one whose qualified name is ``name``."""
    with global_compiler_lock:  # nobody else compiles meanwhile
        context = cpu_target.target_context
        codegen = context.codegen()
        environments: list[tuple[str, Any]] = []

        def library(codegen: Any, own_name: str, **options: Any) -> JITCodeLibrary:
            return (JITCodeLibrary if own_name == name else _Part)(codegen, own_name, **options)

        def python_wrapper(library: JITCodeLibrary, *arguments: Any, **options: Any) -> None:
            if not isinstance(library, _Part):
                type(context).create_cpython_wrapper(context, library, *arguments, **options)

        def set_environment(*environment: Any) -> None:
            environments.append(environment)

        codegen._library_class, codegen.set_env = library, set_environment
        context.create_cpython_wrapper = python_wrapper
        try:
            yield
        finally:
            del codegen._library_class, codegen.set_env, context.create_cpython_wrapper
        for symbol, environment in environments:  # of a part, it has come with the kernel
            if codegen._engine.get_global_value_address(symbol):
                codegen.set_env(symbol, environment)
