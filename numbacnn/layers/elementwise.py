"""Functions of single numbers that are not usual as activations, powers and bounds."""

import math
from dataclasses import dataclass
from typing import ClassVar

from numbacnn._checks import number, one_of
from numbacnn.errors import ArgumentError
from numbacnn.layers.activations import Activation

FUNCTIONS = ("sqrt", "exp", "log", "reciprocal", "erf", "floor", "ceil", "sign", "softplus", "mish")
MAX_EXPONENT = 1000
MAX_BOUND = 3e38


@dataclass(eq=False)
class Elementwise(Activation):
    """A function of each element, named by ``function``, any shape.

    "sqrt", "exp", "log", "reciprocal", "erf", "floor", "ceil" and "sign" are those of mathematics; the
    gradient of the last three is 0. "softplus" is log(1 + eˣ), and "mish" x · tanh(log(1 + eˣ)) (Misra 2020). Where a
    function is not defined, the result is NaN or infinite. Raises ArgumentError for another name.
    """

    op: ClassVar[str] = "elementwise"
    reads_x: ClassVar[bool] = True

    function: str

    def __post_init__(self) -> None:
        one_of(self.function, "function", FUNCTIONS)

    def kernel(self) -> str:
        """Return the kernels' prefix for the function."""
        return f"elementwise_{self.function}"


@dataclass(eq=False)
class Clip(Activation):
    """x between the bounds ``low`` and ``high``, any shape; None leaves that side open. NaN stays NaN.

    The gradient is 0 outside the bounds. Raises ArgumentError unless low is less than high.
    """

    op: ClassVar[str] = "clip"
    reads_x: ClassVar[bool] = True

    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        self.low, self.high = (_bound(getattr(self, name), name) for name in ("low", "high"))
        if self.low is not None and self.high is not None and self.low >= self.high:
            raise ArgumentError(f"low={self.low:g} and high={self.high:g}: give a low that is less than high")

    def constants(self) -> tuple[float, ...]:
        """Return the bounds."""
        return (-math.inf if self.low is None else self.low, math.inf if self.high is None else self.high)


def _bound(value: float | None, name: str) -> float | None:
    return None if value is None else number(value, name, -MAX_BOUND, MAX_BOUND)


@dataclass(eq=False)
class Power(Activation):
    """x to the power ``exponent``, any shape; NaN for negative x unless the exponent is an integer.

    Raises ArgumentError for an exponent beyond ±1000.
    """

    op: ClassVar[str] = "power"
    reads_x: ClassVar[bool] = True

    exponent: float = 2.0

    def __post_init__(self) -> None:
        self.exponent = number(self.exponent, "exponent", -MAX_EXPONENT, MAX_EXPONENT)

    def constants(self) -> tuple[float, ...]:
        """Return the exponent."""
        return (self.exponent,)
