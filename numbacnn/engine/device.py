"""Devices: their kernels, their arrays, and copies from and to the host."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial, wraps
from math import prod
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbacnn._checks import one_of, shown
from numbacnn._checks.names import checks_call
from numbacnn.engine.locks import thread_limit
from numbacnn.errors import ArgumentError, DeviceMemoryError, NumbacnnError
from numbacnn.geometry import Shape
from numbacnn.layers.bindings import Kernels, Sizes

if TYPE_CHECKING:
    from numbacnn.kernels.jit import CpuKernel
    from numbacnn.kernels.recording import Launch, Recording

ALIGNMENT = 64  # bytes
KERNEL_FLOATS = 1 << 13  # an upload of fewer takes less time in NumPy than the launch of a kernel
DEVICES = ("cpu", "cuda", "reference")
PRECISIONS = ("fp32", "tf32", "bf16")  # of the operands of convolutions and dense layers

DeviceArray: TypeAlias = Any  # an ndarray, or an array of ``kernels.cuda.runtime.array``


class Device:
    """The CPU. Another device is a subclass with its own kernels, their scratch sizes, and its own arrays."""

    name = "cpu"
    precision = "fp32"
    kernels: Kernels
    sizes: Sizes
    runs_loops = False  # whether training steps can run without the host

    def __init__(self) -> None:
        thread_limit()  # raises an error if Numba cannot be imported
        from numbacnn.kernels.cpu import launchers, sizes

        self.kernels, self.sizes = cast(Kernels, launchers), cast(Sizes, sizes)

    # -- arrays -------------------------------------------------------------------------------------------------------

    def zeros(self, shape: int | Shape, dtype: DTypeLike = np.float32) -> DeviceArray:
        """Return an array of zeros on the device, aligned to a cache line. Raises DeviceMemoryError without room."""
        count = (shape if isinstance(shape, int) else prod(shape)) * np.dtype(dtype).itemsize
        try:
            raw = np.zeros(count + ALIGNMENT, np.uint8)
        except (MemoryError, ValueError):  # ValueError: more than can be addressed
            size = f"{count / 2**30:,.1f} GiB"
            raise DeviceMemoryError(f"out of memory for {size}: make the batch or the model smaller") from None
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + count].view(dtype).reshape(shape)

    def arena(self, size: int, batch: int) -> DeviceArray:
        """Return ``size`` bytes of float32 zeros, for the buffers of ``batch`` images."""
        return self.zeros(size // 4)

    def write(self, target: DeviceArray, source: DeviceArray) -> None:
        """Copy a host or device array into a contiguous device array of the same shape, without launching a kernel."""
        np.copyto(target, source, casting="same_kind")

    def host(self, array: DeviceArray) -> NDArray[Any]:
        """Return the values of a device array on the host: on the CPU, the array itself."""
        return array  # type: ignore[no-any-return]

    def upload(self, target: DeviceArray, source: NDArray[Any]) -> None:
        """Copy a host array into a device view of the same shape. The caller holds ``engine_lock``."""
        flags, large = source.flags, source.size >= KERNEL_FLOATS
        if large and target.ndim == 4 and source.dtype == np.float32 and flags.c_contiguous and flags.writeable:
            self.kernels.copy(target, source)  # for views with a halo, for which NumPy is slow
        else:
            np.copyto(target, source, casting="same_kind")

    def download(self, source: DeviceArray, shape: Shape) -> NDArray[np.float32]:
        """Return a device view as a new host array, in another shape of the same size."""
        return np.array(source, np.float32).reshape(shape)

    def free_memory(self) -> int:
        """Return the bytes of free memory on a device with memory of its own, else 0."""
        return 0

    # -- launches -----------------------------------------------------------------------------------------------------

    def in_precision(self) -> AbstractContextManager[None]:
        """Return the context in which layers launch kernels: there, products are in the device's precision."""
        return nullcontext()

    def record(self, work: Callable[[], None]) -> "Recording":
        """Return the kernel launches of ``work``, (function, arguments) each, without running them."""
        from numbacnn.kernels.recording import record

        return record(work)

    def capture(self, launches: "Sequence[Launch]") -> Callable[[], None] | None:
        """Return a function that runs all recorded launches at once, or None if the device has no such thing."""
        return None

    def synchronize(self) -> None:
        """Wait until all launched work is done, which on the CPU it is."""

    def is_watched(self, first: bool) -> bool:
        """Return whether to run steps one by one under ``watch``; ``first`` if they have not run before."""
        return False

    def watch(self, what: str) -> AbstractContextManager[None]:
        """Return a context for launches. Raises NumbacnnError that names ``what`` if one of them fails, even later."""
        return nullcontext()


class ReferenceDevice(Device):
    """The reference kernels, in NumPy and plain Python: slow, and easy to step through with a debugger.

    Every layer runs in a step of its own, which calls the layer's ``forward`` or ``backward`` each time.
    """

    name = "reference"

    def __init__(self) -> None:
        from numbacnn.kernels.reference import launchers, sizes

        self.kernels, self.sizes = cast(Kernels, launchers), cast(Sizes, sizes)

    def upload(self, target: DeviceArray, source: NDArray[Any]) -> None:
        """Copy a host array into a view of the same shape."""
        np.copyto(target, source, casting="same_kind")

    def record(self, work: Callable[[], None]) -> "Recording":
        """Return ``work`` itself as the only launch."""
        from numbacnn.kernels.recording import Recording

        return Recording([], [(work, ())])


class CudaDevice(Device):
    """The first NVIDIA GPU, through ``kernels.cuda``. Launchers also take host arrays as inputs, and upload them.

    Raises NumbacnnError if there is no usable GPU, or it has no tensor cores for ``precision``.
    """

    name = "cuda"
    runs_loops = True

    def __init__(self, precision: str = "fp32") -> None:
        from numbacnn.kernels.cuda.runtime import array, driver, launch, memory

        problem = driver.why_not()
        if problem:
            raise NumbacnnError(f'device "cuda" cannot run: {problem}')
        from numbacnn.kernels.cuda import launchers, sizes
        from numbacnn.kernels.cuda.gemm import gemm, tensor_cores

        gpus, minimum = driver.list_gpus(), tensor_cores.MIN_CAPABILITY
        if precision != "fp32" and gpus and gpus[0].capability < minimum:
            needed, found = (".".join(map(str, capability)) for capability in (minimum, gpus[0].capability))
            raise NumbacnnError(
                f'precision "{precision}" needs a GPU of compute capability {needed} or higher; '
                f'{gpus[0].name} has {found}: leave it at "fp32"'
            )
        self.precision, self._array, self._driver, self._launch = precision, array, driver, launch
        self._out_of_memory = memory.OutOfMemory
        self._in_precision = partial(gemm.in_precision, precision)
        self.kernels, self.sizes = _Launchers(launchers, self._on_device, self._in_precision), cast(Sizes, sizes)
        self._watches = os.environ.get("NUMBACNN_CUDA_SYNC", "0") != "0"

    def in_precision(self) -> AbstractContextManager[None]:
        """Return a context in which products are in the device's precision."""
        return self._in_precision()

    def zeros(self, shape: int | Shape, dtype: DTypeLike = np.float32) -> DeviceArray:
        """Return an array of zeros. Raises DeviceMemoryError if there is no room."""
        with self._memory_errors():
            return self._array.zeros(shape, dtype)

    def _on_device(self, argument: object) -> object:
        """Return a launcher's argument with a host array replaced by a device array."""
        if not isinstance(argument, np.ndarray):
            return argument
        with self._memory_errors():
            return self._array.to_device(np.ascontiguousarray(argument))

    @contextmanager
    def _memory_errors(self) -> Iterator[None]:
        try:
            yield
        except self._out_of_memory as error:
            raise DeviceMemoryError(f"out of GPU memory: {error}; make the batch or the model smaller") from None

    def arena(self, size: int, batch: int) -> DeviceArray:
        """Return ``size`` bytes of zeros. Raises DeviceMemoryError that says which batch would fit."""
        try:
            return self._array.zeros(size // 4)
        except self._out_of_memory as error:
            fits = batch * error.free // size
            remedy = f"a batch of about {fits} would fit" if fits else "not even a batch of 1 would fit"
            raise DeviceMemoryError(f"out of GPU memory for a batch of {batch}: {error}; {remedy}") from None

    def write(self, target: DeviceArray, source: DeviceArray) -> None:
        """Copy a host or device array into a contiguous device array."""
        target.write(np.broadcast_to(source, target.shape) if isinstance(source, np.ndarray) else source)

    def host(self, array: DeviceArray) -> NDArray[Any]:
        """Return a copy of a device array on the host."""
        return self._dense(array).read()  # type: ignore[no-any-return]

    def upload(self, target: DeviceArray, source: NDArray[Any]) -> None:
        """Copy a host array into a device view, through a contiguous array if the view has a halo."""
        if target.contiguous:
            target.write(source)
        else:
            staged = self._array.to_device(np.ascontiguousarray(source, target.dtype))
            self.kernels.copy(target, staged)

    def download(self, source: DeviceArray, shape: Shape) -> NDArray[np.float32]:
        """Return a device view as a new host array, in another shape of the same size."""
        return self.host(source).reshape(shape)

    def _dense(self, array: DeviceArray) -> DeviceArray:
        if array.contiguous:
            return array
        dense = self.zeros(array.shape)
        self.kernels.copy(dense, array)
        return dense

    def capture(self, launches: "Sequence[Launch]") -> Callable[[], None] | None:
        """Return a CUDA graph of launches that have run before, so that their code is loaded."""
        from numbacnn.kernels.recording import run

        try:
            return self._launch.capture(partial(run, launches))
        except Exception as error:  # whatever packages and driver raise: without the graph the same launches run
            warnings.warn(f"no CUDA graph, training launches kernel by kernel: {error}", RuntimeWarning, stacklevel=2)
            return None

    def free_memory(self) -> int:
        """Return the bytes of free GPU memory."""
        return self._driver.free_memory()

    def synchronize(self) -> None:
        """Wait until all launched work is done. Raises NumbacnnError if some of it failed."""
        try:
            self._driver.synchronize()
        except self._driver.DeviceError as error:
            raise NumbacnnError(
                f"a kernel failed on the GPU: {error}; set NUMBACNN_CUDA_SYNC=1 to have its layer named"
            ) from None

    def is_watched(self, first: bool) -> bool:
        """Return whether it is the first time, or ``NUMBACNN_CUDA_SYNC`` is 1."""
        return first or self._watches

    @contextmanager
    def watch(self, what: str) -> Iterator[None]:
        """Wait for the launches of the block. Raises NumbacnnError that names ``what`` if one of them fails."""
        try:
            yield
            self._driver.synchronize()
        except self._driver.DeviceError as error:
            raise NumbacnnError(f"{what} failed on the GPU: {error}") from None


class _Launchers:
    """Launchers that take host arrays too, and multiply in a precision."""

    def __init__(
        self,
        launchers: object,
        on_device: Callable[[object], object],
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._launchers, self._on_device, self._precision = launchers, on_device, precision

    def __getattr__(self, name: str) -> Callable[..., Any]:
        launcher, on_device = getattr(self._launchers, name), self._on_device

        @wraps(launcher)
        def launch(*arguments: object) -> object:
            with self._precision():
                return launcher(*map(on_device, arguments))

        setattr(self, name, launch)
        return launch


def get_device(name: str, precision: str = "fp32") -> Device:
    """Return the device "cpu", "cuda" or "reference", one for each precision: "fp32", or on "cuda" "tf32" or "bf16".

    Raises ArgumentError for other names, NumbacnnError if the device cannot run.
    """
    one_of(name, "device", DEVICES)
    one_of(precision, "precision", PRECISIONS)
    if name != "cuda" and precision != "fp32":
        raise ArgumentError(
            f'precision "{precision}" is for tensor cores: set device="cuda" too, or leave it at "fp32"'
        )
    return _device(name, precision)


@cache
def _device(name: str, precision: str) -> Device:
    if name == "cuda":
        return CudaDevice(precision)
    return Device() if name == "cpu" else ReferenceDevice()


def cuda_facts() -> dict[str, Any]:
    """Return facts about device "cuda" by name.

    ``available``, or the ``reason`` why not; ``simulated``; the CUDA versions of ``driver`` and ``toolkit``, None if
    unknown; and ``gpus``, each with its name, compute capability and memory in bytes.
    """
    from numbacnn.kernels.cuda.runtime import backend, driver

    reason = driver.why_not()
    known = backend.INSTALLED and not backend.SIMULATED
    facts: dict[str, Any] = {"available": reason is None, "reason": reason, "simulated": backend.SIMULATED}
    facts["toolkit"] = ".".join(map(str, driver.toolkit_version())) if known else None
    facts["driver"] = ".".join(map(str, driver.driver_version())) if known and driver.has_driver() else None
    facts["gpus"] = [gpu._asdict() for gpu in driver.list_gpus()] if reason is None else []
    return facts


@checks_call
def kernel(function: Callable[..., None]) -> "CpuKernel":
    """Make a parallel CPU kernel from a Python function, as ``numba.njit(parallel=True)`` would.

    It is compiled at its first call, for the types of the arguments, with the engine's flags and disk cache:
    activations N×H×W×C are float32 arrays of any strides, Python floats float32, and ints int64. Let each iteration of
    ``numba.prange`` write its own outputs, over a range that depends on the shapes alone; then the bits do not depend
    on the number of threads. Indices are not checked, and the function must not raise.
    """
    from numbacnn.kernels.custom import custom_kernel

    if not isinstance(function, FunctionType):
        raise ArgumentError(f"kernel: {shown(function)} is not a Python function; write def kernel(y, x): ...")
    return custom_kernel(function)
