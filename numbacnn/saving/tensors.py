"""The tensors of an open safetensors file, before they are read: types and shapes that NumPy may not have."""

from collections.abc import Sequence
from typing import Any, Protocol

from numpy.typing import NDArray

MAX_AXES = 32  # of an array of NumPy 1; NumPy 2 has 64
MAX_SHOWN = 8  # axes of a shape in an error message


class TensorSlice(Protocol):
    """A tensor in an open safetensors file, which is read where it is indexed."""

    def get_shape(self) -> list[int]:
        """Return its shape."""

    def get_dtype(self) -> str:
        """Return its type, such as "F32"."""

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Read some rows."""


class TensorFile(Protocol):
    """An open safetensors file."""

    def keys(self) -> list[str]:
        """Return the names of the tensors."""

    def metadata(self) -> dict[str, str] | None:
        """Return the metadata, or None if the file has none."""

    def get_tensor(self, name: str) -> NDArray[Any]:
        """Read a tensor."""

    def get_slice(self, name: str) -> TensorSlice:
        """Return a tensor without reading it."""


def phrase(tensor: TensorSlice) -> str:
    """Describe a tensor as "F32 (6, 4)", or "F32 with 65 axes"."""
    shape = tuple(tensor.get_shape())
    return f"{tensor.get_dtype()} {shape if len(shape) <= MAX_SHOWN else f'with {len(shape)} axes'}"


def wrong_type(tensor: TensorSlice, types: Sequence[str]) -> bool:
    """Return whether a tensor has none of the types, or more axes than an array may have."""
    return tensor.get_dtype() not in types or len(tensor.get_shape()) > MAX_AXES
