"""Memory by address: how kernels reach rows of a view without slicing it, which would cost the no-alias marking."""

import numpy as np
from numba import carray, types
from numba.extending import intrinsic

from numbacnn.kernels.jit import inlined


@inlined
def address(array):
    """Where the array's first element lies, as a signed integer: unsigned ones would turn sums into floats."""
    return np.intp(array.ctypes.data)


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


@inlined
def floats(address, count):
    """The ``count`` float32 at ``address`` as an array."""
    return carray(_float_pointer(address), (count,))
