"""The decorator for CUDA kernels, their launch configurations, and the grids that they share."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from numbacnn.kernels.cuda.runtime import backend, driver, launch
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.jit import announce, numba_type
from numbacnn.kernels.recording import Launch, tape

THREADS = 32 if backend.SIMULATED else 256  # per block, unless a kernel says otherwise
ELEMENTS = 4  # per thread of an elementwise kernel, if rows are long enough
MAX_BLOCKS = 65535  # along the second and third dimension of a grid

float32_4d = types.Array(types.float32, 4, "A")  # activations: N×H×W×C views into buffers with a halo
float32_3d = types.Array(types.float32, 3, "A")  # their rows, N×H×(W·C): ``DeviceArray.rows``
float32_2d = types.Array(types.float32, 2, "C")
float32_1d = types.Array(types.float32, 1, "C")
int64 = types.int64
int64_1d = types.Array(types.int64, 1, "C")

Grid = tuple[int, int, int]


class CudaKernel:
    """A function compiled for one fixed signature, at its first launch: ``kernel[blocks, threads](*arguments)``."""

    def __init__(
        self,
        function: Callable[..., None],
        signature: tuple[Any, ...],
        min_capability: tuple[int, int],
        options: dict[str, Any],
    ) -> None:
        self.name, self.__doc__, self.min_capability = function.__name__, function.__doc__, min_capability
        self.function, self.options = function, options
        self.signature = tuple(map(numba_type, signature))
        self._lock = threading.Lock()
        self._code: launch.CompiledKernel | None = None
        KERNELS.append(self)

    def __getitem__(self, grid: tuple[int | tuple[int, ...], int | tuple[int, ...]]) -> "ConfiguredKernel":
        blocks, threads = (_triple(part) for part in grid)
        return ConfiguredKernel(self, blocks, threads)

    def code(self) -> launch.CompiledKernel:
        """Return the compiled kernel; compile it at the first call."""
        with self._lock:
            if self._code is None:
                announce(self.name, done=False)
                self._code = launch.CompiledKernel(self.function, self.signature, **self.options)
                announce(self.name, done=True)
        return self._code


KERNELS: list[CudaKernel] = []  # for the tests, which compile all of them


class ConfiguredKernel(NamedTuple):
    """A kernel with its launch configuration: the dimensions of grid and block. An empty grid launches nothing."""

    kernel: CudaKernel
    blocks: Grid
    threads: Grid

    def __call__(self, *arguments: Any) -> None:
        """Launch the kernel, or record the launch. Raises TypeError if an argument does not match the signature."""
        launch = self.recorded(*arguments)
        launches = tape()
        if launches is not None:
            launches.append(launch)
        else:
            launch[0]()

    def recorded(self, *arguments: Any) -> Launch:
        """Return the launch as a function and its arguments."""
        for argument, kind in zip(arguments, self.kernel.signature, strict=True):
            if not _fits(argument, kind):
                raise TypeError(f"{self.kernel.name} takes {kind}, not {_describe(argument)}")
        if not all(self.blocks):
            return _nothing, ()
        return self.kernel.code().launcher(self.blocks, self.threads, arguments), ()


def _nothing() -> None:
    pass


def _fits(argument: Any, kind: Any) -> bool:
    if isinstance(kind, types.BaseTuple):
        return len(argument) == len(kind) and all(map(_fits, argument, kind))
    if not isinstance(kind, types.Array):
        return True
    if not isinstance(argument, DeviceArray) or argument.ndim != kind.ndim or str(argument.dtype) != str(kind.dtype):
        return False
    return kind.layout == "A" or argument.contiguous


def _describe(argument: Any) -> str:
    if isinstance(argument, tuple):
        return "(" + ", ".join(map(_describe, argument)) + ")"
    if isinstance(argument, DeviceArray):
        layout = "contiguous" if argument.contiguous else f"strides {argument.strides}"
        return f"a device array of {argument.dtype}, shape {argument.shape}, {layout}"
    return type(argument).__name__


def _triple(part: int | tuple[int, ...]) -> Grid:
    sizes = (part,) if isinstance(part, int) else part
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


def cuda_kernel(
    *signature: Any, min_capability: tuple[int, int] = driver.MIN_CAPABILITY, **options: Any
) -> Callable[[Callable[..., None]], CudaKernel]:
    """Make a CUDA kernel from a function with parameters of these types (see ``numba_type``).

    It runs on GPUs of compute capability ``min_capability`` or higher. ``options`` are the compiler's, such as
    ``launch_bounds``. Multiplications and additions may be contracted to fused multiply-adds, as in every CUDA
    compiler; nothing else of fast-math is allowed, so NaN, Inf and subnormal numbers survive.
    """
    return lambda function: CudaKernel(function, signature, min_capability, options)


class OverloadedKernel:
    """A function compiled for several signatures. A launch takes the first that its arguments match."""

    def __init__(self, function: Callable[..., None], signatures: tuple[tuple[Any, ...], ...]) -> None:
        self.kernels = [cuda_kernel(*signature)(function) for signature in signatures]

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        def launch(*arguments: Any) -> None:
            matching = (kernel for kernel in self.kernels if all(map(_fits, arguments, kernel.signature)))
            next(matching, self.kernels[0])[grid](*arguments)

        return launch


def overloaded_kernel(*signatures: tuple[Any, ...]) -> Callable[[Callable[..., None]], OverloadedKernel]:
    """Make an ``OverloadedKernel`` from a function; see ``cuda_kernel``."""
    return lambda function: OverloadedKernel(function, signatures)


# -- grids ------------------------------------------------------------------------------------------------------------


def over(count: int, threads: int = THREADS) -> tuple[int, int]:
    """Return the grid of one thread per item: thread ``cuda.grid(1)`` owns that item, if it is below ``count``."""
    return -(-count // threads), threads


def over_rows(x: DeviceArray, width: int = 1) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the grid of grid-stride loops over rows N×H×(W·C), ``width`` elements at a time; see ``row_loop``.

    Blocks are as wide as short rows, so that few threads are idle.
    """
    n, h, size = x.shape[0], x.shape[1], -(-x.shape[2] // width)
    across = THREADS
    while across >= 2 * size and across > 1:
        across //= 2
    down = THREADS // across
    return (-(-n * h // down), min(MAX_BLOCKS, -(-size // (across * ELEMENTS)))), (across, down)


@device_function
def row_loop(height):  # type: ignore[no-untyped-def]
    """(n, h, first, stride): this thread owns elements first, first + stride, … of row h of image n.

    Loop with ``while``: a ``range`` with a variable stride divides.
    """
    row = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    first = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    return row // height, row % height, first, cuda.gridDim.y * cuda.blockDim.x


def over_channels(x: DeviceArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the grid of one thread per element of N×H×W×C; see ``owned_element``."""
    n, h, w, channels = x.shape
    across = 1
    while across < channels and across < THREADS:
        across *= 2
    down = THREADS // across
    return (-(-n * h * w // down), -(-channels // across)), (across, down)


@device_function
def owned_element(height, width):  # type: ignore[no-untyped-def]
    """(n, h, w, c): the element that this thread owns, if n and c are in range."""
    pixel = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    row = pixel // width
    n = row // height
    return n, row - n * height, pixel - row * width, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x


@device_function
def unravel(item, height, width, channels):  # type: ignore[no-untyped-def]
    """(n, h, w, c): the index of item number ``item`` of N×height×width×channels."""
    pixel = item // channels
    return pixel // (height * width), pixel // width % height, pixel % width, item % channels
