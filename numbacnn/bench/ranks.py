"""Time of a training step in shards: on one rank, paired with a step without shards, and on the ranks of mpiexec."""

import copy
import statistics
import time
from collections.abc import Generator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from numbacnn.bench.measure import random_labels
from numbacnn.data.dataset import Dataset
from numbacnn.distributed import Group
from numbacnn.model import Model
from numbacnn.optimizers import SGD
from numbacnn.training.trainer import StepEnd, Trainer

WARM_UP = 2  # steps that are not measured


@dataclass(frozen=True)
class RankTimes:
    """Medians over the steps, of the slowest rank.

    compute_ms: the step without the time in which the rank waited for others at its end, the exposed communication.
    bytes: sent by each rank in a step, the most of any rank.
    """

    ranks: int
    threads: int
    shards: int
    batch: int
    step_ms: float
    compute_ms: float
    exposed_ms: float
    bytes: int

    def figures(self) -> dict[str, Any]:
        """Return the fields, images per second, and the exposed communication's share of a step."""
        rates = {"images_per_second": 1e3 * self.batch / self.step_ms, "exposed_share": self.exposed_ms / self.step_ms}
        return asdict(self) | rates


def _trainer(model: Model, batch: int, steps: int, shards: int | None, group: Group) -> Trainer:
    """Return a training on random images, with one epoch of enough steps."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, *model.input_shape)).astype(np.uint8)
    labels = random_labels(model, batch)
    data = Dataset.of((np.concatenate([images] * (steps + WARM_UP)), np.concatenate([labels] * (steps + WARM_UP))))
    return Trainer(
        model,
        data,
        optimizer=SGD(0.01, momentum=0.9),
        epochs=1,
        batch_size=batch,
        seed=0,
        shards=shards,
        communicator=group,
    )


def _step_times(trainer: Trainer, steps: int) -> Generator[float, None, None]:
    """Yield the seconds of each step after the first ones."""
    with closing(trainer.run()) as events:
        for number in range(WARM_UP + steps):
            start = time.perf_counter()
            event = next(events)
            assert isinstance(event, StepEnd)
            if number >= WARM_UP:
                yield time.perf_counter() - start


def measure_ranks(model: Model, batch: int, shards: int, group: Group, threads: int, steps: int) -> RankTimes:
    """Measure steps on all ranks of a group; every rank gets the result."""
    trainer = _trainer(model, batch, steps, shards, group)
    exchange = trainer.exchange
    seconds, waited, sent = list[float](), list[float](), list[int]()
    before = (0.0, 0)
    for duration in _step_times(trainer, steps):
        seconds.append(duration)
        if exchange is not None:
            waited.append(exchange.waited - before[0])
            sent.append(exchange.bytes - before[1])
            before = exchange.waited, exchange.bytes
    step, exposed = 1e3 * statistics.median(seconds), 1e3 * statistics.median(waited[1:] or [0.0])
    own = RankTimes(group.size, threads, shards, batch, step, step - exposed, exposed, int(max(sent[1:], default=0)))
    every = group.gather(own)
    columns = ("step_ms", "compute_ms", "exposed_ms", "bytes")
    return replace(own, **{name: max(getattr(each, name) for each in every) for name in columns})


def paired_shards(model: Model, batch: int, shards: int, steps: int) -> dict[str, float]:
    """Return milliseconds of a step without shards and with them on this rank, and the median of their ratios.

    A ratio is above 1 if shards are faster. Steps of both take turns.
    """
    trainers = (_trainer(copy.deepcopy(model), batch, steps, count, Group()) for count in (None, shards))
    times = [_step_times(trainer, steps) for trainer in trainers]
    pairs = [[1e3 * next(each) for each in times] for _ in range(steps)]
    for each in times:
        each.close()
    plain, cut = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"plain_ms": plain, "sharded_ms": cut, "ratio": statistics.median(a / b for a, b in pairs)}
