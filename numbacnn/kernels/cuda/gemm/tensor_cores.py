"""Tensor cores: the instruction ``mma.sync``, and the layout of its matrix fragments in the registers of a warp.

``mma`` adds the product of A, 16 rows × 8 words, and B, 8 words × 8 columns, to C, 16×8 float32. A word is one element
in tf32 (8 bits of exponent, 10 of mantissa), or two elements of consecutive k in bf16 (8 and 7), the first in the lower
half. Products are exact, and accumulators float32. (PTX ISA, "Warp-level matrix instructions: mma": .m16n8k8 with
.tf32, .m16n8k16 with .bf16, from compute capability 8.0 on.) Words are passed as float32, by their bits.

The simulator assembles the matrices from the registers of all lanes by the tables of the PTX ISA, which are written
out below, independently of the kernel's ``a_fragment``, ``b_fragment`` and ``c_fragment``, multiplies in float64 and
rounds once. That tests the indices of the kernel and the rounding of operands. It does not test how the hardware
rounds sums, nor the text of the instruction, which only the assembler checks.
"""

from typing import Any, NamedTuple

import numpy as np

from numbacnn.kernels.cuda.runtime import backend, simulator
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, instruction

PRECISIONS = ("tf32", "bf16")
MIN_CAPABILITY = (8, 0)
WARP, ROWS, WORDS, COLUMNS = 32, 16, 8, 8  # lanes of a warp; dimensions of the matrices of one instruction
A_REGISTERS, B_REGISTERS, C_REGISTERS = 4, 2, 4  # per lane


@device_function
def a_fragment(lane, register):
    """(row, word) of A in a register of a lane."""
    return lane // 4 + 8 * (register % 2), lane % 4 + 4 * (register // 2)


@device_function
def b_fragment(lane, register):
    """(word, column) of B in a register of a lane."""
    return lane % 4 + 4 * register, lane // 4


@device_function
def c_fragment(lane, register):
    """(row, column) of C in a register of a lane."""
    return lane // 4 + 8 * (register // 2), lane % 4 * 2 + register % 2


class Words(NamedTuple):
    """A precision: the number of ``elements`` in a word, ``pack``, which rounds a tuple of that many float32 to a word,
    and ``mma``, which takes a tuple of the registers of A, B and C."""

    elements: int
    pack: Any
    mma: Any


# -- in the simulator -------------------------------------------------------------------------------------------------


def round_to_tf32(x):
    """Round to 10 bits of mantissa, ties away from zero (``cvt.rna.tf32.f32``)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(np.float32)


def round_to_bf16(x):
    """Round to 7 bits of mantissa, ties to even (``cvt.rn.bf16x2.f32``)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(np.float32)


def pack_tf32(operands):
    """Round one float32 to a word."""
    return round_to_tf32(operands[0])[()]


def pack_bf16(operands):
    """Round two float32 to a word, the first in the lower half."""
    low, high = round_to_bf16(np.array(operands, np.float32)).view(np.uint32)
    return (high | low >> np.uint32(16)).view(np.float32)


def elements_of_a(elements: int) -> list[tuple[Any, Any]]:
    """Return (row, k) of the elements of A in each lane, from low to high, by the PTX ISA."""
    lane = np.arange(WARP)
    group, thread = lane >> 2, lane % 4
    if elements == 1:  # a₀ … a₃ of .m16n8k8, .tf32
        return [(group if i in (0, 2) else group + 8, thread if i in (0, 1) else thread + 4) for i in range(4)]
    rows = [group if 0 <= i < 2 or 4 <= i < 6 else group + 8 for i in range(8)]  # a₀ … a₇ of .m16n8k16, .bf16
    return [(rows[i], thread * 2 + (i & 1) + (0 if i < 4 else 8)) for i in range(8)]


def elements_of_b(elements: int) -> list[tuple[Any, Any]]:
    """Return (k, column) of the elements of B in each lane."""
    lane = np.arange(WARP)
    group, thread = lane >> 2, lane % 4
    if elements == 1:
        return [(thread, group), (thread + 4, group)]
    return [(thread * 2 + (i & 1) + (0 if i < 2 else 8), group) for i in range(4)]


def elements_of_c() -> list[tuple[Any, Any]]:
    """Return (row, column) of the elements of C, and of the result, in each lane."""
    lane = np.arange(WARP)
    group, thread = lane >> 2, lane % 4
    return [(group if i < 2 else group + 8, thread * 2 + (i & 1)) for i in range(4)]


def multiply_warp(operands: Any, elements: int) -> list[tuple[Any, ...]]:
    """Return the results of all lanes from the operands of all, 32 × 10 words."""
    words = np.array(operands, np.float32)
    halves = words.view(np.uint16).reshape(WARP, -1, 2).astype(np.uint32) << np.uint32(16)
    numbers = words[..., None] if elements == 1 else halves.view(np.float32)
    a, b, c = np.zeros((ROWS, WORDS * elements)), np.zeros((WORDS * elements, COLUMNS)), np.zeros((ROWS, COLUMNS))
    last = A_REGISTERS + B_REGISTERS
    for matrix, indices, registers in (
        (a, elements_of_a(elements), numbers[:, :A_REGISTERS]),
        (b, elements_of_b(elements), numbers[:, A_REGISTERS:last]),
        (c, elements_of_c(), words[:, last:]),
    ):
        for index, values in zip(indices, registers.reshape(WARP, -1).T, strict=True):
            matrix[index] = values
    with np.errstate(all="ignore"):
        d = (a @ b + c).astype(np.float32)
    return list(zip(*(d[index] for index in elements_of_c()), strict=True))


# -- on the device ----------------------------------------------------------------------------------------------------

if backend.SIMULATED or not backend.INSTALLED:
    TF32 = Words(1, pack_tf32, simulator.warp_function(lambda operands: multiply_warp(operands, 1)))
    BF16 = Words(2, pack_bf16, simulator.warp_function(lambda operands: multiply_warp(operands, 2)))
else:
    _OPERANDS = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    TF32 = Words(
        1,
        instruction("cvt.rna.tf32.f32 $0, $1;", "r", "f"),
        instruction(f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {_OPERANDS}", "ffff", "rrrrrrffff", True),
    )
    BF16 = Words(
        2,
        instruction("cvt.rn.bf16x2.f32 $0, $2, $1;", "r", "ff"),  # the first operand becomes the upper half
        instruction(f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {_OPERANDS}", "ffff", "rrrrrrffff", True),
    )
WORDS_OF = {"tf32": TF32, "bf16": BF16}
