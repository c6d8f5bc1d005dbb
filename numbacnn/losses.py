"""Losses and their gradients. Each is a mean over the batch (and over pixels, where outputs are images).

A loss object says how it is computed, ``CrossEntropy(label_smoothing=0.1)``; the functions apply one to two arrays.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose, number
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]
Target = NDArray[Any]
NOT_A_LABEL = -1
ROW_GROUPS = 8  # of Dice's sums over an image
NONE = np.empty(0, np.float32)


class Loss:
    """A loss of an output and its target, with its gradient. One of your own gives ``name``, ``target``, ``launch``.

    ``ignore_index``: the label whose images or pixels count nothing, in the accuracy neither.
    """

    name: ClassVar[str]
    # ``launch`` only launches kernels, and of labels ``weight`` is that of ``label_weights``; each class says so itself
    device_steps: ClassVar[bool] = False
    ignore_index: int | None = None

    @property
    def runs_on_device(self) -> bool:
        """Whether a device can compute it in steps that the host does not drive."""
        return bool(vars(type(self)).get("device_steps", False))

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """``target`` as ``launch`` takes it, for an output N×H×W×C of ``shape``; ArgumentError where it does not fit.

        Here: numbers in the output's own shape, or integer labels, one for each image or pixel, as one-hot numbers.
        """
        array = np.asarray(target)
        if np.issubdtype(array.dtype, np.integer) and array.size != math.prod(shape):
            return np.eye(shape[-1], dtype=np.float32)[_labels(array, shape)].reshape(shape)
        return _same_size(array, shape)

    def weight(self, target: Target) -> float:
        """What the sum of the pixels' losses is divided by to give their mean. Here: the number of pixels."""
        return target.size if target.ndim == 1 else target.size // target.shape[-1]

    def label_weights(self, classes: int) -> NDArray[np.float64] | None:
        """What a label of each class adds to ``weight``, where that is not 1 for all; ``ignore_index`` adds nothing."""
        return None

    def launch_target(self, loop_kernels: Any, target: Any, labels: Any) -> None:
        """Launches what writes ``target(labels)``, N×H×W×C, on a device: see ``kernels.cuda.labels``."""
        loop_kernels.one_hot(target.reshape(-1, target.shape[-1]), labels.reshape(-1))

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Writes each pixel's loss, and ``scale`` times the gradient of their sum. x, dx: N×H×W×C; losses: N·H·W."""
        raise NotImplementedError


@dataclass(frozen=True)
class CrossEntropy(Loss):
    """Softmax cross-entropy, −log softmax(logits)[label], or −Σ p·log softmax(logits) for probabilities p.

    With ``label_smoothing`` ε a target p counts as (1 − ε)·p + ε/C (Szegedy et al. 2016, section 7). ``class_weights``,
    one for each class, weigh each class's term. Pixels or images labelled ``ignore_index`` count nothing. Of labels
    the mean is weighted by their class weights, of probabilities it is the plain one, both as in PyTorch; where all
    is ignored the loss is 0.
    """

    name: ClassVar[str] = "cross_entropy"
    device_steps: ClassVar[bool] = True

    label_smoothing: float = 0.0
    class_weights: Sequence[float] | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        number(self.label_smoothing, "label_smoothing", 0, 1)
        object.__setattr__(self, "class_weights", checked_weights("class_weights", self.class_weights))
        _check_index(self.ignore_index)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Integer labels, one for each image or pixel; or probabilities in the output's own shape."""
        _check_count("class_weights", self.class_weights, shape)
        array = np.asarray(target)
        if np.issubdtype(array.dtype, np.integer):
            return _labels(array, shape, self.ignore_index)
        if self.ignore_index is not None:
            raise ArgumentError("ignore_index is for integer labels; give probabilities of 0 to ignore a pixel")
        return _same_size(array, shape)

    def weight(self, target: Target) -> float:
        """The sum of the labels' class weights, the ignored ones apart."""
        if target.ndim > 1:
            return super().weight(target)
        return _label_weight(target, self.class_weights, self.ignore_index)

    def label_weights(self, classes: int) -> NDArray[np.float64] | None:
        """See ``Loss``."""
        return _label_weights(classes, self.class_weights, self.ignore_index)

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        terms = _class_terms(self.class_weights, self.label_smoothing, x.shape[-1])
        if target.ndim == 1:
            kernels.cross_entropy_labels(losses, dx, x, target, terms, ignored_label(self.ignore_index), scale)
        else:
            kernels.cross_entropy_probabilities(losses, dx, x, target, terms, scale)


@dataclass(frozen=True)
class Focal(Loss):
    """Focal loss of softmax probabilities, −w·(1 − p)^gamma · log p, with p that of the label and w its class weight.

    Lin et al. 2017, "Focal loss for dense object detection", equation 5, with softmax in the place of the sigmoid; its
    α are ``class_weights``. Labels, ``ignore_index`` and the weighted mean as in ``CrossEntropy``, which it is at
    gamma=0.
    """

    name: ClassVar[str] = "focal"
    device_steps: ClassVar[bool] = True

    gamma: float = 2.0
    class_weights: Sequence[float] | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        number(self.gamma, "gamma", 0)
        object.__setattr__(self, "class_weights", checked_weights("class_weights", self.class_weights))
        _check_index(self.ignore_index)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Integer labels, one for each image or pixel."""
        _check_count("class_weights", self.class_weights, shape)
        array = np.asarray(target)
        if not np.issubdtype(array.dtype, np.integer):
            raise ArgumentError(f"labels are {array.dtype}; the focal loss wants integer classes")
        return _labels(array, shape, self.ignore_index)

    def weight(self, target: Target) -> float:
        """The sum of the labels' class weights, the ignored ones apart."""
        return _label_weight(target, self.class_weights, self.ignore_index)

    def label_weights(self, classes: int) -> NDArray[np.float64] | None:
        """See ``Loss``."""
        return _label_weights(classes, self.class_weights, self.ignore_index)

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        weights = _class_terms(self.class_weights, 0.0, x.shape[-1])[0]
        kernels.focal_labels(losses, dx, x, target, weights, ignored_label(self.ignore_index), self.gamma, scale)


@dataclass(frozen=True)
class BinaryCrossEntropy(Loss):
    """Binary cross-entropy with logits: −w·t·log sigmoid(x) − (1 − t)·log sigmoid(−x), mean over channels too.

    Targets t from 0 to 1 in the output's own shape; or integer labels, which count as one-hot. ``pos_weight`` w: one
    number, or one for each channel.
    """

    name: ClassVar[str] = "binary_cross_entropy"
    device_steps: ClassVar[bool] = True

    pos_weight: float | Sequence[float] = 1.0

    def __post_init__(self) -> None:
        if np.ndim(self.pos_weight):
            object.__setattr__(self, "pos_weight", checked_weights("pos_weight", self.pos_weight))
        else:
            number(self.pos_weight, "pos_weight", 0)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """See the class."""
        if isinstance(self.pos_weight, Sequence):
            _check_count("pos_weight", self.pos_weight, shape)
        array = super().target(target, shape)
        if not 0 <= array.min() <= array.max() <= 1:
            raise ArgumentError(f"targets run from {array.min():g} to {array.max():g}; give numbers from 0 to 1")
        return array

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        weights = self.pos_weight if isinstance(self.pos_weight, Sequence) else (self.pos_weight,) * x.shape[-1]
        kernels.binary_cross_entropy(losses, dx, x, target, np.array(weights, np.float32), scale)


@dataclass(frozen=True)
class SigmoidFocal(Loss):
    """Focal loss of sigmoid probabilities, −a·(1 − p)^gamma · log p, mean over channels too.

    Lin et al. 2017, "Focal loss for dense object detection", equation 5: p = sigmoid(x) and a = alpha where the target
    is 1, p = sigmoid(−x) and a = 1 − alpha where it is 0. Targets 0 or 1 in the output's own shape; or integer labels,
    which count as one-hot.
    """

    name: ClassVar[str] = "sigmoid_focal"
    device_steps: ClassVar[bool] = True

    gamma: float = 2.0
    alpha: float = 0.25

    def __post_init__(self) -> None:
        number(self.gamma, "gamma", 0)
        number(self.alpha, "alpha", 0, 1)

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """See the class."""
        array = super().target(target, shape)
        if not np.isin(array, (0, 1)).all():
            raise ArgumentError(f"targets run from {array.min():g} to {array.max():g}; give 0 or 1 for each")
        return array

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        kernels.sigmoid_focal(losses, dx, x, target, np.array([self.gamma, self.alpha], np.float32), scale)


@dataclass(frozen=True)
class MeanSquaredError(Loss):
    """The mean of (output − target)² over channels, images and pixels. Integer labels count as one-hot targets."""

    name: ClassVar[str] = "mse"
    device_steps: ClassVar[bool] = True

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        kernels.mean_squared_error(losses, dx, x, target, NONE, scale)


@dataclass(frozen=True)
class MeanAbsoluteError(Loss):
    """The mean of |output − target| over channels, images and pixels; at 0 its gradient is 0.

    Integer labels count as one-hot targets.
    """

    name: ClassVar[str] = "l1"
    device_steps: ClassVar[bool] = True

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        kernels.mean_absolute_error(losses, dx, x, target, NONE, scale)


@dataclass(frozen=True)
class Huber(Loss):
    """d²/2 where |d| ≤ delta, else delta·(|d| − delta/2), with d = output − target; mean over channels too.

    Huber 1964, "Robust estimation of a location parameter". Integer labels count as one-hot targets.
    """

    name: ClassVar[str] = "huber"
    device_steps: ClassVar[bool] = True

    delta: float = 1.0

    def __post_init__(self) -> None:
        number(self.delta, "delta", 0, above=True)

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``."""
        kernels.huber(losses, dx, x, target, np.array([self.delta], np.float32), scale)


@dataclass(frozen=True)
class Dice(Loss):
    """1 − D, with D = (2·Σ p·t + smooth) / (Σ p² + Σ t² + smooth), the mean over classes and images.

    Milletari, Navab and Ahmadi 2016, "V-Net", section 3, for each class of each image: the sums run over the image's
    pixels, p is the ``activation``, "softmax" or "sigmoid", of the logits, and t the target. Targets in the output's
    own shape; or integer labels, one for each pixel, which count as one-hot. ``smooth`` makes a class that is neither
    there nor predicted count as overlapping wholly.
    """

    name: ClassVar[str] = "dice"
    device_steps: ClassVar[bool] = True

    activation: str = "softmax"
    smooth: float = 1.0

    def __post_init__(self) -> None:
        choose("activation", self.activation, {"softmax": None, "sigmoid": None})
        number(self.smooth, "smooth", 0, above=True)  # 0 would make classes without pixels infinite

    def launch(self, kernels: Any, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """See ``Loss``; each pixel's loss is its image's."""
        sums = np.empty((len(x), ROW_GROUPS, 3, x.shape[-1]), np.float64)
        kernels.dice(losses, dx, x, target, sums, self.smooth, self.activation == "softmax", scale)


def get_loss(loss: str | Loss) -> Loss:
    """A loss by name, or as it is. Raises ArgumentError with the nearest name."""
    if isinstance(loss, str):
        return choose("loss", loss, LOSSES)
    if not isinstance(loss, Loss):
        raise ArgumentError(f"loss={loss!r}: give a name, {', '.join(LOSSES)}, or a loss such as losses.CrossEntropy()")
    return loss


# -- on arrays --------------------------------------------------------------------------------------------------------


def cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    label_smoothing: float = 0.0,
    class_weights: Sequence[float] | None = None,
    ignore_index: int | None = None,
) -> tuple[float, Float32]:
    """Softmax cross-entropy of logits (…, classes) and its gradient of the same shape; see ``CrossEntropy``.

    labels: integers, one for each row of logits, or probabilities in the logits' shape.
    """
    return evaluate(CrossEntropy(label_smoothing, class_weights, ignore_index), logits, labels, get_device("cpu"))


def focal(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    gamma: float = 2.0,
    class_weights: Sequence[float] | None = None,
    ignore_index: int | None = None,
) -> tuple[float, Float32]:
    """Softmax focal loss of logits (…, classes) and integer labels, and its gradient by the logits; see ``Focal``."""
    return evaluate(Focal(gamma, class_weights, ignore_index), logits, labels, get_device("cpu"))


def binary_cross_entropy(
    logits: ArrayLike, targets: ArrayLike, *, pos_weight: float | Sequence[float] = 1.0
) -> tuple[float, Float32]:
    """Binary cross-entropy with logits, and its gradient by them; see ``BinaryCrossEntropy``."""
    return evaluate(BinaryCrossEntropy(pos_weight), logits, targets, get_device("cpu"))


def sigmoid_focal(
    logits: ArrayLike, targets: ArrayLike, *, gamma: float = 2.0, alpha: float = 0.25
) -> tuple[float, Float32]:
    """Sigmoid focal loss of logits, and its gradient by them; see ``SigmoidFocal``."""
    return evaluate(SigmoidFocal(gamma, alpha), logits, targets, get_device("cpu"))


def mse(outputs: ArrayLike, targets: ArrayLike) -> tuple[float, Float32]:
    """Mean squared error of two arrays of one shape, and its gradient by the outputs."""
    return evaluate(MeanSquaredError(), outputs, targets, get_device("cpu"))


def l1(outputs: ArrayLike, targets: ArrayLike) -> tuple[float, Float32]:
    """Mean absolute error of two arrays of one shape, and its gradient by the outputs."""
    return evaluate(MeanAbsoluteError(), outputs, targets, get_device("cpu"))


def huber(outputs: ArrayLike, targets: ArrayLike, *, delta: float = 1.0) -> tuple[float, Float32]:
    """Huber's loss of two arrays of one shape, and its gradient by the outputs; see ``Huber``."""
    return evaluate(Huber(delta), outputs, targets, get_device("cpu"))


def dice(
    logits: ArrayLike, targets: ArrayLike, *, activation: str = "softmax", smooth: float = 1.0
) -> tuple[float, Float32]:
    """Soft Dice loss of logits (images, height, width, classes), and its gradient by them; see ``Dice``."""
    return evaluate(Dice(activation, smooth), logits, targets, get_device("cpu"))


def evaluate(loss: Loss, outputs: ArrayLike, target: ArrayLike, device: Device) -> tuple[float, Float32]:
    """The loss and its gradient by ``outputs`` (N, C) or (N, H, W, C)."""
    x = np.require(outputs, np.float32, ["C", "W"])
    if x.ndim not in (2, 4) or not x.size:
        raise ArgumentError(f"outputs have shape {x.shape}; give (images, classes) or (images, height, width, classes)")
    image = x.reshape(len(x), 1, 1, -1) if x.ndim == 2 else x
    prepared = loss.target(target, image.shape)
    losses, dx = np.empty(image[..., 0].size, np.float32), np.empty_like(image)
    with engine_lock:
        value = differentiate(loss, 1.0, device, losses, dx, image, prepared)
    return value, dx.reshape(x.shape)


def differentiate(
    loss: Loss, weight: float, device: Device, losses: Float32, dx: Float32, x: Float32, target: Target
) -> float:
    """Returns ``weight`` times the mean loss and writes its gradient to dx; ``losses``: scratch, N·H·W."""
    total = loss.weight(target)
    share = weight / total if total else 0.0  # nothing counts: neither loss nor gradient
    loss.launch(device.kernels, losses, dx, x, target, share)
    return share * float(device.host(losses).sum(dtype=np.float64))  # in NumPy's fixed pairwise order


# -- targets and options, checked -------------------------------------------------------------------------------------


def _same_size(array: NDArray[Any], shape: tuple[int, ...]) -> Float32:
    if not _is_alike(array.shape, shape):
        raise ArgumentError(f"targets of shape {array.shape} for an output of shape {shape}")
    return np.require(array, np.float32, ["C", "W"]).reshape(shape)


def _is_alike(found: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether two shapes are the same but for axes of length 1."""
    return [n for n in found if n != 1] == [n for n in shape if n != 1]


def _labels(array: NDArray[Any], shape: tuple[int, ...], ignore_index: int | None = None) -> NDArray[np.int64]:
    """Classes as int64, one for each pixel; all but ``ignore_index`` in range."""
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


def _label_weights(
    classes: int, class_weights: Sequence[float] | None, ignore_index: int | None
) -> NDArray[np.float64] | None:
    if class_weights is None and ignore_index is None:
        return None
    return np.ones(classes) if class_weights is None else np.array(class_weights)


def _label_weight(labels: Target, class_weights: Sequence[float] | None, ignore_index: int | None) -> float:
    if class_weights is None and ignore_index is None:
        return labels.size
    counted = labels if ignore_index is None else labels[labels != ignore_index]
    return counted.size if class_weights is None else float(np.asarray(class_weights)[counted].sum())


@cache
def _class_terms(class_weights: tuple[float, ...] | None, smoothing: float, classes: int) -> Float32:
    """The terms of a label's target that its own class and all classes get: 1×C, or 2×C with smoothing."""
    weights = np.ones(classes) if class_weights is None else np.asarray(class_weights)
    terms = [(1 - smoothing) * weights, smoothing / classes * weights]
    return np.array(terms[: 2 if smoothing else 1], np.float32)


def ignored_label(ignore_index: int | None) -> int:
    """``ignore_index`` as kernels take it."""
    return NOT_A_LABEL if ignore_index is None else ignore_index


def _check_index(ignore_index: object) -> None:
    if ignore_index is not None and not isinstance(ignore_index, int | np.integer):
        raise ArgumentError(f"ignore_index={ignore_index!r}: give an integer label, or None")


def checked_weights(name: str, weights: Any) -> tuple[float, ...] | None:
    """Weights as a tuple; ArgumentError unless they are finite numbers, none negative, and one at least is not 0."""
    if weights is None:
        return None
    try:
        found = tuple(map(float, weights))
    except (TypeError, ValueError):
        raise ArgumentError(f"{name}={weights!r}: give a row of numbers") from None
    if not all(math.isfinite(weight) and weight >= 0 for weight in found) or not any(found):
        raise ArgumentError(f"{name}={found}: give numbers of at least 0, one of them above 0")
    return found


def _check_count(name: str, weights: Sequence[float] | None, shape: tuple[int, ...]) -> None:
    if weights is not None and len(weights) != shape[-1]:
        raise ArgumentError(f"{len(weights)} {name} for {shape[-1]} classes")


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
    )
}
