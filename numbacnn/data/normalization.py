"""Normalization of raw images to a model's input. It is part of the model, and the same in training and inference."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.data.dataset import Images
from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]


class Normalization(NamedTuple):
    """(x − mean) / std for each channel, where x is in [0, 1] for 8-bit images and unchanged for float ones."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @classmethod
    def identity(cls, channels: int) -> "Normalization":
        """Return the normalization that only divides 8-bit images by 255."""
        return cls((0.0,) * channels, (1.0,) * channels)

    def scale_and_shift(self, dtype: np.dtype[Any], width: int) -> tuple[Float32, Float32]:
        """Return scale and shift for each of the W·C numbers in a row of an image."""
        unit = 255.0 if dtype == np.uint8 else 1.0
        mean, std = np.array(self.mean), np.array(self.std)
        row = np.tile(np.stack([1 / (unit * std), -mean / std]), width).astype(np.float32)
        return row[0].copy(), row[1].copy()


def raw_images(images: ArrayLike, shape: tuple[int, ...]) -> Images:
    """Convert images to a contiguous array of uint8 or float32, N × ``shape`` (H, W, C).

    N×H×W is accepted if C is 1, and a single image without N.

    Raises:
        ArgumentError: the shape or type is wrong, or a pixel is NaN or infinite.
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
