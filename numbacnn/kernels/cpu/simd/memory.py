"""Memory by address: how kernels reach rows of a view without slicing it, which would cost the no-alias marking."""

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.jit import inlined


@inlined
def address(array):
    """Where the array's first element lies, as a signed integer: unsigned ones would turn sums into floats."""
    return np.intp(array.ctypes.data)


# An output that no cache holds until it is read: its last lines would only push out what is still needed.
STREAMED_BYTES = 1 << 25


@inlined
def goes_past_caches(y):
    """Whether a kernel ought to write an output past the caches (``vector.stream``), by its size alone.

    An ordinary store reads the line that it is about to overwrite: out of cache a copy then moves three bytes for two.
    Streamed ones may be seen late by other threads; the locked instruction on which all threads meet at the end of a
    parallel region has them all written.
    """
    return 4 * y.size >= STREAMED_BYTES


@intrinsic
def _float_pointer(typing, address):
    def emit(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.float32)(types.intp), emit


@intrinsic
def _int32_pointer(typing, address):
    def emit(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(types.int32)(types.intp), emit


@inlined
def integers(address, count):
    """The ``count`` int32 at ``address`` as an array."""
    return carray(_int32_pointer(address), (count,))


@intrinsic
def offset(typing, table, i):
    """Entry i of a table of int64 at ``table``."""

    def emit(context, builder, signature, arguments):
        table, i = arguments
        pointer = builder.inttoptr(table, ir.IntType(64).as_pointer())
        return builder.load(builder.gep(pointer, [i]))

    return types.intp(types.intp, types.intp), emit


@intrinsic
def prefetch(typing, address):
    """Has the line of the cache at ``address``, which may lie outside of any array, fetched into the second level."""

    def emit(context, builder, signature, arguments):
        llvm.prefetch(builder, builder.inttoptr(arguments[0], ir.FloatType().as_pointer()), level=2)
        return context.get_dummy_value()

    return types.void(types.intp), emit


def stack_floats(count: int):
    """A function for Numba code: the address of ``count`` float32 on its caller's stack, aligned to a cache line.

    They are gone when the caller returns: a function that hands the address on must be given it.
    """

    @intrinsic
    def reserve(typing):
        def emit(context, builder, signature, arguments):
            with builder.goto_entry_block():
                memory = builder.alloca(ir.ArrayType(ir.FloatType(), count))
            memory.align = 64
            return builder.ptrtoint(memory, ir.IntType(64))

        return types.intp(), emit

    return reserve


@inlined
def floats(address, count):
    """The ``count`` float32 at ``address`` as an array."""
    return carray(_float_pointer(address), (count,))
