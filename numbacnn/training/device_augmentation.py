"""Augmentation on the device: what happens to each image of the set is planned for an epoch ahead, on the host, by the
formulas and random numbers of ``data.augment``; kernels then do it to batch after batch, and to its labels."""

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from numbacnn.data.augmenter import MIN_VISIBLE, draw_uniforms
from numbacnn.data.chain import Compose, Stage
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, MASKS
from numbacnn.data.transforms import Geometry, Keys, PixelTransform
from numbacnn.engine.device import Device, get_device
from numbacnn.geometry import Shape


class Table(NamedTuple):
    """Numbers of each image of the set on the device, N × M, 8-bit as they are; and the ``shape`` of one image's."""

    whole: Any
    shape: Shape

    @classmethod
    def of(cls, device: Device, array: NDArray[Any]) -> "Table":
        """Room for ``array``, N × the shape."""
        kept = array.dtype if array.dtype == np.uint8 else _as_kernels_take(array.dtype)
        return cls(device.zeros((len(array), prod(array.shape[1:])), kept), array.shape[1:])

    @property
    def dtype(self) -> DTypeLike:
        """Of those that are gathered."""
        return _as_kernels_take(self.whole.dtype)

    def write(self, device: Device, array: NDArray[Any]) -> None:
        """Uploads the numbers."""
        device.write(self.whole, array.reshape(self.whole.shape))


def _as_kernels_take(dtype: np.dtype[Any]) -> DTypeLike:
    return np.int64 if np.issubdtype(dtype, np.integer) else np.float32


class PlannedAugmentation:
    """Runs a chain on batches of up to ``batch`` images of a set. ``classes``: how many the labels have, which a chain
    that mixes makes probabilities of."""

    def __init__(self, chain: Compose, device: Device, dataset: Dataset, batch: int, classes: int) -> None:
        self._chain, self._device, self._classes = chain, device, classes
        self._shape, self._kind, self._batch = dataset.images.shape, dataset.kind, batch
        self._bytes = dataset.images.dtype == np.uint8
        row = self._shape[2] * self._shape[3]
        self._ones, self._zeros = np.ones(row, np.float32), np.zeros(row, np.float32)
        self._random = device.zeros(2, np.uint64)
        self._buffers: dict[str, Any] = {}
        self._tables: list[list[Table]] = []  # of each stage
        self._planned: tuple[int, int] | None = None  # the seed and the epoch

    def plan(self, seed: int, epoch: int) -> None:
        """Writes what happens in an epoch to the device, once. The caller holds ``engine_lock``."""
        if self._planned == (seed, epoch):
            return
        random, everything = np.array([seed, epoch], np.uint64), np.arange(self._shape[0])
        self._device.write(self._random, random)
        u = draw_uniforms(get_device("cpu").kernels, len(self._chain.transforms), everything, random)
        found = [self._numbers(stage, u) for stage in self._chain.stages]
        if not self._tables:
            self._tables = [[Table.of(self._device, array) for array in arrays] for arrays in found]
        for tables, arrays in zip(self._tables, found, strict=True):
            for table, array in zip(tables, arrays, strict=True):
                table.write(self._device, array)
        self._planned = seed, epoch

    def _numbers(self, stage: Stage, u: NDArray[np.float64]) -> list[NDArray[Any]]:
        """What a stage needs of each image: matrices and strengths; the plan of its transform; or another image's
        number, what of it comes in, and its share of the label."""
        if isinstance(stage, Geometry):
            matrices = stage.matrices(u, *self._shape[1:3])
            return (
                [matrices] if stage.elastic is None else [matrices, stage.elastic[1].strengths(u[:, stage.elastic[0]])]
            )
        place, transform = stage
        if isinstance(transform, PixelTransform):
            return [transform.plan(u[:, place], self._shape, 255.0 if self._bytes else 1.0)]
        plan = transform.plan(u[:, place], self._shape)
        return [transform.partners(u[:, place], self._shape[0]), plan, transform.shares(plan, self._shape)]

    # -- the launches of a batch --------------------------------------------------------------------------------------

    def launch(self, target: Any, images: Any, labels: Table, indices: Any, scale: Any, shift: Any) -> Any:
        """Launches the kernels that write the images of ``indices`` to the input ``target``, changed and normalised;
        returns their labels, changed alike. images: N·H × W·C, on the device."""
        kernels = self._device.kernels
        x, changed = self._run(images, labels, indices, self._chain.stages, "")
        if self._bytes:
            rows = len(indices) * self._shape[1]
            rounded = self._buffer("rounded", len(indices), self._shape[1:], np.uint8).reshape(rows, -1)
            kernels.round_to_bytes(rounded, x)
            kernels.normalize_bytes(target, rounded, scale, shift)
        else:
            kernels.normalize_floats(target, x, scale, shift)
        return changed

    def _run(self, images: Any, labels: Table, indices: Any, stages: Sequence[Stage], who: str) -> tuple[Any, Any]:
        """Images and labels after some stages, in buffers that begin with ``who``: as ``data.augment.Augmenter``."""
        kernels, n, fill = self._device.kernels, len(indices), self._chain.fill
        x, y = (self._buffer(who + name, n, self._shape[1:]) for name in "xy")
        kernels.gather_images(x, images, indices, self._ones, self._zeros)
        own = self.gather(labels, indices, f"{who}labels")
        if self._chain.mixes:
            whole, own = own, self._buffer(f"{who}shares", n, (1, 1, self._classes))
            kernels.one_hot(own.reshape(n, -1), whole)
        for turn, (stage, tables) in enumerate(zip(stages, self._tables, strict=False)):
            parts = [self.gather(table, indices, f"{who}{turn}:{i}") for i, table in enumerate(tables)]
            if isinstance(stage, Geometry):
                field = self._displacements(stage, parts, indices, f"{who}{turn}:field")
                kernels.warp_bilinear(y, x, parts[0], field, fill)
                own = self._followed(own, parts[0], field, f"{who}{turn}:labels")
                x, y = y, x
                continue
            place, transform = stage
            if isinstance(transform, PixelTransform):
                transform.change(kernels, x, parts[0], Keys(indices, self._random, place + 1), fill)
            else:
                partners, plan, shares = parts
                other, theirs = self._run(images, labels, partners, stages[:turn], f"{who}other")
                transform.mix(kernels, x, other, plan)
                kernels.mix_in_place(own, theirs, shares)
        return x, own

    def gather(self, table: Table, indices: Any, buffer: str) -> Any:
        """The numbers of some images, n × their shape."""
        part = self._buffer(buffer, len(indices), table.shape, table.dtype)
        self._device.kernels.gather_rows(part.reshape(len(indices), -1), table.whole, indices)
        return part

    def _displacements(self, stage: Geometry, parts: list[Any], indices: Any, buffer: str) -> Any:
        if stage.elastic is None:
            return self._buffer("none", 0, (0,))
        (place, elastic), (height, width) = stage.elastic, self._shape[1:3]
        field, scratch = (
            self._buffer(name, len(indices), (2, height * width)).reshape(-1, height * width)
            for name in (buffer, "scratch")
        )
        keys = indices, self._random, np.uint64(place + 1)
        self._device.kernels.draw_field(field, scratch, *keys, parts[1], elastic.weights, width)
        return field

    def _followed(self, labels: Any, matrices: Any, field: Any, buffer: str) -> Any:
        """Labels moved as their images are."""
        if self._kind not in (MASKS, BOXES):
            return labels
        moved = self._buffer(buffer, len(labels), labels.shape[1:], labels.dtype)
        if self._kind == MASKS:
            self._device.loop_kernels.warp_classes(moved, labels, matrices, field)
        else:
            self._device.loop_kernels.move_boxes(moved, labels, matrices, field, *self._shape[1:3], MIN_VISIBLE)
        return moved

    def _buffer(self, name: str, n: int, shape: Shape, dtype: DTypeLike = np.float32) -> Any:
        """For ``n`` images, n × ``shape``; made for a whole batch, when its name first comes."""
        if name not in self._buffers:
            self._buffers[name] = self._device.zeros((self._batch, *shape), dtype)
        return self._buffers[name][:n]
