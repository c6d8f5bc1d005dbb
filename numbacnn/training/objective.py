"""What training minimises: a loss and a weight for each output of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from numbacnn.errors import ArgumentError
from numbacnn.losses import Loss, Target, checked_weights, get_loss


@dataclass(frozen=True)
class Objective:
    """What a training step minimises: the sum over outputs of weight · loss. Auxiliary outputs stand behind the main.

    main: how many outputs are not auxiliary.
    """

    losses: tuple[Loss, ...]
    weights: tuple[float, ...]
    main: int

    def targets(self, labels: Any, shapes: Sequence[tuple[int, ...]]) -> list[Target]:
        """The target of each output of ``shapes``, N×H×W×C.

        labels: one array for all outputs; where there are several, a list or tuple of one array for each. Where it
        leaves out the auxiliary ones, they take the first.
        """
        parts = [labels] * len(self.losses)
        if len(self.losses) > 1 and isinstance(labels, list | tuple) and all(np.ndim(part) > 0 for part in labels):
            parts = _for_outputs("label arrays", labels, self.main, len(self.losses))
        return [loss.target(part, shape) for loss, part, shape in zip(self.losses, parts, shapes, strict=True)]


def make_objective(
    loss: str | Loss | Sequence[str | Loss],
    weights: Sequence[float] | None,
    main: int,
    auxiliary: int = 0,
    auxiliary_weight: float = 0.0,
) -> Objective:
    """An Objective for ``main`` outputs and ``auxiliary`` ones.

    loss: one for all outputs, or one for each; weights: one for each, by default 1 and for auxiliary outputs
    ``auxiliary_weight``. Where either leaves out the auxiliary outputs, they take the first loss and their default
    weight. Raises ArgumentError where numbers do not fit.
    """
    outputs = main + auxiliary
    given = list(loss) if isinstance(loss, list | tuple) else [loss] * outputs
    losses = tuple(map(get_loss, _for_outputs("losses", given, main, outputs)))
    defaults = [1.0] * main + [auxiliary_weight] * auxiliary
    if weights is not None:
        listed = checked_weights("loss_weights", weights) or ()
        defaults[: len(listed)] = _for_outputs("loss_weights", listed, main, outputs)[: len(listed)]
    return Objective(losses, tuple(defaults), main)


def _for_outputs(what: str, given: Sequence[Any], main: int, outputs: int) -> list[Any]:
    """One item for each output from those given for all, or for all but the auxiliary ones, which take the first."""
    if len(given) not in (main, outputs):
        wanted = f"{main}" if main == outputs else f"{main}, or {outputs} with the auxiliary ones"
        raise ArgumentError(f"{len(given)} {what} for a model of {wanted} outputs")
    return [*given, *[given[0]] * (outputs - len(given))]
