"""How raw images become a model's input: part of the model, so that it sees the same in training and ever after."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]


class Normalization(NamedTuple):
    """(x − mean) / std for each channel; 8-bit images are brought to [0, 1] first, float ones taken as they are."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def identity(cls, channels: int) -> "Normalization":
        """Only brings 8-bit images to [0, 1]."""
        return cls((0.0,) * channels, (1.0,) * channels)

    def scale_and_shift(self, dtype: np.dtype[Any], width: int) -> tuple[Float32, Float32]:
        """Factor and addend for each of the W·C numbers in a row of an image."""
        unit = 255.0 if dtype == np.uint8 else 1.0
        mean, std = np.array(self.mean), np.array(self.std)
        row = np.tile(np.stack([1 / (unit * std), -mean / std]), width).astype(np.float32)
        return row[0].copy(), row[1].copy()


def raw_images(images: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """Images N×H×W×C of ``shape`` (H, W, C), uint8 or float32, contiguous, from what a user may pass.

    Accepts N×H×W where C is 1, and one image without its N. Raises ArgumentError with the shapes, or where a pixel is
    NaN or infinite.
    """
    try:
        array = np.asarray(images)
    except ValueError as error:
        raise ArgumentError(f"images: {error}") from None
    for candidate in (array, array[..., None], array[None], array[None, ..., None]):
        if candidate.ndim == len(shape) + 1 and candidate.shape[1:] == shape:
            array = candidate
            break
    else:
        raise ArgumentError(f"images of shape {array.shape} for a model whose input is {shape}; give (N, *{shape})")
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise ArgumentError(f"images are {array.dtype}; give uint8 from 0 to 255, or floats")
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            broken = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
            raise ArgumentError(f"image {broken} holds NaN or infinity; repair or drop it")
    return np.ascontiguousarray(array)
