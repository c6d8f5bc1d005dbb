"""Learning-rate schedules: the factor of the learning rate at (step, steps), updates counted over the whole training.

Where a schedule takes a place or a length, an integer is a number of updates, and a float from 0 to 1 a share of the
training.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from numbacnn._checks import choose
from numbacnn.errors import ArgumentError

Schedule = Callable[[int, int], float]


def constant(step: int, steps: int) -> float:
    """1 at every step."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _anneal(first: float, last: float, share: float) -> float:
    """Half a cosine from ``first`` to ``last``."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * share))


def _updates(place: int | float, steps: int) -> int:
    """Updates up to a place that is a number of them or a share of the training."""
    return place if isinstance(place, int) else round(place * steps)


def _check_place(name: str, place: int | float) -> None:
    if isinstance(place, bool) or not 0 <= place <= (math.inf if isinstance(place, int) else 1):
        raise ArgumentError(
            f"{name}={place}: give an integer number of updates, or a share of the training from 0 to 1"
        )


def _check_factor(name: str, factor: float) -> None:
    if not 0 <= factor <= 1:
        raise ArgumentError(f"{name}={factor}: give a number from 0 to 1")


@dataclass(frozen=True)
class Step:
    """Times ``gamma`` at each of the ``milestones``; or, where ``every`` is given, whenever so much has passed.

    The default is that of He et al. 2016, section 4.2: a tenth after half and after three quarters of the training.
    """

    milestones: Sequence[int | float] = (0.5, 0.75)
    gamma: float = 0.1
    every: int | float | None = None

    def __post_init__(self) -> None:
        _check_factor("gamma", self.gamma)
        for place in self.milestones:
            _check_place("milestones", place)
        if self.every is not None:
            _check_place("every", self.every)
            if self.every == 0:
                raise ArgumentError("every=0: give a number of updates, or a share of the training above 0")

    def __call__(self, step: int, steps: int) -> float:
        """The factor at ``step`` of ``steps``."""
        if self.every is not None:
            return float(self.gamma ** (step // max(1, _updates(self.every, steps))))
        return float(self.gamma ** sum(step >= _updates(place, steps) for place in self.milestones))


@dataclass(frozen=True)
class OneCycle:
    """Up from 1/div_factor to 1 in the first ``pct_start`` of the training, then down to
    1/(div_factor·final_div_factor) at its end, both along half cosines (Smith and Topin 2018, "Super-convergence", in
    PyTorch's form). The learning rate is the largest one.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        if not 0 <= self.pct_start <= 1:
            raise ArgumentError(f"pct_start={self.pct_start}: give a share of the training, from 0 to 1")
        for name in ("div_factor", "final_div_factor"):
            if not 1 <= getattr(self, name) < math.inf:
                raise ArgumentError(f"{name}={getattr(self, name)}: give a number of at least 1")

    def __call__(self, step: int, steps: int) -> float:
        """The factor at ``step`` of ``steps``."""
        start, peak, last = 1 / self.div_factor, self.pct_start * steps - 1, steps - 1
        if step <= peak:
            return _anneal(start, 1.0, step / peak if peak else 1.0)
        return _anneal(1.0, start / self.final_div_factor, (step - peak) / (last - peak) if last > peak else 1.0)


@dataclass(frozen=True)
class Warmup:
    """From ``start`` up to 1 along a line in the first ``length`` of the training (Goyal et al. 2017, section 2.2);
    then ``schedule``, over the rest.
    """

    schedule: Schedule = constant
    length: int | float = 0.05
    start: float = 0.01

    def __post_init__(self) -> None:
        _check_place("length", self.length)
        _check_factor("start", self.start)

    def __call__(self, step: int, steps: int) -> float:
        """The factor at ``step`` of ``steps``."""
        length = min(_updates(self.length, steps), steps)
        if step < length:
            return self.start + (1 - self.start) * step / length
        return self.schedule(step - length, steps - length)

    def after(self, losses: Sequence[float], learning_rate: float = 1.0) -> Schedule:
        """The same warm-up, followed by ``schedule`` as it is after these validation losses."""
        return Warmup(after(self.schedule, losses, learning_rate), self.length, self.start)


@dataclass(frozen=True)
class Plateau:
    """Times ``factor`` when the validation loss has not fallen for more than ``patience`` epochs, down to the
    learning rate ``min_lr``, as PyTorch's ``ReduceLROnPlateau``.

    A loss counts as lower below best · (1 − threshold). After a fall of the rate, ``cooldown`` epochs are not counted.
    It keeps nothing: each epoch it looks at all the losses so far, so that a resumed training goes on as it would
    have. Without validation data a training with it is refused.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        _check_factor("factor", self.factor)
        for name in ("patience", "threshold", "cooldown", "min_lr"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ArgumentError(f"{name}={getattr(self, name)}: give a number of at least 0")

    def __call__(self, step: int, steps: int) -> float:
        """1: no loss is known yet."""
        return 1.0

    def after(self, losses: Sequence[float], learning_rate: float = 1.0) -> Schedule:
        """The schedule of the epoch that follows these validation losses; ``learning_rate`` is the optimizer's."""
        least = min(1.0, self.min_lr / learning_rate) if self.min_lr else 0.0
        scale, best, bad, cooling = 1.0, math.inf, 0, 0
        for loss in losses:
            better = loss < best * (1 - self.threshold)
            best = loss if better else best
            bad = 0 if better else bad + 1
            if cooling:
                cooling, bad = cooling - 1, 0
            if bad > self.patience:
                scale, cooling, bad = max(scale * self.factor, least), self.cooldown, 0
        return Fixed(scale)


@dataclass(frozen=True)
class Fixed:
    """``scale`` at every step."""

    scale: float

    def __call__(self, step: int, steps: int) -> float:
        """The same for each."""
        return self.scale


def after(schedule: Schedule, losses: Sequence[float], learning_rate: float = 1.0) -> Schedule:
    """The schedule of the epoch that follows these validation losses: ``schedule`` itself, unless it watches them.

    ``learning_rate``: the optimizer's, which every factor multiplies.
    """
    watching: Callable[[Sequence[float], float], Schedule] | None = getattr(schedule, "after", None)
    return schedule if watching is None else watching(losses, learning_rate)


def watches(schedule: Schedule) -> bool:
    """Whether a schedule depends on the validation loss."""
    inner = schedule.schedule if isinstance(schedule, Warmup) else schedule
    return watches(inner) if isinstance(inner, Warmup) else hasattr(inner, "after")


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "step": Step(),
    "one-cycle": OneCycle(),
    "plateau": Plateau(),
}


def get_schedule(schedule: Schedule | str | None) -> Schedule:
    """A schedule by its name, with its defaults; or itself. Raises ArgumentError with the nearest name."""
    if isinstance(schedule, str):
        return choose("schedule", schedule, SCHEDULES)
    if isinstance(schedule, type) or not (schedule is None or callable(schedule)):
        raise ArgumentError(f"schedule={schedule!r}: give a name of numbacnn.schedules, or a function of (step, steps)")
    return schedule or constant
