"""A SIMD vector of floats as a Numba value, for kernels whose rows of channels are short.

LLVM's vectorizer needs long loops, and images have 1, 3 or 6 channels. Here ``load(address, count)`` reads
``min(count, WIDTH)`` floats and never a byte beyond them, so that one loop serves every number of channels:

    for c in range(0, channels, WIDTH):
        store(y + 4 * c, load(x + 4 * c, channels - c) * splat(0.5), channels - c)

When per-vector bookkeeping dominates, process blocks of two or four full vectors (``BLOCK_WIDTH``). Functions written
with ``load_like`` and ``splat_like`` serve both.
"""

import operator

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT64
from numbacnn.kernels.target import host_target

WIDTH = host_target().lanes
BLOCK_WIDTH = 4 * min(WIDTH, 8)  # half as many channels as four vectors of 16 would need
FLAGS = ("contract", "nsz")


class VectorType(types.Type):
    """The Numba type of a vector of ``lanes`` float32."""

    def __init__(self, lanes):
        super().__init__(name=f"float32x{lanes}")
        self.lanes = lanes


vector, block = VectorType(WIDTH), VectorType(BLOCK_WIDTH)
VECTOR, BLOCK = ir.VectorType(FLOAT, WIDTH), ir.VectorType(FLOAT, BLOCK_WIDTH)


@register_default(VectorType)
class VectorModel(models.PrimitiveModel):
    """A vector is represented by LLVM's."""

    def __init__(self, manager, numba_type):
        super().__init__(manager, numba_type, ir.VectorType(FLOAT, numba_type.lanes))


@intrinsic
def load(typing, address, count):
    """The ``min(count, WIDTH)`` floats at ``address``, then zeros."""
    return vector(types.intp, types.intp), _emit_load


def _emit_load(context, builder, signature, arguments):
    address, count = arguments
    pointer = builder.inttoptr(address, FLOAT.as_pointer())
    result = cgutils.alloca_once(builder, VECTOR)
    with builder.if_else(_is_full(builder, count)) as (full, partial):
        with full:
            builder.store(llvm.load(builder, pointer, VECTOR), result)
        with partial:
            mask = llvm.mask(builder, count, WIDTH)
            builder.store(llvm.load_masked(builder, pointer, mask, VECTOR), result)
    return builder.load(result)


@intrinsic
def load_between(typing, address, first, last):
    """The floats at ``address`` in lanes ``first`` to ``last`` − 1, and zeros in the others, which are not accessed."""

    def emit(context, builder, signature, arguments):
        address, first, last = arguments
        before, inside = llvm.mask(builder, first, WIDTH), llvm.mask(builder, last, WIDTH)
        inside = builder.and_(inside, builder.not_(before))
        return llvm.load_masked(builder, builder.inttoptr(address, FLOAT.as_pointer()), inside, VECTOR)

    return vector(types.intp, types.intp, types.intp), emit


@intrinsic
def store(typing, address, value, count):
    """Write the first ``min(count, WIDTH)`` lanes of ``value`` at ``address``; all of a block."""

    def emit(context, builder, signature, arguments):
        _store(builder, *arguments, llvm.store)
        return context.get_dummy_value()

    return types.void(types.intp, value, types.intp), emit


@intrinsic
def store_nontemporal(typing, address, value, count, nontemporal):
    """``store``, by non-temporal stores if ``nontemporal`` is true and the address is aligned for them."""

    def emit(context, builder, signature, arguments):
        *arguments, wanted = arguments

        def write(builder, value, pointer):
            possible = builder.and_(wanted, llvm.can_store_nontemporal(builder, pointer, value.type))
            with builder.if_else(possible) as (nontemporal, ordinary):
                with nontemporal:
                    llvm.store_nontemporal(builder, value, pointer)
                with ordinary:
                    llvm.store(builder, value, pointer)

        _store(builder, *arguments, write)
        return context.get_dummy_value()

    return types.void(types.intp, value, types.intp, types.boolean), emit


def _store(builder, address, value, count, write):
    pointer, lanes = builder.inttoptr(address, FLOAT.as_pointer()), value.type.count
    if lanes > WIDTH:
        write(builder, value, pointer)
        return
    with builder.if_else(_is_full(builder, count)) as (full, partial):
        with full:
            write(builder, value, pointer)
        with partial:
            llvm.store_masked(builder, value, pointer, llvm.mask(builder, count, lanes))


def _splat_into(kind):
    @intrinsic
    def splat(typing, value):
        """``value`` in every lane."""

        def emit(context, builder, signature, arguments):
            return llvm.splat(builder, arguments[0], ir.VectorType(FLOAT, kind.lanes))

        return kind(types.float32), emit

    return splat


splat, splat_block = _splat_into(vector), _splat_into(block)


@intrinsic
def load_block(typing, address):
    """The ``BLOCK_WIDTH`` floats at ``address``."""

    def emit(context, builder, signature, arguments):
        return llvm.load(builder, builder.inttoptr(arguments[0], FLOAT.as_pointer()), BLOCK)

    return block(types.intp), emit


@intrinsic
def load_like(typing, like, address, count):
    """``load``, or ``load_block`` if ``like`` is a block."""
    if like == vector:
        return vector(like, types.intp, types.intp), lambda *emitting: _emit_load(*emitting[:3], emitting[3][1:])

    def emit(context, builder, signature, arguments):
        pointer = builder.inttoptr(arguments[1], FLOAT.as_pointer())
        return llvm.load(builder, pointer, arguments[0].type)

    return like(like, types.intp, types.intp), emit


@intrinsic
def splat_like(typing, like, value):
    """``splat``, or ``splat_block`` if ``like`` is a block."""

    def emit(context, builder, signature, arguments):
        return llvm.splat(builder, arguments[1], arguments[0].type)

    return like(like, types.float32), emit


@intrinsic
def where_greater(typing, a, b, yes, no):
    """Lane by lane: ``yes`` where a > b or a is NaN, else ``no``."""

    def emit(context, builder, signature, arguments):
        a, b, yes, no = arguments
        nan = builder.fcmp_unordered("uno", a, a)
        return builder.select(builder.or_(builder.fcmp_ordered(">", a, b), nan), yes, no)

    return a(a, b, yes, no), emit


@intrinsic
def where_equal(typing, a, b, yes, no):
    """Lane by lane: ``yes`` where a == b, else ``no``."""

    def emit(context, builder, signature, arguments):
        a, b, yes, no = arguments
        return builder.select(builder.fcmp_ordered("==", a, b), yes, no)

    return a(a, b, yes, no), emit


@intrinsic
def where_inside(typing, a, ceiling, yes, no):
    """Lane by lane: ``no`` where a ≤ 0 or a ≥ ceiling, else ``yes``, as where a is NaN. A ceiling of NaN is none."""

    def emit(context, builder, signature, arguments):
        a, ceiling, yes, no = arguments
        below = builder.fcmp_ordered("<=", a, llvm.zeros(a.type))
        return builder.select(builder.or_(below, builder.fcmp_ordered(">=", a, ceiling)), no, yes)

    return a(a, ceiling, yes, no), emit


@intrinsic
def transpose(typing, y, y_step, x, x_step, rows, columns):
    """y[j·y_step + i] = x[i·x_step + j] for i < rows, j < columns, at most ``WIDTH`` each; steps in bytes."""

    def emit(context, builder, signature, arguments):
        y, y_step, x, x_step, rows, columns = arguments

        def pointer(base, step, i):
            return builder.inttoptr(builder.add(base, builder.mul(step, INT64(i))), FLOAT.as_pointer())

        def mask_of_row(i, rows, columns):
            count = builder.select(builder.icmp_signed(">", rows, INT64(i)), columns, INT64(0))
            return llvm.mask(builder, count, WIDTH)

        lines = [
            llvm.load_masked(builder, pointer(x, x_step, i), mask_of_row(i, rows, columns), VECTOR)
            for i in range(WIDTH)
        ]
        for i, line in enumerate(llvm.transposed(builder, lines)):
            llvm.store_masked(builder, line, pointer(y, y_step, i), mask_of_row(i, columns, rows))
        return context.get_dummy_value()

    return types.void(*[types.intp] * 6), emit


@intrinsic
def rectified(typing, a):
    """ReLU, lane by lane; NaN stays NaN."""

    def emit(context, builder, signature, arguments):
        return llvm.relu(builder, *arguments)

    return a(a), emit


@intrinsic
def at_most(typing, a, b):
    """min(a, b), lane by lane; where a is NaN, that."""

    def emit(context, builder, signature, arguments):
        a, b = arguments
        return builder.select(builder.fcmp_ordered(">", a, b), b, a)

    return a(a, b), emit


@intrinsic
def multiply_add(typing, a, b, c):
    """a · b + c, lane by lane, rounded once where the processor can.

    LLVM fuses a product and a sum only if they end up in the same basic block; this does not depend on that.
    """

    def emit(context, builder, signature, arguments):
        return llvm.fma(builder, *arguments, host_target().fma)

    return a(a, b, c), emit


def _arithmetic(emit, *functions):
    for function in functions:

        @infer_global(function)
        class Typing(ConcreteTemplate):
            cases = [signature(kind, kind, kind) for kind in (vector, block)]  # noqa: RUF012 (Numba's own form)

        @lower_builtin(function, VectorType, VectorType)
        def lower(context, builder, signature, arguments):
            return emit(builder, *arguments)


_arithmetic(lambda builder, a, b: builder.fadd(a, b, flags=FLAGS), operator.add, operator.iadd)
_arithmetic(lambda builder, a, b: builder.fsub(a, b, flags=FLAGS), operator.sub, operator.isub)
_arithmetic(lambda builder, a, b: builder.fmul(a, b, flags=FLAGS), operator.mul, operator.imul)


def _is_full(builder, count):
    return builder.icmp_signed(">=", count, INT64(WIDTH))
