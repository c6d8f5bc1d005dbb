"""The activations that microkernels apply to their accumulators before the store: bits of a microkernel's mode."""

from llvmlite import ir

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import INT64

RELU, RELU6, HARDSWISH = 2, 8, 16
BITS = {"relu": RELU, "relu6": RELU6, "hardswish": HARDSWISH}  # by op


def apply_activation(builder, mode, accumulators):
    """Replace each accumulator by its activation, if ``mode`` has the bit of one."""
    for bit, activation in _EMITTERS.items():
        with builder.if_then(builder.icmp_unsigned("!=", builder.and_(mode, INT64(bit)), INT64(0))):
            for accumulator in accumulators:
                builder.store(activation(builder, builder.load(accumulator)), accumulator)


def _constant(value, like):
    return ir.Constant(like.type, [value] * like.type.count)


def _relu6(builder, x):
    """min(max(x, 0), 6) in each lane; NaN stays NaN."""
    six = _constant(6.0, x)
    return builder.select(builder.fcmp_ordered(">", x, six), six, llvm.relu(builder, x))


def _hardswish(builder, x):
    """x · (x + 3) / 6 in each lane where −3 < x < 3, 0 below and x above, with the roundings of the formula."""
    low, three, six = (_constant(value, x) for value in (-3.0, 3.0, 6.0))
    inner = builder.fdiv(builder.fmul(x, builder.fadd(x, three)), six)
    above = builder.select(builder.fcmp_ordered(">=", x, three), x, inner)
    return builder.select(builder.fcmp_ordered("<=", x, low), llvm.zeros(x.type), above)


_EMITTERS = {RELU: llvm.relu, RELU6: _relu6, HARDSWISH: _hardswish}
