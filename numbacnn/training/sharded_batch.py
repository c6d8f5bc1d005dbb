"""The buffers of a training step on the shards of one rank."""

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from numbacnn.distributed.executor import ShardedExecutor
from numbacnn.kernels.decision import LOSS_ROWS, SUM_GROUPS
from numbacnn.losses.base import Float64, Target, differentiate, scale_of
from numbacnn.training.batch import TrainingBatch
from numbacnn.training.objective import Objective
from numbacnn.training.penalties import Penalties


class ShardedBatch(TrainingBatch):
    """The buffers of a training step on consecutive shards of a batch.

    Attributes:
        starts: the first image of each shard, and the number of images.
        shard_sums: the partial sums of the loss of each output, by shard.
        totals: what the sum of each output's loss over all shards of the batch is divided by.
    """

    executor: ShardedExecutor

    def __init__(
        self,
        executor: ShardedExecutor,
        starts: tuple[int, ...],
        objective: Objective,
        penalties: Penalties,
        sums: Float64,
    ) -> None:
        executor.cut(starts)
        super().__init__(executor, starts[-1], objective, penalties, sums)
        self.starts, self.totals = starts, list[float]()
        self.shard_sums = np.zeros((len(starts) - 1, len(self.outputs), SUM_GROUPS))

    def weights(self, targets: Sequence[Target]) -> list[list[float]]:
        """Return for each shard with images the number that the sum of each output's loss is divided by."""
        losses = self.objective.losses
        return [
            [loss.weight(self._of(target, start, stop)) for loss, target in zip(losses, targets, strict=True)]
            for _, start, stop in self._shards()
        ]

    def launch_losses(
        self, targets: Sequence[Target], label_sums: Float64 | None = None, totals: Sequence[float] | None = None
    ) -> None:
        """Launch the loss of each output and its gradient: on all images if the loss permits, else shard by shard."""
        for i, (dy, y) in enumerate(zip(self.binding.output_gradients, self.outputs, strict=True)):
            loss, weight = self.objective.losses[i], self.objective.weights[i]
            total = self.totals[i] if self.totals else None
            device, losses, pixels = self.executor.device, self.executor.pixel_losses, math.prod(y.shape[1:-1])
            whole = loss.per_image and total is not None
            if whole and total is not None:
                scale = scale_of(weight, total)
                loss.launch(device.kernels, losses[: self.n * pixels], dy, y, targets[i], scale)
            for shard, start, stop in self._shards():
                own, scratch = self.shard_sums[shard, i], losses[start * pixels : stop * pixels]
                if whole:
                    device.kernels.sum_losses(own, scratch, scale)
                else:
                    rows, target = slice(start, stop), self._of(targets[i], start, stop)
                    differentiate(loss, weight, device, own, scratch, dy[rows], y[rows], target, None, total)
            self.sums[LOSS_ROWS + i] = self.shard_sums[:, i].sum(axis=0)

    def _shards(self) -> Iterator[tuple[int, int, int]]:
        """Yield number, first image, and image after the last of each shard with images."""
        return ((i, start, stop) for i, (start, stop) in enumerate(pairwise(self.starts)) if start < stop)

    def _of(self, target: Target, start: int, stop: int) -> Target:
        """Return the target of some images; labels are flat."""
        size = len(target) // self.n
        return target[start * size : stop * size]
