"""Vectorized kernels: a thread loads and stores four floats in one access of 16 bytes if they are aligned, else one.

A vector is a tuple of ``width`` floats. A ``vectorized`` kernel is compiled for both widths, ``kernel[4]`` and
``kernel[1]``; ``vector_width`` returns the one that the arrays of a launch allow.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple

from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load4, store4
from numbacnn.kernels.cuda.runtime.jit import THREADS, CudaKernel, cuda_kernel, over, unravel

VECTOR = 4
BYTES = 4 * VECTOR


class VectorOps(NamedTuple):
    """Device functions for vectors of ``width`` floats.

    ``load(x, index)`` reads the vector of a device array that starts at an index, ``store(x, index, vector)`` writes
    it, and ``splat(number)`` repeats a number.
    """

    width: int
    load: Any
    store: Any
    splat: Any
    join: Any  # join(f, count)(vectors, more): the tuple of f(elements i of count vectors, *more) for each i

    def lift(self, function: Callable[..., Any], count: int = 2) -> Any:
        """Return a device function of ``count`` vectors that applies ``function`` elementwise."""
        joined = self.join(device_function(function), count)
        return device_function(lambda *vectors: joined(vectors, ()))


Definition = Callable[[VectorOps], Callable[..., None]]


def vectorized(
    *signature: Any, widths: Sequence[int] = (VECTOR, 1), **options: Any
) -> Callable[[Definition], dict[int, CudaKernel]]:
    """Make a kernel for each of ``widths`` from a function that defines it by ``VectorOps``; see ``cuda_kernel``.

    Unless ``launch_bounds`` say otherwise, registers are limited so that four blocks share a multiprocessor: enough
    loads must be in flight to saturate memory.
    """
    options = {"launch_bounds": (THREADS, 4)} | options

    def decorate(define: Definition) -> dict[int, CudaKernel]:
        kernels = {}
        for vector in (vector for vector in (FOUR, ONE) if vector.width in widths):
            function = define(vector)
            function.__name__ = f"{define.__name__}_{vector.width}"
            function.__doc__ = function.__doc__ or define.__doc__
            kernels[vector.width] = cuda_kernel(*signature, **options)(function)
        return kernels

    return decorate


def pixel_kernel(*signature: Any, **options: Any) -> Callable[[Definition], Callable[..., None]]:
    """Make a launcher of a ``vectorized`` kernel that writes its first argument.

    Each thread owns a vector of channels of a pixel: ``owned_vector``.
    """

    def decorate(define: Definition) -> Callable[..., None]:
        kernels = vectorized(*signature, **options)(define)

        @wraps(define)
        def launch(*arguments: Any) -> None:
            width = vector_width(*(array for array in arguments if isinstance(array, DeviceArray)))
            kernels[width][over(arguments[0].size // width)](*arguments)

        launch.__signature__ = inspect.signature(kernels[1].function)  # type: ignore[attr-defined]
        return launch

    return decorate


def vector_width(*arrays: DeviceArray | None) -> int:
    """Return 4 if the last axes of the arrays consist of whole aligned vectors, else 1. Memory itself is aligned."""
    return VECTOR if all(_holds_vectors(x) for x in arrays if x is not None and x.size) else 1


def _holds_vectors(x: DeviceArray) -> bool:
    strides = [stride for stride, size in zip(x.strides[:-1], x.shape[:-1], strict=True) if size > 1]
    offsets = [x.offset * x.dtype.itemsize, *strides]
    return x.shape[-1] % VECTOR == 0 and all(offset % BYTES == 0 for offset in offsets)


@device_function
def owned_vector(x, width):
    """(n, h, w, c): the first element of the vector of x that this thread owns; n is out of range if there is none."""
    n, h, w, part = unravel(cuda.grid(1), x.shape[1], x.shape[2], x.shape[3] // width)
    return n, h, w, part * width


# -- functions to lift ------------------------------------------------------------------------------------------------


@device_function
def add(a, b):
    """a + b."""
    return a + b


@device_function
def subtract(a, b):
    """a − b."""
    return a - b


@device_function
def multiply(a, b):
    """a · b."""
    return a * b


@device_function
def multiply_add(a, b, c):
    """a · b + c."""
    return a * b + c


# -- both widths ------------------------------------------------------------------------------------------------------


def _elements(i: int, count: int) -> Any:
    """Return a device function of ``count`` vectors that returns their elements i."""
    if count == 0:
        return device_function(lambda vectors: ())
    before, last = _elements(i, count - 1), count - 1
    return device_function(lambda vectors: (*before(vectors), vectors[last][i]))


def _join1(function: Any, count: int) -> Any:
    elements = _elements(0, count)
    return device_function(lambda vectors, more: (function(*elements(vectors), *more),))


def _join4(function: Any, count: int) -> Any:
    a, b, c, d = (_elements(i, count) for i in range(VECTOR))

    def joined(vectors, more):
        return (
            function(*a(vectors), *more),
            function(*b(vectors), *more),
            function(*c(vectors), *more),
            function(*d(vectors), *more),
        )

    return device_function(joined)


@device_function
def _load1(x, index):
    return (x[index],)


@device_function
def _store1(x, index, vector):
    x[index] = vector[0]


@device_function
def _splat1(number):
    return (number,)


@device_function
def _splat4(number):
    return number, number, number, number


ONE = VectorOps(1, _load1, _store1, _splat1, _join1)
FOUR = VectorOps(VECTOR, load4, store4, _splat4, _join4)
