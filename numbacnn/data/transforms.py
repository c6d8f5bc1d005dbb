"""The transforms of augmentation: what is drawn for each image, and which kernel applies it.

A transform gets eight uniform random numbers ``u`` for each image of a batch, N×8; the last one decides whether it is
applied. ``numbacnn.data.augment`` chains transforms.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import number, whole
from numbacnn._checks.names import AnswersAttributes, ChecksArguments
from numbacnn.layers.bindings import Kernels

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Ranges: TypeAlias = Mapping[str, tuple[float, float] | tuple[float, float, bool]]
"""Minimum and maximum of each field, and whether the maximum is excluded."""

NUMBERS = 8  # uniform random numbers per transform and image; the last one decides whether it is applied
MAX_PIXELS = 4096.0  # bound of sizes and distances, so that nothing overflows


def as_text(value: float) -> str:
    """Return the shortest text that parses to the same number."""
    return repr(int(value) if value == int(value) else float(value))


@dataclass(frozen=True)
class Transform(ChecksArguments, AnswersAttributes):
    """A random change of images, applied to each with probability ``p``."""

    name: ClassVar[str]
    ranges: ClassVar[Ranges] = {}

    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        number(self.p, f"{self.name}: p", 0, 1)
        for item in fields(self):
            if item.name in self.ranges:
                value, what = getattr(self, item.name), f"{self.name}: {item.name}"
                if item.type is int:
                    whole(value, what, 0)
                number(value, what, *self.ranges[item.name])

    def __str__(self) -> str:
        """Return the transform as text, with all its numbers."""
        values = [as_text(getattr(self, item.name)) for item in fields(self) if item.name != "p"]
        probability = "" if self.p == type(self).p else f"@{as_text(self.p)}"
        return self.name + ("=" + ":".join(values) if values else "") + probability

    def _applied(self, u: Float64) -> NDArray[np.bool_]:
        return u[:, -1] < self.p


# -- geometric transforms ---------------------------------------------------------------------------------------------


class Affine(Transform):
    """A transform that maps lines to lines."""

    def sources(self, u: Float64) -> Float64:
        """Return N×3×3 matrices from a pixel (x, y, 1) of the new image to its source, both relative to the center."""
        applied = self._applied(u)[:, None, None]
        return np.where(applied, self._sources(u), np.eye(3))

    def _sources(self, u: Float64) -> Float64:
        raise NotImplementedError


def _matrices(n: int, **entries: float | Float64) -> Float64:
    """Return N×3×3 identities with entries replaced: xy is row x, column y; z is the homogeneous coordinate."""
    matrices = np.tile(np.eye(3), (n, 1, 1))
    for name, value in entries.items():
        matrices[:, "xyz".index(name[0]), "xyz".index(name[1])] = value
    return matrices


def _signed(u: Float64) -> Float64:
    """Map uniform numbers from [0, 1) to [−1, 1)."""
    return 2 * u - 1


@dataclass(frozen=True)
class Rotate(Affine):
    """Rotate about the center by an angle from −degrees to degrees."""

    name: ClassVar[str] = "rotate"
    ranges: ClassVar[Ranges] = {"degrees": (0, 180)}

    degrees: float

    def _sources(self, u: Float64) -> Float64:
        angle = np.radians(self.degrees) * _signed(u[:, 0])
        return _matrices(len(u), xx=np.cos(angle), xy=-np.sin(angle), yx=np.sin(angle), yy=np.cos(angle))


@dataclass(frozen=True)
class Translate(Affine):
    """Translate along each axis by up to ``pixels``, including fractions of pixels."""

    name: ClassVar[str] = "translate"
    ranges: ClassVar[Ranges] = {"pixels": (0, MAX_PIXELS)}

    pixels: float

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), xz=self.pixels * _signed(u[:, 0]), yz=self.pixels * _signed(u[:, 1]))


@dataclass(frozen=True)
class Crop(Affine):
    """Crop to the original size from the image padded with ``padding`` pixels of fill; moves by whole pixels."""

    name: ClassVar[str] = "crop"
    ranges: ClassVar[Ranges] = {"padding": (0, MAX_PIXELS)}

    padding: int

    def _sources(self, u: Float64) -> Float64:
        shift = np.floor(u[:, :2] * (2 * self.padding + 1)) - self.padding
        return _matrices(len(u), xz=shift[:, 0], yz=shift[:, 1])


@dataclass(frozen=True)
class Scale(Affine):
    """Scale about the center by a factor from 1 − fraction to 1 + fraction."""

    name: ClassVar[str] = "scale"
    ranges: ClassVar[Ranges] = {"fraction": (0, 1, True)}

    fraction: float

    def _sources(self, u: Float64) -> Float64:
        factor = 1 / (1 + self.fraction * _signed(u[:, 0]))
        return _matrices(len(u), xx=factor, yy=factor)


@dataclass(frozen=True)
class Shear(Affine):
    """Slant vertical lines by an angle from −degrees to degrees."""

    name: ClassVar[str] = "shear"
    ranges: ClassVar[Ranges] = {"degrees": (0, 90, True)}

    degrees: float

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), xy=np.tan(np.radians(self.degrees) * _signed(u[:, 0])))


@dataclass(frozen=True)
class HorizontalFlip(Affine):
    """Mirror left and right, exactly; by default with probability 0.5."""

    name: ClassVar[str] = "hflip"

    p: float = field(default=0.5, kw_only=True)

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), xx=-1)


@dataclass(frozen=True)
class VerticalFlip(Affine):
    """Mirror top and bottom, exactly; by default with probability 0.5."""

    name: ClassVar[str] = "vflip"

    p: float = field(default=0.5, kw_only=True)

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), yy=-1)


@dataclass(frozen=True)
class Elastic(Transform):
    """Elastic distortion (Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks").

    Pixels are displaced by two fields of uniform random numbers in [−1, 1), smoothed by a Gaussian with a standard
    deviation of ``sigma`` pixels and multiplied by ``alpha``; the paper uses 34 and 4 for digits.
    """

    name: ClassVar[str] = "elastic"
    ranges: ClassVar[Ranges] = {"alpha": (0, MAX_PIXELS), "sigma": (0.1, 64)}

    alpha: float = 34.0
    sigma: float = 4.0

    @cached_property
    def weights(self) -> Float32:
        """The Gaussian at whole pixels, up to three standard deviations, normalized to a sum of 1."""
        radius = math.ceil(3 * self.sigma)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        return np.asarray(weights / weights.sum(), np.float32)

    def strengths(self, u: Float64) -> Float32:
        """Return alpha for each image that is distorted, else 0."""
        return np.where(self._applied(u), self.alpha, 0).astype(np.float32)


class Geometry(NamedTuple):
    """Consecutive geometric transforms, each with its index in the chain, that are composed into one warp."""

    affine: tuple[tuple[int, Affine], ...]
    elastic: tuple[int, Elastic] | None

    def matrices(self, u: Float64, height: int, width: int) -> Float32:
        """Return N×6: the rows of matrices from new to old pixels, with the origin in the top left pixel."""
        matrix = np.tile(np.eye(3), (len(u), 1, 1))
        for index, transform in self.affine:
            matrix = matrix @ transform.sources(u[:, index])
        center = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = matrix[:, :2, 2] + center - matrix[:, :2, :2] @ center
        return np.concatenate([matrix[:, :2, :2], shift[..., None]], 2).reshape(-1, 6).astype(np.float32)


# -- pixel transforms -------------------------------------------------------------------------------------------------


class Keys(NamedTuple):
    """Keys of the counter-based random numbers that a kernel draws; the arrays are on the images' device."""

    indices: Integers
    random: NDArray[np.uint64]  # seed and epoch
    purpose: int


class PixelTransform(Transform):
    """A transform that changes values in place."""

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """Return the parameters of ``change`` for each of N images of ``shape`` N×H×W×C.

        ``unit`` is the value of white: 255 for 8-bit images, 1 for others.
        """
        raise NotImplementedError

    def change(self, kernels: Kernels, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """Change images x. Only launches kernels, so that it can be recorded."""
        raise NotImplementedError


@dataclass(frozen=True)
class Cutout(PixelTransform):
    """Fill a square of ``size`` pixels, centered anywhere in the image (DeVries and Taylor 2017)."""

    name: ClassVar[str] = "cutout"
    ranges: ClassVar[Ranges] = {"size": (0, MAX_PIXELS)}

    size: int

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """Return boxes."""
        sizes = np.where(self._applied(u), self.size, 0)
        return random_boxes(u, sizes, sizes, shape)

    def change(self, kernels: Kernels, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """Fill the boxes."""
        kernels.fill_boxes_in_place(x, plan, fill)


def random_boxes(u: Float64, heights: NDArray[Any], widths: NDArray[Any], shape: tuple[int, ...]) -> Integers:
    """Return N × (top, left, bottom, right): boxes around any pixel, clipped to the image."""
    sides = []
    for i, sizes, length in ((0, heights, shape[1]), (1, widths, shape[2])):
        first = np.floor(u[:, i] * length) - sizes // 2
        sides.append((np.clip(first, 0, length), np.clip(first + sizes, 0, length)))
    (top, bottom), (left, right) = sides
    return np.stack([top, left, bottom, right], 1).astype(np.int64)


@dataclass(frozen=True)
class Noise(PixelTransform):
    """Add normal noise; ``std`` is relative to white (255) for 8-bit images, absolute for float ones."""

    name: ClassVar[str] = "noise"
    ranges: ClassVar[Ranges] = {"std": (0, 1e6)}

    std: float

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """Return standard deviations."""
        return np.where(self._applied(u), self.std * unit, 0).astype(np.float32)

    def change(self, kernels: Kernels, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """Add the noise."""
        kernels.add_noise_in_place(x, keys.indices, keys.random, keys.purpose, plan)


@dataclass(frozen=True)
class ColorJitter(PixelTransform):
    """Multiply brightness, contrast and saturation, each by a factor from 1 − value to 1 + value."""

    name: ClassVar[str] = "color"
    ranges: ClassVar[Ranges] = {"brightness": (0, 1), "contrast": (0, 1), "saturation": (0, 1)}

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """Return factors, N×3."""
        amounts = np.array([self.brightness, self.contrast, self.saturation])
        return np.where(self._applied(u)[:, None], 1 + amounts * _signed(u[:, :3]), 1).astype(np.float32)

    def change(self, kernels: Kernels, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """Apply the factors."""
        kernels.jitter_colors_in_place(x, plan)
