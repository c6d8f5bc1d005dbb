"""The base class of losses, the checks of targets and options, and the launches of a loss."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar, NamedTuple, Self, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import LARGEST, by_key, number, shown
from numbacnn._checks.arrays import as_float32, real_array
from numbacnn._checks.names import AnswersAttributes, ChecksArguments
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.layers.bindings import Kernels
from numbacnn.layers.registry import is_custom

Array = NDArray[Any]  # on any device
Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
Target = Array
Weights: TypeAlias = Sequence[float] | Mapping[int, float] | Mapping[str, float]
NOT_A_LABEL = -1


class LossValue(AnswersAttributes, float):
    """A loss as a number."""

    def item(self) -> float:
        """Return the number, as an array of one does."""
        return float(self)


class _Pair(NamedTuple):
    loss: LossValue
    gradient: Float32


class LossResult(AnswersAttributes, _Pair):
    """A loss and its gradient by the outputs."""


class Loss(AnswersAttributes, ChecksArguments):
    """A loss of outputs and targets, with its gradient. A custom loss defines ``name``, ``launch``, and ``target``.

    Attributes:
        only_launches: whether ``launch`` only launches kernels, the same ones for every batch, and ``weight`` follows
            from ``label_weights``, so that a GPU can replay it. A custom class has to declare it itself.
        per_image: whether the losses and gradients of an image do not depend on the others in ``launch``, to the bit.
        activation: the op, "softmax" or "sigmoid", that the loss itself applies to its inputs, the logits; None if it
            takes outputs as they are. A model may end in a layer of this op: its loss is that of the layer's input.
        ignore_index: the label whose images or pixels do not count, in the accuracy neither.
    """

    name: ClassVar[str]
    only_launches: ClassVar[bool] = False
    per_image: ClassVar[bool] = False
    activation: str | None = None
    ignore_index: int | None = None

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "only_launches" not in vars(cls):
            cls.only_launches = not is_custom(cls)
        if "per_image" not in vars(cls) and is_custom(cls):
            cls.per_image = False

    def __call__(self, outputs: ArrayLike, target: ArrayLike) -> tuple[float, Float32]:
        """Return the loss of outputs (N, C) or (N, H, W, C) and its gradient, as the function of this name does."""
        return evaluate(self, outputs, target)

    def check_number(self, name: str, minimum: float, maximum: float = LARGEST, above: bool = False) -> None:
        """Make an argument a float. Raises ArgumentError unless it is in this range, without the minimum if ``above``.

        For ``__post_init__`` of a frozen dataclass.
        """
        object.__setattr__(self, name, number(getattr(self, name), name, minimum, maximum, above=above))

    def for_classes(self, names: Sequence[str]) -> Self:
        """Return the loss with weights that were given by the name of a class in the order of ``names``."""
        return self

    def ignoring(self, label: int | None) -> "Loss":
        """Return this loss with ``ignore_index=label``; None changes nothing.

        Raises:
            ArgumentError: the loss cannot ignore labels, or ignores another one.
        """
        if label is None or label == self.ignore_index:
            return self
        if not is_dataclass(self) or "ignore_index" not in {field.name for field in fields(self)}:
            use = "cross_entropy, focal, dice or cross_entropy_dice"
            raise ArgumentError(f"label {label} of the data does not count; {self.name} counts all: use {use}")
        if self.ignore_index is not None:
            raise ArgumentError(f"ignore_index={self.ignore_index}: the data's label that does not count is {label}")
        return replace(self, ignore_index=label)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Check a target and convert it to what ``launch`` takes, for outputs N×H×W×C of ``shape``.

        By default targets are numbers in the shape of the outputs, or integer labels, one for each image or pixel,
        which become one-hot vectors.

        Raises:
            ArgumentError: the target does not fit.
        """
        array = real_array(target, "target")
        if np.issubdtype(array.dtype, np.integer) and array.size != math.prod(shape):
            return np.eye(shape[-1], dtype=np.float32)[class_labels(array, shape)].reshape(shape)
        return same_size(array, shape)

    def weight(self, target: Target) -> float:
        """Return the number that the sum of the pixels' losses is divided by; by default the number of pixels."""
        return target.size if target.ndim == 1 else target.size // target.shape[-1]

    def label_weights(self, classes: int) -> Float64 | None:
        """Return the weight of each label in that number, or None if all are 1; ``ignore_index`` has none."""
        return None

    def launch_target(self, kernels: Kernels, target: Array, labels: Array) -> None:
        """Launch the kernel that writes ``target(labels)``, N×H×W×C, from labels in device memory."""
        kernels.one_hot(target.reshape(-1, target.shape[-1]), labels.reshape(-1))

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Write the loss of each pixel, N·H·W, and to dx ``scale`` times the gradient of their sum. x, dx: N×H×W×C."""
        raise NotImplementedError


def evaluate(loss: Loss, outputs: ArrayLike, target: ArrayLike) -> tuple[float, Float32]:
    """Return the loss of ``outputs`` (N, C) or (N, H, W, C) and its gradient."""
    x = np.require(as_float32(real_array(outputs, "outputs")), requirements=["C", "W"])
    if x.ndim not in (2, 4) or not x.size:
        raise ArgumentError(f"outputs have shape {x.shape}; pass (images, classes) or (images, height, width, classes)")
    image = x.reshape(len(x), 1, 1, -1) if x.ndim == 2 else x
    prepared = loss.target(target, image.shape)
    losses, dx, partial = np.empty(image[..., 0].size, np.float32), np.empty_like(image), np.empty(SUM_GROUPS)
    with engine_lock:
        differentiate(loss, 1.0, get_device("cpu"), partial, losses, dx, image, prepared)
    return LossResult(LossValue(partial.sum()), dx.reshape(x.shape))


def differentiate(
    loss: Loss,
    weight: float,
    device: Device,
    partial: Float64,
    losses: Float32,
    dx: Float32,
    x: Float32,
    target: Target,
    label_sums: Float64 | None = None,
    divisor: float | None = None,
) -> None:
    """Launch the kernels that write ``weight`` times the mean loss, in partial sums, and its gradient.

    losses: scratch, N·H·W. label_sums: scratch, 2 × SUM_GROUPS; given if the target is in device memory, where a
    replayed launch finds other labels each time, so that their weights have to be summed there as well. divisor: of the
    mean, by default ``loss.weight(target)``.
    """
    kernels = device.kernels
    weights = None if label_sums is None or target.ndim > 1 else loss.label_weights(x.shape[-1])
    total = 1.0 if weights is not None else loss.weight(target) if divisor is None else divisor
    scale = scale_of(weight if weights is None else 1.0, total)
    loss.launch(kernels, losses, dx, x, target, scale)
    kernels.sum_losses(partial, losses, scale)
    if weights is not None and label_sums is not None:
        kernels.sum_label_weights(label_sums[0], target, weights, ignored_label(loss.ignore_index))
        kernels.divide_by_label_weights(partial, dx, label_sums, weight)


def scale_of(weight: float, total: float) -> float:
    """Return the factor of a sum of losses; if nothing counts, there is neither loss nor gradient."""
    return weight / total if total else 0.0


# -- targets and options ----------------------------------------------------------------------------------------------


def same_size(array: NDArray[Any], shape: tuple[int, ...]) -> Float32:
    """Return numbers in the shape of the outputs as float32."""
    if not _is_alike(array.shape, shape):
        is_of_classes = array.size == math.prod(shape[:-1])
        hint = "; numbers of classes are integers, labels.astype(int)" * is_of_classes
        raise ArgumentError(f"targets of shape {array.shape} for an output of shape {shape}{hint}")
    return np.require(as_float32(array), requirements=["C", "W"]).reshape(shape)


def _is_alike(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Return whether two shapes are equal except for axes of length 1."""
    return [n for n in found if n != 1] == [n for n in shape if n != 1]


def class_labels(array: NDArray[Any], shape: tuple[int, ...], ignore_index: int | None = None) -> NDArray[np.int64]:
    """Return the classes as int64, one for each pixel, all but ``ignore_index`` in range."""
    if array.size != math.prod(shape[:-1]):
        raise ArgumentError(f"{array.size} labels for {math.prod(shape[:-1])} predictions")
    if not _is_alike(array.shape, shape[:-1]):
        raise ArgumentError(f"labels of shape {array.shape} for predictions of shape {shape[:-1]}")
    labels = np.ascontiguousarray(array, np.int64).reshape(-1)
    if not labels.flags.writeable:  # another type to the kernels
        labels = labels.copy()
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    if counted.size and counted.view(np.uint64).max() >= shape[-1]:  # one pass: negative ones are huge
        raise ArgumentError(f"labels run from {counted.min()} to {counted.max()}; the model has {shape[-1]} classes")
    return labels


def ignored_label(ignore_index: int | None) -> int:
    """Return ``ignore_index`` as kernels take it."""
    return NOT_A_LABEL if ignore_index is None else ignore_index


def checked_weights(name: str, weights: Weights, names: Sequence[str] = ()) -> tuple[float, ...]:
    """Return weights as a tuple of finite numbers of at least 0, not all 0. Raises ArgumentError otherwise.

    The keys of a mapping are numbers from 0, or ``names``.
    """
    values = by_key(name, weights, names) if isinstance(weights, Mapping) else weights
    try:
        found = tuple(map(float, () if isinstance(weights, str | bytes | Set) else values))
    except (TypeError, ValueError, OverflowError):
        found = ()
    if not found:
        raise ArgumentError(
            f"{name}={shown(weights)}: pass a sequence of numbers, or a mapping from classes to numbers"
        )
    if not all(0 <= weight <= LARGEST for weight in found) or not any(found):
        raise ArgumentError(f"{name}={shown(found)}: pass numbers of at least 0, finite, one of them above 0")
    return found


def weights_of_classes(name: str, weights: Weights) -> tuple[float, ...] | dict[str, float]:
    """Return checked weights; those by name as a mapping, until ``for_classes`` puts them in order."""
    names = [key for key in weights if isinstance(key, str)] if isinstance(weights, Mapping) else []
    if isinstance(weights, Mapping) and 0 < len(names) == len(weights):
        return dict(zip(names, checked_weights(name, list(weights.values())), strict=True))
    return checked_weights(name, weights)


def check_count(name: str, weights: Weights | None, shape: tuple[int, ...]) -> None:
    """Raise ArgumentError unless there is a weight for each class."""
    if isinstance(weights, Mapping):
        raise ArgumentError(
            f"{name} by name, {', '.join(map(repr, weights))}: the names of the classes are not known here; pass their "
            "numbers, {0: …, 1: …}, or a data set with names to fit or evaluate"
        )
    if weights is not None and len(weights) != shape[-1]:
        raise ArgumentError(f"{len(weights)} {name} for {shape[-1]} classes")


def check_ignore_index(label: object) -> None:
    """Raise ArgumentError unless a label is an integer of 64 bits or None."""
    if label is not None and not (isinstance(label, int | np.integer) and -(1 << 63) <= label < 1 << 63):
        raise ArgumentError(f"ignore_index={shown(label)}: pass an integer label, or None")
