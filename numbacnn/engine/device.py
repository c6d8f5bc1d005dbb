"""Devices: which kernels run, where arrays lie, and how they come and go."""

import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial, wraps
from math import prod
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbacnn._checks import one_of
from numbacnn.errors import ArgumentError, DeviceMemoryError, NumbacnnError
from numbacnn.geometry import Shape

if TYPE_CHECKING:
    from numbacnn.kernels.jit import CpuKernel
    from numbacnn.kernels.recording import Launch, Recording

ALIGNMENT = 64  # bytes
KERNEL_FLOATS = 1 << 13  # of an upload, at least: a launch takes longer than NumPy does for fewer
DEVICES = ("cpu", "cuda", "reference")
PRECISIONS = ("fp32", "tf32", "bf16")  # to which convolutions and dense layers may round what they multiply


class Device:
    """The CPU, and what another device must offer: kernels, their scratch sizes, and arrays."""

    name = "cpu"
    precision = "fp32"
    runs_loops = False  # whether training steps can run without the host
    loop_kernels: Any = None  # what moves labels in such steps

    def __init__(self) -> None:
        from numbacnn.kernels.cpu import launchers, sizes

        self.kernels: Any = launchers
        self.sizes: ModuleType = sizes

    def zeros(self, shape: int | Shape, dtype: DTypeLike = np.float32) -> Any:
        """An array of zeros on the device, aligned to a cache line."""
        count = (shape if isinstance(shape, int) else prod(shape)) * np.dtype(dtype).itemsize
        raw = np.zeros(count + ALIGNMENT, np.uint8)
        start = -raw.ctypes.data % ALIGNMENT
        return raw[start : start + count].view(dtype).reshape(shape)

    def arena(self, size: int, batch: int) -> Any:
        """``size`` bytes of float32 zeros, for the buffers of ``batch`` images."""
        return self.zeros(size // 4)

    def write(self, target: Any, source: Any) -> None:
        """Copies an array of the host or the device into a contiguous device array of the same shape. Launches no
        kernel."""
        np.copyto(target, source, casting="same_kind")

    def host(self, array: Any) -> NDArray[Any]:
        """A device array's numbers on the host: here the array itself."""
        return array  # type: ignore[no-any-return]

    def upload(self, target: Any, source: NDArray[Any]) -> None:
        """Copies a host array into a device view of the same shape; the caller holds ``engine_lock``."""
        flags, large = source.flags, source.size >= KERNEL_FLOATS
        if large and target.ndim == 4 and source.dtype == np.float32 and flags.c_contiguous and flags.writeable:
            self.kernels.copy(target, source)  # into the rows of a halo'd view, where NumPy is slow
        else:
            np.copyto(target, source, casting="same_kind")

    def download(self, source: Any, shape: Shape) -> NDArray[np.float32]:
        """A fresh host array of a device view, in another shape of the same size."""
        return np.array(source, np.float32).reshape(shape)

    def record(self, work: Callable[[], None]) -> "Recording":
        """The kernel launches of ``work``, as (function, arguments) to call, without running them."""
        from numbacnn.kernels.recording import record

        return record(work)

    def capture(self, launches: "Sequence[Launch]") -> Callable[[], None] | None:
        """One function that runs recorded launches, by one launch of all of them; None where there is no such thing."""
        return None

    def free_memory(self) -> int:
        """Bytes of memory that arrays could take, of a device with memory of its own."""
        return 0

    def synchronize(self) -> None:
        """Returns when all launched work is done: on the CPU, at once."""

    def is_watched(self, first: bool) -> bool:
        """Whether steps are to be run one by one under ``watch``; ``first``: they have not been run before."""
        return False

    def watch(self, what: str) -> AbstractContextManager[None]:
        """For a block of launches: NumbacnnError that names ``what`` where one of them fails, now or later."""
        return nullcontext()


class ReferenceDevice(Device):
    """The reference kernels, in NumPy and plain Python: slow, and easy to step through with a debugger.

    Every layer runs in a step of its own, which calls the layer's ``forward`` or ``backward`` each time.
    """

    name = "reference"

    def __init__(self) -> None:
        from numbacnn.kernels.reference import launchers, sizes

        self.kernels, self.sizes = launchers, sizes

    def upload(self, target: Any, source: NDArray[Any]) -> None:
        """Copy a host array into a view of the same shape."""
        np.copyto(target, source, casting="same_kind")

    def record(self, work: Callable[[], None]) -> "Recording":
        """``work`` itself as the only launch."""
        from numbacnn.kernels.recording import Recording

        return Recording([], [(work, ())])


class CudaDevice(Device):
    """The first NVIDIA GPU, through ``kernels.cuda``: see ``Device``. Raises NumbacnnError where there is none to use,
    or it has no tensor cores for ``precision``.

    Launchers also take host arrays, as inputs, which are uploaded.
    """

    name = "cuda"
    runs_loops = True

    def __init__(self, precision: str = "fp32") -> None:
        from numbacnn.kernels.cuda.runtime import array, driver, launch, memory

        problem = driver.why_not()
        if problem:
            raise NumbacnnError(f'device "cuda" cannot run: {problem}')
        from numbacnn.kernels.cuda import labels, launchers, sizes
        from numbacnn.kernels.cuda.gemm import gemm, tensor_cores

        gpus, least = driver.list_gpus(), tensor_cores.LEAST_CAPABILITY
        if precision != "fp32" and gpus and gpus[0].capability < least:
            needed, found = (".".join(map(str, capability)) for capability in (least, gpus[0].capability))
            raise NumbacnnError(
                f'precision "{precision}" needs a GPU of compute capability {needed} or higher; '
                f'{gpus[0].name} has {found}: leave it at "fp32"'
            )
        self.precision, self._array, self._driver, self._launch = precision, array, driver, launch
        self._out_of_memory = memory.OutOfMemory
        in_precision = partial(gemm.in_precision, precision)
        self.kernels, self.sizes = _Launchers(launchers, self._placed, in_precision), sizes
        self.loop_kernels = _Launchers(labels, self._placed)
        self._watches = os.environ.get("NUMBACNN_CUDA_SYNC", "0") != "0"

    def zeros(self, shape: int | Shape, dtype: DTypeLike = np.float32) -> Any:
        """See ``Device``."""
        with self._memory_errors():
            return self._array.zeros(shape, dtype)

    def _placed(self, argument: Any) -> Any:
        """A launcher's argument: a host array as a device array of its numbers, others as they are."""
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

    def arena(self, size: int, batch: int) -> Any:
        """See ``Device``; an error says which batch would fit."""
        try:
            return self._array.zeros(size // 4)
        except self._out_of_memory as error:
            fits = batch * error.free // size
            remedy = f"a batch of about {fits} would fit" if fits else "not even a batch of 1 would fit"
            raise DeviceMemoryError(f"out of GPU memory for a batch of {batch}: {error}; {remedy}") from None

    def write(self, target: Any, source: Any) -> None:
        """See ``Device``."""
        target.write(np.broadcast_to(source, target.shape) if isinstance(source, np.ndarray) else source)

    def host(self, array: Any) -> NDArray[Any]:
        """A fresh copy of a device array's numbers."""
        return self._dense(array).read()  # type: ignore[no-any-return]

    def upload(self, target: Any, source: NDArray[Any]) -> None:
        """See ``Device``."""
        if target.contiguous:
            target.write(source)
        else:
            staged = self._array.to_device(np.ascontiguousarray(source, target.dtype))
            self.kernels.copy(target, staged)

    def download(self, source: Any, shape: Shape) -> NDArray[np.float32]:
        """See ``Device``."""
        return self.host(source).reshape(shape)

    def _dense(self, array: Any) -> Any:
        """The array itself where it is contiguous, else a copy that is: of images inside a halo."""
        if array.contiguous:
            return array
        dense = self.zeros(array.shape)
        self.kernels.copy(dense, array)
        return dense

    def capture(self, launches: "Sequence[Launch]") -> Callable[[], None] | None:
        """See ``Device``: a CUDA graph. The launches have run before, so that their code is loaded."""
        from numbacnn.kernels.recording import run

        try:
            return self._launch.capture(partial(run, launches))
        except Exception as error:  # whatever packages and driver raise: without the graph the same launches run
            warnings.warn(f"no CUDA graph, training launches kernel by kernel: {error}", RuntimeWarning, stacklevel=2)
            return None

    def free_memory(self) -> int:
        """See ``Device``."""
        return self._driver.free_memory()

    def synchronize(self) -> None:
        """Returns when all launched work is done. Raises NumbacnnError where some of it failed."""
        try:
            self._driver.synchronize()
        except self._driver.DeviceError as error:
            raise NumbacnnError(
                f"a kernel failed on the GPU: {error}; set NUMBACNN_CUDA_SYNC=1 to have its layer named"
            ) from None

    def is_watched(self, first: bool) -> bool:
        """See ``Device``: the first time, or always with ``NUMBACNN_CUDA_SYNC=1``."""
        return first or self._watches

    @contextmanager
    def watch(self, what: str) -> Iterator[None]:
        """See ``Device``."""
        try:
            yield
            self._driver.synchronize()
        except self._driver.DeviceError as error:
            raise NumbacnnError(f"{what} failed on the GPU: {error}") from None


class _Launchers:
    """Launchers that take host arrays too, and whose products are launched in a precision."""

    def __init__(
        self,
        launchers: ModuleType | SimpleNamespace,
        place: Callable[[Any], Any],
        precision: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> None:
        self._launchers, self._place, self._precision = launchers, place, precision

    def __getattr__(self, name: str) -> Any:
        launcher, place = getattr(self._launchers, name), self._place

        @wraps(launcher)
        def launch(*arguments: Any) -> Any:
            with self._precision():
                return launcher(*map(place, arguments))

        setattr(self, name, launch)
        return launch


def get_device(name: str, precision: str = "fp32") -> Device:
    """The device called "cpu", "cuda" or "reference", one for each precision that it multiplies in: "fp32", on "cuda"
    also "tf32" or "bf16". Raises ArgumentError for other names, NumbacnnError if the device cannot run."""
    one_of(name, "device", DEVICES)
    one_of(precision, "precision", PRECISIONS)
    if name != "cuda" and precision != "fp32":
        raise ArgumentError(
            f'precision "{precision}" is for tensor cores: give device="cuda" too, or leave it at "fp32"'
        )
    return _device(name, precision)


@cache
def _device(name: str, precision: str) -> Device:
    if name == "cuda":
        return CudaDevice(precision)
    return Device() if name == "cpu" else ReferenceDevice()


def cuda_facts() -> dict[str, Any]:
    """What there is to run device "cuda" on: ``available``, ``reason`` why not, ``simulated``, the CUDA versions of
    ``driver`` and ``toolkit``, None where they are not known, and the ``gpus``, each with its name, compute capability
    and memory in bytes."""
    from numbacnn.kernels.cuda.runtime import backend, driver

    reason = driver.why_not()
    known = backend.INSTALLED and not backend.SIMULATED
    facts: dict[str, Any] = {"available": reason is None, "reason": reason, "simulated": backend.SIMULATED}
    facts["toolkit"] = ".".join(map(str, driver.toolkit_version())) if known else None
    facts["driver"] = ".".join(map(str, driver.driver_version())) if known and driver.has_driver() else None
    facts["gpus"] = [gpu._asdict() for gpu in driver.list_gpus()] if reason is None else []
    return facts


def kernel(function: Callable[..., None]) -> "CpuKernel":
    """Makes a parallel CPU kernel of a user's own from a Python function, as ``numba.njit(parallel=True)`` would.

    It compiles at its first call, for the types of its arguments then, in the engine's flags and disk cache:
    activations N×H×W×C are float32 arrays of any strides, Python floats float32, ints int64. Give each thread
    outputs of its own, through ``numba.prange`` over a range that the shapes alone decide; then the bits do not depend
    on the number of threads. Indices are not checked, and nothing may be raised inside.
    """
    from numbacnn.kernels.custom import custom_kernel

    return custom_kernel(function)
