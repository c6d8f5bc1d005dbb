"""The description of an optimizer for the tests.

Each has one file in tests/optimizers, which defines ``RULE`` and gives it every test over all rules (``rules.py``).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from numbacnn.optimizers import Optimizer


class Rule(NamedTuple):
    """An optimizer's class, and a whole step as defined by its paper, in float64.

    ``step(w, dw, state, learning_rate, **options)`` returns the new array and state; the state is None at first.
    """

    kind: type[Optimizer]
    step: Callable
    learning_rate: float  # in comparisons with ``step``, under each of the options
    options: Sequence[Mapping[str, Any]]
    usual: Mapping[str, Any] = {}  # options that need all of its state, for tests of any optimizer
    tolerance: float = 1e-4  # of a few steps with these
    pytorch: Mapping[str, tuple[Callable, Callable]] = {}  # name → functions that make it, and PyTorch's of parameters

    def make(self) -> Optimizer:
        """The optimizer with its usual options and its default learning rate."""
        return self.kind(**self.usual)
