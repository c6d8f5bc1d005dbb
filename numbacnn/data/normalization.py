"""Normalization of raw images to a model's input. It is part of the model, and the same in training and inference."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.data.arrays import as_array, as_features
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.fitting import FITS
from numbacnn.data.ranges import UNIT, Scale, byte_scale, scale_of, to_scale
from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]
_SAMPLE = 1000  # images whose borders are looked at


class TrainingImages(NamedTuple):
    """The raw images that a model was fitted on, and how they were read from files.

    Attributes:
        dtype: "uint8" or "float32".
        low, high: the smallest and the largest number; 0 and 255 for uint8.
        light_on_dark: whether at least 95 % of gray images have a dark border; None for color.
        strokes, white, fit: as in ``Dataset``.
    """

    dtype: str
    low: float
    high: float
    light_on_dark: bool | None = None
    strokes: bool = False
    white: float | None = None
    fit: str = "stretch"

    @classmethod
    def of(cls, dataset: Dataset) -> "TrainingImages":
        """Describe the images of a data set."""
        images = dataset.images
        low, high = (0, 255) if images.dtype == np.uint8 else (images.min(), images.max())
        numbers = images.dtype.name, float(low), float(high), _is_light_on_dark(images, low, high)
        return cls(*numbers, dataset.strokes, dataset.white, dataset.fit)

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "TrainingImages":
        """Return what ``_asdict`` described. Raises ValueError, TypeError or KeyError if it is damaged."""
        given = cls._field_defaults | dict(given)  # files of earlier versions lack some
        low, high, polarity, white = float(given["low"]), float(given["high"]), given["light_on_dark"], given["white"]
        if given["dtype"] not in ("uint8", "float32") or not -math.inf < low <= high < math.inf:
            raise ValueError(f"its training images are damaged: {given['dtype']} from {low} to {high}")
        if white is not None and not 0 < float(white) < math.inf:
            raise ValueError(f"its training images are damaged: {white} is white")
        if given["fit"] not in FITS:
            raise ValueError(f"its training images are damaged: fit {given['fit']}")
        polarity = None if polarity is None else bool(polarity)
        return cls(given["dtype"], low, high, polarity, bool(given["strokes"]), white and float(white), given["fit"])

    @property
    def scale(self) -> Scale:
        """The scale of ``mean``: 8-bit images count from 0 to 1."""
        return UNIT if self.dtype == "uint8" else Scale(self.low, self.high)


def _is_light_on_dark(images: Images, low: float, high: float) -> bool | None:
    if images.shape[-1] != 1:
        return None
    sample = images[:: -(-len(images) // _SAMPLE), :, :, 0]
    borders = np.concatenate([sample[:, 0], sample[:, -1], sample[:, :, 0], sample[:, :, -1]], axis=1)
    return bool(np.mean(np.median(borders, axis=1) <= (low + high) / 2) >= 0.95)


class Normalization(NamedTuple):
    """(x − mean) / std for each channel, where x is in [0, 1] for 8-bit images and unchanged for float ones.

    ``images`` describes the training images, if the normalization is of a data set. Then images of another scale are
    converted to theirs before, or rejected: see ``adapt``. ``others`` are those of a model's further inputs.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    images: TrainingImages | None = None
    others: tuple["Normalization", ...] = ()

    @classmethod
    def identity(cls, channels: int) -> "Normalization":
        """Return the normalization that only divides 8-bit images by 255."""
        return cls((0.0,) * channels, (1.0,) * channels)

    @classmethod
    def of(cls, dataset: Dataset) -> "Normalization":
        """Return that of a data set's mean and standard deviation."""
        others = tuple(cls.of(replace(dataset, images=other, others=())) for other in dataset.others)
        return cls(tuple(dataset.mean.tolist()), tuple(dataset.std.tolist()), TrainingImages.of(dataset), others)

    def of_input(self, number: int) -> "Normalization | None":
        """Return that of an input of the model, counted from 0; None if there is none."""
        return self if number == 0 else self.others[number - 1] if number <= len(self.others) else None

    def as_dict(self) -> dict[str, Any]:
        """Return it as a JSON object."""
        others = {"others": [other.as_dict() for other in self.others]} if self.others else {}
        return {"mean": self.mean, "std": self.std, "images": self.images and self.images._asdict()} | others

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Normalization":
        """Return what ``as_dict`` described. Raises ValueError, TypeError or KeyError if it is damaged."""
        mean, std = tuple(map(float, given["mean"])), tuple(map(float, given["std"]))
        finite = all(map(math.isfinite, mean + std))
        if not len(mean) == len(std) > 0 or not finite or min(std) <= 0:
            raise ValueError(f"its normalization is damaged: mean {mean}, std {std}")
        images = given.get("images")
        others = tuple(cls.from_dict(other) for other in given.get("others", ()))
        found = cls(mean, std, None if images is None else TrainingImages.from_dict(images), others)
        try:
            with np.errstate(over="raise", divide="raise", invalid="raise"):
                for dtype in (np.uint8, np.float32):
                    found.scale_and_shift(np.dtype(dtype), 1)
        except FloatingPointError:
            raise ValueError(f"its normalization is damaged: mean {mean}, std {std} exceed float32") from None
        return found

    def adapt(self, images: Images) -> Images:
        """Return raw images (N, H, W, C) in the scale of the training images; 8-bit images as they are.

        Raises:
            ArgumentError: they are far outside that scale, and the conversion is uncertain.
        """
        if self.images is None or images.ndim != 4:
            return images
        if images.dtype == np.uint8:
            byte_scale(self.images.scale)
            return images
        return to_scale(images.astype(np.float32, copy=False), self.images.scale)

    def adapt_inputs(self, dataset: Dataset) -> Dataset:
        """Return the data set with each input in the scale of the training images. Raises as ``adapt`` does."""
        own = map(self.of_input, range(len(dataset.inputs)))
        pairs = zip(own, dataset.inputs, strict=True)
        images, *others = (part if each is None else each.adapt(part) for each, part in pairs)
        return replace(dataset, images=images, others=tuple(others))

    def scale_and_shift(self, dtype: np.dtype[Any], width: int) -> tuple[Float32, Float32]:
        """Return scale and shift for each of the W·C numbers in a row of an image."""
        unit, offset = 1.0, 0.0
        if dtype == np.uint8:
            scale = UNIT if self.images is None else scale_of(self.images.scale) or UNIT
            unit, offset = 255.0 / scale.span, scale.low
        mean, std = np.array(self.mean), np.array(self.std)
        row = np.tile(np.stack([1 / (unit * std), (offset - mean) / std]), width).astype(np.float32)
        return row[0].copy(), row[1].copy()


def raw_images(images: ArrayLike, shape: tuple[int, ...], name: str = "images") -> Images:
    """Convert images to a contiguous array of uint8 or float32, N × ``shape`` (H, W, C).

    N×H×W is accepted if C is 1, and a single image without N. ``name`` is that of the images in errors.

    Raises:
        ArgumentError: the shape or type is wrong, or a pixel is NaN or infinite.
    """
    array = as_array(images, name)
    if len(shape) == 1 and array.shape[1:] == (1, 1, *shape):
        array = array.reshape(-1, *shape)
    for candidate in (array, array[..., None], array[None], array[None, ..., None]):
        if candidate.ndim == len(shape) + 1 and candidate.shape[1:] == shape:
            array = candidate
            break
    else:
        raise ArgumentError(f"{name} of shape {array.shape} for a model whose input is {shape}; pass (N, *{shape})")
    if len(shape) == 1:
        array = as_features(array)
    if array.dtype != np.uint8:
        if not np.issubdtype(array.dtype, np.floating):
            raise ArgumentError(f"{name} are {array.dtype}; pass uint8 from 0 to 255, or floats")
        array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            broken = int(np.flatnonzero(~np.isfinite(array).reshape(len(array), -1).all(axis=1))[0])
            raise ArgumentError(f"image {broken} holds NaN or infinity; repair or drop it")
    return np.ascontiguousarray(array)
