"""What bounds every kernel, measured: multiply-adds on registers alone, and a triad of arrays out of the caches.

(Williams, Waterman and Patterson 2009, "Roofline"; McCalpin 1995, "STREAM".)
"""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined, int64
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.target import host_target

CHAINS = 12  # two units of a latency of up to five cycles are kept busy, and 16 registers hold them all
BLOCK = 1 << 14  # floats
STEP_FLOPS = 2 * CHAINS * host_target().lanes


@launcher
@cpu_kernel(float32_1d, int64)
def multiply_adds(y, steps):
    """y[i] from ``steps`` steps of ``STEP_FLOPS`` operations each, in registers. Each thread owns a range of i."""
    for i in prange(len(y)):
        y[i] = _chains(y[i], steps)


@intrinsic
def _chains(typing, start, steps):
    """The sum of vectors v that went through v = v/2 + 1 ``steps`` times, each waiting for itself alone."""
    target = host_target()
    vector = ir.VectorType(llvm.FLOAT, target.lanes)

    def emit(context, builder, signature, arguments):
        start, steps = arguments
        half, one = (ir.Constant(vector, [number] * target.lanes) for number in (0.5, 1.0))
        places = [cgutils.alloca_once(builder, vector) for _ in range(CHAINS)]
        first = llvm.splat(builder, start, vector)
        for i, place in enumerate(places):  # numbers of its own, or LLVM would keep one chain for all
            builder.store(builder.fadd(first, ir.Constant(vector, [float(i)] * target.lanes)), place)
        with cgutils.for_range(builder, steps):
            for place in places:
                builder.store(llvm.fma(builder, builder.load(place), half, one, target.fma), place)
        total = llvm.zeros(vector)
        for place in places:
            total = builder.fadd(total, builder.load(place))
        return builder.extract_element(total, llvm.INT32(0))

    return types.float32(types.float32, types.int64), emit


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, types.float32)
def triad(a, b, c, scale):
    """a = b + scale · c. Each thread owns a range of blocks."""
    p_a, p_b, p_c = address(a), address(b), address(c)
    for item in prange(-(-a.size // BLOCK)):
        first = np.intp(item) * BLOCK
        count = min(a.size - first, BLOCK)
        at = 4 * first
        _triad_block(floats(p_a + at, count), floats(p_b + at, count), floats(p_c + at, count), scale)


@inlined
def _triad_block(a, b, c, scale):
    for i in range(len(a)):
        a[i] = b[i] + scale * c[i]
