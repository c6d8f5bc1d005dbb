"""Kernels made of a function of numbers, which is applied element by element.

``outputs`` and ``inputs`` are views N×H×W×C of one shape, or flat arrays of one size; each thread owns elements of rows
(n, h). Inputs may be outputs. ``tables`` are arrays M×K of numbers that repeat: element i of a row of image n meets
table[n, i mod K], or table[0, i mod K] where M is 1.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numba import types

from numbacnn.kernels.cuda.lanes import Lanes, in_lanes, width_of
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, CudaKernel, float32_3d, numba_type, over_rows, place

table_2d = types.Array(types.float32, 2, "A")


class ElementKernel:
    """``kernel(outputs, inputs, tables, constants)`` launches it; see ``element_kernel``."""

    def __init__(self, kernels: dict[int, CudaKernel]) -> None:
        self.kernels = kernels

    def __call__(
        self,
        outputs: Sequence[DeviceArray],
        inputs: Sequence[DeviceArray],
        tables: Sequence[DeviceArray] = (),
        constants: Sequence[Any] = (),
    ) -> None:
        """Launches the kernel for the lanes that the arrays allow."""
        several = any(len(table) > 1 for table in tables)
        arrays = _as_rows([*outputs, *inputs], several)
        width = width_of(*arrays, *tables)
        written, read = arrays[: len(outputs)], arrays[len(outputs) :]
        self.kernels[width][over_rows(arrays[0], width)](written, read, tuple(tables), tuple(constants))


def _as_rows(arrays: Sequence[DeviceArray], by_image: bool) -> tuple[DeviceArray, ...]:
    """As N×H×(W·C), in as few and long rows as can be."""
    if not all(x.contiguous for x in arrays):
        return tuple(x.rows() for x in arrays)
    return tuple(x.reshape(len(x) if by_image else 1, 1, -1) for x in arrays)


def element_kernel(
    outputs: int = 1,
    inputs: int = 1,
    tables: int = 0,
    constants: Iterable[Any] = (),
    name: str | None = None,
    applies: Any = None,
) -> Callable[[Callable[..., Any]], ElementKernel]:
    """Make a kernel of a function of one float from each input, one from each table, and constants of these types.

    The function returns a float for the output, or a tuple of one for each of several outputs. Scalar mathematics is a
    ``scalar_function``. ``applies``, a device function of the tuple of constants, decides whether anything changes.
    """
    arrays = [types.UniTuple(float32_3d, count) if count else types.Tuple(()) for count in (outputs, inputs)]
    more = types.UniTuple(table_2d, tables) if tables else types.Tuple(())
    signature = (*arrays, more, types.Tuple(tuple(map(numba_type, constants))))

    def decorate(function: Callable[..., Any]) -> ElementKernel:
        found = device_function(function)
        several = found if outputs > 1 else device_function(lambda *numbers: (found(*numbers),))

        def define(lanes: Lanes) -> Callable[..., None]:
            return _kernel(lanes, several, outputs, inputs, tables, applies or _always)

        define.__name__ = name or function.__name__
        few = outputs + inputs + tables < 6  # more would spill
        return ElementKernel(in_lanes(*signature, launch_bounds=(THREADS, 4 if few else 3))(define))

    return decorate


@device_function
def _always(constants: Any) -> bool:
    return True


def _kernel(lanes: Lanes, function: Any, outputs: int, inputs: int, tables: int, applies: Any) -> Callable[..., None]:
    width, apply = lanes.width, lanes.join(function, inputs + tables)
    read, look_up, write = _reader(lanes, inputs), _looker(lanes, tables), _writer(lanes, outputs)

    def kernel(outputs, inputs, tables, constants):
        height, size = outputs[0].shape[1], outputs[0].shape[2]
        n, h, first, step = place(height)
        if n < outputs[0].shape[0] and applies(constants):
            i = first * width
            while i < size:
                values = read(inputs, (n, h, i)) + look_up(tables, n, i)
                write(outputs, (n, h, i), apply(values, constants))
                i += step * width

    return kernel


def _reader(lanes: Lanes, count: int) -> Any:
    """A device function: the values of some arrays at an index, as a tuple."""
    if count == 0:
        return device_function(lambda arrays, at: ())
    before, load, last = _reader(lanes, count - 1), lanes.load, count - 1
    return device_function(lambda arrays, at: (*before(arrays, at), load(arrays[last], at)))


def _looker(lanes: Lanes, count: int) -> Any:
    """A device function: the values of some tables for element i of image n, as a tuple."""
    if count == 0:
        return device_function(lambda tables, n, i: ())
    read = _reader(lanes, count)

    def look_up(tables, n, i):
        images, size = tables[0].shape
        return read(tables, (n if images > 1 else 0, i % size))

    return device_function(look_up)


def _writer(lanes: Lanes, count: int) -> Any:
    """A device function that writes a tuple of what was found for each array, in each lane."""
    if count == 0:
        return device_function(lambda arrays, at, found: None)
    before, store, last = _writer(lanes, count - 1), lanes.store, count - 1
    pick = lanes.join(device_function(lambda found: found[last]), 1)

    def write(arrays, at, found):
        before(arrays, at, found)
        store(arrays[last], at, pick((found,), ()))

    return device_function(write)
