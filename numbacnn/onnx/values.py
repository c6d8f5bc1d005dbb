"""The values of an ONNX graph while it is read: constants as arrays, and tensors with the order of their axes."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.graph import Tensor
from numbacnn.onnx.layout import Layout

Constant = NDArray[np.generic]
Float32 = NDArray[np.float32]
Samples = NDArray[np.float64]

FAR: Samples = np.array([12.0, 24.0, 48.0, 90.0, 1e3, 1e4])  # where a bound on x would be noticed
POINTS: Samples = np.concatenate([-FAR[::-1], np.linspace(-8.0, 8.0, 129), FAR])


class UnsupportedError(Exception):
    """An operator has no counterpart; the message says what of it."""


@dataclass(eq=False)
class Value:
    """A numbacnn tensor, whose elements ONNX sees in the order ``layout``; the batch is the axis before it.

    ``tensor`` is None if no layer computes the value; then ``problem`` says which operator is missing, unless a
    later one completes one of our activations. For that, a value that elementwise operators compute from ``base`` has
    ``samples``: what they make of ``POINTS``.
    """

    tensor: Tensor | None
    layout: Layout
    problem: str = ""
    base: "Value | None" = None
    samples: Samples = field(default_factory=lambda: POINTS)

    @property
    def root(self) -> "Value":
        """The value that ``samples`` is a function of."""
        return self if self.base is None else self.base

    @property
    def shape(self) -> tuple[int, ...]:
        """The sizes of the axes but the batch's."""
        return self.layout.shape


Item = Value | Constant | None  # an operator's input; None if it is left out
Result = Item | list[Item]


class Row(NamedTuple):
    """The conversion of an operator; an ``elementwise`` one may complete another operator's value."""

    function: Callable[..., Result]
    elementwise: bool = False
