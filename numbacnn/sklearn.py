"""Convolutional networks as scikit-learn estimators. They need the extra ``sklearn``.

The weight of a sample counts its copies: k equal samples, or one of weight k, train the same network bit for bit, in
whatever order the samples are given.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any, ClassVar, Self, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn import models
from numbacnn._checks import choose, format_shape, whole
from numbacnn.data.dataset import Dataset
from numbacnn.data.normalization import Normalization
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.geometry import Shape
from numbacnn.layers import Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU
from numbacnn.losses import Loss, get_loss
from numbacnn.losses.base import Float32, Float64, Target, checked_weights
from numbacnn.model import Model, Sequential
from numbacnn.optimizers import Optimizer, get_optimizer
from numbacnn.schedules import Schedule, constant, get_schedule, watches
from numbacnn.tasks.predictor import EVALUATION_BATCH

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
except ImportError:
    raise NumbacnnError("numbacnn.sklearn needs scikit-learn 1.8 or newer: pip install 'numbacnn[sklearn]'") from None

__all__ = ["CNNClassifier", "CNNRegressor"]

_X_SHAPES = "give (n, features), (n, h, w) or (n, h, w, channels)"


@dataclass(eq=False, repr=False)
class _CNN(BaseEstimator):  # type: ignore[misc]
    """The training that both estimators share."""

    architecture: str | Callable[..., Model] | None = None
    _: KW_ONLY
    image_shape: Sequence[int] | None = None
    epochs: int = 30
    batch_size: int | str = "auto"
    optimizer: str | Optimizer = "adam"
    learning_rate: float | None = 0.003
    schedule: Schedule | str | None = "cosine"
    random_state: int | np.random.RandomState | None = None

    _y_checks: ClassVar[Mapping[str, bool]] = {}

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train a new network on X (n, features), or images (n, h, w) or (n, h, w, channels), and targets y.

        Raises ArgumentError, which is a ValueError, if an argument is wrong or arrays do not fit each other.
        """
        schedule = get_schedule(self.schedule)
        if watches(schedule):
            raise ArgumentError(f"{schedule} watches a validation loss, which an estimator does not have")
        self._train(self._begin(X, y, sample_weight), whole(self.epochs, "epochs"), schedule)
        return self

    # -- samples ------------------------------------------------------------------------------------------------------

    def _samples(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, first: bool, classes: ArrayLike | None = None
    ) -> tuple[Float32, Float64, Float64]:
        """Return the distinct samples, in an order of their own: rows, numbers (n, k), and weights whose mean is 1."""
        table = self._table(X, first)
        rows, checked = validate_data(self, table, y, reset=first, dtype=np.float32, **self._y_checks)
        rows = self._scaled(rows)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        if not (weight >= 0).all() or not weight.any():
            raise ArgumentError("sample_weight: give weights of at least zero, not all of them zero")
        counted = weight > 0
        numbers = self._numbers(checked[counted], first, classes)
        rows, numbers, weight = _distinct(rows[counted], numbers, weight[counted])
        weight = weight * self._factors(numbers, weight)
        return rows, numbers, weight * (len(weight) / weight.sum())

    def _table(self, X: ArrayLike, first: bool) -> ArrayLike:
        """Return images as rows and other tables as they are; the ``first`` ones set ``image_shape_``."""
        table = cast("NDArray[Any]", X) if hasattr(X, "ndim") else np.asarray(X)
        shape = (
            None if table.ndim < 3 else _image_shape(table.shape[1:], f"X has shape {tuple(table.shape)}; {_X_SHAPES}")
        )
        if first:
            given = self.image_shape
            expected = None if given is None else _image_shape(given, f"image_shape={given!r}: give (h, w, channels)")
            self.image_shape_ = expected or shape
            self._unit = np.float32(255 if getattr(X, "dtype", None) == np.uint8 else 1)  # as a Model takes bytes
        if shape is None:
            return table
        if shape != self.image_shape_:
            trained = "rows of features" if self.image_shape_ is None else format_shape(self.image_shape_)
            raise ArgumentError(f"X has images of {format_shape(shape)}, but the network is for {trained}")
        return np.asarray(table).reshape(len(table), -1)

    def _scaled(self, rows: Float32) -> Float32:
        """Return bytes from 0 to 1, and no negative zeros, so that equal rows have equal bytes."""
        return rows / self._unit + np.float32(0)

    def _images(self, X: ArrayLike) -> Float32:
        """Return X as ``model_`` takes it."""
        check_is_fitted(self, "model_")
        rows = validate_data(self, self._table(X, False), reset=False, dtype=np.float32)
        return self._scaled(rows).reshape(-1, *self.model_.input_shape)

    # -- training -----------------------------------------------------------------------------------------------------

    def _begin(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, classes: ArrayLike | None = None
    ) -> tuple[Float32, Float64, Float64]:
        """Make the network, its normalization and its optimizer for the first samples, and return these."""
        rows, numbers, weight = self._samples(X, y, sample_weight, True, classes)
        shape = self.image_shape_ or rows.shape[1:]
        if math.prod(shape) != rows.shape[1]:
            raise ArgumentError(
                f"image_shape {format_shape(shape)} has {math.prod(shape)} numbers; a row of X, {rows.shape[1]}"
            )
        self._random = check_random_state(self.random_state)
        outputs = self._learn(numbers)
        model = self._network(shape, outputs, int(self._random.randint(2**31 - 1)))
        if len(model.graph.outputs) > 1 or model.output_shape != (outputs,):
            raise ArgumentError(f"the architecture's output has shape {model.output_shape}; it has to be ({outputs},)")
        images = Dataset.from_arrays(rows.reshape(-1, *(1, 1, *shape)[-3:]), np.zeros(len(rows), np.int64))
        model.normalization = Normalization(tuple(images.mean.tolist()), tuple(images.std.tolist()))
        self._optimizer = _optimizer(self.optimizer, self.learning_rate)
        self._rate = self._optimizer.learning_rate
        self.loss_curve_: list[float] = []
        self.model_ = model
        return rows, numbers, weight

    def _network(self, shape: Shape, outputs: int, seed: int) -> Model:
        make = self.architecture
        if make is None:
            return Sequential(_default_layers(shape, outputs), shape, seed=seed)
        if isinstance(make, str):
            if len(shape) < 3:
                raise ArgumentError(
                    f"architecture={make!r} is for images, and X has rows; give image_shape=(h, w, channels)"
                )
            make = choose("architecture", make, models.MODELS)
        return make(input_shape=shape, classes=outputs, seed=seed)

    def _train(self, samples: tuple[Float32, Float64, Float64], epochs: int, schedule: Schedule) -> None:
        """Train on the samples, in batches whose sizes differ by at most one."""
        rows, model, n = samples[0], self.model_, len(samples[0])
        images = model.normalized(rows.reshape(-1, *model.input_shape)).reshape(-1, *model.input_shape)
        targets, loss = self._targets(*samples[1:])
        batch_size = min(64, max(8, n // 20)) if self.batch_size == "auto" else whole(self.batch_size, "batch_size")
        steps = math.ceil(n / batch_size)
        for epoch in range(epochs):
            total = 0.0
            for step, part in enumerate(np.array_split(self._random.permutation(n), steps)):
                self._optimizer.learning_rate = self._rate * schedule(epoch * steps + step, epochs * steps)
                total += len(part) * model.train_step(images[part], targets[part], self._optimizer, loss)
            if not math.isfinite(total):
                raise NumbacnnError(f"the loss is {total} in epoch {epoch + 1}; give a smaller learning_rate")
            self.loss_curve_.append(total / n)

    # -- defined by each estimator ------------------------------------------------------------------------------------

    def _numbers(self, y: NDArray[Any], first: bool, classes: ArrayLike | None) -> Float64:
        """Return targets as numbers (n, k); ``classes`` are those that partial_fit is given."""
        raise NotImplementedError

    def _factors(self, numbers: Float64, weight: Float64) -> Float64 | float:
        """Return what the weights of distinct samples are multiplied by."""
        return 1.0

    def _learn(self, numbers: Float64) -> int:
        """Keep what ``_targets`` needs of the first samples; return the number of outputs."""
        raise NotImplementedError

    def _targets(self, numbers: Float64, weight: Float64) -> tuple[Float32, Loss]:
        """Return targets that contain the weights, and their loss."""
        raise NotImplementedError


@dataclass(eq=False, repr=False, kw_only=True)
class CNNClassifier(ClassifierMixin, _CNN):  # type: ignore[misc]
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
        class_weight: None, {class: weight} with 1 for the others, or "balanced".

    Attributes:
        model_: the trained Model, whose ``save`` writes it to a file.
        classes_: the classes in sorted order.
        image_shape_: (h, w, channels), or None for features.
        loss_curve_: the mean loss of each epoch.
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
            raise ArgumentError('class_weight="balanced" needs all samples: give partial_fit weights {class: weight}')
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
            raise ArgumentError(f"classes={classes!r}, but the first part had {self.classes_.tolist()}")
        if len(self.classes_) < 2:
            raise ArgumentError(f"all samples have one class, {self.classes_.tolist()}; give at least two classes")
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
            raise ArgumentError(f'class_weight={self.class_weight!r}: give "balanced" or weights of {classes}')
        factors = checked_weights("class_weight", [self.class_weight.get(label, 1) for label in classes])
        return np.array(factors)[index]

    def _learn(self, numbers: Float64) -> int:
        return len(self.classes_)

    def _network(self, shape: Shape, outputs: int, seed: int) -> Model:
        model = super()._network(shape, outputs, seed)
        model.classes, model.task = tuple(map(str, self.classes_.tolist())), "classify"
        return model

    def _targets(self, numbers: Float64, weight: Float64) -> tuple[Float32, Loss]:
        one_hot = np.eye(len(self.classes_))[numbers[:, 0].astype(np.int64)]
        return (weight[:, None] * one_hot).astype(np.float32), get_loss("cross_entropy")


@dataclass(eq=False, repr=False)
class CNNRegressor(RegressorMixin, _CNN):  # type: ignore[misc]
    """A network that predicts numbers, trained with the mean squared error of standardized targets.

    Targets are (n,) or (n, outputs). The arguments are those of ``CNNClassifier`` without ``class_weight``.

    Attributes:
        model_: the trained Model, whose outputs are (targets − ``target_mean_``) / ``target_std_``.
        target_mean_, target_std_: (outputs,) float64, of the distinct samples.
        image_shape_, loss_curve_, n_features_in_: as in ``CNNClassifier``.
    """

    _y_checks: ClassVar[Mapping[str, bool]] = {"multi_output": True, "y_numeric": True}

    def partial_fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train for an epoch on one part of the data; the first one sets the normalization and the targets' scale.

        The learning rate is constant.
        """
        first = not hasattr(self, "model_")
        samples = self._begin(X, y, sample_weight) if first else self._samples(X, y, sample_weight, False)
        self._train(samples, 1, constant)
        return self

    def predict(self, X: ArrayLike) -> Float64:
        """Return a number for each sample, (n,), or (n, outputs) if the targets had two dimensions."""
        images, model = self._images(X), self.model_
        x = model.normalized(images).reshape(images.shape)
        outputs = [model.forward(x[i : i + EVALUATION_BATCH]) for i in range(0, len(x), EVALUATION_BATCH)]
        found: Float64 = np.concatenate(outputs) * self.target_std_ + self.target_mean_
        return found[:, 0] if self._is_flat else found

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _numbers(self, y: NDArray[Any], first: bool, classes: ArrayLike | None) -> Float64:
        if first:
            self._is_flat = y.ndim == 1
        return y.reshape(len(y), -1).astype(np.float64)

    def _learn(self, numbers: Float64) -> int:
        std = numbers.std(axis=0)
        self.target_mean_, self.target_std_ = numbers.mean(axis=0), np.where(std == 0, 1, std)
        return int(numbers.shape[1])

    def _targets(self, numbers: Float64, weight: Float64) -> tuple[Float32, Loss]:
        standard = (numbers - self.target_mean_) / self.target_std_
        return np.hstack([standard, weight[:, None]]).astype(np.float32), _WeightedSquaredError()


@dataclass(frozen=True)
class _WeightedSquaredError(Loss):
    """weight · (x − y)², the mean over outputs and images. A target holds y and, in its last column, the weight."""

    name: ClassVar[str] = "weighted_squared_error"
    only_launches: ClassVar[bool] = False

    def target(self, target: ArrayLike, shape: tuple[int, ...]) -> Target:
        """Take numbers (n, outputs + 1)."""
        return np.asarray(target)

    def launch(self, kernels: object, losses: Float32, dx: Float32, x: Float32, target: Target, scale: float) -> None:
        """Compute loss and gradient with NumPy."""
        difference, weight = x.reshape(len(x), -1) - target[:, :-1], target[:, -1:] / x.shape[-1]
        losses[:] = (weight * difference**2).sum(axis=1)
        dx[...] = (2 * scale * weight * difference).reshape(dx.shape)


def _distinct(rows: Float32, numbers: Float64, weight: Float64) -> tuple[Float32, Float64, Float64]:
    """Return the distinct samples in the order of their bytes, with the sums of the weights of equal ones."""
    keys = np.hstack([np.ascontiguousarray(part).view(np.uint8) for part in (rows, numbers)])
    _, first, inverse = np.unique(keys.view(f"V{keys.shape[1]}")[:, 0], return_index=True, return_inverse=True)
    return rows[first], numbers[first], np.bincount(inverse, weight).astype(np.float64)


def _image_shape(given: Sequence[int], problem: str) -> Shape:
    """Return (h, w, channels) from that or (h, w), or raise ArgumentError with the problem."""
    try:
        shape = tuple(whole(size, "image_shape") for size in given)
    except (TypeError, ArgumentError):
        shape = ()
    if len(shape) not in (2, 3):
        raise ArgumentError(problem)
    return (*shape, 1)[:3]


def _default_layers(shape: Shape, outputs: int) -> list[Layer]:
    """Return up to four 3×3 convolutions with pools for images, or two hidden layers of 64 for features."""
    if len(shape) < 3:
        return [Dense(64), ReLU(), Dense(64), ReLU(), Dense(outputs)]
    pools = max(1, min(4, int(math.log2(max(min(shape[:2]), 2))) - 1))
    layers: list[Layer] = []
    for i in range(pools):
        layers += [Conv2D(32 << i, 3, padding="same"), ReLU()]
        layers += [MaxPool2D(2)] if min(shape[:2]) >= 2 else []
    return [*layers, Flatten(), Dense(outputs)]


def _optimizer(given: str | Optimizer, learning_rate: float | None) -> Optimizer:
    """Return a new optimizer by its name, or like the given one, with that learning rate unless it is None."""
    optimizer = get_optimizer(given)
    changes = {} if learning_rate is None else {"learning_rate": learning_rate}
    return type(optimizer)(**deepcopy(optimizer.options) | changes)
