"""Timing: one function by itself, and two in turn, A B B A, with the ratio of their times and its interval.

Machines are noisy and drift; a pair shares its moment, so the ratio holds where single times would not. Each turn
repeats its function for some milliseconds, as training does, so that caches are its own. Between turns of different
libraries there is a rest until the threads of the one sleep: those of onnxruntime spin for some 60 ms after their last
work, at times for longer, and LeNet-5 on one image takes three to a hundred times as long beside them.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 2000
CHOOSING_TURNS = 4  # of each mode of a peer, before the better one is paired
LEAST_PAIRS = 5
REST, MOST_REST = 0.02, 1.0  # seconds in which no thread works, and in which that is waited for

Work = Callable[[], object]


@dataclass(frozen=True)
class Launched:
    """Work that ``start`` only begins: ``wait`` returns when all that was begun is done. A turn waits once, at its end,
    so that a GPU goes from one call to the next as it does in a training."""

    start: Work
    wait: Work

    def __call__(self) -> None:
        """One call, to its end."""
        self.start()
        self.wait()


class Effort(NamedTuple):
    """``pairs`` of turns of ``turn_seconds`` each; fewer, but five at least, where that takes more than ``limit`` s."""

    pairs: int = 40
    turn_seconds: float = 0.03
    limit: float = 120.0


QUICK = Effort(2, 0.0)  # to see that a measurement runs; its figures mean nothing


class Time(NamedTuple):
    """Median of a function's times in ms, with its bootstrap 95 % interval."""

    ms: float
    low: float
    high: float


class Ratio(NamedTuple):
    """Time of B over time of A: how many times as fast A is. ``low`` and ``high``: bootstrap 95 % interval."""

    ratio: float
    low: float
    high: float
    a_ms: float  # medians
    b_ms: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.ratio:.2f}× [{self.low:.2f}, {self.high:.2f}]  ({self.a_ms:.3f} ms against {self.b_ms:.3f} ms)"


def measured(work: Work, effort: Effort = Effort()) -> Time:  # noqa: B008 (a NamedTuple does not change)
    """The median over as many turns as there are pairs."""
    repeats = _repeats(work, effort)
    times = _until(effort, lambda: [seconds(work, repeats)])[:, 0] * 1e3
    low, high = _interval(times, np.median)
    return Time(float(np.median(times)), low, high)


def paired(a: Work, b: Work, effort: Effort = Effort()) -> Ratio:  # noqa: B008
    """The geometric mean over the pairs of time(b) / time(a), each timed A B B A."""
    turns = [(work, _repeats(work, effort)) for work in (a, b)]
    order = ((0, True), (1, True), (1, False), (0, True))
    times = _until(effort, lambda: [_turn(*turns[i], rests, effort) for i, rests in order])
    time_a, time_b = times[:, 0] + times[:, 3], times[:, 1] + times[:, 2]
    logs = np.log(time_b / time_a)
    low, high = _interval(logs, np.mean)
    a_ms, b_ms = (1e3 * float(np.median(t)) / 2 for t in (time_a, time_b))
    return Ratio(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)), a_ms, b_ms, len(times))


def fastest(modes: Mapping[str, Work], effort: Effort) -> str:
    """The mode whose best turn is the shortest, each timed in turn with the others."""
    if len(modes) == 1:
        return next(iter(modes))
    repeats = {name: _repeats(work, effort) for name, work in modes.items()}
    best = dict.fromkeys(modes, float("inf"))
    for _ in range(CHOOSING_TURNS):
        for name, work in modes.items():
            best[name] = min(best[name], _turn(work, repeats[name], True, effort))
    return min(best, key=best.__getitem__)


def geometric_mean(values: Any) -> float:
    """The geometric mean of positive numbers."""
    return float(np.exp(np.mean(np.log(list(values)))))


def seconds(work: Work, repeats: int = 1) -> float:
    """Mean seconds of ``repeats`` calls in a row."""
    run, wait = (work.start, work.wait) if isinstance(work, Launched) else (work, None)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / repeats


def _turn(work: Work, repeats: int, rests: bool, effort: Effort) -> float:
    """``seconds``, behind a rest where another's turn came before."""
    if rests and effort.turn_seconds > 0:
        _rest()
    return seconds(work, repeats)


def _rest() -> None:
    """Until all threads of the process have slept for a while, a second at most."""
    end = time.perf_counter() + MOST_REST
    while time.perf_counter() < end:
        busy = time.process_time()
        time.sleep(REST)
        if time.process_time() - busy < REST / 10:
            return


def _repeats(work: Work, effort: Effort) -> int:
    """Calls that fill a turn, behind calls that warm up; the first of them may compile."""
    seconds(work)
    once = _turn(work, 1, True, effort)
    if once < effort.turn_seconds / 5:
        once = seconds(work, 5)
    return max(1, round(effort.turn_seconds / once))


def _until(effort: Effort, turn: Callable[[], list[float]]) -> NDArray[np.float64]:
    """The times of turns, a row each, up to the number of pairs or the limit."""
    start, rows = time.perf_counter(), list[list[float]]()
    while len(rows) < effort.pairs and (len(rows) < LEAST_PAIRS or time.perf_counter() - start < effort.limit):
        rows.append(turn())
    return np.array(rows)


def _interval(values: NDArray[np.float64], statistic: Callable[..., Any]) -> tuple[float, float]:
    """Bootstrap 95 % interval of a statistic."""
    samples = np.random.default_rng(0).choice(values, (BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.quantile(statistic(samples, axis=1), [0.025, 0.975])
    return float(low), float(high)
