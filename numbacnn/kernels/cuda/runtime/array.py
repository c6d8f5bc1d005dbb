"""Device arrays as the host sees them: address, shape and strides, but not the elements."""

from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbacnn.kernels.cuda.runtime.memory import Memory

Shape = tuple[int, ...]


class DeviceArray:
    """A view of device memory. Slices of step 1, and reshapes of contiguous views, share its memory, as in NumPy.

    ``offset`` counts elements from the start of ``memory``, and ``strides`` count bytes. ``write`` and ``read`` copy
    from and to the host.
    """

    def __init__(self, memory: Memory, offset: int, shape: Shape, strides: Shape, dtype: DTypeLike) -> None:
        self.memory, self.offset, self.shape, self.strides = memory, offset, shape, strides
        self.dtype = np.dtype(dtype)

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The size of the elements in bytes."""
        return self.size * self.dtype.itemsize

    @property
    def contiguous(self) -> bool:
        """Whether the elements are contiguous, in C order."""
        step = self.dtype.itemsize
        for size, stride in zip(reversed(self.shape), reversed(self.strides), strict=True):
            if size != 1 and stride != step and self.size:
                return False
            step *= size
        return True

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> "DeviceArray":
        parts = list(index) if isinstance(index, tuple) else [index]
        if Ellipsis in parts:
            at = parts.index(Ellipsis)
            parts[at : at + 1] = [slice(None)] * (self.ndim - len(parts) + 1)
        parts += [slice(None)] * (self.ndim - len(parts))
        offset, shape, strides = self.offset, [], []
        for part, size, stride in zip(parts, self.shape, self.strides, strict=True):
            first, last, step = (part, part + 1, 1) if isinstance(part, int) else part.indices(size)
            if step != 1 or not 0 <= first <= size:
                raise IndexError(f"{part} of an axis of {size}: device arrays take integers and slices of step 1")
            offset += first * stride // self.dtype.itemsize
            if not isinstance(part, int):
                shape.append(max(0, last - first))
                strides.append(stride)
        return DeviceArray(self.memory, offset, tuple(shape), tuple(strides), self.dtype)

    def reshape(self, *shape: Any) -> "DeviceArray":
        """Return a view in another shape, in which one size may be −1. Raises ValueError unless it is contiguous."""
        sizes = tuple(shape[0]) if len(shape) == 1 and not isinstance(shape[0], int) else shape
        if -1 in sizes:
            known = -prod(sizes)
            sizes = tuple(self.size // known if size == -1 else size for size in sizes)
        if prod(sizes) != self.size or not self.contiguous:
            raise ValueError(f"a device array of {self.shape}, strides {self.strides}, cannot be viewed as {sizes}")
        return DeviceArray(self.memory, self.offset, sizes, _strides(sizes, self.dtype.itemsize), self.dtype)

    def flat(self) -> "DeviceArray":
        """Return the whole memory as one axis; this view starts at element ``offset`` of it."""
        count = self.memory.size // self.dtype.itemsize
        return DeviceArray(self.memory, 0, (count,), (self.dtype.itemsize,), self.dtype)

    def rows(self) -> "DeviceArray":
        """Return N×H×W×C as N×H×(W·C); its rows are contiguous even inside a halo."""
        n, h, w, c = self.shape
        strides = (*self.strides[:2], self.dtype.itemsize)
        return DeviceArray(self.memory, self.offset, (n, h, w * c), strides, self.dtype)

    def write(self, source: "NDArray[Any] | DeviceArray") -> None:
        """Copy a host or device array of the same shape into this contiguous view."""
        if source.shape != self.shape or not self.contiguous:
            raise ValueError(
                f"{source.shape} into {self.shape}, strides {self.strides}: give contiguous arrays of one shape"
            )
        start = self.offset * self.dtype.itemsize
        if isinstance(source, DeviceArray):
            self.memory.copy(start, source.memory, source.offset * source.dtype.itemsize, self.nbytes)
        else:
            self.memory.write(start, np.ascontiguousarray(source, self.dtype))

    def read(self) -> NDArray[Any]:
        """Return a copy of this contiguous view on the host."""
        target = np.empty(self.shape, self.dtype)
        self.memory.read(self.offset * self.dtype.itemsize, target)
        return target


def zeros(shape: Shape | int, dtype: DTypeLike = np.float32) -> DeviceArray:
    """Return a new array of zeros."""
    sizes = (shape,) if isinstance(shape, int) else shape
    itemsize = np.dtype(dtype).itemsize
    return DeviceArray(Memory(prod(sizes) * itemsize), 0, sizes, _strides(sizes, itemsize), dtype)


def to_device(source: NDArray[Any]) -> DeviceArray:
    """Return a copy of a host array on the device."""
    array = zeros(source.shape, source.dtype)
    array.write(source)
    return array


def _strides(shape: Shape, itemsize: int) -> Shape:
    return tuple(itemsize * prod(shape[axis + 1 :]) for axis in range(len(shape)))
