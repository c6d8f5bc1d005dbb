"""Instructions whose meaning differs from C's, against what the PTX ISA says; and PTX that is not translated."""

import ctypes
import struct

import numpy as np
import pytest

from ptx import device
from ptx.machine import needs_compilers
from ptx.parser import Unsupported, parse
from ptx.translator import translate

pytestmark = needs_compilers
NAN, INFINITY = "0f7FC00000", "0f7F800000"
FRAME = """
.version 8.0
.target sm_80
.address_size 64
.global .align 4 .b8 table[8] = {{7, 0, 0, 0, 9, 0, 0, 0}};
.visible .entry tried(.param .u64 tried_param_0)
{{
    .reg .pred %p<4>;
    .reg .b16 %rs<4>;
    .reg .b32 %r<4>;
    .reg .f32 %f<4>;
    .reg .f64 %fd<4>;
    .reg .b64 %rd<4>;
    ld.param.u64 %rd1, [tried_param_0];
    {lines}
    st.global.{kind} [%rd1], {result};
    ret;
}}
"""


def number(x):
    """A float32 in PTX."""
    return f"0f{struct.unpack('<I', struct.pack('<f', x))[0]:08X}"


def source(lines, kind, result):
    return FRAME.format(lines="\n    ".join(f"{line.strip()};" for line in lines.split(";")), kind=kind, result=result)


def run(lines, kind="f32", result="%f1"):
    """Run instructions in one thread, and return a register."""
    memory = device.Memory(8)
    program = device.Program("tried", source(lines, kind, result))
    program.run((1, 1, 1), (1, 1, 1), program.pack([memory.address]), "forward")
    dtype = {"f32": np.float32, "f64": np.float64, "u32": np.uint32, "s32": np.int32, "u64": np.uint64}[kind]
    return memory.array.view(np.uint8)[: np.dtype(dtype).itemsize].view(dtype)[0]


FLOATS = {
    f"max.f32 %f1, {NAN}, {number(2)}": 2,  # unlike IEEE's maximum
    f"min.f32 %f1, {number(2)}, {NAN}": 2,
    f"fma.rn.f32 %f1, {number(1 + 2**-12)}, {number(1 + 2**-12)}, {number(-1)}": 2**-11 + 2**-24,
    f"mul.f32 %f2, {number(1 + 2**-12)}, {number(1 + 2**-12)}; sub.f32 %f1, %f2, {number(1)}": 2**-11,  # not fused
    f"add.rz.f32 %f1, {number(1)}, {number(-(2**-30))}": 1 - 2**-24,
    f"cvt.sat.f32.f32 %f1, {NAN}": 0,
    f"cvt.rni.f32.f32 %f1, {number(2.5)}": 2,
    "mov.b32 %r1, 1065353216; mov.b32 %f1, %r1": 1,
    f"cvt.rn.bf16x2.f32 %r1, {number(1 + 3 * 2**-8)}, {number(0)}; mov.b32 %f1, %r1": 1 + 2**-6,
    f"cvt.rna.tf32.f32 %r1, {number(1 + 2**-11)}; mov.b32 %f1, %r1": 1 + 2**-10,
    f"ex2.approx.ftz.f32 %f1, {number(-127)}": 0,
}
INTEGERS = {
    "mov.u32 %r2, 40; shl.b32 %r1, 1, %r2": ("u32", 0),
    "mov.u32 %r2, 40; mov.u32 %r3, -8; shr.s32 %r1, %r3, %r2": ("s32", -1),
    f"cvt.rzi.s32.f32 %r1, {NAN}": ("s32", 0),
    f"cvt.rzi.s32.f32 %r1, {INFINITY}": ("s32", 2**31 - 1),
    f"cvt.rmi.s32.f32 %r1, {number(-0.5)}": ("s32", -1),
    "mov.u32 %r2, 0; clz.b32 %r1, %r2": ("u32", 32),
    "mov.u32 %r2, -1; mul.hi.u32 %r1, %r2, %r2": ("u32", 2**32 - 2),
    "mov.u32 %r2, -1; mul.hi.s32 %r1, %r2, 7": ("s32", -1),
    f"setp.ltu.f32 %p1, {NAN}, {number(0)}; selp.u32 %r1, 1, 0, %p1": ("u32", 1),
    f"setp.ne.f32 %p1, {NAN}, {number(0)}; selp.u32 %r1, 1, 0, %p1": ("u32", 0),
    f"setp.neu.f32 %p1, {NAN}, {number(0)}; selp.u32 %r1, 1, 0, %p1": ("u32", 1),
    "mov.u16 %rs1, -1; cvt.s32.s16 %r1, %rs1": ("s32", -1),
    "mov.u16 %rs1, -1; cvt.u32.u16 %r1, %rs1": ("u32", 65535),
    "setp.eq.u32 %p1, 1, 1; mov.u32 %r1, 5; @%p1 mov.u32 %r1, 6": ("u32", 6),
    "setp.eq.u32 %p1, 1, 1; mov.u32 %r1, 5; @!%p1 mov.u32 %r1, 6": ("u32", 5),
}


@pytest.mark.parametrize(("lines", "expected"), FLOATS.items(), ids=[line.split(" ")[0] for line in FLOATS])
def test_floats(lines, expected):
    assert run(lines) == expected


@pytest.mark.parametrize(("lines", "expected"), INTEGERS.items(), ids=INTEGERS)
def test_integers(lines, expected):
    kind, value = expected
    assert run(lines, kind, "%r1") == value


def test_double_precision():
    assert run("mov.f64 %fd2, 0d3FF0000000000000; div.rn.f64 %fd1, %fd2, 0d4008000000000000", "f64", "%fd1") == 1 / 3
    high = run("mov.b64 %rd2, 81985529216486895; { .reg .b32 t; mov.b64 {t, %r1}, %rd2; }", "u32", "%r1")
    assert high == 0x01234567


@pytest.mark.parametrize(
    "line", ["atom.global.add.f32 %f1, [%rd1], %f2", "add.rm.s32 %r1, %r1, 1", "shfl.sync.b32 %r1"]
)
def test_other_instructions_are_rejected(line):
    with pytest.raises(Unsupported, match=line.split(" ")[0].split(".")[0]):
        translate(parse(source(line, "f32", "%f1")))


def test_division_by_zero_is_reported():
    with pytest.raises(device.KernelError, match="division by zero"):
        run("mov.u32 %r2, 0; div.u32 %r1, 7, %r2", "u32", "%r1")


def test_constants_are_read_within_their_bounds():
    assert run("ld.global.u32 %r1, [table]", "u32", "%r1") == 7
    assert run("mov.u64 %rd2, table; ld.global.nc.u32 %r1, [%rd2+4]", "u32", "%r1") == 9
    for access in ("read", "write"):
        lines = "ld.global.u32 %r1, [%rd2+8]" if access == "read" else "st.global.u32 [%rd2], %r1"
        with pytest.raises(device.KernelError, match=f"global {access} out of bounds"):
            run(f"mov.u64 %rd2, table; {lines}", "u32", "%r1")


def test_the_layout_of_parameters():
    assert ctypes.sizeof(ctypes.c_void_p) == 8
    head = ".visible .entry k(.param .u64 a, .param .u8 b, .param .f32 c, .param .u64 d)\n{\n    ret;\n}\n"
    from ptx.translator import offsets

    assert offsets(parse(f".version 8.0\n.target sm_80\n{head}")) == [(0, "u64"), (8, "u8"), (12, "f32"), (16, "u64")]
