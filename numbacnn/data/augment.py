"""Augmentation: random changes of training images, the same for the same (seed, epoch, number of the image).

A chain is a list of transforms, or text: ``"rotate=10, translate=2, elastic=34:4, hflip"``. Neighbouring geometric
transforms are resampled once, together; ``apply`` runs a chain on a batch, and ``Model.fit(augment=…)`` on each batch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.data.dataset import Dataset, Images
from numbacnn.device import ENGINE, Device, get_device
from numbacnn.errors import ArgumentError
from numbacnn.geometry import number, whole
from numbacnn.names import choose

Float32: TypeAlias = NDArray[np.float32]
Float64: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]

NUMBERS = 8  # uniform random numbers of each transform and image; the last decides whether it happens
QUANTILES = 1025  # of mixup's and CutMix's beta distributions
MOST_PIXELS = 4096.0  # bound of sizes and distances, so that nothing overflows


@dataclass(frozen=True)
class Transform:
    """One random change. ``p``: the share of the images that it happens to."""

    name: ClassVar[str]

    p: float = field(default=1.0, kw_only=True)

    def __post_init__(self) -> None:
        self._bound("p", 1)

    def __str__(self) -> str:
        """The transform in a chain's text, with all its numbers."""
        values = [_text(getattr(self, item.name)) for item in fields(self) if item.name != "p"]
        return self.name + ("=" + ":".join(values) if values else "") + ("" if self.p == 1 else f"@{_text(self.p)}")

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
    for (i, j), value in entries.items():
        matrices[:, "xyz".index(i), "xyz".index(j)] = value
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
        return (weights / weights.sum()).astype(np.float32)

    def strengths(self, u: Float64) -> Float32:
        """alpha for each image that it happens to, else 0."""
        return np.where(self._happens(u), self.alpha, 0).astype(np.float32)


class Warp(NamedTuple):
    """Where the pixels of new images come from: what masks and boxes follow. See the kernel ``warp_bilinear``."""

    matrices: Float32
    field: Float32

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


class Draws(NamedTuple):
    """What a transform may depend on: its random numbers N×8, and the keys of those that a kernel draws."""

    u: Float64
    indices: Integers
    random: NDArray[np.uint64]
    purpose: int


class PixelTransform(Transform):
    """A transform that changes numbers where they are."""

    def change(self, kernels: Any, x: Float32, draws: Draws, unit: float, fill: float) -> None:
        """Changes images x. unit: the number that stands for white in them."""
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

    def change(self, kernels: Any, x: Float32, draws: Draws, unit: float, fill: float) -> None:
        """See ``PixelTransform``."""
        sizes = np.where(self._happens(draws.u), self.size, 0)
        kernels.fill_boxes_in_place(x, _boxes(draws.u, sizes, sizes, x.shape), fill)


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

    def change(self, kernels: Any, x: Float32, draws: Draws, unit: float, fill: float) -> None:
        """See ``PixelTransform``."""
        deviations = np.where(self._happens(draws.u), self.std * unit, 0).astype(np.float32)
        kernels.add_noise_in_place(x, draws.indices, draws.random, draws.purpose, deviations)


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

    def change(self, kernels: Any, x: Float32, draws: Draws, unit: float, fill: float) -> None:
        """See ``PixelTransform``."""
        shares = np.array([self.brightness, self.contrast, self.saturation])
        factors = np.where(self._happens(draws.u)[:, None], 1 + shares * _signed(draws.u[:, :3]), 1)
        kernels.jitter_colors_in_place(x, factors.astype(np.float32))


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

    def mix(self, kernels: Any, x: Float32, other: Float32, u: Float64) -> Float64:
        """Mixes ``other`` into x; returns its share in each image."""
        raise NotImplementedError

    def _shares(self, u: Float64) -> Float64:
        return np.where(self._happens(u), np.interp(u[:, 1], np.linspace(0, 1, QUANTILES), self._quantiles), 0)

    @cached_property
    def _quantiles(self) -> Float64:
        """Of the distribution, which is symmetric; with v = xᵅ its density has no pole, and can be summed up."""
        v = np.linspace(0, 0.5**self.alpha, 1 << 14)
        density = (1 - v ** (1 / self.alpha)) ** (self.alpha - 1)
        below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
        half = np.interp(np.linspace(0, 1, QUANTILES // 2 + 1), below / below[-1], v) ** (1 / self.alpha)
        return np.concatenate([half, 1 - half[-2::-1]])


@dataclass(frozen=True)
class Mixup(Mixing):
    """The sum of both images in random shares (Zhang et al. 2018, "mixup: Beyond empirical risk minimization")."""

    name: ClassVar[str] = "mixup"

    alpha: float = 0.2

    def mix(self, kernels: Any, x: Float32, other: Float32, u: Float64) -> Float64:
        """See ``Mixing``."""
        shares = self._shares(u).astype(np.float32)
        kernels.mix_in_place(x, other, shares)
        return shares.astype(np.float64)


@dataclass(frozen=True)
class CutMix(Mixing):
    """A random box of the other image, its share of the area being its share in the label (Yun et al. 2019)."""

    name: ClassVar[str] = "cutmix"

    alpha: float = 1.0

    def mix(self, kernels: Any, x: Float32, other: Float32, u: Float64) -> Float64:
        """See ``Mixing``."""
        sides = np.sqrt(self._shares(u))
        boxes = _boxes(u[:, 2:], np.rint(sides * x.shape[1]), np.rint(sides * x.shape[2]), x.shape)
        kernels.paste_boxes_in_place(x, other, boxes)
        areas: Float64 = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (x.shape[1] * x.shape[2])
        return areas


TRANSFORMS: dict[str, type[Transform]] = {
    kind.name: kind
    for kind in (
        *(Rotate, Translate, Crop, Scale, Shear, HorizontalFlip, VerticalFlip, Elastic),
        *(Cutout, Noise, ColorJitter, Mixup, CutMix),
    )
}

Stage: TypeAlias = Geometry | tuple[int, PixelTransform] | tuple[int, Mixing]


# -- chains -----------------------------------------------------------------------------------------------------------


class Compose:
    """Transforms one after the other. ``fill``: what comes in from outside the image, and fills cutouts."""

    def __init__(self, transforms: Sequence[Transform], fill: float = 0.0) -> None:
        for transform in transforms:
            if not isinstance(transform, Transform) or type(transform) not in TRANSFORMS.values():
                raise ArgumentError(f"augment: {transform!r} is no transform; give such as augment.Rotate(10)")
        self.transforms = tuple(transforms)
        self.fill = number(fill, "augment: fill", -1e6, 1e6)

    @classmethod
    def parse(cls, text: str) -> "Compose":
        """A chain from its text: ``NAME``, ``NAME=NUMBER:NUMBER…`` and ``…@P`` for a share P, with commas between.

        Raises:
            ArgumentError: a name is not known (with the nearest one), or a number cannot be used.
        """
        return cls([_parsed(part.strip()) for part in text.split(",") if part.strip()])

    def __str__(self) -> str:
        """The text that ``parse`` reads; ``fill`` follows it where it is not 0."""
        return ", ".join(map(str, self.transforms)) + (f"; fill {_text(self.fill)}" if self.fill else "")

    def __repr__(self) -> str:
        return f"Compose({list(self.transforms)}, fill={self.fill})"

    @cached_property
    def stages(self) -> tuple[Stage, ...]:
        """What is done in turn: neighbouring affine transforms, and an elastic one behind them, together."""
        stages: list[Stage] = []
        for place, transform in enumerate(self.transforms):
            before = stages[-1] if stages and isinstance(stages[-1], Geometry) and not stages[-1].elastic else None
            if isinstance(transform, Affine | Elastic):
                stages[len(stages) - (before is not None) :] = [_joined(before, place, transform)]
            elif isinstance(transform, PixelTransform | Mixing):
                stages.append((place, transform))
        return tuple(stages)

    @property
    def mixes(self) -> bool:
        """Whether labels become probabilities."""
        return any(isinstance(transform, Mixing) for transform in self.transforms)


def _joined(before: Geometry | None, place: int, transform: Affine | Elastic) -> Geometry:
    affine = before.affine if before else ()
    if isinstance(transform, Elastic):
        return Geometry(affine, (place, transform))
    return Geometry((*affine, (place, transform)), None)


def _text(value: float) -> str:
    return repr(int(value) if value == int(value) else float(value))


def _parsed(part: str) -> Transform:
    head, _, share = part.partition("@")
    name, _, listed = head.partition("=")
    kind = choose("transform", name.strip(), TRANSFORMS)
    values = [_number(part, item) for item in listed.split(":")] if listed.strip() else []
    known = [item.name for item in fields(kind) if item.name != "p"]
    if len(values) > len(known):
        raise ArgumentError(f"augment: {part!r} has {len(values)} numbers; {kind.name} takes {':'.join(known) or 'none'}")
    try:
        return kind(*values, **{"p": _number(part, share)} if "@" in part else {})
    except TypeError:
        raise ArgumentError(f"augment: {part!r} needs a number: {kind.name}={':'.join(known).upper()}") from None


def _number(part: str, text: str) -> int | float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ArgumentError(f"augment: {text.strip()!r} in {part!r} is no number; write it as in rotate=10 or elastic=34:4")


Augmentation: TypeAlias = Compose | Transform | Sequence[Transform] | str


def get_augmentation(augment: Augmentation | None) -> Compose | None:
    """A chain from itself, its text, transforms, or one transform; None where there is nothing to do."""
    if augment is None:
        return None
    if isinstance(augment, str):
        augment = Compose.parse(augment)
    elif isinstance(augment, Transform):
        augment = Compose([augment])
    elif isinstance(augment, list | tuple):
        augment = Compose(augment)
    if not isinstance(augment, Compose):
        raise ArgumentError(f"augment={augment!r}: give transforms such as [augment.Rotate(10)], or text: 'rotate=10'")
    return augment if augment.transforms else None


# -- running them -----------------------------------------------------------------------------------------------------


class Augmented(NamedTuple):
    """What ``apply`` gives: images as they came, uint8 or float32; labels, as probabilities (n, classes) where the
    chain mixes; and masks and boxes, where there were some, after the same geometric transforms."""

    images: Images
    labels: NDArray[Any] | None
    masks: NDArray[Any] | None = None
    boxes: list[Float32] | None = None


class Augmenter:
    """Runs a chain on batch after batch, in buffers that are used again and again.

    Args:
        chain: what to do.
        source: the whole set, whose images a chain that mixes takes.
        classes: of the labels, where a chain mixes them.
    """

    def __init__(
        self, chain: Compose, source: Dataset | None = None, classes: int = 0, device: Device | None = None
    ) -> None:
        self.chain, self.source, self.classes = chain, source, classes
        self.kernels = (device or get_device("cpu")).kernels
        self.warps: list[Warp] = []  # of the last batch, in the order of the chain
        self._buffers: dict[str, NDArray[Any]] = {}

    def __call__(
        self, images: Images, labels: NDArray[Any], indices: Integers, *, seed: int, epoch: int
    ) -> tuple[Images, NDArray[Any]]:
        """New images and labels of a batch, valid until the next one. indices: the images' numbers in their set."""
        if self.chain.mixes and not np.issubdtype(labels.dtype, np.floating):
            labels = np.eye(self.classes, dtype=np.float32)[labels]
        random = np.array([seed, epoch], np.uint64)
        with ENGINE:
            x, labels = self._run(images, labels, indices, random, self.chain.stages, "")
            if images.dtype != np.uint8:
                return x, labels
            y = self._buffer("bytes", images.shape, np.uint8)
            self.kernels.round_to_bytes(y.reshape(_rows(y)), x)
        return y, labels

    def _run(
        self,
        images: Images,
        labels: NDArray[Any],
        indices: Integers,
        random: NDArray[np.uint64],
        stages: Sequence[Stage],
        who: str,
    ) -> tuple[Float32, NDArray[Any]]:
        """The images after some stages, in buffers that begin with ``who``."""
        x, y = (self._buffer(who + name, images.shape) for name in "xy")
        self._to_floats(x, images)
        unit, fill, u = 255.0 if images.dtype == np.uint8 else 1.0, self.chain.fill, self._uniforms(indices, random)
        warps = []
        for number_, stage in enumerate(stages):
            if isinstance(stage, Geometry):
                warps.append(self._warp(stage, u, indices, random, x.shape, f"{who}field{number_}"))
                self.kernels.warp_bilinear(y, x, *warps[-1], fill)
                x, y = y, x
                continue
            place, transform = stage
            if isinstance(transform, PixelTransform):
                transform.change(self.kernels, x, Draws(u[:, place], indices, random, place + 1), unit, fill)
            else:
                assert self.source is not None
                partners = transform.partners(u[:, place], len(self.source))
                raw = self._buffer(f"{who}raw", images.shape, images.dtype)
                np.take(self.source.images, partners, axis=0, out=raw, mode="clip")
                theirs = np.eye(self.classes, dtype=np.float32)[self.source.labels[partners]]
                other, theirs = self._run(raw, theirs, partners, random, stages[:number_], f"{who}other")
                shares = transform.mix(self.kernels, x, other, u[:, place])[:, None]
                labels = ((1 - shares) * labels + shares * theirs).astype(np.float32)
        self.warps = warps
        return x, labels

    def _uniforms(self, indices: Integers, random: NDArray[np.uint64]) -> Float64:
        """N × places × 8 numbers in [0, 1)."""
        u = np.empty((len(indices), NUMBERS * len(self.chain.transforms)), np.float32)
        self.kernels.draw_uniforms(u, np.ascontiguousarray(indices, np.int64), random)
        return u.reshape(len(indices), -1, NUMBERS).astype(np.float64)

    def _to_floats(self, x: Float32, images: Images) -> None:
        if images.dtype != np.uint8:
            np.copyto(x, images)
            return
        ones = np.ones(_rows(images)[1], np.float32)
        rows = np.require(images, requirements=["C", "W"]).reshape(_rows(images))  # kernels refuse read-only memory
        self.kernels.normalize_bytes(x, rows, ones, np.zeros_like(ones))

    def _warp(
        self,
        stage: Geometry,
        u: Float64,
        indices: Integers,
        random: NDArray[np.uint64],
        shape: tuple[int, ...],
        buffer: str,
    ) -> Warp:
        n, height, width, _ = shape
        matrices = stage.matrices(u, height, width)
        if stage.elastic is None:
            return Warp(matrices, np.empty((0, 0), np.float32))
        place, elastic = stage.elastic
        field, scratch = (self._buffer(name, (2 * n, height * width)) for name in (buffer, "scratch"))
        strengths = elastic.strengths(u[:, place])
        self.kernels.draw_field(field, scratch, indices, random, place + 1, strengths, elastic.weights, width)
        return Warp(matrices, field)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: Any = np.float32) -> NDArray[Any]:
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size, dtype)
        return self._buffers[name][:size].reshape(shape)


def _rows(images: NDArray[Any]) -> tuple[int, int]:
    n, height, width, channels = images.shape
    return n * height, width * channels


def apply(
    augment: Augmentation,
    images: NDArray[Any],
    labels: ArrayLike | None = None,
    seed: int = 0,
    epoch: int = 0,
    indices: ArrayLike | None = None,
    *,
    source: Dataset | None = None,
    masks: NDArray[Any] | None = None,
    boxes: Sequence[ArrayLike] | None = None,
) -> Augmented:
    """Augments a batch, as ``Model.fit`` does with the batch of these samples.

    Args:
        augment: a chain, transforms or text.
        images: (n, H, W, C) or (n, H, W), uint8 or float.
        labels: (n,) integers; needed where the chain mixes images.
        seed: of the training, from 0 to 2**64 − 1.
        epoch: counted from 0.
        indices: numbers of the images in their set; 0 to n − 1 by default.
        source: the whole set, for a chain that mixes; by default the batch, where ``indices`` are not given.
        masks: (n, H, W) integers, the class of each pixel; outside the image is class 0.
        boxes: for each image (k, 4) edges x₀, y₀, x₁, y₁ in pixels. A box becomes that around the new pixels that come
            from inside it, and 0, 0, 0, 0 where there are none.

    Raises:
        ArgumentError: shapes, types or numbers cannot be used; masks or boxes with a chain that mixes.
    """
    chain = get_augmentation(augment) or Compose([])
    whole(seed, "seed", 0), whole(epoch, "epoch", 0)
    given = np.zeros(len(images), np.int64) if labels is None else labels
    batch = Dataset.from_arrays(images, given, None if source is None else source.classes)
    numbers = _numbers(indices, len(batch))
    if chain.mixes:
        if labels is None or (source is None and indices is not None):
            raise ArgumentError("augment: mixup and cutmix need labels, and the whole set with indices: source=…")
        if masks is not None or boxes is not None:
            raise ArgumentError("augment: masks and boxes cannot follow mixup or cutmix; leave those out")
        source = source or batch
        if source.images.shape[1:] != batch.images.shape[1:] or source.images.dtype != batch.images.dtype:
            raise ArgumentError(f"augment: images of {batch.images.shape[1:]}, those of source {source.images.shape[1:]}")
    augmenter = Augmenter(chain, source, len(batch.classes))
    with ENGINE:
        pixels, found = augmenter(batch.images, batch.labels, numbers, seed=seed, epoch=epoch)
        moved = None if masks is None else _follow_masks(masks, augmenter)
    around = None if boxes is None else _follow_boxes(boxes, augmenter.warps, batch.images.shape)
    shape = np.shape(images)
    return Augmented(pixels.reshape(shape), None if labels is None else found, moved, around)


def _numbers(indices: ArrayLike | None, n: int) -> Integers:
    numbers = np.arange(n) if indices is None else np.asarray(indices)
    if numbers.shape != (n,) or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise ArgumentError(f"augment: indices of shape {numbers.shape}, {numbers.dtype}; give {n} integers from 0")
    return numbers.astype(np.int64)


def _follow_masks(masks: NDArray[Any], augmenter: Augmenter) -> NDArray[Any]:
    n, shape = len(augmenter.warps and augmenter.warps[0].matrices), np.shape(masks)
    if len(shape) != 3 or not np.issubdtype(masks.dtype, np.integer) or (augmenter.warps and n != shape[0]):
        raise ArgumentError(f"augment: masks are {masks.dtype} of shape {shape}; give integers (n, height, width)")
    x = np.ascontiguousarray(masks[..., None], np.float32)
    for warp in augmenter.warps:
        y = np.empty_like(x)
        augmenter.kernels.warp_nearest(y, x, *warp, 0.0)
        x = y
    return x[..., 0].astype(masks.dtype)


def _follow_boxes(boxes: Sequence[ArrayLike], warps: Sequence[Warp], shape: tuple[int, ...]) -> list[Float32]:
    found = [np.array(part, np.float32).reshape(-1, 4) for part in boxes]
    if len(found) != shape[0]:
        raise ArgumentError(f"augment: boxes of {len(found)} images for {shape[0]} images")
    for warp in warps:
        centres = warp.sources(shape[1], shape[2]) + 0.5
        found = [_around(part, points) for part, points in zip(found, centres, strict=True)]
    return found


def _around(boxes: Float32, points: Float32) -> Float32:
    """The box around the pixels whose sources ``points``, H×W×2, lie in each of the boxes."""
    inside = (points >= boxes[:, None, None, :2]) & (points < boxes[:, None, None, 2:])
    result = np.zeros_like(boxes)
    for new, marked in zip(result, inside.all(-1), strict=True):
        h, w = np.nonzero(marked)
        if len(h):
            new[:] = w.min(), h.min(), w.max() + 1, h.max() + 1
    return result
