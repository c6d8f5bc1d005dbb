"""Floats side by side: what a thread handles at a time, four by one instruction of 16 bytes where they lie so, or one.

A value is a tuple of as many floats. A kernel written ``in_lanes`` is made for both widths, ``kernel[4]`` and
``kernel[1]``; ``width_of`` tells which its arrays allow.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load4, store4
from numbacnn.kernels.cuda.runtime.jit import THREADS, CudaKernel, cuda_kernel

VECTOR = 4
BYTES = 4 * VECTOR


class Lanes(NamedTuple):
    """``load(x, at)`` gives the value of ``width`` floats of a device array from index ``at`` on, ``store(x, at,
    value)`` writes it, ``splat(number)`` has the number in every lane."""

    width: int
    load: Any
    store: Any
    splat: Any
    join: Any  # of a function of one lane's floats: a function of values, (f(floats of lane 0), …)

    def lift(self, function: Callable[..., Any], count: int = 2) -> Any:
        """A device function of ``count`` values from one of as many floats."""
        joined = self.join(device_function(function), count)
        return device_function(lambda *values: joined(values, ()))


def in_lanes(
    *signature: Any, **options: Any
) -> Callable[[Callable[[Lanes], Callable[..., None]]], dict[int, CudaKernel]]:
    """Makes a kernel for each width, by ``cuda_kernel``, of a function that defines it for given lanes.

    Unless ``launch_bounds`` say otherwise it takes so few registers that four blocks share a multiprocessor: enough
    reads must be on their way for the memory to be busy.
    """
    options = {"launch_bounds": (THREADS, 4)} | options

    def decorate(define: Callable[[Lanes], Callable[..., None]]) -> dict[int, CudaKernel]:
        kernels = {}
        for lanes in (FOUR, ONE):
            function = define(lanes)
            function.__name__ = f"{define.__name__}_{lanes.width}"
            function.__doc__ = function.__doc__ or define.__doc__
            kernels[lanes.width] = cuda_kernel(*signature, **options)(function)
        return kernels

    return decorate


def width_of(*arrays: DeviceArray | None) -> int:
    """4 where along their last axes the arrays hold whole aligned vectors, else 1. Memory itself is aligned."""
    return VECTOR if all(_holds_vectors(x) for x in arrays if x is not None and x.size) else 1


def _holds_vectors(x: DeviceArray) -> bool:
    steps = [stride for stride, size in zip(x.strides[:-1], x.shape[:-1], strict=True) if size > 1]
    places = [x.offset * x.dtype.itemsize, *steps]
    return x.shape[-1] % VECTOR == 0 and all(place % BYTES == 0 for place in places)


@device_function
def pixel_part(height, width, steps):
    """(n, h, w, step): of items N×height×width×steps, the one of this thread; n is beyond where there is none."""
    i = cuda.grid(1)
    rest, step = i // steps, i % steps
    return rest // (height * width), rest // width % height, rest % width, step


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
def times(a, b):
    """a · b."""
    return a * b


@device_function
def multiply_add(a, b, c):
    """a · b + c."""
    return a * b + c


# -- both widths ------------------------------------------------------------------------------------------------------


def _floats_of(lane: int, count: int) -> Any:
    """A device function: the floats that ``count`` values have in a lane."""
    if count == 0:
        return device_function(lambda values: ())
    before, last = _floats_of(lane, count - 1), count - 1
    return device_function(lambda values: (*before(values), values[last][lane]))


def _join1(function: Any, count: int) -> Any:
    floats = _floats_of(0, count)
    return device_function(lambda values, more: (function(*floats(values), *more),))


def _join4(function: Any, count: int) -> Any:
    a, b, c, d = (_floats_of(lane, count) for lane in range(VECTOR))

    def joined(values, more):
        return (
            function(*a(values), *more),
            function(*b(values), *more),
            function(*c(values), *more),
            function(*d(values), *more),
        )

    return device_function(joined)


@device_function
def _load1(x, at):
    return (x[at],)


@device_function
def _store1(x, at, value):
    x[at] = value[0]


@device_function
def _splat1(number):
    return (number,)


@device_function
def _splat4(number):
    return number, number, number, number


ONE = Lanes(1, _load1, _store1, _splat1, _join1)
FOUR = Lanes(VECTOR, load4, store4, _splat4, _join4)
