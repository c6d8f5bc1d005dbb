"""Losses and their gradients. Each is a mean over the batch, and over pixels if outputs are images.

A loss object holds the options, ``CrossEntropy(label_smoothing=0.1)``; the functions apply a loss to two arrays.
"""

from numpy.typing import ArrayLike

from numbacnn._checks import choose, shown
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError
from numbacnn.losses.base import Float32, Loss, Weights, evaluate
from numbacnn.losses.classes import CrossEntropy, Focal
from numbacnn.losses.elementwise import BinaryCrossEntropy, Huber, MeanAbsoluteError, MeanSquaredError, SigmoidFocal
from numbacnn.losses.function import FunctionLoss, LossFunction
from numbacnn.losses.overlap import CrossEntropyDice, Dice

__all__ = [
    "LOSSES",
    "BinaryCrossEntropy",
    "CrossEntropy",
    "CrossEntropyDice",
    "Dice",
    "Focal",
    "FunctionLoss",
    "Huber",
    "Loss",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "SigmoidFocal",
    "binary_cross_entropy",
    "cross_entropy",
    "cross_entropy_dice",
    "dice",
    "focal",
    "get_loss",
    "huber",
    "l1",
    "mse",
    "sigmoid_focal",
]

LOSSES: dict[str, Loss] = {
    loss.name: loss
    for loss in (
        CrossEntropy(),
        MeanSquaredError(),
        BinaryCrossEntropy(),
        MeanAbsoluteError(),
        Huber(),
        Focal(),
        SigmoidFocal(),
        Dice(),
        CrossEntropyDice(),
    )
}


@checks_call
def get_loss(loss: str | Loss | LossFunction) -> Loss:
    """Return a loss by its name, that of a function, or the loss itself. Raises ArgumentError with the nearest name."""
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)
    if callable(loss) and not isinstance(loss, type | Loss):
        return FunctionLoss(loss)
    if not isinstance(loss, Loss):
        raise ArgumentError(
            f"loss={shown(loss)}: pass a name, {', '.join(LOSSES)}, or a loss such as losses.CrossEntropy()"
        )
    return loss


@checks_call
def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: Weights | None = None,
    ignore_index: int | None = None,
) -> tuple[float, Float32]:
    """Return the softmax cross-entropy of logits (…, classes) and its gradient; ``CrossEntropy`` defines it.

    labels: integers, one for each row of logits, or probabilities in the shape of the logits.
    """
    return evaluate(CrossEntropy(label_smoothing, class_weights, ignore_index), logits, labels)


@checks_call
def focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    class_weights: Weights | None = None,
    ignore_index: int | None = None,
) -> tuple[float, Float32]:
    """Return the focal loss of logits (…, classes) and integer labels, and its gradient; ``Focal`` defines it."""
    return evaluate(Focal(gamma, class_weights, ignore_index), logits, labels)


@checks_call
def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, pos_weight: float | Weights = 1.0
) -> tuple[float, Float32]:
    """Return the binary cross-entropy with logits and its gradient; ``BinaryCrossEntropy`` defines it."""
    return evaluate(BinaryCrossEntropy(pos_weight), logits, targets)


@checks_call
def sigmoid_focal(
    logits: ArrayLike, targets: ArrayLike, *, gamma: float = 2.0, alpha: float = 0.25
) -> tuple[float, Float32]:
    """Return the sigmoid focal loss of logits and its gradient; ``SigmoidFocal`` defines it."""
    return evaluate(SigmoidFocal(gamma, alpha), logits, targets)


@checks_call
def mse(outputs: ArrayLike, targets: ArrayLike) -> tuple[float, Float32]:
    """Return the mean squared error of two arrays of equal shape, and its gradient."""
    return evaluate(MeanSquaredError(), outputs, targets)


@checks_call
def l1(outputs: ArrayLike, targets: ArrayLike) -> tuple[float, Float32]:
    """Return the mean absolute error of two arrays of equal shape, and its gradient."""
    return evaluate(MeanAbsoluteError(), outputs, targets)


@checks_call
def huber(outputs: ArrayLike, targets: ArrayLike, *, delta: float = 1.0) -> tuple[float, Float32]:
    """Return Huber's loss of two arrays of equal shape, and its gradient; ``Huber`` defines it."""
    return evaluate(Huber(delta), outputs, targets)


@checks_call
def dice(
    logits: ArrayLike,
    targets: ArrayLike,
    *,
    activation: str = "softmax",
    smooth: float = 1.0,
    ignore_index: int | None = None,
) -> tuple[float, Float32]:
    """Return the Dice loss of logits (images, height, width, classes) and its gradient; ``Dice`` defines it."""
    return evaluate(Dice(activation, smooth, ignore_index), logits, targets)


@checks_call
def cross_entropy_dice(
    logits: ArrayLike, targets: ArrayLike, *, smooth: float = 1.0, ignore_index: int | None = None
) -> tuple[float, Float32]:
    """Return the sum of cross-entropy and Dice loss, and its gradient; ``CrossEntropyDice`` defines it."""
    return evaluate(CrossEntropyDice(smooth, ignore_index), logits, targets)
