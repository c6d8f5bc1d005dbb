"""The NVIDIA driver and its GPUs, and reasons why kernels cannot run on them."""

from importlib.metadata import version
from typing import Any, NamedTuple

from numbacnn.kernels.cuda.runtime import backend
from numbacnn.kernels.cuda.runtime.backend import numba_cuda

MIN_CAPABILITY = (7, 5)
NO_GPU = "the driver finds no NVIDIA GPU; CUDA_VISIBLE_DEVICES may hide it"


class _NoError(Exception):
    """Never raised: the simulator has no device errors."""


DeviceError: Any = _NoError
if backend.INSTALLED and not backend.SIMULATED:
    from numba.cuda.cudadrv import driver as _driver

    DeviceError = _driver.CudaAPIError


class Gpu(NamedTuple):
    """A GPU: its name, compute capability, and total and free memory in bytes."""

    name: str
    capability: tuple[int, int]
    memory: int
    free: int


def why_not() -> str | None:
    """Return why kernels cannot run here, with the remedy, in one line; None if they can."""
    if not backend.INSTALLED:
        return 'the package numba-cuda is not installed: pip install "numbacnn[cuda]"'
    if backend.SIMULATED:
        return None
    from cuda.bindings import driver

    try:
        (started,) = driver.cuInit(0)
    except RuntimeError:  # its library cannot be loaded
        return "there is no NVIDIA driver; install one, see https://www.nvidia.com/drivers"
    if started == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        return NO_GPU
    if started != driver.CUresult.CUDA_SUCCESS:
        return f"the NVIDIA driver does not start: {started.name}"
    found, needed = driver_version(), toolkit_version()
    if found[0] < needed[0]:
        remedy = "update the driver" + (', or pip install "numbacnn[cuda12]"' if found[0] == 12 else "")
        runs = f"it supports CUDA {_dotted(found)}, the packages need {_dotted(needed)}"
        return f"the NVIDIA driver is too old: {runs}; {remedy}"
    gpus = list_gpus()
    if not gpus:
        return NO_GPU
    if gpus[0].capability < MIN_CAPABILITY:
        return (
            f"{gpus[0].name} has compute capability {_dotted(gpus[0].capability)}; "
            f"{_dotted(MIN_CAPABILITY)} or higher is needed"
        )
    return None


def has_driver() -> bool:
    """Return whether the driver's library can be loaded."""
    from cuda.bindings import driver

    try:
        driver.cuDriverGetVersion()
    except RuntimeError:
        return False
    return True


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def driver_version() -> tuple[int, int]:
    """Return the CUDA version that the driver supports."""
    from cuda.bindings import driver

    _, number = driver.cuDriverGetVersion()
    return number // 1000, number % 1000 // 10


def toolkit_version() -> tuple[int, int]:
    """Return the CUDA version of the installed packages."""
    major, minor, *_ = version("cuda-bindings").split(".")
    return int(major), int(minor)


def list_gpus() -> list[Gpu]:
    """Return the GPUs that the driver finds; none in the simulator."""
    if backend.SIMULATED:
        return []
    gpus = []
    for device in numba_cuda.list_devices():
        with device:
            memory = numba_cuda.current_context().get_memory_info()
        name = device.name if isinstance(device.name, str) else device.name.decode()
        gpus.append(Gpu(name, tuple(device.compute_capability), memory.total, memory.free))
    return gpus


def free_memory() -> int:
    """Return the free memory of the GPU in bytes; 1 TiB in the simulator."""
    return 1 << 40 if backend.SIMULATED else int(numba_cuda.current_context().get_memory_info().free)


def synchronize() -> None:
    """Wait until all launched work is done."""
    numba_cuda.synchronize()
