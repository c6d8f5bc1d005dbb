"""Memory by address: kernels reach the rows of a view without slicing it, which would drop its no-alias attribute."""

import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.jit import inlined

NONTEMPORAL_BYTES = 1 << 25  # an output this large leaves the caches before it is read again


@inlined
def address(array):
    """The address of the array's first element, as a signed integer: sums with an unsigned one would be floats."""
    return np.intp(array.ctypes.data)


@inlined
def prefers_nontemporal(y):
    """Whether a kernel should write y by non-temporal stores (``vector.store_nontemporal``), by its size alone.

    An ordinary store reads the cache line that it overwrites, so a copy moves three bytes for every two. Other threads
    may see non-temporal stores late; the locked instruction of the barrier that ends a parallel region completes them.
    """
    return 4 * y.size >= NONTEMPORAL_BYTES


def _pointer_to(kind):
    @intrinsic
    def pointer(typing, address):
        def emit(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

        return types.CPointer(kind)(types.intp), emit

    return pointer


_float_pointer, _int32_pointer = _pointer_to(types.float32), _pointer_to(types.int32)
_double_pointer = _pointer_to(types.float64)


@inlined
def floats(address, count):
    """The ``count`` float32 at ``address`` as an array."""
    return carray(_float_pointer(address), (count,))


@inlined
def doubles(address, count):
    """The ``count`` float64 at ``address`` as an array."""
    return carray(_double_pointer(address), (count,))


@inlined
def integers(address, count):
    """The ``count`` int32 at ``address`` as an array."""
    return carray(_int32_pointer(address), (count,))


@intrinsic
def offset(typing, table, i):
    """Entry i of the int64 table at address ``table``."""

    def emit(context, builder, signature, arguments):
        table, i = arguments
        pointer = builder.inttoptr(table, ir.IntType(64).as_pointer())
        return builder.load(builder.gep(pointer, [i]))

    return types.intp(types.intp, types.intp), emit


@intrinsic
def prefetch(typing, address):
    """Prefetch the cache line at ``address``, which may be outside any array, into the second-level cache."""

    def emit(context, builder, signature, arguments):
        llvm.prefetch(builder, builder.inttoptr(arguments[0], ir.FloatType().as_pointer()), level=2)
        return context.get_dummy_value()

    return types.void(types.intp), emit


def stack_floats(count: int):
    """Return a Numba intrinsic that allocates ``count`` float32, aligned to a cache line, on its caller's stack, and
    returns their address. The memory is freed when the caller returns."""

    @intrinsic
    def reserve(typing):
        def emit(context, builder, signature, arguments):
            with builder.goto_entry_block():
                memory = builder.alloca(ir.ArrayType(ir.FloatType(), count))
            memory.align = 64
            return builder.ptrtoint(memory, ir.IntType(64))

        return types.intp(), emit

    return reserve
