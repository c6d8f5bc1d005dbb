"""The one decorator for CUDA kernels, their grids, and what their threads share."""

import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from numba import types

from numbacnn.kernels.cuda.runtime import backend, driver, launch
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.jit import announce, numba_type
from numbacnn.kernels.recording import Launch, tape

THREADS = 32 if backend.SIMULATED else 256  # of a block; where a kernel wants another number, it says so itself
ELEMENTS = 4  # of a row that a thread of an elementwise kernel owns, in rows long enough
MOST_BLOCKS = 65535  # along a grid's second and third axis

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
        self, function: Callable[..., None], signature: tuple[Any, ...], least: tuple[int, int], options: dict[str, Any]
    ) -> None:
        self.name, self.__doc__, self.least_capability = function.__name__, function.__doc__, least
        self.function, self.options = function, options
        self.signature = tuple(map(numba_type, signature))
        self._lock = threading.Lock()
        self._code: launch.Code | None = None
        KERNELS.append(self)

    def __getitem__(self, grid: tuple[int | tuple[int, ...], int | tuple[int, ...]]) -> "Bound":
        blocks, threads = (_triple(part) for part in grid)
        return Bound(self, blocks, threads)

    def code(self) -> launch.Code:
        """The compiled kernel."""
        with self._lock:
            if self._code is None:
                announce(self.name, done=False)
                self._code = launch.Code(self.function, self.signature, **self.options)
                announce(self.name, done=True)
        return self._code


KERNELS: list[CudaKernel] = []  # all of them, for tests to compile


class Bound(NamedTuple):
    """A kernel and the grid it is to be launched on; an empty grid launches nothing."""

    kernel: CudaKernel
    blocks: Grid
    threads: Grid

    def __call__(self, *arguments: Any) -> None:
        """Launches the kernel, or records the launch; a TypeError names it where an argument is not what it takes."""
        launch = self.recorded(*arguments)
        launches = tape()
        if launches is not None:
            launches.append(launch)
        else:
            launch[0]()

    def recorded(self, *arguments: Any) -> Launch:
        """What to call instead, and with what."""
        for argument, kind in zip(arguments, self.kernel.signature, strict=True):
            if not _fits(argument, kind):
                raise TypeError(f"{self.kernel.name} takes {kind}, not {_kind_of(argument)}")
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


def _kind_of(argument: Any) -> str:
    if isinstance(argument, tuple):
        return "(" + ", ".join(map(_kind_of, argument)) + ")"
    if isinstance(argument, DeviceArray):
        layout = "contiguous" if argument.contiguous else f"strides {argument.strides}"
        return f"a device array of {argument.dtype}, shape {argument.shape}, {layout}"
    return type(argument).__name__


def _triple(part: int | tuple[int, ...]) -> Grid:
    sizes = (part,) if isinstance(part, int) else part
    x, y, z = (*sizes, 1, 1)[:3]
    return x, y, z


def cuda_kernel(
    *signature: Any, least_capability: tuple[int, int] = driver.LEAST_CAPABILITY, **options: Any
) -> Callable[[Callable[..., None]], CudaKernel]:
    """Makes a CUDA kernel from a function of these argument types (Numba types, or NamedTuple classes of numbers), for
    GPUs of ``least_capability`` or higher.

    ``options`` are the compiler's, such as ``max_registers``. Products and sums may become fused multiply-adds, as in
    every CUDA compiler; nothing else of fast-math, so NaN, Inf and subnormal numbers survive.
    """
    return lambda function: CudaKernel(function, signature, least_capability, options)


# -- grids ------------------------------------------------------------------------------------------------------------


def over(count: int, threads: int = THREADS) -> tuple[int, int]:
    """The grid for one thread to each of ``count`` items: thread ``cuda.grid(1)`` owns it, where it is below count."""
    return -(-count // threads), threads


def over_rows(x: DeviceArray, width: int = 1) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The grid for the elements of rows N×H×(W·C), ``width`` at a time, whose threads ask ``place`` what is theirs.

    Blocks are as wide as the rows where those are short, so that few threads are idle.
    """
    n, h, size = x.shape[0], x.shape[1], -(-x.shape[2] // width)
    across = THREADS
    while across >= 2 * size and across > 1:
        across //= 2
    down = THREADS // across
    return (-(-n * h // down), min(MOST_BLOCKS, -(-size // (across * ELEMENTS)))), (across, down)


@device_function
def place(height):  # type: ignore[no-untyped-def]
    """(n, h, i, step): this thread owns elements i, i + step, … of row h of image n, to be counted by ``while``: a
    ``range`` of a step that is no constant divides."""
    row = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    first = cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    return row // height, row % height, first, cuda.gridDim.y * cuda.blockDim.x


def over_channels(x: DeviceArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The grid for one thread to each element of N×H×W×C, whose threads ask ``pixel_of`` which one is theirs."""
    n, h, w, channels = x.shape
    across = 1
    while across < channels and across < THREADS:
        across *= 2
    down = THREADS // across
    return (-(-n * h * w // down), -(-channels // across)), (across, down)


@device_function
def pixel_of(height, width):  # type: ignore[no-untyped-def]
    """(n, h, w, c): the element that this thread owns, where n and c are not beyond the array."""
    pixel = cuda.blockIdx.x * cuda.blockDim.y + cuda.threadIdx.y
    row = pixel // width
    n = row // height
    return n, row - n * height, pixel - row * width, cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
