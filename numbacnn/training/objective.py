"""The objective of a training: a loss and a weight for each output of a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from numbacnn._checks import by_key
from numbacnn.engine.graph import Graph
from numbacnn.errors import ArgumentError
from numbacnn.geometry import as_image
from numbacnn.losses import LOSSES, Loss, get_loss
from numbacnn.losses.base import Target, Weights, checked_weights
from numbacnn.losses.function import LossFunction
from numbacnn.tasks.predictor import PROBABILITY_OPS

T = TypeVar("T")
AnyLoss = str | Loss | LossFunction
LossOfOutputs = AnyLoss | Sequence[AnyLoss] | Mapping[str, AnyLoss]
Labels = ArrayLike | Sequence[ArrayLike]


@dataclass(frozen=True)
class Objective:
    """The sum of weight · loss over the outputs of a model, auxiliary ones last.

    main: the number of outputs that are not auxiliary.
    inputs: the values of the graph that the losses read, as ``loss_input`` says.
    """

    losses: tuple[Loss, ...]
    weights: tuple[float, ...]
    main: int
    inputs: tuple[int, ...] = ()

    def ignoring(self, label: int | None) -> "Objective":
        """Return a copy whose losses ignore a label, as ``Loss.ignoring``."""
        return replace(self, losses=tuple(loss.ignoring(label) for loss in self.losses))

    def targets(self, labels: Labels, shapes: Sequence[tuple[int, ...]]) -> list[Target]:
        """Check labels, and convert them to the target of each output of ``shapes``, N×H×W×C.

        ``labels`` is one array, which all outputs share, or a list or tuple with an array for each output. Arrays for
        auxiliary outputs may be left out: these then use the first array.
        """
        parts: Sequence[ArrayLike] = [labels] * len(self.losses)  # type: ignore[list-item]
        if len(self.losses) > 1 and isinstance(labels, list | tuple) and all(np.ndim(part) > 0 for part in labels):
            parts = _for_outputs("label arrays", labels, self.main, len(self.losses))
        return [loss.target(part, shape) for loss, part, shape in zip(self.losses, parts, shapes, strict=True)]


def ignored_by(loss: LossOfOutputs | None) -> int | None:
    """Return the label that a loss, or one of several, does not count."""
    given = list(loss.values()) if isinstance(loss, Mapping) else loss if isinstance(loss, list | tuple) else [loss]
    labels = (each.ignore_index for each in given if isinstance(each, Loss))
    return next((label for label in labels if label is not None), None)


def make_objective(
    loss: LossOfOutputs,
    weights: Weights | None,
    main: int,
    auxiliary: int = 0,
    auxiliary_weight: float = 0.0,
    *,
    names: Sequence[str] = (),
    classes: Sequence[str] = (),
) -> Objective:
    """Make the objective for ``main`` outputs and ``auxiliary`` ones.

    Args:
        loss: one for all outputs, or one for each, in a list or by the output's name.
        weights: one for each output likewise, by default 1, and ``auxiliary_weight`` for auxiliary outputs.
        main: outputs that are not auxiliary.
        auxiliary: outputs that are; if ``loss`` or ``weights`` omits them, they use the first loss and their default
            weight.
        auxiliary_weight: the default weight of auxiliary outputs.
        names: names of the outputs, auxiliary ones last.
        classes: names of the classes.

    Raises:
        ArgumentError: the number of losses or weights does not fit.
    """
    outputs = main + auxiliary
    if isinstance(loss, Mapping):
        loss = by_key("loss", loss, names)
    given: list[AnyLoss] = list(loss) if isinstance(loss, list | tuple) else [loss] * outputs  # type: ignore[list-item]
    losses = tuple(get_loss(each).for_classes(classes) for each in _for_outputs("losses", given, main, outputs))
    defaults = [1.0] * main + [auxiliary_weight] * auxiliary
    if weights is not None:
        listed = checked_weights("loss_weights", weights, names)
        defaults[: len(listed)] = _for_outputs("loss_weights", listed, main, outputs)[: len(listed)]
    return Objective(losses, tuple(defaults), main)


def loss_input(graph: Graph, output: int, loss: Loss) -> int:
    """Return the value that a loss reads for an output: the logits, if the output is their activation.

    The losses of logits apply the activation themselves, in a form that neither overflows nor rounds a probability to
    0. Raises ArgumentError if the model ends in another activation, or cross-entropy has a single logit.
    """
    value, last = output, graph.layer_of(output)
    while last is not None and last.is_view and as_image(graph.shapes[value]) == as_image(graph.shapes[output]):
        value = graph.nodes[graph.producer(value)].inputs[0]
        last = graph.layer_of(value)
    if loss.activation is None or last is None:
        return output
    if loss.activation == "softmax" and graph.shapes[output][-1] == 1:
        raise ArgumentError(
            f"{loss.name} of 1 class is always 0; for two classes of one output use binary_cross_entropy"
        )
    if last.known_op not in PROBABILITY_OPS:
        return output
    if last.known_op != loss.activation:
        name = graph.names[value]
        raise ArgumentError(
            f'the model ends in {type(last).__name__} "{name}", but the loss {loss.name} applies {loss.activation} '
            f"itself, to logits; {_advice(last.known_op)}"
        )
    return graph.nodes[graph.producer(value)].inputs[0]


def _advice(end: str) -> str:
    fitting = [name for name, loss in LOSSES.items() if loss.activation == end]
    return f"leave out this layer, or use {' or '.join(fitting)}"


def _for_outputs(what: str, given: Sequence[T], main: int, outputs: int) -> list[T]:
    """Return an item for each output; auxiliary outputs use the first if they are omitted."""
    if len(given) not in (main, outputs):
        expected = f"{main}" if main == outputs else f"{main}, or {outputs} with the auxiliary ones,"
        raise ArgumentError(f"{len(given)} {what} for a model with {expected} outputs")
    return [*given, *[given[0]] * (outputs - len(given))]
