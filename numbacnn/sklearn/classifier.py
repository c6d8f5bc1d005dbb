"""The estimator that classifies."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets

from numbacnn._checks import shown
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.losses import Loss, get_loss
from numbacnn.losses.base import Float32, Float64, checked_weights
from numbacnn.model import Model
from numbacnn.schedules import constant
from numbacnn.sklearn.base import Estimator


@dataclass(eq=False, repr=False, kw_only=True)
class CNNClassifier(ClassifierMixin, Estimator):  # type: ignore[misc]
    """A network that classifies, trained with softmax cross-entropy.

    Args:
        architecture: a name from ``nc.models``; or a function that returns a Model, called with ``input_shape``,
            ``classes`` and ``seed`` as the functions of ``nc.models`` are; or None, for up to four 3×3 convolutions
            with pools on images, and for two hidden layers of 64 on features.
        image_shape: (h, w) or (h, w, channels) of the images that rows of X hold; images (n, h, w) and
            (n, h, w, channels) do not need it. Without it, rows are features.
        epochs: passes over the distinct samples.
        batch_size: samples per step, or "auto" for a twentieth of them, from 8 to 64.
        optimizer: a name such as "adam", or an optimizer, which is copied.
        learning_rate: of the optimizer, or None for the optimizer's own.
        schedule: of the learning rate, as in ``Model.fit``.
        random_state: a seed, a RandomState, or None for NumPy's global one.
        augment: random changes of images in ``fit``, as in ``Model.fit``, without Mixup and CutMix.
        device: as in ``Model``.
        early_stopping: hold out ``validation_fraction`` of the distinct samples, stop when their score has not risen by
            more than ``tol`` in ``n_iter_no_change`` epochs, and keep the best weights, as ``MLPClassifier`` does.
        class_weight: None, {class: weight} with 1 for the others, or "balanced".

    Attributes:
        model_: the trained Model, whose ``save`` writes it to a file.
        classes_: the classes in sorted order.
        image_shape_: (h, w, channels), or None for features.
        loss_curve_: the mean loss of each epoch, and ``n_iter_`` their number.
        validation_scores_, best_validation_score_: of the held-out samples, with early stopping.
        n_features_in_: the numbers in a row or an image.
    """

    class_weight: Mapping[Any, float] | str | None = None

    def partial_fit(
        self, X: ArrayLike, y: ArrayLike, classes: ArrayLike | None = None, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Train for an epoch on one part of the data; the first call needs all ``classes``, and sets the normalization.

        The learning rate is constant.
        """
        first = not hasattr(self, "model_")
        if first and classes is None:
            raise ArgumentError("classes must be passed on the first call to partial_fit")
        if self.class_weight == "balanced":
            raise ArgumentError('class_weight="balanced" needs all samples; with partial_fit, use {class: weight}')
        begin = self._begin if first else partial(self._samples, first=False)
        samples = begin(X, y, sample_weight, classes=classes)
        self._train(samples, 1, constant)
        return self

    def predict_proba(self, X: ArrayLike) -> Float32:
        """Return the probabilities (n, classes) of the ``classes_``."""
        images = self._images(X)
        return self.model_.predict(images)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Return the most probable class of each sample."""
        best = self.predict_proba(X).argmax(axis=1)
        return np.asarray(self.classes_[best])

    def _numbers(self, y: NDArray[Any], first: bool, classes: ArrayLike | None) -> Float64:
        check_classification_targets(y)
        if first:
            self.classes_ = np.unique(y if classes is None else np.asarray(classes))
        elif classes is not None and not np.array_equal(np.unique(np.asarray(classes)), self.classes_):
            raise ArgumentError(f"classes={shown(classes)}, but the first part had {self.classes_.tolist()}")
        if len(self.classes_) < 2:
            raise ArgumentError(f"all samples have one class, {self.classes_.tolist()}; at least two are needed")
        unknown = np.setdiff1d(y, self.classes_)
        if unknown.size:
            raise ArgumentError(f"y has classes {unknown.tolist()} that are not among {self.classes_.tolist()}")
        return np.searchsorted(self.classes_, y)[:, None].astype(np.float64)

    def _factors(self, numbers: Float64, weight: Float64) -> Float64 | float:
        if self.class_weight is None:
            return 1.0
        index, classes = numbers[:, 0].astype(np.int64), self.classes_.tolist()
        if self.class_weight == "balanced":
            return np.asarray(1 / np.bincount(index, weight)[index])
        if not isinstance(self.class_weight, Mapping) or not set(self.class_weight) <= set(classes):
            raise ArgumentError(f'class_weight={shown(self.class_weight)}: pass "balanced" or weights of {classes}')
        factors = checked_weights("class_weight", [self.class_weight.get(label, 1) for label in classes])
        return np.array(factors)[index]

    def _learn(self, numbers: Float64) -> int:
        return len(self.classes_)

    def _strata(self, numbers: Float64) -> NDArray[Any] | None:
        index = numbers[:, 0].astype(np.int64)
        return index if np.bincount(index)[index].min() > 1 else None

    def _held_out_score(self, outputs: Float32, numbers: Float64, weight: Float64) -> float:
        return float(np.average(outputs.argmax(axis=1) == numbers[:, 0], weights=weight))

    def _network(self, shape: Shape, outputs: int, seed: int) -> Model:
        model = super()._network(shape, outputs, seed)
        model.classes, model.task = tuple(map(str, self.classes_.tolist())), "classify"
        return model

    def _targets(self, numbers: Float64, weight: Float64) -> tuple[Float32, Loss]:
        one_hot = np.eye(len(self.classes_))[numbers[:, 0].astype(np.int64)]
        return (weight[:, None] * one_hot).astype(np.float32), get_loss("cross_entropy")
