"""Device memory."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.kernels.cuda.runtime.backend import SIMULATED, numba_cuda
from numbacnn.kernels.cuda.runtime.driver import DeviceError, free_memory


class OutOfMemory(Exception):  # noqa: N818 (the device raises a DeviceMemoryError for it)
    """An allocation of ``size`` bytes failed with ``free`` bytes left."""

    def __init__(self, size: int, free: int) -> None:
        super().__init__(f"{size / 2**20:,.0f} MiB asked, {free / 2**20:,.0f} MiB free")
        self.free = free


class Memory:
    """``size`` bytes of zeros on the device, freed with the last reference. Raises OutOfMemory."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        self.array: Any = None
        if SIMULATED:
            self.array = np.zeros(self.size, np.uint8)
            return
        try:
            self.array = numba_cuda.device_array(self.size, np.uint8)
        except DeviceError as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise
            raise OutOfMemory(self.size, free_memory()) from None
        self.array.gpu_data.memset(0)

    @property
    def address(self) -> int:
        """The address of the first byte."""
        return int(self.array.device_ctypes_pointer.value)

    def write(self, start: int, source: NDArray[Any]) -> None:
        """Copy a contiguous host array to the bytes from ``start`` on."""
        if source.nbytes:
            self._write(start, source.nbytes, source.reshape(-1).view(np.uint8))

    def copy(self, start: int, source: "Memory", first: int, count: int) -> None:
        """Copy ``count`` bytes of other memory, from ``first`` on, to the bytes from ``start`` on."""
        if count:
            self._write(start, count, source.array[first : first + count])

    def _write(self, start: int, count: int, source: Any) -> None:
        part = self.array[start : start + count]
        if SIMULATED:
            part[:] = source
        else:
            part.copy_to_device(source)

    def read(self, start: int, target: NDArray[Any]) -> None:
        """Copy the bytes from ``start`` on to a contiguous host array."""
        if not target.nbytes:
            return
        part, flat = self.array[start : start + target.nbytes], target.reshape(-1).view(np.uint8)
        if SIMULATED:
            flat[:] = part
        else:
            part.copy_to_host(flat)
