"""Augmentation: random changes of training images, the same for the same (seed, epoch, number of the image).

A chain is a list of transforms, or text: ``"rotate=10, translate=2, elastic=34:4, hflip"``. Neighbouring geometric
transforms are resampled once, together; ``apply`` runs a chain on a batch, and ``Model.fit(augment=…)`` on each batch.
"""

import math
from collections.abc import Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose, number, whole
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.labels import BOXES, MASKS, kind_of
from numbacnn.data.transforms import (
    NUMBERS,
    TRANSFORMS,
    Affine,
    ColorJitter,
    Crop,
    CutMix,
    Cutout,
    Elastic,
    Float32,
    Float64,
    Geometry,
    HorizontalFlip,
    Integers,
    Keys,
    Mixing,
    Mixup,
    Noise,
    PixelTransform,
    Rotate,
    Scale,
    Shear,
    Transform,
    Translate,
    VerticalFlip,
    Warp,
    as_text,
)
from numbacnn.detection import PADDING, areas
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError

__all__ = [
    "Augmented",
    "Augmenter",
    "ColorJitter",
    "Compose",
    "Crop",
    "CutMix",
    "Cutout",
    "Elastic",
    "HorizontalFlip",
    "Mixup",
    "Noise",
    "Rotate",
    "Scale",
    "Shear",
    "Transform",
    "Translate",
    "VerticalFlip",
    "apply",
    "get_augmentation",
]

LEAST_LEFT = 0.25  # of a box that stays a label

Stage: TypeAlias = Geometry | tuple[int, PixelTransform | Mixing]

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
        return ", ".join(map(str, self.transforms)) + (f"; fill {as_text(self.fill)}" if self.fill else "")

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


def _parsed(part: str) -> Transform:
    head, _, share = part.partition("@")
    name, _, listed = head.partition("=")
    kind = choose("transform", name.strip(), TRANSFORMS)
    values = [_number(part, item) for item in listed.split(":")] if listed.strip() else []
    known = [item.name for item in fields(kind) if item.name != "p"]
    if len(values) > len(known):
        raise ArgumentError(
            f"augment: {part!r} has {len(values)} numbers; {kind.name} takes {':'.join(known) or 'none'}"
        )
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
        self.size: tuple[int, ...] = (0, 0)  # of its images
        self._buffers: dict[str, NDArray[Any]] = {}

    def __call__(
        self, images: Images, labels: NDArray[Any], indices: Integers, *, seed: int, epoch: int
    ) -> tuple[Images, NDArray[Any]]:
        """New images and labels of a batch, valid until the next one. indices: the images' numbers in their set.

        Masks and boxes follow the geometric transforms; a box of which less than a quarter stays in the image goes.
        """
        if self.chain.mixes and not np.issubdtype(labels.dtype, np.floating):
            labels = np.eye(self.classes, dtype=np.float32)[labels]
        random = np.array([seed, epoch], np.uint64)
        with engine_lock:
            x, labels = self._run(images, labels, indices, random, self.chain.stages, "")
            labels = self._followed(labels)
            if images.dtype != np.uint8:
                return x, labels
            y = self._buffer("bytes", images.shape, np.uint8)
            self.kernels.round_to_bytes(y.reshape(_rows(y)), x)
        return y, labels

    def _followed(self, labels: NDArray[Any]) -> NDArray[Any]:
        """The labels of the last batch, moved as its images were."""
        kind = kind_of(labels)
        if kind == MASKS:
            return _follow_masks(labels, self)
        if kind == BOXES:
            moved = labels.copy()
            moved[..., :4] = np.stack(_follow_boxes(list(labels[..., :4]), self.warps, self.size, LEAST_LEFT))
            moved[areas(moved) == 0] = (0, 0, 0, 0, PADDING)
            return moved
        return labels

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
        self.size = images.shape[1:3]
        x, y = (self._buffer(who + name, images.shape) for name in "xy")
        self._to_floats(x, images)
        unit, fill, u = 255.0 if images.dtype == np.uint8 else 1.0, self.chain.fill, self._uniforms(indices, random)
        warps = []
        for turn, stage in enumerate(stages):
            if isinstance(stage, Geometry):
                warps.append(self._warp(stage, u, indices, random, x.shape, f"{who}field{turn}"))
                self.kernels.warp_bilinear(y, x, *warps[-1], fill)
                x, y = y, x
                continue
            place, transform = stage
            if isinstance(transform, PixelTransform):
                plan = transform.plan(u[:, place], x.shape, unit)
                transform.change(self.kernels, x, plan, Keys(indices, random, place + 1), fill)
            else:
                partners = transform.partners(u[:, place], len(self._source))
                raw, theirs = self._gather(partners, f"{who}raw")
                other, theirs = self._run(raw, theirs, partners, random, stages[:turn], f"{who}other")
                plan = transform.plan(u[:, place], x.shape)
                transform.mix(self.kernels, x, other, plan)
                shares = transform.shares(plan, x.shape)[:, None]
                labels = ((1 - shares) * labels + shares * theirs).astype(np.float32)
        self.warps = warps
        return x, labels

    @property
    def _source(self) -> Dataset:
        assert self.source is not None, "a chain that mixes takes images from the set"
        return self.source

    def _gather(self, partners: Integers, buffer: str) -> tuple[Images, Float32]:
        """Images of the set, and their labels as probabilities."""
        images, labels = self._source.images, self._source.labels[partners]
        raw = self._buffer(buffer, (len(partners), *images.shape[1:]), images.dtype)
        np.take(images, partners, axis=0, out=raw, mode="clip")
        return raw, np.eye(self.classes, dtype=np.float32)[labels]

    def _uniforms(self, indices: Integers, random: NDArray[np.uint64]) -> Float64:
        return draw_uniforms(self.kernels, len(self.chain.transforms), indices, random)

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


def draw_uniforms(kernels: Any, transforms: int, indices: Integers, random: NDArray[np.uint64]) -> Float64:
    """N × transforms × 8 numbers in [0, 1), by the CPU's kernels; random: (seed, epoch)."""
    u = np.empty((len(indices), NUMBERS * transforms), np.float32)
    kernels.draw_uniforms(u, np.ascontiguousarray(indices, np.int64), random)
    return u.reshape(len(indices), -1, NUMBERS).astype(np.float64)


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
            raise ArgumentError(
                f"augment: images of {batch.images.shape[1:]}, those of source {source.images.shape[1:]}"
            )
    augmenter = Augmenter(chain, source, len(batch.classes))
    with engine_lock:
        pixels, found = augmenter(batch.images, batch.labels, numbers, seed=seed, epoch=epoch)
        moved = None if masks is None else _follow_masks(_checked_masks(masks, batch.images.shape), augmenter)
    around = (
        None if boxes is None else _follow_boxes(_checked_boxes(boxes, len(batch)), augmenter.warps, augmenter.size)
    )
    shape = np.shape(images)
    return Augmented(pixels.reshape(shape), None if labels is None else found, moved, around)


def _numbers(indices: ArrayLike | None, n: int) -> Integers:
    numbers = np.arange(n) if indices is None else np.asarray(indices)
    if numbers.shape != (n,) or not np.issubdtype(numbers.dtype, np.integer) or numbers.min() < 0:
        raise ArgumentError(f"augment: indices of shape {numbers.shape}, {numbers.dtype}; give {n} integers from 0")
    return numbers.astype(np.int64)


def _checked_masks(masks: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    if np.shape(masks) != shape[:3] or not np.issubdtype(masks.dtype, np.integer):
        raise ArgumentError(f"augment: masks are {masks.dtype} of shape {np.shape(masks)}; give integers {shape[:3]}")
    return masks


def _checked_boxes(boxes: Sequence[ArrayLike], count: int) -> list[Float32]:
    found = [np.array(part, np.float32) for part in boxes]
    if len(found) != count:
        raise ArgumentError(f"augment: boxes of {len(found)} images for {count} images")
    for n, part in enumerate(found):
        if part.ndim != 2 or part.shape[1] != 4:
            raise ArgumentError(f"augment: boxes of image {n} have shape {part.shape}; give (k, 4)")
    return found


def _follow_masks(masks: NDArray[Any], augmenter: Augmenter) -> NDArray[Any]:
    x = np.ascontiguousarray(masks[..., None], np.float32)
    for warp in augmenter.warps:
        y = np.empty_like(x)
        augmenter.kernels.warp_nearest(y, x, *warp, 0.0)
        x = y
    return x[..., 0].astype(masks.dtype)


def _follow_boxes(
    boxes: Sequence[Float32], warps: Sequence[Warp], size: tuple[int, ...], least: float = 0.0
) -> list[Float32]:
    """Edges (k, 4) of each image after the warps; those become 0 of which no more than the share ``least`` is left."""
    found = list(boxes)
    for warp in warps:
        centres = warp.sources(*size) + 0.5
        found = [
            _around(part, points, least * areas(part) / share)
            for part, points, share in zip(found, centres, warp.shrinkage, strict=True)
        ]
    return found


def _around(boxes: Float32, points: Float32, least: Float32) -> Float32:
    """The box around the pixels whose sources ``points``, H×W×2, lie in each box, where more than ``least`` do."""
    inside = (points >= boxes[:, None, None, :2]) & (points < boxes[:, None, None, 2:])
    result = np.zeros_like(boxes)
    for new, marked, wanted in zip(result, np.all(inside, axis=-1), least, strict=True):
        h, w = np.nonzero(marked)
        if len(h) > wanted:
            new[:] = w.min(), h.min(), w.max() + 1, h.max() + 1
    return result
