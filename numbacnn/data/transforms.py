"""The transforms of augmentation: what is drawn for each image, and which kernel is launched with it.

Each gets eight uniform random numbers ``u`` for each image of a batch, N×8, the last of which decides whether it
happens. ``numbacnn.data.augment`` chains them.
"""

import math
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import number, whole

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

NUMBERS = 8  # uniform random numbers of each transform and image; the last decides whether it happens
QUANTILES = 1024  # of mixup's and CutMix's beta distributions
MOST_PIXELS = 4096.0  # bound of sizes and distances, so that nothing overflows


def as_text(value: float) -> str:
    """The shortest text that gives the number again."""
    return repr(int(value) if value == int(value) else float(value))


@dataclass(frozen=True)
class Transform:
    """One random change. ``p``: the share of the images that it happens to."""

    name: ClassVar[str]

    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        self._bound("p", 1)

    def __str__(self) -> str:
        """The transform in a chain's text, with all its numbers."""
        values = [as_text(getattr(self, item.name)) for item in fields(self) if item.name != "p"]
        share = "" if self.p == type(self).p else f"@{as_text(self.p)}"
        return self.name + ("=" + ":".join(values) if values else "") + share

    def _bound(self, name: str, most: float, least: float = 0.0, below: bool = False) -> None:
        number(getattr(self, name), f"{self.name}: {name}", least, most, below)

    def _happens(self, u: Float64) -> NDArray[np.bool_]:
        return u[:, -1] < self.p


# -- geometric transforms ---------------------------------------------------------------------------------------------


class Affine(Transform):
    """A transform that takes lines to lines."""

    def sources(self, u: Float64) -> Float64:
        """N×3×3: from a pixel (x, y, 1) of the new image to its place in the old one, both from the centre."""
        happens = self._happens(u)[:, None, None]
        return np.where(happens, self._sources(u), np.eye(3))

    def _sources(self, u: Float64) -> Float64:
        raise NotImplementedError


def _matrices(n: int, **entries: Any) -> Float64:
    """N×3×3 identities with entries such as xy, row x and column y, replaced; z is the homogeneous coordinate."""
    matrices = np.tile(np.eye(3), (n, 1, 1))
    for name, value in entries.items():
        matrices[:, "xyz".index(name[0]), "xyz".index(name[1])] = value
    return matrices


def _signed(u: Float64) -> Float64:
    """Uniform numbers in [−1, 1) from those in [0, 1)."""
    return 2 * u - 1


@dataclass(frozen=True)
class Rotate(Affine):
    """Rotation about the centre by an angle from −degrees to degrees."""

    name: ClassVar[str] = "rotate"

    degrees: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("degrees", 180)

    def _sources(self, u: Float64) -> Float64:
        angle = np.radians(self.degrees) * _signed(u[:, 0])
        return _matrices(len(u), xx=np.cos(angle), xy=-np.sin(angle), yx=np.sin(angle), yy=np.cos(angle))


@dataclass(frozen=True)
class Translate(Affine):
    """Translation along both axes by up to so many pixels, and parts of them."""

    name: ClassVar[str] = "translate"

    pixels: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("pixels", MOST_PIXELS)

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), xz=self.pixels * _signed(u[:, 0]), yz=self.pixels * _signed(u[:, 1]))


@dataclass(frozen=True)
class Crop(Affine):
    """A cut of the image's own size from the image with ``padding`` more pixels of fill around: whole pixels."""

    name: ClassVar[str] = "crop"

    padding: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.padding, f"{self.name}: padding", 0)
        self._bound("padding", MOST_PIXELS)

    def _sources(self, u: Float64) -> Float64:
        shift = np.floor(u[:, :2] * (2 * self.padding + 1)) - self.padding
        return _matrices(len(u), xz=shift[:, 0], yz=shift[:, 1])


@dataclass(frozen=True)
class Scale(Affine):
    """Enlargement about the centre by a factor from 1 − share to 1 + share."""

    name: ClassVar[str] = "scale"

    share: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("share", 1, below=True)

    def _sources(self, u: Float64) -> Float64:
        factor = 1 / (1 + self.share * _signed(u[:, 0]))
        return _matrices(len(u), xx=factor, yy=factor)


@dataclass(frozen=True)
class Shear(Affine):
    """Slant of the vertical lines by an angle from −degrees to degrees."""

    name: ClassVar[str] = "shear"

    degrees: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("degrees", 90, below=True)

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), xy=np.tan(np.radians(self.degrees) * _signed(u[:, 0])))


@dataclass(frozen=True)
class HorizontalFlip(Affine):
    """Left and right exchanged, exactly; of half the images unless ``p`` says otherwise."""

    name: ClassVar[str] = "hflip"

    p: float = field(default=0.5, kw_only=True)

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), xx=-1)


@dataclass(frozen=True)
class VerticalFlip(Affine):
    """Top and bottom exchanged, exactly; of half the images unless ``p`` says otherwise."""

    name: ClassVar[str] = "vflip"

    p: float = field(default=0.5, kw_only=True)

    def _sources(self, u: Float64) -> Float64:
        return _matrices(len(u), yy=-1)


@dataclass(frozen=True)
class Elastic(Transform):
    """Elastic distortion (Simard, Steinkraus and Platt 2003, "Best practices for convolutional neural networks").

    Each pixel comes from elsewhere, by two fields of uniform random numbers in [−1, 1), smoothed by a Gaussian of
    standard deviation ``sigma`` pixels and multiplied by ``alpha``; 34 and 4 are the paper's numbers for digits.
    """

    name: ClassVar[str] = "elastic"

    alpha: float = 34.0
    sigma: float = 4.0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("alpha", MOST_PIXELS)
        self._bound("sigma", 64, 0.1)

    @cached_property
    def weights(self) -> Float32:
        """The Gaussian at whole pixels, up to three standard deviations; they sum up to 1."""
        radius = math.ceil(3 * self.sigma)
        weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / self.sigma) ** 2)
        return np.asarray(weights / weights.sum(), np.float32)

    def strengths(self, u: Float64) -> Float32:
        """alpha for each image that it happens to, else 0."""
        strengths: Float32 = np.where(self._happens(u), self.alpha, 0).astype(np.float32)
        return strengths


class Warp(NamedTuple):
    """Where the pixels of new images come from: what masks and boxes follow. See the kernel ``warp_bilinear``."""

    matrices: Float32
    field: Float32

    @property
    def shrinkage(self) -> Float32:
        """Pixels of the old image for each pixel of the new one, but for the field, (N,)."""
        a, b, _, c, d, _ = self.matrices.T
        return np.asarray(np.abs(a * d - b * c), np.float32)

    def sources(self, height: int, width: int) -> Float32:
        """Column and row of the old image for each pixel of the new, N×H×W×2."""
        h, w = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
        points = np.tile(np.stack([w, h], -1).astype(np.float32), (len(self.matrices), 1, 1, 1))
        if len(self.field):
            points += self.field.reshape(-1, 2, height, width).transpose(0, 2, 3, 1)
        matrices = self.matrices.reshape(-1, 1, 2, 3)
        linear = points.reshape(len(points), -1, 2) @ matrices[:, 0, :, :2].transpose(0, 2, 1)
        return (linear + matrices[..., 2]).reshape(points.shape).astype(np.float32)


class Geometry(NamedTuple):
    """Neighbouring geometric transforms, each with its place in the chain, that make one warp."""

    affine: tuple[tuple[int, Affine], ...]
    elastic: tuple[int, Elastic] | None

    def matrices(self, u: Float64, height: int, width: int) -> Float32:
        """N×6: rows of the matrices from new to old pixels, counted from the top left."""
        matrix = np.tile(np.eye(3), (len(u), 1, 1))
        for place, transform in self.affine:
            matrix = matrix @ transform.sources(u[:, place])
        centre = np.array([(width - 1) / 2, (height - 1) / 2])
        shift = matrix[:, :2, 2] + centre - matrix[:, :2, :2] @ centre
        return np.concatenate([matrix[:, :2, :2], shift[..., None]], 2).reshape(-1, 6).astype(np.float32)


# -- changes of pixels ------------------------------------------------------------------------------------------------


class Keys(NamedTuple):
    """Of the random numbers that a kernel draws; the first two arrays lie where the images do."""

    indices: Integers
    random: NDArray[np.uint64]
    purpose: int


class PixelTransform(Transform):
    """A transform that changes numbers where they are."""

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """What happens to each of N images of ``shape``, N×H×W×C, by its random numbers N×8, as ``change`` takes it.

        unit: the number that stands for white in them.
        """
        raise NotImplementedError

    def change(self, kernels: Any, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """Changes images x. Launches kernels, nothing else."""
        raise NotImplementedError


@dataclass(frozen=True)
class Cutout(PixelTransform):
    """A square of fill, ``size`` pixels wide, centred anywhere in the image (DeVries and Taylor 2017)."""

    name: ClassVar[str] = "cutout"

    size: int

    def __post_init__(self) -> None:
        super().__post_init__()
        whole(self.size, f"{self.name}: size", 0)
        self._bound("size", MOST_PIXELS)

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """See ``PixelTransform``: boxes."""
        sizes = np.where(self._happens(u), self.size, 0)
        return _boxes(u, sizes, sizes, shape)

    def change(self, kernels: Any, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """See ``PixelTransform``."""
        kernels.fill_boxes_in_place(x, plan, fill)


def _boxes(u: Float64, heights: NDArray[Any], widths: NDArray[Any], shape: tuple[int, ...]) -> Integers:
    """N × (top, left, bottom, right) of boxes around any pixel, without what lies outside the image."""
    sides = []
    for i, sizes, length in ((0, heights, shape[1]), (1, widths, shape[2])):
        first = np.floor(u[:, i] * length) - sizes // 2
        sides.append((np.clip(first, 0, length), np.clip(first + sizes, 0, length)))
    (top, bottom), (left, right) = sides
    return np.stack([top, left, bottom, right], 1).astype(np.int64)


@dataclass(frozen=True)
class Noise(PixelTransform):
    """Normal noise on each number; ``std`` in units of [0, 1] for 8-bit images, in their own for float ones."""

    name: ClassVar[str] = "noise"

    std: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("std", 1e6)

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """See ``PixelTransform``: standard deviations."""
        return np.where(self._happens(u), self.std * unit, 0).astype(np.float32)

    def change(self, kernels: Any, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """See ``PixelTransform``."""
        kernels.add_noise_in_place(x, keys.indices, keys.random, keys.purpose, plan)


@dataclass(frozen=True)
class ColorJitter(PixelTransform):
    """Brightness, contrast and saturation, each times a factor from 1 − share to 1 + share."""

    name: ClassVar[str] = "color"

    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("brightness", "contrast", "saturation"):
            self._bound(name, 1)

    def plan(self, u: Float64, shape: tuple[int, ...], unit: float) -> NDArray[Any]:
        """See ``PixelTransform``: factors."""
        shares = np.array([self.brightness, self.contrast, self.saturation])
        return np.where(self._happens(u)[:, None], 1 + shares * _signed(u[:, :3]), 1).astype(np.float32)

    def change(self, kernels: Any, x: Float32, plan: NDArray[Any], keys: Keys, fill: float) -> None:
        """See ``PixelTransform``."""
        kernels.jitter_colors_in_place(x, plan)


# -- two images in one ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mixing(Transform):
    """A transform that mixes each image with another one of the set, and their labels in the same shares.

    The other image has gone through the transforms before this one, as it would for itself. How much of it there is
    follows the distribution Beta(alpha, alpha).
    """

    alpha: float

    def __post_init__(self) -> None:
        super().__post_init__()
        self._bound("alpha", 100, 0.01)

    def partners(self, u: Float64, count: int) -> Integers:
        """The other images' numbers, of ``count``."""
        return (u[:, 0] * count).astype(np.int64)

    def plan(self, u: Float64, shape: tuple[int, ...]) -> NDArray[Any]:
        """What of the other image comes into each of N images of ``shape``, N×H×W×C, as ``mix`` takes it."""
        raise NotImplementedError

    def shares(self, plan: NDArray[Any], shape: tuple[int, ...]) -> Float64:
        """The other image's share in each, by this plan."""
        raise NotImplementedError

    def mix(self, kernels: Any, x: Float32, other: Float32, plan: NDArray[Any]) -> None:
        """Mixes ``other`` into x. Launches kernels, nothing else."""
        raise NotImplementedError

    def _shares(self, u: Float64) -> Float64:
        return np.where(
            self._happens(u), np.interp(u[:, 1], (np.arange(QUANTILES) + 0.5) / QUANTILES, self._quantiles), 0
        )

    @cached_property
    def _quantiles(self) -> Float64:
        """Of the distribution, which is symmetric. Over v = xᵅ its density has no pole at 0, where α is below 1."""
        power = min(self.alpha, 1)
        v = np.linspace(0, 0.5**power, 1 << 14)
        x = v ** (1 / power)
        density = x ** (self.alpha - power) * (1 - x) ** (self.alpha - 1)
        below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
        half = np.interp((np.arange(QUANTILES // 2) + 0.5) * (2 / QUANTILES), below / below[-1], v) ** (1 / power)
        return np.concatenate([half, 1 - half[::-1]])


@dataclass(frozen=True)
class Mixup(Mixing):
    """The sum of both images in random shares (Zhang et al. 2018, "mixup: Beyond empirical risk minimization")."""

    name: ClassVar[str] = "mixup"

    alpha: float = 0.2

    def plan(self, u: Float64, shape: tuple[int, ...]) -> NDArray[Any]:
        """See ``Mixing``: shares."""
        return self._shares(u).astype(np.float32)

    def shares(self, plan: NDArray[Any], shape: tuple[int, ...]) -> Float64:
        """See ``Mixing``."""
        return plan.astype(np.float64)

    def mix(self, kernels: Any, x: Float32, other: Float32, plan: NDArray[Any]) -> None:
        """See ``Mixing``."""
        kernels.mix_in_place(x, other, plan)


@dataclass(frozen=True)
class CutMix(Mixing):
    """A random box of the other image, its share of the area being its share in the label (Yun et al. 2019)."""

    name: ClassVar[str] = "cutmix"

    alpha: float = 1.0

    def plan(self, u: Float64, shape: tuple[int, ...]) -> NDArray[Any]:
        """See ``Mixing``: boxes."""
        sides = np.sqrt(self._shares(u))
        return _boxes(u[:, 2:], np.rint(sides * shape[1]), np.rint(sides * shape[2]), shape)

    def shares(self, plan: NDArray[Any], shape: tuple[int, ...]) -> Float64:
        """See ``Mixing``."""
        areas: Float64 = (plan[:, 2] - plan[:, 0]) * (plan[:, 3] - plan[:, 1]) / (shape[1] * shape[2])
        return areas

    def mix(self, kernels: Any, x: Float32, other: Float32, plan: NDArray[Any]) -> None:
        """See ``Mixing``."""
        kernels.paste_boxes_in_place(x, other, plan)


TRANSFORMS: dict[str, type[Transform]] = {
    kind.name: kind
    for kind in (
        *(Rotate, Translate, Crop, Scale, Shear, HorizontalFlip, VerticalFlip, Elastic),
        *(Cutout, Noise, ColorJitter, Mixup, CutMix),
    )
}
