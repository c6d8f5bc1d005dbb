"""Augmentation on the device: the numbers of an epoch are computed on the host ahead, and gathered batch by batch."""

from collections.abc import Sequence
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike

from numbacnn.data.augmenter import ChainRunner, draw_uniforms, stage_numbers
from numbacnn.data.chain import Compose, Stage
from numbacnn.data.dataset import Dataset
from numbacnn.engine.device import Device, get_device
from numbacnn.geometry import Shape
from numbacnn.losses.base import Array, Float32


class Table(NamedTuple):
    """Numbers for each image of a data set in device memory, N×M; those of one image have the ``shape``."""

    rows: Array
    shape: Shape

    @classmethod
    def of(cls, device: Device, array: Array) -> "Table":
        """Allocate a table for ``array``, N × shape: bytes, int64 or float32."""
        dtype = array.dtype if array.dtype == np.uint8 else _kernel_type(array.dtype)
        return cls(device.zeros((len(array), prod(array.shape[1:])), dtype), array.shape[1:])

    @property
    def dtype(self) -> DTypeLike:
        """Type of gathered numbers, int64 or float32."""
        return _kernel_type(self.rows.dtype)

    def write(self, device: Device, array: Array) -> None:
        """Upload the numbers."""
        device.write(self.rows, array.reshape(self.rows.shape))


def _kernel_type(dtype: DTypeLike) -> DTypeLike:
    return np.int64 if np.issubdtype(dtype, np.integer) else np.float32


class DeviceAugmenter(ChainRunner):
    """Runs a chain on batches of up to ``capacity`` images of a data set in device memory.

    Args:
        chain: the transforms.
        device: where they run.
        dataset: the data set on the host.
        images: the data set's images on the device, N·H × W·C.
        labels: its labels on the device.
        capacity: images of the largest batch.
        classes: number of classes, for mixing transforms.
    """

    def __init__(
        self,
        chain: Compose,
        device: Device,
        dataset: Dataset,
        images: Array,
        labels: Table,
        capacity: int,
        classes: int,
    ) -> None:
        super().__init__(chain, device)
        self.images, self.labels, self.capacity, self.classes = images, labels, capacity, classes
        self.size, self._shape, self._kind = dataset.images.shape[1:], dataset.images.shape, dataset.kind
        self.random = device.zeros(2, np.uint64)
        row = prod(self.size[1:])
        self._ones, self._zeros = np.ones(row, np.float32), np.zeros(row, np.float32)
        self._tables: list[list[Table]] = []  # of each stage
        self._prepared: tuple[int, int] | None = None  # seed and epoch

    def prepare(self, seed: int, epoch: int) -> None:
        """Write the numbers of an epoch to the device, once. The caller holds ``engine_lock``."""
        if self._prepared == (seed, epoch):
            return
        random = np.array([seed, epoch], np.uint64)
        self.device.write(self.random, random)
        indices = np.arange(self._shape[0], dtype=np.int64)
        u = draw_uniforms(get_device("cpu").kernels, len(self.chain.transforms), indices, random)
        unit = 255.0 if self._is_bytes else 1.0
        found = [stage_numbers(stage, u, self._shape, unit) for stage in self.chain.stages]
        if not self._tables:
            self._tables = [[Table.of(self.device, array) for array in arrays] for arrays in found]
        for tables, arrays in zip(self._tables, found, strict=True):
            for table, array in zip(tables, arrays, strict=True):
                table.write(self.device, array)
        self._prepared = seed, epoch

    @property
    def _is_bytes(self) -> bool:
        return bool(self.images.dtype == np.uint8)

    def launch(self, target: Float32, indices: Array, scale: Float32, shift: Float32) -> Array:
        """Launch what writes augmented, normalized images to the input ``target``; return their labels."""
        x, labels = self.run(indices)
        if self._is_bytes:
            rounded = self.buffer("rounded", len(indices), self.size, np.uint8)
            rounded = rounded.reshape(len(indices) * self.size[0], -1)
            self.kernels.round_to_bytes(rounded, x)
            self.kernels.normalize_bytes(target, rounded, scale, shift)
        else:
            self.kernels.normalize_floats(target, x, scale, shift)
        return self.move(labels, self._kind)

    def read(self, x: Float32, indices: Array, scope: str) -> Array:
        """Gather images and labels."""
        self.kernels.gather_images(x, self.images, indices, self._ones, self._zeros)
        labels = self.gather(self.labels, indices, f"{scope}labels")
        if not self.chain.mixes:
            return labels
        shares = self.buffer(f"{scope}shares", len(indices), (1, 1, self.classes))
        self.kernels.one_hot(shares.reshape(len(indices), -1), labels)
        return shares

    def numbers(self, stages: Sequence[Stage], indices: Array, scope: str) -> list[list[Array]]:
        """Gather them from the tables of the epoch."""
        return [
            [self.gather(table, indices, f"{scope}{stage}:{i}") for i, table in enumerate(self._tables[stage])]
            for stage in range(len(stages))
        ]

    def gather(self, table: Table, indices: Array, buffer: str) -> Array:
        """Launch the gathering of some images' numbers, n × their shape."""
        part = self.buffer(buffer, len(indices), table.shape, table.dtype)
        self.kernels.gather_rows(part.reshape(len(indices), -1), table.rows, indices)
        return part
