"""Steps of a batch in shards, whose gradients are added in a binary tree, on one rank or several."""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from numbacnn.data.loader import Batch
from numbacnn.distributed.exchange import Bucket, Exchange, buckets
from numbacnn.distributed.executor import ShardedExecutor
from numbacnn.distributed.group import Group
from numbacnn.distributed.shards import Node, Shards
from numbacnn.distributed.sums import Array, Float64, GradientSums, add_in_place, finish, subtree_sums
from numbacnn.engine.executor import Executor
from numbacnn.errors import ArgumentError
from numbacnn.kernels.decision import CORRECT_ROW, COUNTED_ROW, LOSS_ROWS, SUM_GROUPS
from numbacnn.training.batch import PENALTIES
from numbacnn.training.events import Position
from numbacnn.training.host_loop import HostLoop, Location, at, bad_number, locate
from numbacnn.training.sharded_batch import ShardedBatch


@dataclass(frozen=True)
class BatchSums:
    """The sums of a whole batch, as ``TrainingBatch`` has them, for the decision on its update."""

    executor: Executor
    n: int
    sums: Float64


class ShardedLoop(HostLoop):
    """Runs the shards of this rank, and adds their gradients, losses and statistics in the tree.

    The sums, and with them the weights, are the same on every rank. Running statistics of batch normalization, which
    each shard moves from their values before the step, become the mean over the shards, weighted by their images.

    Args:
        shards: of each batch.
        group: the ranks that share them.
        synchronizes: whether batch normalization is over the whole batch, not over each shard.
        arguments: those of ``HostLoop``.

    Attributes:
        stops: whether a rank requested to stop before the last step.

    Raises:
        ArgumentError: the device has no shards, or there are more ranks than shards.
    """

    def __init__(self, shards: Shards, group: Group, synchronizes: bool, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.shards, self.group, self.stops = shards, group, False
        self.mine = shards.share(group.rank, group.size)
        model = self.model
        if model.device.name == "cuda":
            raise ArgumentError('shards are for the devices "cpu" and "reference"; leave them out on a GPU')
        self.loader.rows = self._share
        self.exchange = Exchange(group, shards, model.device.kernels) if group.size > 1 else None
        self._norms = Exchange(group, shards, model.device.kernels, channel=1) if group.size > 1 else None
        self._reduces, self._locally = synchronizes, False
        self._gradients: GradientSums  # of the executor
        self._executor: ShardedExecutor | None = None
        self._batches: dict[int, ShardedBatch] = {}  # by number of images
        self._buckets: list[Bucket] | None = None
        self._totals: list[float] = []  # of the last step

    def _share(self, images: int) -> slice:
        """Return the images of this rank in a batch."""
        return slice(self.shards.start(self.mine.start, images), self.shards.start(self.mine.stop, images))

    def _augmented(self, batch: Batch, p: Position) -> Batch:
        """Return the batch as the model sees it; a rank may have no image of a small one."""
        return super()._augmented(batch, p) if len(batch.images) else batch

    def buffers(self, images: int) -> ShardedBatch:
        """Return the buffers for this rank's shards of a batch of ``images`` images."""
        model, first = self.model, self.shards.start(self.mine.start, images)
        starts = tuple(self.shards.start(shard, images) - first for shard in (*self.mine, self.mine.stop))
        kept = self._executor
        if kept is None or kept.plan.batch < starts[-1] or kept.frozen != model.store.frozen:
            plan = model.plan(max(1, starts[-1]), training=True, outputs=self.objective.inputs)
            self._gradients = GradientSums(model.device.kernels, model.store.gradients, self.mine)
            arguments = plan, model.store, model.device, self._gradients, self.shards, self.mine
            kept = self._executor = ShardedExecutor(*arguments, self._reduce if self._reduces else None)
            self._batches.clear()
            self._buckets = None  # they follow from the plan's steps
        if images not in self._batches:
            self._batches[images] = ShardedBatch(kept, starts, *model.step_memory(self.objective))
        kept.cut(starts)
        return self._batches[images]

    @property
    def executors(self) -> list[Executor]:
        """Those that have been made."""
        return [*super().executors, *([] if self._executor is None else [self._executor])]

    # -- one step -----------------------------------------------------------------------------------------------------

    def differentiate(self, batch: Batch, p: Position) -> BatchSums:
        """Compute the gradients of a batch, of which ``batch`` has this rank's images."""
        images = self.loader.size(p.step)
        buffers = self.buffers(images)
        targets = buffers.targets(batch.labels) if buffers.n else []
        totals = self.group.begin_gather(buffers.weights(targets))
        self._load(buffers, batch, p)
        buffers.executor.forward(buffers.n)
        buffers.totals = self._totals = _totals(totals())
        buffers.sums[:] = 0
        if buffers.n:
            buffers.launch_losses(targets)
            self.second_half.count(buffers, batch.labels, targets)
        sums = self._small_sums(buffers, images)
        self._backward(buffers, sums)
        return BatchSums(buffers.executor, images, self._spread(sums[0][1], buffers))

    # -- sums over the shards -----------------------------------------------------------------------------------------

    def _small_sums(self, buffers: ShardedBatch, images: int) -> list[tuple[Node, Float64]]:
        """Return the sums of small numbers over this rank's subtrees: losses, counts, states, and requests to stop.

        Counts are integers, which are exact in any order: those of all shards are in the first one's numbers.
        """
        shares, states = np.diff(buffers.starts)[:, None] / images, buffers.executor.states
        leaves = np.zeros((len(self.mine), buffers.shard_sums[0].size + states.shape[1] + 2 * SUM_GROUPS + 1))
        losses, counts = buffers.shard_sums[0].size, leaves.shape[1] - 2 * SUM_GROUPS - 1
        leaves[:, :losses] = buffers.shard_sums.reshape(len(leaves), -1)
        leaves[:, losses:counts] = shares * states
        leaves[0, counts:-1] = buffers.sums[CORRECT_ROW : COUNTED_ROW + 1].reshape(-1)
        leaves[0, -1] = self.group.stop_requested
        return subtree_sums(leaves, self.mine)

    def _finish(self, sums: Iterable[tuple[Node, Array]]) -> Array:
        """Return the sum over all shards, of one rank: in the memory of the first subtree's."""
        add = partial(add_in_place, self.model.device.kernels)
        return finish(add, self.shards.root, dict(sums), self.shards.count)

    def _reduce(self, each: Float64, total: Float64) -> None:
        """Write the sum over all shards, of which ``each`` has a row for each one of this rank."""
        sums = subtree_sums(each, self.mine)
        if self._norms is None:
            total[:] = self._finish(sums)
        elif self._locally:
            total[:] = sum(part for _, part in sums)
        else:
            self._norms.begin(total, sums)
            self._norms.finish(self.exchange)

    def _spread(self, total: Float64, buffers: ShardedBatch) -> Float64:
        """Write the small numbers where they belong, and add the penalties; return the rows of sums of the step."""
        sums, state = buffers.sums, self.model.store.state
        outputs = len(buffers.outputs)
        losses, counts = outputs * SUM_GROUPS, len(total) - 2 * SUM_GROUPS - 1
        sums[LOSS_ROWS : LOSS_ROWS + outputs] = total[:losses].reshape(outputs, -1)
        sums[CORRECT_ROW : COUNTED_ROW + 1] = total[counts:-1].reshape(2, -1)
        state[:] = total[losses:counts]
        self.stops = bool(total[-1])
        buffers.launch_penalties()
        return sums

    def _backward(self, buffers: ShardedBatch, small: list[tuple[Node, Float64]]) -> None:
        """Run backward, and add small numbers and gradients over all ranks: each bucket as soon as it is complete."""
        exchange, executor, sums = self.exchange, buffers.executor, self._gradients
        if exchange is None:
            executor.backward(buffers.n)
            self._finish(zip(sums.nodes, sums.totals, strict=True))
            self._finish(small)
            return
        exchange.begin(small[0][1], small)
        if self._buckets is None:
            self._buckets = buckets(len(sums.totals[0]), executor.gradient_slots())
        steps, done = executor.backward_stepwise(buffers.n), -1
        for bucket in self._buckets:
            while done < bucket.after:
                done = next(steps)
                exchange.advance()
            rows = slice(bucket.start, bucket.stop)
            parts = [(node, total[rows]) for node, total in zip(sums.nodes, sums.totals, strict=True)]
            exchange.begin(sums.totals[0][rows], parts)
        for _ in steps:
            exchange.advance()
        exchange.finish()

    # -- NaN and infinity ---------------------------------------------------------------------------------------------

    def name_bad_number(self, batch: Batch, p: Position, loss: float) -> None:
        """Raise the same error on all ranks: the first layer with NaN or infinity, of the first rank with any."""
        self.check_weights(at(p))
        buffers, found = self.buffers(self.loader.size(p.step)), list[Location]()
        if buffers.n:
            buffers.totals, self._locally = self._totals, True  # each rank ends its search at another layer
            self._load(buffers, batch, p)
            found.append(locate(buffers, batch))
        everywhere = [location for locations in self.group.gather(found) for location in locations]
        bad = [location for location in everywhere if location.where != PENALTIES]
        raise bad_number(bad[0] if bad else Location("the sum of the gradients, or the penalties"), p, loss)


def _totals(weights: list[list[list[float]]]) -> list[float]:
    """Return the sum over all shards of the weight of each loss."""
    return [sum(column) for column in zip(*(shard for rank in weights for shard in rank), strict=True)]
