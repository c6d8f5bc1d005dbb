"""A SIMD register of up to 8 floats as a Numba value: a kernel says in Python what happens to a vector of channels.

LLVM's own vectoriser needs long rows, and images have 1, 3 or 6 channels. Here ``load(address, count)`` reads
``min(count, LANES)`` floats and never a byte beyond them, so one loop serves every number of channels:

    for c in range(0, channels, LANES):
        store(y + 4 * c, load(x + 4 * c, channels - c) * splat(0.5), channels - c)
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic

from numbacnn.kernels.cpu import simd_ir
from numbacnn.kernels.cpu.simd_ir import FLOAT, INT64
from numbacnn.kernels.target import host_target

# Wider vectors gain nothing where memory is the limit, and images of few channels would leave them empty.
LANES = min(host_target().lanes, 8)
REGISTER = ir.VectorType(FLOAT, LANES)
FLAGS = ("contract", "nsz")


class VectorType(types.Type):
    """Numba's type of one register of float32."""

    def __init__(self):
        super().__init__(name=f"float32x{LANES}")


vector = VectorType()


@register_default(VectorType)
class VectorModel(models.PrimitiveModel):
    """A register is passed and kept as LLVM's own vector."""

    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, REGISTER)


@intrinsic
def load(typing, address, count):
    """The ``min(count, LANES)`` floats at ``address``, and zeros."""

    def emit(context, builder, signature, arguments):
        address, count = arguments
        pointer = builder.inttoptr(address, FLOAT.as_pointer())
        result = cgutils.alloca_once(builder, REGISTER)
        with builder.if_else(_is_full(builder, count)) as (full, partial):
            with full:
                builder.store(simd_ir.load(builder, pointer, REGISTER), result)
            with partial:
                mask = simd_ir.mask(builder, count, LANES)
                builder.store(simd_ir.load_masked(builder, pointer, mask, REGISTER), result)
        return builder.load(result)

    return vector(types.intp, types.intp), emit


@intrinsic
def store(typing, address, value, count):
    """Writes the first ``min(count, LANES)`` lanes of ``value`` at ``address``."""

    def emit(context, builder, signature, arguments):
        address, value, count = arguments
        pointer = builder.inttoptr(address, FLOAT.as_pointer())
        with builder.if_else(_is_full(builder, count)) as (full, partial):
            with full:
                simd_ir.store(builder, value, pointer)
            with partial:
                simd_ir.store_masked(builder, value, pointer, simd_ir.mask(builder, count, LANES))
        return context.get_dummy_value()

    return types.void(types.intp, vector, types.intp), emit


@intrinsic
def splat(typing, value):
    """``value`` in every lane."""

    def emit(context, builder, signature, arguments):
        return simd_ir.splat(builder, arguments[0], REGISTER)

    return vector(types.float32), emit


@intrinsic
def where_greater(typing, a, b, yes, no):
    """Lane by lane: ``yes`` where a > b or a is NaN, else ``no``."""

    def emit(context, builder, signature, arguments):
        a, b, yes, no = arguments
        nan = builder.fcmp_unordered("uno", a, a)
        return builder.select(builder.or_(builder.fcmp_ordered(">", a, b), nan), yes, no)

    return vector(vector, vector, vector, vector), emit


@intrinsic
def where_equal(typing, a, b, yes, no):
    """Lane by lane: ``yes`` where a == b, else ``no``."""

    def emit(context, builder, signature, arguments):
        a, b, yes, no = arguments
        return builder.select(builder.fcmp_ordered("==", a, b), yes, no)

    return vector(vector, vector, vector, vector), emit


@intrinsic
def transpose(typing, y, y_step, x, x_step, rows, columns):
    """y[j·y_step + i] = x[i·x_step + j] for i < rows, j < columns, each ``LANES`` at most; steps in bytes."""

    def emit(context, builder, signature, arguments):
        y, y_step, x, x_step, rows, columns = arguments

        def pointer(base, step, i):
            return builder.inttoptr(builder.add(base, builder.mul(step, INT64(i))), FLOAT.as_pointer())

        def mask_of_row(i, rows, columns):
            count = builder.select(builder.icmp_signed(">", rows, INT64(i)), columns, INT64(0))
            return simd_ir.mask(builder, count, LANES)

        lines = [
            simd_ir.load_masked(builder, pointer(x, x_step, i), mask_of_row(i, rows, columns), REGISTER)
            for i in range(LANES)
        ]
        for i, line in enumerate(simd_ir.transposed(builder, lines)):
            simd_ir.store_masked(builder, line, pointer(y, y_step, i), mask_of_row(i, columns, rows))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), emit


@intrinsic
def rectified(typing, a):
    """Lane by lane: 0 where a < 0, else a; NaN stays NaN."""

    def emit(context, builder, signature, arguments):
        (a,) = arguments
        zeros = simd_ir.zeros(REGISTER)
        return builder.select(builder.fcmp_ordered("<", a, zeros), zeros, a)

    return vector(vector), emit


def _arithmetic(emit, *functions):
    for function in functions:

        @infer_global(function)
        class Typing(ConcreteTemplate):
            cases = [signature(vector, vector, vector)]  # noqa: RUF012 (Numba's own form)

        @lower_builtin(function, vector, vector)
        def lower(context, builder, signature, arguments):
            return emit(builder, *arguments)


_arithmetic(lambda builder, a, b: builder.fadd(a, b, flags=FLAGS), operator.add, operator.iadd)
_arithmetic(lambda builder, a, b: builder.fsub(a, b, flags=FLAGS), operator.sub, operator.isub)
_arithmetic(lambda builder, a, b: builder.fmul(a, b, flags=FLAGS), operator.mul, operator.imul)


def _is_full(builder, count):
    return builder.icmp_signed(">=", count, INT64(LANES))
