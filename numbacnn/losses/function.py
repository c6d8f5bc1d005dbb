"""A loss that is a Python function of NumPy arrays."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import check_takes
from numbacnn._checks.arrays import as_float32, real_array
from numbacnn.errors import ArgumentError
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import Float32, Loss, Target

LossFunction = Callable[[Float32, NDArray[Any]], tuple[float, ArrayLike]]


@dataclass(frozen=True)
class FunctionLoss(Loss):
    """``function(outputs, labels)`` returns the mean loss of a batch, and its gradient in the shape of the outputs.

    Outputs are (N, C) or (N, H, W, C), without a softmax or sigmoid unless the model ends in one; labels are as they
    were given. It runs on the devices "cpu" and "reference".
    """

    function: LossFunction

    def __post_init__(self) -> None:
        """Raise ArgumentError if the function does not take outputs and labels."""
        instead = "pass one of (outputs, labels) that returns (loss, gradient)"
        check_takes(self.function, "outputs, labels", "loss", instead)

    @property
    def name(self) -> str:  # type: ignore[override]  # a class variable of other losses
        """The name of the function."""
        return getattr(self.function, "__name__", type(self.function).__name__)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take labels as they are."""
        labels = np.asarray(target)
        if len(labels) != shape[0]:
            raise ArgumentError(f"{len(labels)} labels for {shape[0]} predictions")
        return labels

    def weight(self, target: Target) -> float:
        """Return the number of images."""
        return len(target)

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Call the function.

        Raises:
            ArgumentError: it returns something else, or the arrays are on a GPU.
        """
        if not isinstance(x, np.ndarray):
            raise ArgumentError(f'the loss {self.name} is a Python function of NumPy arrays; use device="cpu"')
        outputs = np.array(x).reshape(x.shape if x.shape[1:3] != (1, 1) else (len(x), -1))
        result = self.function(outputs, target)
        try:
            value, gradient = result
            total, array = float(value) * len(x), as_float32(real_array(gradient, "the gradient"))
        except (ArgumentError, OverflowError, TypeError, ValueError) as error:
            raise ArgumentError(f"the loss {self.name} must return (loss, gradient): {error}") from error
        if array.shape != outputs.shape:
            raise ArgumentError(
                f"the loss {self.name} returned a gradient of shape {array.shape} for outputs {outputs.shape}"
            )
        losses[:] = 0
        losses[0] = total
        dx[...] = (array * np.float32(scale * len(x))).reshape(dx.shape)
