"""Elementwise kernels, made from scalar functions.

``outputs`` and ``inputs`` are views N×H×W×C of one shape, or flat arrays of one size; each thread owns elements of rows
(n, h). Inputs may be outputs. ``tables`` are arrays M×K that are broadcast: element i of a row of image n is combined
with table[n, i mod K], or with table[0, i mod K] if M is 1.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from numba import types

from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, CudaKernel, float32_3d, numba_type, over_rows, row_loop
from numbacnn.kernels.cuda.vectors import VECTOR, VectorOps, vector_width, vectorized

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
        """Launch the kernel with the vector width that the arrays allow."""
        several = any(len(table) > 1 for table in tables)
        arrays = _as_rows([*outputs, *inputs], several)
        width = vector_width(*arrays, *tables)
        written, read = arrays[: len(outputs)], arrays[len(outputs) :]
        self.kernels[width][over_rows(arrays[0], width)](written, read, tuple(tables), tuple(constants))


def _as_rows(arrays: Sequence[DeviceArray], by_image: bool) -> tuple[DeviceArray, ...]:
    """Return the arrays as N×H×(W·C), with rows as few and as long as possible."""
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
    widths: Sequence[int] = (VECTOR, 1),
) -> Callable[[Callable[..., Any]], ElementKernel]:
    """Make a kernel from a scalar function ``function(*inputs, *tables, *constants)`` of floats and constants.

    The function returns a float, or a tuple with a float for each of several outputs. If ``applies``, a device function
    of the tuple of constants, returns False, the kernel does nothing. ``widths``: (1,) if the tables never hold whole
    vectors.
    """
    arrays = [types.UniTuple(float32_3d, count) if count else types.Tuple(()) for count in (outputs, inputs)]
    more = types.UniTuple(table_2d, tables) if tables else types.Tuple(())
    signature = (*arrays, more, types.Tuple(tuple(map(numba_type, constants))))

    def decorate(function: Callable[..., Any]) -> ElementKernel:
        found = device_function(function)
        several = found if outputs > 1 else device_function(lambda *numbers: (found(*numbers),))

        def define(vector: VectorOps) -> Callable[..., None]:
            return _kernel(vector, several, outputs, inputs, tables, applies or _always)

        define.__name__ = name or function.__name__
        few = outputs + inputs + tables < 6  # more would spill
        return ElementKernel(vectorized(*signature, widths=widths, launch_bounds=(THREADS, 4 if few else 3))(define))

    return decorate


@device_function
def _always(constants: Any) -> bool:
    return True


def _kernel(
    vector: VectorOps, function: Any, outputs: int, inputs: int, tables: int, applies: Any
) -> Callable[..., None]:
    width, apply = vector.width, vector.join(function, inputs + tables)
    read, look_up, write = _reader(vector, inputs), _looker(vector, tables), _writer(vector, outputs)

    def kernel(outputs, inputs, tables, constants):
        height, size = outputs[0].shape[1], outputs[0].shape[2]
        n, h, first, stride = row_loop(height)
        if n < outputs[0].shape[0] and applies(constants):
            i = first * width
            while i < size:
                values = read(inputs, (n, h, i)) + look_up(tables, n, i)
                write(outputs, (n, h, i), apply(values, constants))
                i += stride * width

    return kernel


def _reader(vector: VectorOps, count: int) -> Any:
    """Return a device function that reads the vectors of ``count`` arrays at an index, as a tuple."""
    if count == 0:
        return device_function(lambda arrays, at: ())
    before, load, last = _reader(vector, count - 1), vector.load, count - 1
    return device_function(lambda arrays, at: (*before(arrays, at), load(arrays[last], at)))


def _looker(vector: VectorOps, count: int) -> Any:
    """Return a device function that reads the vectors of ``count`` tables for element i of image n, as a tuple."""
    if count == 0:
        return device_function(lambda tables, n, i: ())
    read = _reader(vector, count)

    def look_up(tables, n, i):
        images, size = tables[0].shape
        return read(tables, (n if images > 1 else 0, i % size))

    return device_function(look_up)


def _writer(vector: VectorOps, count: int) -> Any:
    """Return a device function that writes vectors of tuples, which have an element for each of ``count`` arrays."""
    if count == 0:
        return device_function(lambda arrays, at, found: None)
    before, store, last = _writer(vector, count - 1), vector.store, count - 1
    pick = vector.join(device_function(lambda found: found[last]), 1)

    def write(arrays, at, found):
        before(arrays, at, found)
        store(arrays[last], at, pick((found,), ()))

    return device_function(write)
