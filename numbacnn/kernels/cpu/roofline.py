"""The peak rate of multiply-adds in registers, for the roofline (Williams, Waterman and Patterson 2009, "Roofline").

``formulas.arithmetic.triad`` measures the memory bandwidth.
"""

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.jit import cpu_kernel, float32_1d, int64
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.target import host_target

CHAINS = 12  # keep two units with a latency of up to five cycles busy, and fit into 16 registers
STEP_FLOPS = 2 * CHAINS * host_target().lanes


@launcher
@cpu_kernel(float32_1d, int64)
def multiply_adds(y, steps):
    """y[i] after ``steps`` steps of ``STEP_FLOPS`` operations each. Each thread owns a range of i."""
    for i in prange(len(y)):
        y[i] = _chains(y[i], steps)


@intrinsic
def _chains(typing, start, steps):
    """The sum of CHAINS vectors v after ``steps`` times v = v/2 + 1: chains of dependent multiply-adds."""
    target = host_target()
    vector = ir.VectorType(llvm.FLOAT, target.lanes)

    def emit(context, builder, signature, arguments):
        start, steps = arguments
        half, one = (ir.Constant(vector, [number] * target.lanes) for number in (0.5, 1.0))
        accumulators = [cgutils.alloca_once(builder, vector) for _ in range(CHAINS)]
        first = llvm.splat(builder, start, vector)
        for i, accumulator in enumerate(accumulators):  # with different starts, or LLVM would merge the chains
            builder.store(builder.fadd(first, ir.Constant(vector, [float(i)] * target.lanes)), accumulator)
        with cgutils.for_range(builder, steps):
            for accumulator in accumulators:
                builder.store(llvm.fma(builder, builder.load(accumulator), half, one, target.fma), accumulator)
        total = llvm.zeros(vector)
        for accumulator in accumulators:
            total = builder.fadd(total, builder.load(accumulator))
        return builder.extract_element(total, llvm.INT32(0))

    return types.float32(types.float32, types.int64), emit
