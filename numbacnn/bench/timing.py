"""Timing of one function, and of two in alternation, A B B A, with the ratio of their times and its interval.

Machines are noisy and drift. The two times of a pair are taken at the same moment, so their ratio is reliable when
single times are not. Each turn repeats its function for some milliseconds, as training does, so that it finds its own
data in the caches. A turn of another library waits until the previous one's threads sleep: onnxruntime's spin for about
60 ms after their last work, at times longer, and meanwhile LeNet-5 on one image takes 3 to 100 times as long.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

BOOTSTRAP_SAMPLES = 2000
SELECTION_TURNS = 4  # of each mode of a peer, to find the fastest one
MIN_PAIRS = 5
IDLE, MAX_WAIT = 0.02, 1.0  # seconds that all threads must sleep, and the maximum to wait for that

Work = Callable[[], object]


@dataclass(frozen=True)
class Launched:
    """Asynchronous work: ``start`` launches it, ``wait`` returns when everything launched is complete.

    A turn waits once, at its end, so that a GPU runs the calls back to back as it does in training.
    """

    start: Work
    wait: Work

    def __call__(self) -> None:
        """Run one call to its end."""
        self.start()
        self.wait()


class Effort(NamedTuple):
    """The effort of a measurement: ``pairs`` of turns of ``turn_seconds``; after ``limit`` seconds ``min_pairs`` do."""

    pairs: int = 40
    turn_seconds: float = 0.03
    limit: float = 120.0
    min_pairs: int = MIN_PAIRS


DEFAULT = Effort()
QUICK = Effort(2, 0.0)  # only checks that a measurement runs


class Time(NamedTuple):
    """Median time of a function in ms, with its bootstrap 95 % interval."""

    ms: float
    low: float
    high: float


class Ratio(NamedTuple):
    """Time of B over time of A, the speedup of A, with its bootstrap 95 % interval and the median times."""

    ratio: float
    low: float
    high: float
    a_ms: float
    b_ms: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.ratio:.2f}× [{self.low:.2f}, {self.high:.2f}]  ({self.a_ms:.3f} ms against {self.b_ms:.3f} ms)"


def median_time(work: Work, effort: Effort = DEFAULT) -> Time:
    """Return the median over ``effort.pairs`` turns."""
    repeats = _calibrate(work, effort)
    times = _collect(effort, lambda: [seconds(work, repeats)])[:, 0] * 1e3
    low, high = _interval(times, np.median)
    return Time(float(np.median(times)), low, high)


def paired_ratio(a: Work, b: Work, effort: Effort = DEFAULT) -> Ratio:
    """Return the geometric mean of time(b) / time(a) over pairs, each timed A B B A."""
    turns = [(work, _calibrate(work, effort)) for work in (a, b)]
    order = ((0, True), (1, True), (1, False), (0, True))
    times = _collect(effort, lambda: [_turn(*turns[i], switches, effort) for i, switches in order])
    time_a, time_b = times[:, 0] + times[:, 3], times[:, 1] + times[:, 2]
    logs = np.log(time_b / time_a)
    low, high = _interval(logs, np.mean)
    a_ms, b_ms = (1e3 * float(np.median(t)) / 2 for t in (time_a, time_b))
    return Ratio(float(np.exp(logs.mean())), float(np.exp(low)), float(np.exp(high)), a_ms, b_ms, len(times))


def fastest_mode(modes: Mapping[str, Work], effort: Effort) -> str:
    """Return the mode with the shortest turn; all are timed in alternation."""
    if len(modes) == 1:
        return next(iter(modes))
    repeats = {name: _calibrate(work, effort) for name, work in modes.items()}
    best = dict.fromkeys(modes, float("inf"))
    for _ in range(SELECTION_TURNS):
        for name, work in modes.items():
            best[name] = min(best[name], _turn(work, repeats[name], True, effort))
    return min(best, key=best.__getitem__)


def geometric_mean(values: Sequence[float]) -> float:
    """Return the geometric mean of positive numbers."""
    return float(np.exp(np.mean(np.log(values))))


def seconds(work: Work, repeats: int = 1) -> float:
    """Return the mean time of ``repeats`` calls in a row."""
    run, wait = (work.start, work.wait) if isinstance(work, Launched) else (work, None)
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    if wait is not None:
        wait()
    return (time.perf_counter() - start) / repeats


def _turn(work: Work, repeats: int, switches: bool, effort: Effort) -> float:
    """Return ``seconds``; waits for idle threads first if the turn ``switches`` from another library."""
    if switches and effort.turn_seconds > 0:
        wait_until_idle()
    return seconds(work, repeats)


def wait_until_idle() -> None:
    """Wait until all threads of the process have slept for a while, but no longer than a second."""
    end = time.perf_counter() + MAX_WAIT
    while time.perf_counter() < end:
        busy = time.process_time()
        time.sleep(IDLE)
        if time.process_time() - busy < IDLE / 10:
            return


def _calibrate(work: Work, effort: Effort) -> int:
    """Warm up, and return the number of calls that fill a turn. The first call may compile."""
    seconds(work)
    once = _turn(work, 1, True, effort)
    if once < effort.turn_seconds / 5:
        once = seconds(work, 5)
    return max(1, round(effort.turn_seconds / once))


def _collect(effort: Effort, turn: Callable[[], list[float]]) -> NDArray[np.float64]:
    """Call ``turn`` until there are enough pairs or the limit is reached; return a row per call."""
    start, rows = time.perf_counter(), list[list[float]]()
    while len(rows) < effort.pairs and (len(rows) < effort.min_pairs or time.perf_counter() - start < effort.limit):
        rows.append(turn())
    return np.array(rows)


def _interval(values: NDArray[np.float64], statistic: Callable[..., NDArray[np.float64]]) -> tuple[float, float]:
    """Return the bootstrap 95 % interval of a statistic."""
    samples = np.random.default_rng(0).choice(values, (BOOTSTRAP_SAMPLES, len(values)))
    low, high = np.quantile(statistic(samples, axis=1), [0.025, 0.975])
    return float(low), float(high)
