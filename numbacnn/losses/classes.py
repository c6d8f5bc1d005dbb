"""Losses of classes: cross-entropy and focal loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike

from numbacnn._checks.arrays import real_array
from numbacnn.errors import ArgumentError
from numbacnn.layers.bindings import Kernels
from numbacnn.losses.base import (
    Float32,
    Float64,
    Loss,
    Target,
    Weights,
    check_count,
    check_ignore_index,
    checked_weights,
    class_labels,
    ignored_label,
    same_size,
    weights_of_classes,
)


class LabelLoss(Loss):
    """A loss of integer labels with ``class_weights``, whose mean is weighted by them, as in PyTorch."""

    per_image: ClassVar[bool] = True
    activation = "softmax"
    class_weights: Weights | None = None

    def __post_init__(self) -> None:
        if self.class_weights is not None:
            object.__setattr__(self, "class_weights", weights_of_classes("class_weights", self.class_weights))
        check_ignore_index(self.ignore_index)

    def for_classes(self, names: Sequence[str]) -> Self:
        """Take ``class_weights`` by name."""
        if not isinstance(self.class_weights, Mapping):
            return self
        weights = checked_weights("class_weights", self.class_weights, names)
        return replace(self, class_weights=weights)  # type: ignore[type-var]  # every subclass is a dataclass

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take integer labels, one for each image or pixel."""
        check_count("class_weights", self.class_weights, shape)
        array = real_array(target, "target")
        if not np.issubdtype(array.dtype, np.integer):
            raise ArgumentError(f"labels are {array.dtype}; the {self.name} loss needs integer classes")
        return class_labels(array, shape, self.ignore_index)

    def weight(self, target: Target) -> float:
        """Return the sum of the labels' class weights, without ignored labels."""
        if target.ndim > 1 or (self.class_weights is None and self.ignore_index is None):
            return super().weight(target)
        counted = target if self.ignore_index is None else target[target != self.ignore_index]
        return counted.size if self.class_weights is None else float(np.asarray(self.class_weights)[counted].sum())

    def label_weights(self, classes: int) -> Float64 | None:
        """Return the class weights; ones if there are none but some labels are ignored."""
        if self.class_weights is not None:
            return np.array(self.class_weights)
        return None if self.ignore_index is None else np.ones(classes)


@dataclass(frozen=True)
class CrossEntropy(LabelLoss):
    """Softmax cross-entropy, −log softmax(logits)[label], or −Σ p·log softmax(logits) for probabilities p.

    ``label_smoothing`` ε replaces a target p by (1 − ε)·p + ε/C (Szegedy et al. 2016, section 7). ``class_weights``
    multiply each class's term. Images or pixels labeled ``ignore_index`` do not count. The mean over labels is weighted
    by their class weights, that over probabilities is not, both as in PyTorch. If all labels are ignored the loss is 0.
    """

    name: ClassVar[str] = "cross_entropy"

    label_smoothing: float = 0.0
    class_weights: Weights | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        self.check_number("label_smoothing", 0, 1)
        super().__post_init__()

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take integer labels, one for each image or pixel, or probabilities in the shape of the outputs."""
        array = real_array(target, "target")
        if np.issubdtype(array.dtype, np.integer):
            return super().target(array, shape)
        check_count("class_weights", self.class_weights, shape)
        if self.ignore_index is not None:
            raise ArgumentError("ignore_index is for integer labels; to ignore a pixel, set its probabilities to 0")
        return same_size(array, shape)

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Launch the kernel for labels or that for probabilities."""
        terms = class_terms(self.class_weights, self.label_smoothing, x.shape[-1])
        if target.ndim == 1:
            kernels.cross_entropy_labels(losses, dx, x, target, terms, ignored_label(self.ignore_index), scale)
        else:
            kernels.cross_entropy_probabilities(losses, dx, x, target, terms, scale)


@dataclass(frozen=True)
class Focal(LabelLoss):
    """Focal loss of softmax probabilities, −w·(1 − p)^gamma · log p, with p of the label and its class weight w.

    Lin et al. 2017, "Focal loss for dense object detection", equation 5, with softmax instead of the sigmoid and
    ``class_weights`` as α. Labels, ``ignore_index`` and the weighted mean are as in ``CrossEntropy``, which it equals
    at gamma=0.
    """

    name: ClassVar[str] = "focal"

    gamma: float = 2.0
    class_weights: Weights | None = None
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        self.check_number("gamma", 0)
        super().__post_init__()

    def launch(self, kernels: Kernels, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Launch the kernel."""
        weights = class_terms(self.class_weights, 0.0, x.shape[-1])[0]
        kernels.focal_labels(losses, dx, x, target, weights, ignored_label(self.ignore_index), self.gamma, scale)


@cache
def class_terms(class_weights: tuple[float, ...] | None, smoothing: float, classes: int) -> Float32:
    """Return the terms of a label's target for its own class and for all classes: 1×C, or 2×C with smoothing."""
    weights = np.ones(classes) if class_weights is None else np.asarray(class_weights)
    terms = [(1 - smoothing) * weights, smoothing / classes * weights]
    return np.array(terms[: 2 if smoothing else 1], np.float32)
