"""CUDA kernels compiled to machine code without a GPU: PTX by numba-cuda, assembled by ptxas, with its statistics."""

import importlib.util
import os
import re
import struct
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from ptx import build

CAPABILITIES = ((7, 5), (8, 0), (9, 0))


class Resources(NamedTuple):
    """The resources of a kernel: registers per thread, and bytes of shared memory per block.

    ``stack`` and spills are bytes of local memory per thread, for arrays with variable indices and for registers that
    ran out. ``matrix`` counts tensor-core instructions. ``multiply_adds`` is the fraction of multiply–adds in the
    longest basic block, which is the body of an unrolled loop.
    """

    registers: int
    shared: int
    stack: int
    spill_stores: int
    spill_loads: int
    matrix: int
    multiply_adds: float


def assembler() -> Path | None:
    """Return the path of ptxas in the CUDA packages, or None."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None else spec.submodule_search_locations
    return next((path for root in roots for path in Path(root).rglob("ptxas") if path.is_file()), None)


def capabilities(kernel) -> list[tuple[int, int]]:
    """Return those of ``CAPABILITIES`` that the kernel supports; with NUMBACNN_NEWEST_ONLY=1, the last one."""
    supported = [capability for capability in CAPABILITIES if capability >= kernel.min_capability]
    return supported[-1:] if os.environ.get("NUMBACNN_NEWEST_ONLY") == "1" else supported


def compiled(kernel) -> list[str]:
    """Return the PTX of a kernel for each of its ``capabilities``."""
    return build.ptx(kernel.function, kernel.signature, kernel.options, capabilities(kernel))


def parameters(text) -> list[str]:
    """Return the types of the parameters of an entry, such as u64."""
    head = text[text.index(".entry") : text.index(")", text.index(".entry"))]
    return re.findall(r"\.param \.(\w+)", head)


def assemble(kernel, texts) -> list[Resources]:
    """Assemble a kernel for each of its ``capabilities``. Raises AssertionError if ptxas fails."""
    with tempfile.TemporaryDirectory() as folder:
        source, pairs = Path(folder, "kernel.ptx"), zip(texts, capabilities(kernel), strict=True)
        return [_assembled(kernel.name, source, *pair) for pair in pairs]


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
    code = _instructions(source.with_suffix(".cubin").read_bytes())
    return Resources(
        _number(r"Used (\d+) registers", report),
        _number(r"(\d+) bytes smem", report),
        _number(r"(\d+) bytes stack frame", report),
        _number(r"(\d+) bytes spill stores", report),
        _number(r"(\d+) bytes spill loads", report),
        sum(instruction & 0xFFF == HMMA for instruction in code),
        _share_of_multiply_adds(code),
    )


# The lowest 12 of the 128 bits of an instruction, from sm_75 to sm_90; for FFMA the lowest 9, for any operands.
HMMA, BRA, FFMA = 0x23C, 0x947, 0x023
EXECUTABLE = 4  # flag of an ELF section


def _instructions(cubin: bytes) -> list[int]:
    """Return the lower halves of the instructions in the code sections of a 64-bit ELF file."""
    (table,), (size, count) = struct.unpack_from("<Q", cubin, 0x28), struct.unpack_from("<2H", cubin, 0x3A)
    found = []
    for section in range(count):
        _, _, flags, _, start, length = struct.unpack_from("<2I4Q", cubin, table + section * size)
        offsets = range(start, start + length, 16) if flags & EXECUTABLE else ()
        found += [struct.unpack_from("<Q", cubin, at)[0] for at in offsets]
    return found


def _share_of_multiply_adds(code: list[int]) -> float:
    ends = [i + 1 for i, instruction in enumerate(code) if instruction & 0xFFF == BRA]
    longest = max((code[start:end] for start, end in pairwise([0, *ends, len(code)])), key=len)
    return sum(instruction & 0x1FF == FFMA for instruction in longest) / len(longest)


def _number(pattern: str, text: str) -> int:
    found = re.search(pattern, text)
    return int(found[1]) if found else 0
