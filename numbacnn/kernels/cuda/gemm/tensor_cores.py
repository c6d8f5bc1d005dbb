"""Tensor cores: what a warp multiplies in one instruction, and which of its lanes holds which number.

``mma`` adds the product of a, 16 rows × 8 words, and b, 8 words × 8 columns, to c, 16×8 float32. A word is one number
in tf32 (8 bits of exponent and 10 of fraction), or two neighbouring terms in bf16 (8 and 7), the earlier one in the
lower half. Products are exact, sums of float32. (PTX ISA, "Warp-level matrix instructions: mma": .m16n8k8 with .tf32,
.m16n8k16 with .bf16, from compute capability 8.0 on.) Words are passed as float32, by their bits.

The simulator has no such instruction. There the operands of all lanes are put together as the tables of the PTX ISA
have them, written out below apart from the kernel's functions ``a_place``, ``b_place`` and ``c_place``, multiplied in
float64, and rounded once. That holds the kernel's indices and the rounding of operands. It does not hold how the
hardware rounds its sums, nor the text of the instruction, which only the assembler has seen.
"""

from typing import Any, NamedTuple

import numpy as np

from numbacnn.kernels.cuda.runtime import backend, simulator
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, instruction

PRECISIONS = ("tf32", "bf16")
LEAST_CAPABILITY = (8, 0)
WARP, ROWS, WORDS, COLUMNS = 32, 16, 8, 8  # lanes; and of the matrices of one instruction
A_REGISTERS, B_REGISTERS, C_REGISTERS = 4, 2, 4  # that a lane holds


@device_function
def a_place(lane, register):
    """(row, word) of a, in a register of a lane."""
    return lane // 4 + 8 * (register % 2), lane % 4 + 4 * (register // 2)


@device_function
def b_place(lane, register):
    """(word, column) of b."""
    return lane % 4 + 4 * register, lane // 4


@device_function
def c_place(lane, register):
    """(row, column) of c."""
    return lane // 4 + 8 * (register // 2), lane % 4 * 2 + register % 2


class Words(NamedTuple):
    """A precision: how many ``terms`` a word has, ``pack``, which makes one of as many float32 (a tuple), and ``mma``
    of a tuple of operands: a's registers, b's and c's."""

    terms: int
    pack: Any
    mma: Any


# -- in the simulator -------------------------------------------------------------------------------------------------


def round_to_tf32(x):
    """float32 of 10 bits of fraction: the nearest, of two the one away from zero (``cvt.rna.tf32.f32``)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(np.float32)


def round_to_bf16(x):
    """float32 of 7 bits of fraction: the nearest, of two the even one (``cvt.rn.bf16x2.f32``)."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    even = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = ((bits + np.uint32(0x7FFF) + even) & np.uint32(0xFFFF0000)).view(np.float32)
    return np.where(np.isfinite(x), rounded, x).astype(np.float32)


def pack_tf32(operands):
    """A word of one float32."""
    return round_to_tf32(operands[0])[()]


def pack_bf16(operands):
    """A word of two float32, the first in the lower half."""
    low, high = round_to_bf16(np.array(operands, np.float32)).view(np.uint32)
    return (high | low >> np.uint32(16)).view(np.float32)


def elements_of_a(terms: int) -> list[tuple[Any, Any]]:
    """(row, term) of the elements that each lane holds of a, from low to high, as the PTX ISA has them."""
    lane = np.arange(WARP)
    group, thread = lane >> 2, lane % 4
    if terms == 1:  # a₀ … a₃ of .m16n8k8, .tf32
        return [(group if i in (0, 2) else group + 8, thread if i in (0, 1) else thread + 4) for i in range(4)]
    rows = [group if 0 <= i < 2 or 4 <= i < 6 else group + 8 for i in range(8)]  # a₀ … a₇ of .m16n8k16, .bf16
    return [(rows[i], thread * 2 + (i & 1) + (0 if i < 4 else 8)) for i in range(8)]


def elements_of_b(terms: int) -> list[tuple[Any, Any]]:
    """(term, column) of those of b."""
    lane = np.arange(WARP)
    group, thread = lane >> 2, lane % 4
    if terms == 1:
        return [(thread, group), (thread + 4, group)]
    return [(thread * 2 + (i & 1) + (0 if i < 2 else 8), group) for i in range(4)]


def elements_of_c() -> list[tuple[Any, Any]]:
    """(row, column) of those of c, and of the result."""
    lane = np.arange(WARP)
    group, thread = lane >> 2, lane % 4
    return [(group if i < 2 else group + 8, thread * 2 + (i & 1)) for i in range(4)]


def multiply_warp(operands: Any, terms: int) -> list[tuple[Any, ...]]:
    """The results of all lanes from the operands of all, 32 × 10 words."""
    words = np.array(operands, np.float32)
    halves = words.view(np.uint16).reshape(WARP, -1, 2).astype(np.uint32) << np.uint32(16)
    numbers = words[..., None] if terms == 1 else halves.view(np.float32)
    a, b, c = np.zeros((ROWS, WORDS * terms)), np.zeros((WORDS * terms, COLUMNS)), np.zeros((ROWS, COLUMNS))
    last = A_REGISTERS + B_REGISTERS
    for matrix, places, held in (
        (a, elements_of_a(terms), numbers[:, :A_REGISTERS]),
        (b, elements_of_b(terms), numbers[:, A_REGISTERS:last]),
        (c, elements_of_c(), words[:, last:]),
    ):
        for place, values in zip(places, held.reshape(WARP, -1).T, strict=True):
            matrix[place] = values
    with np.errstate(all="ignore"):
        d = (a @ b + c).astype(np.float32)
    return list(zip(*(d[place] for place in elements_of_c()), strict=True))


# -- on the device ----------------------------------------------------------------------------------------------------

if backend.SIMULATED or not backend.INSTALLED:
    TF32 = Words(1, pack_tf32, simulator.warp_function(lambda operands: multiply_warp(operands, 1)))
    BF16 = Words(2, pack_bf16, simulator.warp_function(lambda operands: multiply_warp(operands, 2)))
else:
    _FORM = "{$0,$1,$2,$3}, {$4,$5,$6,$7}, {$8,$9}, {$10,$11,$12,$13};"
    TF32 = Words(
        1,
        instruction("cvt.rna.tf32.f32 $0, $1;", "r", "f"),
        instruction(f"mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {_FORM}", "ffff", "rrrrrrffff", True),
    )
    BF16 = Words(
        2,
        instruction("cvt.rn.bf16x2.f32 $0, $2, $1;", "r", "ff"),  # its first operand goes to the upper half
        instruction(f"mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {_FORM}", "ffff", "rrrrrrffff", True),
    )
WORDS_OF = {"tf32": TF32, "bf16": BF16}
