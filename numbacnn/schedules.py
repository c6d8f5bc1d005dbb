"""Learning-rate schedules: functions from (step, steps) to the factor that multiplies the learning rate.

``step`` counts updates from 0 over the whole training, which makes ``steps`` of them. Arguments that are positions or
lengths take a number of updates if they are integers, and a fraction of the training if they are floats from 0 to 1.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import cast

from numbacnn._checks import LARGEST, check_takes, choose, number, python_numbers, shown, whole
from numbacnn._checks.names import ChecksArguments, checks_call
from numbacnn.errors import ArgumentError

Schedule = Callable[[int, int], float]


@checks_call
def constant(step: int, steps: int) -> float:
    """Return 1 at every step."""
    return 1.0


@checks_call
def cosine(step: int, steps: int) -> float:
    """Decay from 1 to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    _check_step(step, steps)
    return 0.5 * (1 + math.cos(math.pi * step / steps))


def _anneal(first: float, last: float, fraction: float) -> float:
    """Interpolate from ``first`` to ``last`` along half a cosine."""
    return last + (first - last) / 2 * (1 + math.cos(math.pi * fraction))


def _updates(position: int | float, steps: int) -> int:
    """Convert a position to a number of updates."""
    return position if isinstance(position, int) else round(position * steps)


def _position(name: str, given: object) -> int | float:
    """Return a position as Python's number. Raises ArgumentError if it is neither a count nor a fraction."""
    position = python_numbers(given)
    is_count = isinstance(position, int) and not isinstance(position, bool)
    if not (is_count or isinstance(position, float)) or not 0 <= position <= (math.inf if is_count else 1):
        raise ArgumentError(
            f"{name}={shown(given)}: use an integer number of updates, or a fraction of the training from 0 to 1"
        )
    return cast("int | float", position)


def _check_step(step: object, steps: object) -> None:
    """Raise ArgumentError unless there are steps, and ``step`` is a number of one."""
    if type(step) is int and type(steps) is int and 0 <= step < LARGEST and 0 < steps < LARGEST:
        return  # the usual case, for every update of an epoch
    number(step, "step", 0)
    whole(steps, "steps")


class _Schedule(ChecksArguments):
    """A frozen dataclass whose ``__post_init__`` replaces arguments by checked ones."""

    def _set(self, **arguments: object) -> None:
        for name, value in arguments.items():
            object.__setattr__(self, name, value)

    def _check_number(self, name: str, minimum: float, maximum: float = LARGEST) -> None:
        self._set(**{name: number(getattr(self, name), name, minimum, maximum)})


@dataclass(frozen=True)
class Step(_Schedule):
    """Multiply the learning rate by ``gamma`` at each of the ``milestones``, or after each interval ``every``.

    By default it falls to a tenth after half and after three quarters of the training (He et al. 2016, section 4.2).
    """

    milestones: Sequence[int | float] = (0.5, 0.75)
    gamma: float = 0.1
    every: int | float | None = None

    def __post_init__(self) -> None:
        self._check_number("gamma", 0, 1)
        if not isinstance(self.milestones, Iterable) or isinstance(self.milestones, str):
            raise ArgumentError(
                f"milestones={shown(self.milestones)}: pass a list such as [30, 80]; every=30 is after each 30 updates"
            )
        self._set(milestones=tuple(_position("milestones", milestone) for milestone in self.milestones))
        if self.every is not None:
            self._set(every=_position("every", self.every))
            if self.every == 0:
                raise ArgumentError("every=0: use a number of updates, or a fraction of the training, above 0")

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor at ``step`` of ``steps``."""
        _check_step(step, steps)
        if self.every is not None:
            return float(self.gamma ** (step // max(1, _updates(self.every, steps))))
        return float(self.gamma ** sum(step >= _updates(milestone, steps) for milestone in self.milestones))


@dataclass(frozen=True)
class OneCycle(_Schedule):
    """Increase the factor from 1/div_factor to 1, then decrease it to 1/(div_factor·final_div_factor).

    The increase takes the fraction ``pct_start`` of the training; both follow half a cosine (Smith and Topin 2018,
    "Super-convergence", as in PyTorch's ``OneCycleLR``). The optimizer's learning rate is the maximum.
    """

    pct_start: float = 0.3
    div_factor: float = 25.0
    final_div_factor: float = 1e4

    def __post_init__(self) -> None:
        self._check_number("pct_start", 0, 1)
        for name in ("div_factor", "final_div_factor"):
            self._check_number(name, 1)

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor at ``step`` of ``steps``."""
        _check_step(step, steps)
        start, peak, last = 1 / self.div_factor, self.pct_start * steps - 1, steps - 1
        if step <= peak:
            return _anneal(start, 1.0, step / peak if peak else 1.0)
        return _anneal(1.0, start / self.final_div_factor, (step - peak) / (last - peak) if last > peak else 1.0)


@dataclass(frozen=True)
class Warmup(_Schedule):
    """Increase the factor linearly from ``start`` to 1 over ``length``, then follow ``schedule`` over the rest.

    Goyal et al. 2017, section 2.2.
    """

    schedule: Schedule = constant
    length: int | float = 0.05
    start: float = 0.01

    def __post_init__(self) -> None:
        self._set(schedule=get_schedule(self.schedule), length=_position("length", self.length))
        self._check_number("start", 0, 1)

    def __call__(self, step: int, steps: int) -> float:
        """Return the factor at ``step`` of ``steps``."""
        _check_step(step, steps)
        length = min(_updates(self.length, steps), steps)
        if step < length:
            return self.start + (1 - self.start) * step / length
        return self.schedule(step - length, steps - length)

    def after(self, losses: Sequence[float], learning_rate: float = 1.0) -> Schedule:
        """Return the same warm-up with ``schedule`` adapted to these validation losses."""
        return Warmup(after(self.schedule, losses, learning_rate), self.length, self.start)


@dataclass(frozen=True)
class Plateau(_Schedule):
    """Multiply the learning rate by ``factor`` when the validation loss stops improving, as ``ReduceLROnPlateau``.

    The rate falls after more than ``patience`` epochs whose loss is not below best · (1 − threshold), to ``min_lr`` at
    the lowest; ``cooldown`` epochs after that do not count. The schedule has no state: it is computed each epoch from
    all validation losses so far, so that a resumed training continues exactly. ``fit`` raises ArgumentError if it gets
    this schedule without validation data.
    """

    factor: float = 0.1
    patience: int = 10
    threshold: float = 1e-4
    cooldown: int = 0
    min_lr: float = 0.0

    def __post_init__(self) -> None:
        self._check_number("factor", 0, 1)
        self._set(patience=whole(self.patience, "patience", 0), cooldown=whole(self.cooldown, "cooldown", 0))
        for name in ("threshold", "min_lr"):
            self._check_number(name, 0)

    def __call__(self, step: int, steps: int) -> float:
        """Return 1: no validation loss is known yet."""
        return 1.0

    def after(self, losses: Sequence[float], learning_rate: float = 1.0) -> Schedule:
        """Return the schedule of the epoch after these validation losses; ``learning_rate`` is the optimizer's."""
        minimum = min(1.0, self.min_lr / learning_rate) if self.min_lr else 0.0
        scale, best, bad, cooling = 1.0, math.inf, 0, 0
        for loss in losses:
            better = loss < best * (1 - self.threshold)
            best = loss if better else best
            bad = 0 if better else bad + 1
            if cooling:
                cooling, bad = cooling - 1, 0
            if bad > self.patience:
                scale, cooling, bad = max(scale * self.factor, minimum), self.cooldown, 0
        return Fixed(scale)


@dataclass(frozen=True)
class Fixed(_Schedule):
    """Multiply the learning rate by ``scale`` at every step."""

    scale: float

    def __post_init__(self) -> None:
        self._check_number("scale", 0)

    def __call__(self, step: int, steps: int) -> float:
        """Return ``scale``."""
        return self.scale


@checks_call
def after(schedule: Schedule, losses: Sequence[float], learning_rate: float = 1.0) -> Schedule:
    """Return the schedule of the epoch after these validation losses; unless it watches them, that is ``schedule``.

    ``learning_rate`` is the optimizer's, which the factors multiply.
    """
    adapt: Callable[[Sequence[float], float], Schedule] | None = getattr(schedule, "after", None)
    return schedule if adapt is None else adapt(losses, learning_rate)


@checks_call
def watches(schedule: Schedule) -> bool:
    """Return whether a schedule depends on the validation loss."""
    inner = schedule.schedule if isinstance(schedule, Warmup) else schedule
    return watches(inner) if isinstance(inner, Warmup) else hasattr(inner, "after")


SCHEDULES: dict[str, Schedule] = {
    "constant": constant,
    "cosine": cosine,
    "step": Step(),
    "one-cycle": OneCycle(),
    "plateau": Plateau(),
}


@checks_call
def get_schedule(schedule: Schedule | str | None) -> Schedule:
    """Return a schedule itself, or the one of that name with its defaults, or ``constant`` for None.

    Raises:
        ArgumentError: the name is unknown (the message suggests the nearest one), or the object is not callable.
    """
    if isinstance(schedule, str):
        return choose("schedule", schedule, SCHEDULES)
    if isinstance(schedule, type) or not (schedule is None or callable(schedule)):
        raise ArgumentError(
            f"schedule={shown(schedule)}: pass a name of numbacnn.schedules, or a function of (step, steps)"
        )
    return constant if schedule is None else _of_two(schedule)


def _of_two(schedule: Schedule) -> Schedule:
    """Return a schedule. Raises ArgumentError if its signature is known, and is not that of (step, steps)."""
    instead = "pass one of (step, steps), updates from 0, that returns the factor of the learning rate"
    check_takes(schedule, "step, steps", "schedule", instead)
    return schedule
