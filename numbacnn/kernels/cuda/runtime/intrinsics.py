"""The vocabulary of kernels: ``cuda``, device functions, ``math``, memory accesses and PTX instructions."""

import math
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numba

from numbacnn.kernels.cuda.runtime import simulator
from numbacnn.kernels.cuda.runtime.backend import INSTALLED, SIMULATED, numba_cuda
from numbacnn.kernels.formulas.formula import with_math

cuda: Any = simulator.SimulatedCuda() if SIMULATED else numba_cuda

# ``math`` on the device, with ``fma``, which Python has only since 3.13.
device_math: Any = ModuleType("math")
vars(device_math).update(vars(math))
if SIMULATED:
    vars(device_math).update(simulator.FUNCTIONS)
elif INSTALLED:
    device_math.fma = numba_cuda.libdevice.fmaf

# cos(πx) and sin(πx) in float64. Unlike cos and sin, they need no table in local memory to reduce large arguments.
if SIMULATED or not INSTALLED:

    def cospi(x: float) -> float:
        """cos(πx)."""
        return math.cos(math.pi * x)

    def sinpi(x: float) -> float:
        """sin(πx)."""
        return math.sin(math.pi * x)

else:
    cospi, sinpi = numba_cuda.libdevice.cospi, numba_cuda.libdevice.sinpi


def device_function(function: Callable[..., Any]) -> Any:
    """Make a function that kernels and other device functions can call; it is inlined into them."""
    if SIMULATED or not INSTALLED or hasattr(function, "py_func"):  # the last: already compiled
        return function
    return numba_cuda.jit(device=True, forceinline=True)(function)


def scalar_function(function: Callable[..., Any]) -> Any:
    """Make a device function from a Python scalar function, with the device's ``math``."""
    return device_function(with_math(function, device_math, device_function))


# Accesses by a flat index, without the test for negative ones, and of four floats in one 16-byte instruction.

if SIMULATED or not INSTALLED:

    def load(array: Any, i: int) -> Any:
        """array[i]."""
        return array[i]

    def store(array: Any, i: int, value: Any) -> None:
        """array[i] = value."""
        array[i] = value

    def load4(x: Any, index: Any) -> Any:
        """Return the four floats of a device array from an index on, which is aligned to 16 bytes, as a tuple."""
        *front, last = index
        return tuple(x[(*front, last + i)] for i in range(4))

    def store4(x: Any, index: Any, values: Any) -> None:
        """Write four floats where ``load4`` reads them."""
        *front, last = index
        for i in range(4):
            x[(*front, last + i)] = values[i]

else:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic
    from numba.cuda.np import arrayobj

    VECTOR = ir.VectorType(ir.FloatType(), 4)
    FLOATS = numba.types.UniTuple(numba.types.float32, 4)

    def _vector_pointer(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        (array_kind, index_kind), (array, index) = kinds[:2], arguments[:2]
        parts = zip(cgutils.unpack_tuple(builder, index), index_kind, strict=True)
        indices = [context.cast(builder, part, kind, numba.types.intp) for part, kind in parts]
        struct = arrayobj.make_array(array_kind)(context, builder, array)
        pointer = cgutils.get_item_pointer(context, builder, array_kind, struct, indices, wraparound=False)
        return builder.bitcast(pointer, VECTOR.as_pointer())

    def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """Return the address of an element: the first two arguments are the array and the index."""
        return builder.gep(arrayobj.make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]])

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing: Any, array: Any, i: Any) -> Any:
        """array[i]."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(_pointer(context, builder, signature, arguments))

        return array.dtype(array, numba.types.int64), emit

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing: Any, array: Any, i: Any, value: Any) -> Any:
        """array[i] = value."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], _pointer(context, builder, signature, arguments))
            return context.get_dummy_value()

        return numba.types.void(array, numba.types.int64, array.dtype), emit

    @intrinsic  # type: ignore[untyped-decorator]
    def load4(typing: Any, x: Any, index: Any) -> Any:
        """Return the four floats of a device array from an index on, which is aligned to 16 bytes, as a tuple."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = builder.load(_vector_pointer(context, builder, signature.args, arguments), align=16)
            elements = [builder.extract_element(vector, ir.Constant(ir.IntType(32), i)) for i in range(4)]
            return cgutils.pack_array(builder, elements)

        return FLOATS(x, index), emit

    @intrinsic  # type: ignore[untyped-decorator]
    def store4(typing: Any, x: Any, index: Any, values: Any) -> Any:
        """Write four floats where ``load4`` reads them."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.Constant(VECTOR, ir.Undefined)
            for i, value in enumerate(cgutils.unpack_tuple(builder, arguments[2])):
                vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), i))
            builder.store(vector, _vector_pointer(context, builder, signature.args, arguments), align=16)
            return context.get_dummy_value()

        return numba.types.void(x, index, FLOATS), emit


def instruction(text: str, outputs: str, inputs: str, of_warp: bool = False) -> Any:
    """Make a device function from a PTX instruction. It takes a tuple of float32 and returns one float32 or a tuple.

    ``text`` names the operands $0, $1, …, outputs first. ``outputs`` and ``inputs`` have a constraint letter for each
    operand: f for float32, r for any 32 bits. An instruction of a whole warp (``of_warp``) is volatile: the compiler
    does not move it.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def run(typing: Any, operands: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            number, word = ir.FloatType(), ir.IntType(32)
            given = [
                builder.bitcast(value, word) if letter == "r" else value
                for value, letter in zip(cgutils.unpack_tuple(builder, arguments[0]), inputs, strict=True)
            ]
            kinds = [word if letter == "r" else number for letter in outputs]
            several = len(kinds) > 1
            kind = ir.FunctionType(ir.LiteralStructType(kinds) if several else kinds[0], [v.type for v in given])
            operands = ",".join([*(f"={letter}" for letter in outputs), *inputs])
            result = builder.asm(kind, text, operands, given, of_warp)
            parts = [builder.extract_value(result, i) for i in range(len(kinds))] if several else [result]
            floats = [builder.bitcast(part, number) if part.type == word else part for part in parts]
            return cgutils.pack_array(builder, floats) if several else floats[0]

        one = numba.types.float32
        return (numba.types.UniTuple(one, len(outputs)) if len(outputs) > 1 else one)(operands), emit

    return run
