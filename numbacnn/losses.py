"""Losses and their gradients. Each is the mean over the batch (and over pixels, where outputs are images)."""

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.device import ENGINE, Device, get_device
from numbacnn.errors import ArgumentError
from numbacnn.names import choose

Float32 = NDArray[np.float32]


class Loss(Protocol):
    """A loss of an output and its target, with its gradient."""

    name: ClassVar[str]

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """``target`` as kernels take it, for an output N×H×W×C of ``shape``; ArgumentError where it does not fit."""

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: NDArray[Any]) -> None:
        """Writes each pixel's loss, and the gradient of their mean. x, dx: N×H×W×C; losses: N·H·W."""


class CrossEntropy:
    """−log softmax(logits)[label], or −Σ p·log softmax(logits) for probabilities p."""

    name: ClassVar[str] = "cross_entropy"

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Integer labels, one for each image or pixel; or probabilities in the output's own shape."""
        array = np.asarray(target)
        if not np.issubdtype(array.dtype, np.integer):
            return _same_size(array, shape)
        if array.size != np.prod(shape[:-1]):
            raise ArgumentError(f"{array.size} labels for {np.prod(shape[:-1])} predictions")
        labels = np.require(array, np.int64, ["C", "W"]).reshape(-1)
        if labels.size and not 0 <= labels.min() <= labels.max() < shape[-1]:
            raise ArgumentError(f"labels run from {labels.min()} to {labels.max()}; the model has {shape[-1]} classes")
        return labels

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: NDArray[Any]) -> None:
        """See ``Loss``."""
        if target.ndim == 1:
            kernels.cross_entropy_labels(losses, dx, x, target)
        else:
            kernels.cross_entropy_probabilities(losses, dx, x, target)


class MeanSquaredError:
    """The mean of (output − target)² over channels, images and pixels. Integer labels count as one-hot targets."""

    name: ClassVar[str] = "mse"

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Numbers in the output's own shape, or integer labels, one for each image or pixel."""
        array = np.asarray(target)
        if np.issubdtype(array.dtype, np.integer) and array.size != np.prod(shape):
            labels = CrossEntropy().target(array, shape)
            array = np.eye(shape[-1], dtype=np.float32)[labels]
        return _same_size(array, shape)

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: NDArray[Any]) -> None:
        """See ``Loss``."""
        kernels.mean_squared_error(losses, dx, x, target)


LOSSES: dict[str, Loss] = {loss.name: loss for loss in (CrossEntropy(), MeanSquaredError())}


def get_loss(loss: str | Loss) -> Loss:
    """A loss by name, or as it is. Raises ArgumentError with the nearest name."""
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)
    if not hasattr(loss, "launch"):
        raise ArgumentError(f"loss={loss!r}: give a name, {' or '.join(LOSSES)}, or an object with launch and target")
    return loss


def cross_entropy(logits: ArrayLike, labels: ArrayLike) -> tuple[float, Float32]:
    """Softmax cross-entropy of logits (…, classes) and its gradient of the same shape.

    labels: integers, one for each row of logits, or probabilities in the logits' shape.
    """
    return evaluate(LOSSES["cross_entropy"], logits, labels, get_device("cpu"))


def mse(outputs: ArrayLike, targets: ArrayLike) -> tuple[float, Float32]:
    """Mean squared error of two arrays of one shape, and its gradient by the outputs."""
    return evaluate(LOSSES["mse"], outputs, targets, get_device("cpu"))


def evaluate(loss: Loss, outputs: ArrayLike, target: ArrayLike, device: Device) -> tuple[float, Float32]:
    """The loss and its gradient by ``outputs`` (N, C) or (N, H, W, C)."""
    x = np.require(outputs, np.float32, ["C", "W"])
    if x.ndim not in (2, 4) or not x.size:
        raise ArgumentError(f"outputs have shape {x.shape}; give (images, classes) or (images, height, width, classes)")
    image = x.reshape(len(x), 1, 1, -1) if x.ndim == 2 else x
    prepared = loss.target(target, image.shape)
    losses, dx = np.empty(image[..., 0].size, np.float32), np.empty_like(image)
    with ENGINE:
        loss.launch(device.kernels, losses, dx, image, prepared)
    return mean(losses), dx.reshape(x.shape)


def mean(losses: Float32) -> float:
    """The mean in float64, in NumPy's fixed pairwise order."""
    return float(losses.mean(dtype=np.float64))


def _same_size(array: NDArray[Any], shape: tuple[int, ...]) -> Float32:
    if array.size != np.prod(shape):
        raise ArgumentError(f"targets of shape {array.shape} for an output of shape {shape}")
    return np.require(array, np.float32, ["C", "W"]).reshape(shape)
