"""Compiles C to shared libraries, kept in a folder under a digest of their source, and kernels to PTX, kept likewise.

The folder is ``NUMBACNN_PTX_CACHE``, or a temporary one of this process.
"""

import ctypes
import hashlib
import os
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path
from types import CodeType, FunctionType

import numbacnn.kernels
from numbacnn.kernels.cuda.runtime import launch

HERE = Path(__file__).parent
# Multiplications and additions are not fused, as they are not in PTX; signed numbers wrap around.
COMPILER = ["gcc", "-O1", "-w", "-march=x86-64-v3", "-fwrapv", "-fno-strict-aliasing", "-ffp-contract=off", "-fPIC",
            "-shared"]  # fmt: skip


@cache
def folder() -> Path:
    """Return the folder of compiled files."""
    given = os.environ.get("NUMBACNN_PTX_CACHE")
    found = Path(given or tempfile.mkdtemp(prefix="ptx-"))
    found.mkdir(parents=True, exist_ok=True)
    return found


def library(source: str) -> ctypes.PyDLL:
    """Compile C, unless that is done already, and load it. Python's lock stays held while its functions run."""
    header = (HERE / "runtime.h").read_text()
    path = folder() / f"{_digest(source, header, ' '.join(COMPILER))}.so"
    if not path.exists():
        partial = path.with_suffix(f".{os.getpid()}.so")
        command = [*COMPILER, "-I", str(HERE), "-x", "c", "-", "-o", str(partial), "-lm"]
        subprocess.run(command, input=source.encode(), check=True)
        partial.rename(path)
    return ctypes.PyDLL(str(path), mode=ctypes.RTLD_GLOBAL if "run_grid" in source else ctypes.RTLD_LOCAL)


def ptx(function, signature, options, capabilities) -> list[str]:
    """Compile a kernel to PTX for these compute capabilities, unless that is done already."""
    known = _digest(_versions(), str(signature), repr(sorted(options.items())), *_parts(function, set()))
    paths = [folder() / f"{known}.sm_{major}{minor}.ptx" for major, minor in capabilities]
    if not all(path.exists() for path in paths):
        for path, text in zip(paths, launch.compile_ptx(function, signature, capabilities, **options), strict=True):
            partial = path.with_suffix(f".{os.getpid()}")
            partial.write_text(text)
            partial.rename(path)
    return [path.read_text() for path in paths]


def _digest(*parts: str) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.encode() + b"\0")
    return digest.hexdigest()[:24]


@cache
def _versions() -> str:
    """Return what all kernels depend on: the compiler and the source of this package."""
    root = Path(numbacnn.kernels.__file__).parent
    sources = [path.read_text() for path in sorted(root.rglob("*.py"))]
    return " ".join([version("numba-cuda"), version("numba"), _digest(*sources)])


def _parts(value, seen: set[int]) -> Iterator[str]:
    """Strings that distinguish functions that were made from the same source with other values."""
    value = getattr(value, "py_func", value)
    if isinstance(value, FunctionType):
        if id(value) in seen:
            return
        seen.add(id(value))
        yield f"{value.__module__}.{value.__qualname__} {value.__defaults__}"
        for cell in value.__closure__ or ():
            yield from _parts(cell.cell_contents, seen)
        yield from _code_parts(value.__code__, value.__globals__, seen)
    elif isinstance(value, tuple):
        for part in value:
            yield from _parts(part, seen)
    else:
        shown = repr(value)
        yield type(value).__name__ if " at 0x" in shown else shown


def _code_parts(code: CodeType, known: dict, seen: set[int]) -> Iterator[str]:
    yield f"{code.co_code.hex()} {code.co_names}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _code_parts(constant, known, seen)
        else:
            yield repr(constant)
    for name in code.co_names:
        if name in known:
            yield from _parts(known[name], seen)
