"""CUDA kernels as machine code, without a GPU: PTX by numba-cuda, assembled by ptxas, and what that says of them."""

import importlib.util
import re
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from numbacnn.kernels.cuda import shim

CAPABILITIES = ((7, 5), (8, 0), (9, 0))


class Resources(NamedTuple):
    """What a kernel takes: registers of a thread, bytes of shared memory of a block, and bytes that a thread keeps in
    local memory because registers ran out (spills) or were indexed (stack)."""

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int


def assembler() -> Path | None:
    """ptxas of the CUDA packages, or None where it is not among them."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else spec.submodule_search_locations
    return next((path for root in roots for path in Path(root).rglob("ptxas") if path.is_file()), None)


def compiled(kernel) -> list[str]:
    """The kernel's PTX for each of ``CAPABILITIES``."""
    return shim.compile_ptx(kernel.function, kernel.signature, CAPABILITIES, **kernel.options)


def parameters(text) -> list[str]:
    """The types of an entry's parameters, such as u64."""
    head = text[text.index(".entry") : text.index(")", text.index(".entry"))]
    return re.findall(r"\.param \.(\w+)", head)


def assemble(kernel, texts) -> list[Resources]:
    """Assembles a kernel for each of ``CAPABILITIES``; raises where the assembler refuses."""
    with tempfile.TemporaryDirectory() as folder:
        return [
            _assembled(kernel.name, Path(folder, "kernel.ptx"), *pair) for pair in zip(texts, CAPABILITIES, strict=True)
        ]


def _assembled(name, source, text, capability) -> Resources:
    source.write_text(text)
    command = [
        assembler(),
        "-v",
        f"-arch=sm_{capability[0]}{capability[1]}",
        "-o",
        source.with_suffix(".cubin"),
        source,
    ]
    finished = subprocess.run(command, capture_output=True, text=True, check=False)
    report = finished.stderr
    if finished.returncode:
        raise AssertionError(f"{name}: {report}")
    return Resources(
        _number(r"Used (\d+) registers", report),
        _number(r"(\d+) bytes smem", report),
        _number(r"(\d+) bytes stack frame", report),
        _number(r"(\d+) bytes spill stores", report),
        _number(r"(\d+) bytes spill loads", report),
    )


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
