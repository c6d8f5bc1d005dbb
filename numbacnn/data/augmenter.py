"""Runs a chain of transforms on batches on the CPU, and moves masks and boxes along."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbacnn.data.chain import Compose, Stage
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.labels import BOXES, MASKS, kind_of
from numbacnn.data.transforms import NUMBERS, Float32, Float64, Geometry, Integers, Keys, PixelTransform, Warp
from numbacnn.detection import PADDING, areas
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.locks import engine_lock
from numbacnn.layers.bindings import Kernels

MIN_VISIBLE = 0.25  # fraction of a box that must stay in the image
NO_FIELD = np.empty((0, 0), np.float32)


class Augmenter:
    """Runs a chain on one batch after another, in buffers that are reused.

    Args:
        chain: the transforms.
        source: the whole data set, from which mixing transforms take images.
        classes: number of classes, for mixing transforms.
        device: a CPU device, whose kernels run.
    """

    def __init__(
        self, chain: Compose, source: Dataset | None = None, classes: int = 0, device: Device | None = None
    ) -> None:
        self.chain, self.source, self.classes = chain, source, classes
        self.kernels: Kernels = (device or get_device("cpu")).kernels
        self.warps: list[Warp] = []  # of the last batch, in the order of the chain
        self.size: tuple[int, ...] = (0, 0)  # of its images
        self._buffers: dict[str, NDArray[Any]] = {}

    def __call__(
        self, images: Images, labels: NDArray[Any], indices: Integers, *, seed: int, epoch: int
    ) -> tuple[Images, NDArray[Any]]:
        """Return the new images and labels of a batch, valid until the next call.

        ``indices`` are those of the images in their data set. Masks and boxes follow the geometric transforms; a box of
        which less than a quarter stays in the image is dropped.
        """
        if self.chain.mixes and not np.issubdtype(labels.dtype, np.floating):
            labels = np.eye(self.classes, dtype=np.float32)[labels]
        random = np.array([seed, epoch], np.uint64)
        with engine_lock:
            x, labels = self._run(images, labels, indices, random, self.chain.stages, "")
            labels = self._move_labels(labels)
            if images.dtype != np.uint8:
                return x, labels
            y = self._buffer("bytes", images.shape, np.uint8)
            self.kernels.round_to_bytes(y.reshape(_rows(y)), x)
        return y, labels

    def move_masks(self, masks: NDArray[Any]) -> NDArray[Any]:
        """Move masks (n, H, W) as the images of the last batch. The caller holds ``engine_lock``."""
        x = np.ascontiguousarray(masks[..., None], np.float32)
        for warp in self.warps:
            y = np.empty_like(x)
            self.kernels.warp_nearest(y, x, *warp, 0.0)
            x = y
        return x[..., 0].astype(masks.dtype)

    def move_boxes(self, boxes: Sequence[Float32], min_visible: float = 0.0) -> list[Float32]:
        """Move the boxes (k, 4) of each image as the images of the last batch.

        A box of which no more than the fraction ``min_visible`` stays becomes zeros.
        """
        found = list(boxes)
        for warp in self.warps:
            centers = warp.sources(*self.size) + 0.5
            found = [
                _bounding_boxes(part, points, min_visible * areas(part) / scale)
                for part, points, scale in zip(found, centers, warp.scale, strict=True)
            ]
        return found

    def _move_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        kind = kind_of(labels)
        if kind == MASKS:
            return self.move_masks(labels)
        if kind == BOXES:
            moved = labels.copy()
            moved[..., :4] = np.stack(self.move_boxes(list(labels[..., :4]), MIN_VISIBLE))
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
        scope: str,
    ) -> tuple[Float32, NDArray[Any]]:
        """Run some stages, in buffers whose names start with ``scope``."""
        self.size = images.shape[1:3]
        x, y = (self._buffer(scope + name, images.shape) for name in "xy")
        self._to_floats(x, images)
        unit, fill = 255.0 if images.dtype == np.uint8 else 1.0, self.chain.fill
        u = draw_uniforms(self.kernels, len(self.chain.transforms), indices, random)
        warps = []
        for number, stage in enumerate(stages):
            if isinstance(stage, Geometry):
                warps.append(self._warp(stage, u, indices, random, x.shape, f"{scope}field{number}"))
                self.kernels.warp_bilinear(y, x, *warps[-1], fill)
                x, y = y, x
                continue
            index, transform = stage
            if isinstance(transform, PixelTransform):
                plan = transform.plan(u[:, index], x.shape, unit)
                transform.change(self.kernels, x, plan, Keys(indices, random, index + 1), fill)
            else:
                assert self.source is not None, "mixing transforms need the data set"
                partners = transform.partners(u[:, index], len(self.source))
                raw, theirs = self._gather(self.source, partners, f"{scope}raw")
                other, theirs = self._run(raw, theirs, partners, random, stages[:number], f"{scope}other")
                plan = transform.plan(u[:, index], x.shape)
                transform.mix(self.kernels, x, other, plan)
                shares = transform.shares(plan, x.shape)[:, None]
                labels = ((1 - shares) * labels + shares * theirs).astype(np.float32)
        self.warps = warps
        return x, labels

    def _gather(self, source: Dataset, partners: Integers, buffer: str) -> tuple[Images, Float32]:
        """Return images of the data set, and their labels as probabilities."""
        raw = self._buffer(buffer, (len(partners), *source.images.shape[1:]), source.images.dtype)
        np.take(source.images, partners, axis=0, out=raw, mode="clip")
        return raw, np.eye(self.classes, dtype=np.float32)[source.labels[partners]]

    def _to_floats(self, x: Float32, images: Images) -> None:
        if images.dtype != np.uint8:
            np.copyto(x, images)
            return
        ones = np.ones(_rows(images)[1], np.float32)
        rows = np.require(images, requirements=["C", "W"]).reshape(_rows(images))  # kernels need writable memory
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
            return Warp(matrices, NO_FIELD)
        index, elastic = stage.elastic
        field, scratch = (self._buffer(name, (2 * n, height * width)) for name in (buffer, "scratch"))
        strengths = elastic.strengths(u[:, index])
        self.kernels.draw_field(field, scratch, indices, random, index + 1, strengths, elastic.weights, width)
        return Warp(matrices, field)

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: DTypeLike = np.float32) -> NDArray[Any]:
        size = math.prod(shape)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers[name] = np.empty(size, dtype)
        return self._buffers[name][:size].reshape(shape)


def draw_uniforms(kernels: Kernels, transforms: int, indices: Integers, random: NDArray[np.uint64]) -> Float64:
    """Draw N × transforms × 8 numbers in [0, 1) with the CPU's kernels, from ``random`` = (seed, epoch)."""
    u = np.empty((len(indices), NUMBERS * transforms), np.float32)
    kernels.draw_uniforms(u, np.ascontiguousarray(indices, np.int64), random)
    return u.reshape(len(indices), -1, NUMBERS).astype(np.float64)


def _rows(images: NDArray[Any]) -> tuple[int, int]:
    n, height, width, channels = images.shape
    return n * height, width * channels


def _bounding_boxes(boxes: Float32, points: Float32, min_pixels: Float32) -> Float32:
    """Return the bounding box of the pixels whose sources ``points``, H×W×2, are in each box.

    It is zero unless there are more than ``min_pixels`` such pixels.
    """
    inside = (points >= boxes[:, None, None, :2]) & (points < boxes[:, None, None, 2:])
    result = np.zeros_like(boxes)
    for new, marked, minimum in zip(result, np.all(inside, axis=-1), min_pixels, strict=True):
        h, w = np.nonzero(marked)
        if len(h) > minimum:
            new[:] = w.min(), h.min(), w.max() + 1, h.max() + 1
    return result
