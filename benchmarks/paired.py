"""Paired timing: two functions in turn, A B B A, in one process, and the ratio of their times with its interval.

Machines are noisy and drift; a pair shares its moment, so the ratio holds where single times would not. Each turn
repeats its function for some milliseconds, as training does: caches are its own, and the worker threads of the other
library, which spin for a while after their last work, have gone to sleep.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

BOOTSTRAP_SAMPLES = 2000


@dataclass(frozen=True)
class Ratio:
    """Time of B over time of A: how many times as fast A is. ``low`` and ``high``: bootstrap 95 % interval."""

    ratio: float
    low: float
    high: float
    a_ms: float  # medians
    b_ms: float

    def __str__(self) -> str:
        return f"{self.ratio:.2f}× [{self.low:.2f}, {self.high:.2f}]  ({self.a_ms:.3f} ms against {self.b_ms:.3f} ms)"


def paired(a: Callable[[], object], b: Callable[[], object], pairs: int = 40, turn_seconds: float = 0.03) -> Ratio:
    """The geometric mean over ``pairs`` of time(b) / time(a), each timed A B B A in turns of ``turn_seconds``."""
    repeats = {}
    for function in (a, b):
        _seconds(function, 5)
        repeats[function] = max(1, round(turn_seconds / _seconds(function, 5)))
    times = np.array([[_seconds(f, repeats[f]) for f in (a, b, b, a)] for _ in range(pairs)])
    time_a, time_b = times[:, 0] + times[:, 3], times[:, 1] + times[:, 2]
    logs = np.log(time_b / time_a)
    generator = np.random.default_rng(0)
    means = generator.choice(logs, (BOOTSTRAP_SAMPLES, pairs)).mean(axis=1)
    low, high = np.exp(np.quantile(means, [0.025, 0.975]))
    return Ratio(
        float(np.exp(logs.mean())), float(low), float(high), *(1e3 * float(np.median(t)) / 2 for t in (time_a, time_b))
    )


def _seconds(function: Callable[[], object], repeats: int) -> float:
    start = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - start) / repeats
