"""Learning-rate schedules: the factor of the learning rate at (step, steps), both counted over the whole training."""

import math
from collections.abc import Callable

Schedule = Callable[[int, int], float]


def constant(step: int, steps: int) -> float:
    """1 at every step."""
    return 1.0


def cosine(step: int, steps: int) -> float:
    """From 1 down to 0 along half a cosine (Loshchilov and Hutter 2017, equation 5, without restarts)."""
    return 0.5 * (1 + math.cos(math.pi * step / steps))


SCHEDULES: dict[str, Schedule] = {function.__name__: function for function in (constant, cosine)}
