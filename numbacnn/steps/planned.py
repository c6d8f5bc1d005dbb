"""Augmentation on the device: what happens to each image of the set is planned for an epoch ahead, on the host, by the
formulas and random numbers of ``data.augment``; kernels then do it to batch after batch."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.augment import Compose, draw_uniforms
from numbacnn.data.dataset import Images
from numbacnn.data.transforms import Geometry, Keys, PixelTransform
from numbacnn.device import Device, get_device


class _Table(NamedTuple):
    """Numbers of each image of the set, N × M, and of those in a batch."""

    whole: Any
    batch: Any


class PlannedAugmentation:
    """Runs a chain that does not mix on batches of up to ``batch`` images of the set ``images``, N×H×W×C."""

    def __init__(self, chain: Compose, device: Device, images: Images, batch: int) -> None:
        self._chain, self._device, self._shape = chain, device, images.shape
        self._bytes = images.dtype == np.uint8
        self._batch = batch
        n, h, w, c = batch, *images.shape[1:]
        self._x, self._y = device.zeros((n, h, w, c)), device.zeros((n, h, w, c))
        self._rounded = device.zeros((n * h, w * c) if self._bytes else (0, 1), np.uint8)
        warps = any(isinstance(stage, Geometry) and stage.elastic for stage in chain.stages)
        self._field, self._scratch = (device.zeros((2 * n if warps else 0, h * w)) for _ in range(2))
        self._none = device.zeros((0, 0))
        self._ones, self._zeros = np.ones(w * c, np.float32), np.zeros(w * c, np.float32)
        self._random = device.zeros(2, np.uint64)
        self._tables: list[list[_Table]] = []
        self._planned: tuple[int, int] | None = None  # the seed and the epoch

    def plan(self, seed: int, epoch: int) -> None:
        """Writes what happens in an epoch to the device, once. The caller holds ``device.ENGINE``."""
        if self._planned == (seed, epoch):
            return
        random, everything = np.array([seed, epoch], np.uint64), np.arange(self._shape[0])
        self._device.write(self._random, random)
        u = draw_uniforms(get_device("cpu").kernels, len(self._chain.transforms), everything, random)
        found = [self._numbers(stage, u) for stage in self._chain.stages]
        if not self._tables:
            self._tables = [[self._table(array) for array in arrays] for arrays in found]
        for tables, arrays in zip(self._tables, found, strict=True):
            for table, array in zip(tables, arrays, strict=True):
                self._device.write(table.whole, array.reshape(table.whole.shape))
        self._planned = seed, epoch

    def _numbers(self, stage: Any, u: NDArray[np.float64]) -> list[NDArray[Any]]:
        """What a stage needs of each image: matrices and strengths, or the plan of its transform."""
        if isinstance(stage, Geometry):
            matrices = stage.matrices(u, *self._shape[1:3])
            return (
                [matrices] if stage.elastic is None else [matrices, stage.elastic[1].strengths(u[:, stage.elastic[0]])]
            )
        place, transform = stage
        return [transform.plan(u[:, place], self._shape, 255.0 if self._bytes else 1.0)]

    def _table(self, array: NDArray[Any]) -> _Table:
        whole = self._device.zeros((len(array), array[0].size), array.dtype)
        return _Table(whole, self._device.zeros((self._batch, *array.shape[1:]), array.dtype))

    def launch(self, target: Any, images: Any, indices: Any, scale: Any, shift: Any) -> None:
        """Launches the kernels that write the images of ``indices`` to the input ``target``, changed and normalised.
        images: N·H × W·C, on the device."""
        kernels, resident, n, fill = self._device.kernels, self._device.resident, len(indices), self._chain.fill
        x, y = self._x[:n], self._y[:n]
        resident.gather_images(x, images, indices, self._ones, self._zeros)
        for stage, tables in zip(self._chain.stages, self._tables, strict=True):
            parts = [table.batch[:n] for table in tables]
            for table, part in zip(tables, parts, strict=True):
                resident.gather_rows(part.reshape(n, -1), table.whole, indices)
            if isinstance(stage, Geometry):
                kernels.warp_bilinear(y, x, parts[0], self._displacements(stage, parts, indices), fill)
                x, y = y, x
            else:
                place, transform = stage
                assert isinstance(transform, PixelTransform)
                transform.change(kernels, x, parts[0], Keys(indices, self._random, place + 1), fill)
        if self._bytes:
            rounded = self._rounded[: n * self._shape[1]]
            kernels.round_to_bytes(rounded, x)
            kernels.normalize_bytes(target, rounded, scale, shift)
        else:
            kernels.normalize_floats(target, x, scale, shift)

    def _displacements(self, stage: Geometry, parts: list[Any], indices: Any) -> Any:
        if stage.elastic is None:
            return self._none
        n, (place, elastic) = len(indices), stage.elastic
        field, keys = self._field[: 2 * n], (indices, self._random, np.uint64(place + 1))
        width = self._shape[2]
        self._device.kernels.draw_field(field, self._scratch[: 2 * n], *keys, parts[1], elastic.weights, width)
        return field
