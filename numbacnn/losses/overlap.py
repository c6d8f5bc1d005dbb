"""Losses of the overlap of predicted and true pixels: Dice loss, alone and with cross-entropy."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose
from numbacnn._checks.arrays import real_array
from numbacnn.engine.device import get_device
from numbacnn.errors import ArgumentError
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import Float32, Loss, Target, check_ignore_index, class_labels
from numbacnn.losses.classes import class_terms

ROW_GROUPS = 8  # of the sums over an image
IMPOSSIBLE = np.float32(-1e30)  # added to a logit


@dataclass(frozen=True)
class Dice(Loss):
    """1 − D, with D = (2·Σ p·t + smooth) / (Σ p² + Σ t² + smooth), the mean over classes and images.

    Milletari, Navab and Ahmadi 2016, "V-Net", section 3, for each class of each image: the sums are over the image's
    pixels, p is the ``activation``, "softmax" or "sigmoid", of the logits, and t the target. Targets are in the shape
    of the outputs, or integer labels, one for each pixel, which become one-hot vectors. With ``smooth`` a class that is
    neither present nor predicted has D = 1. Pixels labeled ``ignore_index`` are left out of the sums.
    """

    name: ClassVar[str] = "dice"

    activation: str = "softmax"
    smooth: float = 1.0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        choose("activation", self.activation, {"softmax": None, "sigmoid": None})
        self.check_number("smooth", 0, above=True)  # 0 would make absent classes infinite
        check_ignore_index(self.ignore_index)

    @property
    def only_launches(self) -> bool:  # type: ignore[override]  # a class variable of other losses
        """Whether no label is ignored: the host makes the targets that leave out pixels, which a GPU cannot replay."""
        return self.ignore_index is None

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take labels or numbers as other losses do; with ``ignore_index`` make a ``_masked_target`` of labels."""
        if self.ignore_index is None:
            return super().target(target, shape)
        labels = _labels_with_ignored(target, shape, self.ignore_index)
        return _masked_target(labels, labels == self.ignore_index, shape[-1], self.activation == "softmax")

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Launch the kernels; the loss of each pixel is that of its image."""
        launch = _launch_dice if self.ignore_index is None else _launch_masked_dice
        launch(kernels, losses, dx, x, target, self.smooth, self.activation == "softmax", scale)


@dataclass(frozen=True)
class CrossEntropyDice(Loss):
    """The sum of the softmax cross-entropy and ``Dice``, as in nnU-Net (Isensee et al. 2021).

    Targets are as in ``Dice``. Pixels labeled ``ignore_index`` do not count: the cross-entropy of an image is the mean
    over its other pixels, and that of a batch the mean over images, as the Dice loss.
    """

    name: ClassVar[str] = "cross_entropy_dice"
    activation = "softmax"

    smooth: float = 1.0
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        self.check_number("smooth", 0, above=True)
        check_ignore_index(self.ignore_index)

    @property
    def only_launches(self) -> bool:  # type: ignore[override]  # a class variable of other losses
        """Whether no label is ignored, as in ``Dice``."""
        return self.ignore_index is None

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take what ``Dice`` takes; with ``ignore_index`` append the weighted one-hot labels of the cross-entropy."""
        if self.ignore_index is None:
            return super().target(target, shape)
        labels = _labels_with_ignored(target, shape, self.ignore_index)
        ignored = labels == self.ignore_index
        masked = _masked_target(labels, ignored, shape[-1], softmax=True)
        counted = np.count_nonzero(~ignored, axis=(1, 2), keepdims=True)[..., None]
        weights = np.float32(ignored[0].size) / np.maximum(counted, 1).astype(np.float32)
        return np.concatenate([masked, masked[..., : shape[-1]] * weights], axis=-1)

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Launch both losses, and add them and their gradients."""
        classes = x.shape[-1]
        terms = class_terms(None, 0.0, classes)
        of_dice, gradient = _scratch(losses, losses.shape), _scratch(x, x.shape)
        if self.ignore_index is None:
            _launch_dice(kernels, of_dice, gradient, x, target, self.smooth, True, scale)
            kernels.cross_entropy_probabilities(losses, dx, x, target, terms, scale)
        else:
            masked, weighted = target[..., :-classes], np.ascontiguousarray(target[..., -classes:])
            _launch_masked_dice(kernels, of_dice, gradient, x, masked, self.smooth, True, scale)
            kernels.cross_entropy_probabilities(losses, dx, x, weighted, terms, scale)
        kernels.add_in_place(dx, gradient)
        kernels.add_in_place(losses.reshape(1, 1, 1, -1), of_dice.reshape(1, 1, 1, -1))


# -- launches ---------------------------------------------------------------------------------------------------------


def _launch_dice(
    kernels: Kernels,
    losses: Float32,
    dx: Float32,
    x: Float32,
    target: Target,
    smooth: float,
    softmax: bool,
    scale: float,
) -> None:
    sums = np.empty((len(x), ROW_GROUPS, 3, x.shape[-1]), np.float64)
    kernels.dice(losses, dx, x, target, sums, smooth, softmax, scale)


def _labels_with_ignored(target: ArrayLike, shape: tuple[int, ...], label: int) -> NDArray[np.int64]:
    array = real_array(target, "target")
    if not np.issubdtype(array.dtype, np.integer):
        raise ArgumentError("ignore_index is for integer labels; leave it out for targets in the shape of the outputs")
    return class_labels(array, shape, label).reshape(shape[:-1])


def _masked_target(labels: NDArray[np.int64], ignored: NDArray[np.bool_], classes: int, softmax: bool) -> Float32:
    """Return what ``_launch_masked_dice`` takes, N×H×W×2K: one-hot labels, and numbers to add to the logits.

    The numbers make every class of an ignored pixel impossible. As a softmax sums to 1, it has a class more, K = C + 1,
    which is certain in these pixels and impossible in all others; its own Dice loss is 0. Otherwise K = C.
    """
    target = np.zeros((*labels.shape, 2, classes + softmax), np.float32)
    target[..., 0, :classes] = labels[..., None] == np.arange(classes)
    target[ignored, 0, :classes], target[ignored, 1, :classes] = 0, IMPOSSIBLE
    if softmax:
        target[ignored, 0, classes], target[~ignored, 1, classes] = 1, IMPOSSIBLE
    return target.reshape(*labels.shape, -1)


def _launch_masked_dice(
    kernels: Kernels,
    losses: Float32,
    dx: Float32,
    x: Float32,
    target: Target,
    smooth: float,
    softmax: bool,
    scale: float,
) -> None:
    """Launch the kernel for the classes of a ``_masked_target``, and correct the mean over them, K, to that over C."""
    classes, all_classes = x.shape[-1], target.shape[-1] // 2
    shape, ratio = (*x.shape[:-1], all_classes), all_classes / classes
    logits, gradient = _scratch(x, shape, zeros=True), _scratch(x, shape)
    kernels.copy_channels(logits[..., :classes], x)
    kernels.add_in_place(logits, np.ascontiguousarray(target[..., all_classes:]))
    one_hot = np.ascontiguousarray(target[..., :all_classes])
    _launch_dice(kernels, losses, gradient, logits, one_hot, smooth, softmax, scale * ratio)
    kernels.copy_channels(dx, gradient[..., :classes])
    kernels.scale_in_place(losses, ratio)


def _scratch(like: Float32, shape: tuple[int, ...], zeros: bool = False) -> Float32:
    """Return an array in the memory of another, the host's or a GPU's; of any numbers unless they must be ``zeros``."""
    if not isinstance(like, np.ndarray):
        return get_device("cuda").zeros(shape)
    return np.zeros(shape, np.float32) if zeros else np.empty(shape, np.float32)
