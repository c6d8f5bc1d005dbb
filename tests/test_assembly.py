"""The GEMM microkernel cross-compiled for ARM: its innermost loop multiplies and adds in registers only."""

import re

import llvmlite.binding as llvm
import pytest
from llvmlite import ir

from numbacnn.kernels.cpu.gemm.microkernel import LoopNest, Tile, _Emitter
from numbacnn.kernels.target import Target

NEON = Target("NEON", lanes=4, registers=32, fma=True)
ARGUMENTS = (*Tile._fields, "n", "mode", *LoopNest._fields)


def assembly(mr, vectors, masked, target=NEON, triple="aarch64-unknown-linux-gnu", cpu="neoverse-n1", streams_b=False):
    """Emit one microkernel as a function of integers, optimize it as Numba does, and return its assembly."""
    module = ir.Module("microkernel")
    module.triple = triple
    word = ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [word] * len(ARGUMENTS)), "microkernel")
    builder = ir.IRBuilder(function.append_basic_block())
    given = dict(zip(ARGUMENTS, function.args, strict=True))
    tile, k = (kind(*(given[name] for name in kind._fields)) for kind in (Tile, LoopNest))
    emitter = _Emitter(builder, mr, vectors, target.lanes, masked, target.fma, streams_b)
    emitter.emit(tile, given["n"], given["mode"], k)
    builder.ret_void()
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    machine = llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3)
    compiled = llvm.parse_assembly(str(module))
    builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=3))
    builder.getModulePassManager().run(compiled, builder)
    return machine.emit_assembly(compiled)


def innermost_loops(text, multiply):
    """Return the lines of each basic block that multiplies and ends in a branch to its own label."""
    blocks = re.split(r"^(\.L\w+):", text, flags=re.M)
    loops = [
        lines.splitlines()
        for label, lines in zip(blocks[1::2], blocks[2::2], strict=True)
        if re.search(rf"\b[bj][.\w]*\s+{re.escape(label)}$", lines, flags=re.M)
    ]
    return [lines for lines in loops if any(multiply in line for line in lines)]


SPILL = re.compile(r"\b(ldr|str|ldp|stp|ldur|stur)\s+[qdsv]\d+,.*\[sp")
"""A vector register that is saved to the stack or restored from it."""


@pytest.mark.parametrize("streams_b", [False, True])
def test_the_neon_microkernel_keeps_its_sums_in_registers(streams_b):
    loops = innermost_loops(assembly(8, 2, masked=False, streams_b=streams_b), "fmla")
    assert loops
    assert all(any("prfm" in line for line in lines) == streams_b for lines in loops)
    for lines in loops:
        assert sum("fmla" in line for line in lines) % 16 == 0  # LLVM may unroll the loop
        assert not [line for line in lines if re.search(r"\b(bl|fmul|fadd|str|stp|st1)\b", line)]
        assert not [line for line in lines if SPILL.search(line)]


@pytest.mark.parametrize(("mr", "vectors"), [(8, 1), (1, 2)])
def test_masked_neon_microkernels_use_fused_instructions_without_spills(mr, vectors):
    """Their loads have a branch for each lane, which NEON has no masks for, so that the loop is many blocks."""
    lines = assembly(mr, vectors, masked=True).splitlines()
    fused = [number for number, line in enumerate(lines) if "fmla" in line]
    assert len(fused) >= mr * vectors
    assert not [line for line in lines[fused[0] : fused[-1]] if SPILL.search(line)]
    assert sum("fmul" in line for line in lines) == mr * vectors  # those of hard-swish


def test_a_microkernel_with_too_many_rows_is_seen_to_spill():
    """The check itself finds spills: 32 registers cannot hold 40 sums."""
    loops = innermost_loops(assembly(20, 2, masked=False), "fmla")
    assert any(SPILL.search(line) for lines in loops for line in lines)


def test_without_fused_instructions_products_and_sums_are_separate():
    target = Target("NEON", lanes=4, registers=32, fma=False)
    text = assembly(8, 2, masked=False, target=target)
    assert "fmla" not in text
    assert "fmul" in text
