"""Runs a chain of transforms on batches, on any device, and moves masks and boxes along."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbacnn.data.chain import Compose, Stage
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.labels import BOXES, MASKS, Labels, kind_of
from numbacnn.data.transforms import NUMBERS, Float32, Float64, Geometry, Integers, Keys, PixelTransform
from numbacnn.detection import pack
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.locks import engine_lock
from numbacnn.geometry import Shape
from numbacnn.layers.bindings import Kernels

Array = NDArray[Any]  # on any device
MIN_VISIBLE = 0.25  # fraction of a box that must stay in the image


class Warp(NamedTuple):
    """A resampling of a batch, which masks and boxes follow: the arguments of the kernel ``warp_bilinear``."""

    matrices: Float32
    field: Float32


class ChainRunner:
    """Runs a chain on batches. A subclass provides the images, their labels, and the numbers of each stage.

    Attributes:
        size: height, width and channels of the images.
        warps: the warps of the last batch, in the order of the chain.
        random: (seed, epoch) in the device's memory.
        capacity: images of the largest batch, if known.
    """

    size: Shape
    random: NDArray[np.uint64]
    capacity: int = 0

    def __init__(self, chain: Compose, device: Device) -> None:
        self.chain, self.device = chain, device
        self.kernels: Kernels = device.kernels
        self.warps: list[Warp] = []
        self._buffers: dict[str, Array] = {}

    def read(self, x: Float32, indices: Integers, scope: str) -> Array:
        """Write the images with these indices to x as floats; return their labels, as probabilities if mixed."""
        raise NotImplementedError

    def numbers(self, stages: Sequence[Stage], indices: Integers, scope: str) -> list[list[Array]]:
        """Return what each stage needs of the images with these indices, as ``stage_numbers`` does."""
        raise NotImplementedError

    def run(self, indices: Integers) -> tuple[Float32, Array]:
        """Run the chain; return the images as floats, and their labels before ``move``. Launches kernels only."""
        x, labels, self.warps = self._run(indices, self.chain.stages, "")
        return x, labels

    def _run(self, indices: Integers, stages: Sequence[Stage], scope: str) -> tuple[Float32, Array, list[Warp]]:
        """Run some stages, in buffers whose names start with ``scope``."""
        x, y = (self.buffer(scope + name, len(indices), self.size) for name in "xy")
        labels, warps = self.read(x, indices, scope), list[Warp]()
        for number, (stage, numbers) in enumerate(zip(stages, self.numbers(stages, indices, scope), strict=True)):
            if isinstance(stage, Geometry):
                warps.append(self._warp(stage, numbers, indices, f"{scope}field{number}"))
                self.kernels.warp_bilinear(y, x, *warps[-1], self.chain.fill)
                x, y = y, x
                continue
            index, transform = stage
            if isinstance(transform, PixelTransform):
                transform.change(self.kernels, x, numbers[0], Keys(indices, self.random, index + 1), self.chain.fill)
            else:
                partners, plan, shares = numbers
                other, theirs, _ = self._run(partners, stages[:number], f"{scope}other")
                transform.mix(self.kernels, x, other, plan)
                self.kernels.mix_labels(labels, theirs, shares)
        return x, labels, warps

    def _warp(self, stage: Geometry, numbers: list[Array], indices: Integers, buffer: str) -> Warp:
        if stage.elastic is None:
            return Warp(numbers[0], self.buffer("no field", 0, (0,)))
        (index, elastic), (height, width, _) = stage.elastic, self.size
        field, scratch = (
            self.buffer(name, len(indices), (2, height * width)).reshape(-1, height * width)
            for name in (buffer, "scratch")
        )
        keys = indices, self.random, np.uint64(index + 1)
        self.kernels.draw_field(field, scratch, *keys, numbers[1], elastic.weights, width)
        return Warp(numbers[0], field)

    # -- masks and boxes ----------------------------------------------------------------------------------------------

    def move(self, labels: Array, kind: str) -> Array:
        """Move masks and boxes as the images of the last batch; a box that is mostly outside is dropped."""
        if kind == MASKS:
            return self.move_masks(labels)
        return self.move_boxes(labels, MIN_VISIBLE) if kind == BOXES else labels

    def move_masks(self, masks: Array) -> Array:
        """Move integer masks (n, H, W)."""
        n, height, width = masks.shape
        x, y = (self.buffer(f"mask {name}", n, (height, width, 1)) for name in "xy")
        self.kernels.convert(x.reshape(masks.shape), masks)
        for warp in self.warps:
            self.kernels.warp_nearest(y, x, *warp, 0.0)
            x, y = y, x
        moved = self.buffer("masks", n, (height, width), masks.dtype)
        self.kernels.convert(moved, x.reshape(masks.shape))
        return moved

    def move_boxes(self, boxes: Float32, min_visible: float = 0.0) -> Float32:
        """Move boxes (n, M, 5). One of which no more than the fraction ``min_visible`` stays is dropped."""
        for number, warp in enumerate(self.warps):
            moved = self.buffer(f"boxes {number % 2}", len(boxes), boxes.shape[1:])
            self.kernels.move_boxes(moved, boxes, *warp, *self.size[:2], min_visible)
            boxes = moved
        return boxes

    def buffer(self, name: str, n: int, shape: Shape, dtype: DTypeLike = np.float32) -> Array:
        """Return a buffer for ``n`` items of a shape, allocated at its first use."""
        kept = self._buffers.get(name)
        if kept is None or len(kept) < n or kept.shape[1:] != shape or kept.dtype != dtype:
            kept = self._buffers[name] = self.device.zeros((max(n, self.capacity), *shape), dtype)
        return kept[:n]


def stage_numbers(stage: Stage, u: Float64, shape: tuple[int, ...], unit: float) -> list[Array]:
    """Return what a stage needs of each image, from its random numbers ``u``: (n, transforms, 8).

    For a warp, the matrices and the strengths of its field; for a pixel transform, its plan; for a mixing transform,
    the partners, the plan, and the partners' shares in the labels. shape: of the data set's images; unit: white.
    """
    if isinstance(stage, Geometry):
        matrices = stage.matrices(u, *shape[1:3])
        return [matrices] if stage.elastic is None else [matrices, stage.elastic[1].strengths(u[:, stage.elastic[0]])]
    index, transform = stage
    if isinstance(transform, PixelTransform):
        return [transform.plan(u[:, index], shape, unit)]
    plan = transform.plan(u[:, index], shape)
    return [transform.partners(u[:, index], shape[0]), plan, transform.shares(plan, shape)]


def draw_uniforms(kernels: Kernels, transforms: int, indices: Integers, random: NDArray[np.uint64]) -> Float64:
    """Draw N × transforms × 8 numbers in [0, 1) with the CPU's kernels, from ``random`` = (seed, epoch)."""
    u = np.zeros((len(indices), NUMBERS * transforms), np.float32)
    kernels.draw_uniforms(u, np.ascontiguousarray(indices, np.int64), random)
    return u.reshape(len(indices), -1, NUMBERS).astype(np.float64)


class Augmenter(ChainRunner):
    """Runs a chain on one batch after another on the CPU, in buffers that are reused.

    Args:
        chain: the transforms.
        source: the whole data set, from which mixing transforms take images.
        classes: number of classes, for mixing transforms.
        device: a device whose arrays are NumPy arrays.
    """

    def __init__(
        self, chain: Compose, source: Dataset | None = None, classes: int = 0, device: Device | None = None
    ) -> None:
        super().__init__(chain, device or get_device("cpu"))
        self.source, self.classes = source, classes
        self._batch: tuple[Images, NDArray[Any]]

    def __call__(
        self, images: Images, labels: Labels, indices: Integers, *, seed: int, epoch: int
    ) -> tuple[Images, NDArray[Any]]:
        """Return the new images and labels of a batch, valid until the next call.

        ``indices`` are those of the images in their data set. Masks and boxes follow the geometric transforms; a box of
        which less than a quarter stays in the image is dropped.
        """
        self._batch, self.size = (images, np.asarray(labels)), images.shape[1:]
        self.random = np.array([seed, epoch], np.uint64)
        with engine_lock:
            x, new_labels = self.run(indices)
            new_labels = self.move(new_labels, kind_of(labels))
            if images.dtype != np.uint8:
                return x, new_labels
            y = self.buffer("bytes", len(images), self.size, np.uint8)
            self.kernels.round_to_bytes(y.reshape(_rows(y)), x)
        return y, new_labels

    def move_box_lists(self, boxes: Sequence[Float32]) -> list[Float32]:
        """Move the boxes (k, 4) of each image as the images of the last batch; one that leaves it becomes zeros."""
        packed = pack([np.pad(part, ((0, 0), (0, 1))) for part in boxes])
        return [rows[: len(part), :4] for rows, part in zip(self.move_boxes(packed), boxes, strict=True)]

    def read(self, x: Float32, indices: Integers, scope: str) -> Array:
        """Take the batch itself, or partners from the data set."""
        images, labels = self._batch
        if scope:
            assert self.source is not None, "mixing transforms need the data set"
            images = self.buffer(f"{scope}raw", len(indices), self.size, images.dtype)
            np.take(self.source.images, indices, axis=0, out=images, mode="clip")
            labels = np.asarray(self.source.labels[indices])
        if images.dtype == np.uint8:
            ones = np.ones(_rows(images)[1], np.float32)
            rows = np.require(images, requirements=["C", "W"]).reshape(_rows(images))  # kernels need writable memory
            self.kernels.normalize_bytes(x, rows, ones, np.zeros_like(ones))
        else:
            np.copyto(x, images)
        if not self.chain.mixes:
            return labels
        known = np.issubdtype(labels.dtype, np.floating)
        return labels.astype(np.float32) if known else np.eye(self.classes, dtype=np.float32)[labels]

    def numbers(self, stages: Sequence[Stage], indices: Integers, scope: str) -> list[list[Array]]:
        """Draw them for the batch."""
        count = len(indices) if self.source is None else len(self.source)
        unit = 255.0 if self._batch[0].dtype == np.uint8 else 1.0
        u = draw_uniforms(self.kernels, len(self.chain.transforms), indices, self.random)
        return [stage_numbers(stage, u, (count, *self.size), unit) for stage in stages]


def _rows(images: NDArray[Any]) -> tuple[int, int]:
    return len(images) * images.shape[1], prod(images.shape[2:])
