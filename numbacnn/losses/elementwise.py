"""Losses that are a mean over all elements of the outputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from numbacnn.errors import ArgumentError
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import Float32, Loss, Target, Weights, check_count, checked_weights, weights_of_classes


class ElementLoss(Loss):
    """A mean over channels, images and pixels of a function of each output and its target.

    ``kernel`` is the launcher's name, and ``options`` are the loss's own constants, for outputs with C ``channels``.
    """

    kernel: ClassVar[str]
    per_image: ClassVar[bool] = True

    def options(self, channels: int) -> Sequence[float]:
        """Return the constants that the kernel takes."""
        return ()

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Launch the kernel."""
        options = np.array(self.options(x.shape[-1]), np.float32)
        getattr(kernels, self.kernel)(losses, dx, x, target, options, scale)


@dataclass(frozen=True)
class BinaryCrossEntropy(ElementLoss):
    """Binary cross-entropy with logits: −w·t·log sigmoid(x) − (1 − t)·log sigmoid(−x), mean over channels too.

    Targets t are from 0 to 1 in the shape of the outputs, or integer labels, which become one-hot vectors.
    ``pos_weight`` w is one number, or one for each channel.
    """

    name: ClassVar[str] = "binary_cross_entropy"
    activation = "sigmoid"
    kernel: ClassVar[str] = "binary_cross_entropy"

    pos_weight: float | Weights = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.pos_weight, Iterable):
            object.__setattr__(self, "pos_weight", weights_of_classes("pos_weight", self.pos_weight))
        else:
            self.check_number("pos_weight", 0)

    def for_classes(self, names: Sequence[str]) -> Self:
        """Take ``pos_weight`` by name."""
        if not isinstance(self.pos_weight, Mapping):
            return self
        return replace(self, pos_weight=checked_weights("pos_weight", self.pos_weight, names))

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take numbers from 0 to 1, or integer labels."""
        if isinstance(self.pos_weight, Sequence | Mapping):
            check_count("pos_weight", self.pos_weight, shape)
        array = super().target(target, shape)
        if not 0 <= array.min() <= array.max() <= 1:
            raise ArgumentError(f"targets run from {array.min():g} to {array.max():g}; they must be from 0 to 1")
        return array

    def options(self, channels: int) -> Sequence[float]:
        """Return the weight of each channel."""
        return self.pos_weight if isinstance(self.pos_weight, Sequence) else (self.pos_weight,) * channels  # type: ignore[return-value]


@dataclass(frozen=True)
class SigmoidFocal(ElementLoss):
    """Focal loss of sigmoid probabilities, −a·(1 − p)^gamma · log p, mean over channels too.

    Lin et al. 2017, "Focal loss for dense object detection", equation 5: p = sigmoid(x) and a = alpha if the target is
    1, p = sigmoid(−x) and a = 1 − alpha if it is 0. Targets are 0 or 1 in the shape of the outputs, or integer labels,
    which become one-hot vectors.
    """

    name: ClassVar[str] = "sigmoid_focal"
    activation = "sigmoid"
    kernel: ClassVar[str] = "sigmoid_focal"

    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        self.check_number("gamma", 0)
        self.check_number("alpha", 0, 1)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take 0 or 1 for each output, or integer labels."""
        array = super().target(target, shape)
        if not np.isin(array, (0, 1)).all():
            raise ArgumentError(f"targets run from {array.min():g} to {array.max():g}; each must be 0 or 1")
        return array

    def options(self, channels: int) -> Sequence[float]:
        """Return gamma and alpha."""
        return self.gamma, self.alpha


@dataclass(frozen=True)
class MeanSquaredError(ElementLoss):
    """The mean of (output − target)² over channels, images and pixels. Integer labels become one-hot vectors."""

    name: ClassVar[str] = "mse"
    kernel: ClassVar[str] = "mean_squared_error"


@dataclass(frozen=True)
class MeanAbsoluteError(ElementLoss):
    """The mean of |output − target| over channels, images and pixels, with a gradient of 0 at 0.

    Integer labels become one-hot vectors.
    """

    name: ClassVar[str] = "l1"
    kernel: ClassVar[str] = "mean_absolute_error"


@dataclass(frozen=True)
class Huber(ElementLoss):
    """d²/2 if |d| ≤ delta, else delta·(|d| − delta/2), with d = output − target; mean over channels too.

    Huber 1964, "Robust estimation of a location parameter". Integer labels become one-hot vectors.
    """

    name: ClassVar[str] = "huber"
    kernel: ClassVar[str] = "huber"

    delta: float = 1.0

    def __post_init__(self) -> None:
        self.check_number("delta", 0, above=True)

    def options(self, channels: int) -> Sequence[float]:
        """Return delta."""
        return (self.delta,)
