"""The training that both estimators share: samples, weights, early stopping, augmentation."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Self, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from numbacnn import models
from numbacnn._checks import choose, format_shape, number, shown, whole
from numbacnn.data.augment import Augmentation, apply, get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.normalization import Normalization
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.geometry import Shape
from numbacnn.layers import Conv2D, Dense, Flatten, Layer, MaxPool2D, ReLU
from numbacnn.losses import Loss
from numbacnn.losses.base import Float32, Float64
from numbacnn.model import Model, Sequential
from numbacnn.optimizers import Optimizer, get_optimizer
from numbacnn.schedules import Schedule, get_schedule, watches
from numbacnn.tasks.predictor import EVALUATION_BATCH

Samples: TypeAlias = tuple[Float32, Float64, Float64]  # rows, numbers and weights
_X_SHAPES = "pass (n, features), (n, h, w) or (n, h, w, channels)"


@dataclass(eq=False, repr=False)
class Estimator(BaseEstimator):  # type: ignore[misc]
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
    augment: Augmentation | None = None
    device: str = "cpu"
    early_stopping: bool = False
    validation_fraction: float = 0.1
    n_iter_no_change: int = 10
    tol: float = 1e-4

    _y_checks: ClassVar[Mapping[str, bool]] = {}

    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> Self:
        """Train a new network on X (n, features), or images (n, h, w) or (n, h, w, channels), and targets y.

        Raises ArgumentError, which is a ValueError, if an argument is wrong or arrays do not fit each other.
        """
        schedule = get_schedule(self.schedule)
        if watches(schedule):
            raise ArgumentError(f"{schedule} watches a validation loss, which an estimator does not have")
        samples, held_out = self._begin(X, y, sample_weight), None
        if self.early_stopping:
            samples, held_out = self._split(samples)
        self._train(samples, whole(self.epochs, "epochs"), schedule, held_out)
        return self

    # -- samples ------------------------------------------------------------------------------------------------------

    def _samples(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None, first: bool, classes: ArrayLike | None = None
    ) -> Samples:
        """Return the distinct samples, sorted: rows, numbers (n, k), and weights whose mean is 1."""
        table = self._table(X, first)
        rows, checked = validate_data(self, table, y, reset=first, dtype=np.float32, **self._y_checks)
        rows = self._scaled(rows)
        weight = _check_sample_weight(sample_weight, rows, dtype=np.float64)
        if not (weight >= 0).all() or not weight.any():
            raise ArgumentError("sample_weight: weights must be at least zero, and not all zero")
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
            expected = (
                None if given is None else _image_shape(given, f"image_shape={shown(given)}: pass (h, w, channels)")
            )
            self.image_shape_ = expected or shape
            self._unit = np.float32(
                255 if getattr(X, "dtype", None) == np.uint8 else 1
            )  # a Model too divides bytes by 255
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
    ) -> Samples:
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
        if model.device.name != self.device:
            model.to(self.device)
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
                    f"architecture={shown(make)} is for images, and X has rows; pass image_shape=(h, w, channels)"
                )
            make = choose("architecture", make, models.MODELS)
        return make(input_shape=shape, classes=outputs, seed=seed)

    def _split(self, samples: Samples) -> tuple[Samples, Samples]:
        """Hold out a random ``validation_fraction``, of each class if they are classes of at least two samples."""
        numbers, n = samples[1], len(samples[1])
        fraction = number(self.validation_fraction, "validation_fraction", 0, 1, below=True, above=True)
        if not 0 < math.ceil(n * fraction) < n:
            raise ArgumentError(f"validation_fraction={fraction}: {n} distinct samples cannot be divided like this")
        strata = self._strata(numbers)
        kept, held_out = train_test_split(np.arange(n), test_size=fraction, random_state=self._random, stratify=strata)
        return tuple(array[kept] for array in samples), tuple(array[held_out] for array in samples)

    def _train(self, samples: Samples, epochs: int, schedule: Schedule, held_out: Samples | None = None) -> None:
        """Train on the samples, in batches whose sizes differ by at most one, until the held-out score stops rising."""
        draw, best = self._inputs(samples[0]), _Best(self)
        targets, loss, n = *self._targets(*samples[1:]), len(samples[0])
        batch_size = min(64, max(8, n // 20)) if self.batch_size == "auto" else whole(self.batch_size, "batch_size")
        steps = math.ceil(n / batch_size)
        for epoch in range(epochs):
            total = 0.0
            for step, part in enumerate(np.array_split(self._random.permutation(n), steps)):
                self._optimizer.learning_rate = self._rate * schedule(epoch * steps + step, epochs * steps)
                total += len(part) * self.model_.train_step(draw(part, epoch), targets[part], self._optimizer, loss)
            if not math.isfinite(total):
                raise NumbacnnError(f"the loss is {total} in epoch {epoch + 1}; use a smaller learning_rate")
            self.loss_curve_.append(total / n)
            if held_out is not None and best.is_over(held_out):
                break
        self.n_iter_ = len(self.loss_curve_)
        best.restore()

    def _inputs(self, rows: Float32) -> Callable[[NDArray[Any], int], Float32]:
        """Return a function from indices and the epoch to normalized images, augmented differently in each epoch."""
        model, chain = self.model_, get_augmentation(self.augment)
        raw = rows.reshape(-1, *model.input_shape)
        if chain is None:
            images = model.normalized(raw).reshape(raw.shape)
            return lambda part, epoch: images[part]
        if raw.ndim != 4 or chain.mixes:
            raise ArgumentError(
                f"augment={shown(self.augment)}: pass transforms of images that leave the labels as they are"
            )
        seed = int(
            deepcopy(self._random).randint(2**31 - 1)
        )  # a copy: augmentation does not change the order of samples

        def draw(part: NDArray[Any], epoch: int) -> Float32:
            return model.normalized(apply(chain, raw[part], seed=seed, epoch=epoch, indices=part).images)

        return draw

    def _outputs(self, images: Float32) -> Float32:
        """Return the network's outputs (n, outputs) for images as ``model_`` takes them."""
        x = self.model_.normalized(images).reshape(images.shape)
        starts = range(0, len(x), EVALUATION_BATCH)
        return np.concatenate([self.model_.forward(x[i : i + EVALUATION_BATCH]) for i in starts])

    # -- defined by each estimator ------------------------------------------------------------------------------------

    def _numbers(self, y: NDArray[Any], first: bool, classes: ArrayLike | None) -> Float64:
        """Return targets as numbers (n, k); ``classes`` are those that partial_fit is given."""
        raise NotImplementedError

    def _factors(self, numbers: Float64, weight: Float64) -> Float64 | float:
        """Return what the weights of distinct samples are multiplied by."""
        return 1.0

    def _learn(self, numbers: Float64) -> int:
        """Store what ``_targets`` needs to know of the first samples; return the number of outputs."""
        raise NotImplementedError

    def _targets(self, numbers: Float64, weight: Float64) -> tuple[Float32, Loss]:
        """Return targets that contain the weights, and their loss."""
        raise NotImplementedError

    def _strata(self, numbers: Float64) -> NDArray[Any] | None:
        """Return the class of each sample if all classes have at least two."""
        return None

    def _held_out_score(self, outputs: Float32, numbers: Float64, weight: Float64) -> float:
        """Return the weighted score, as of ``score``, for outputs of the network."""
        raise NotImplementedError


class _Best:
    """The best weights by the score of held-out samples."""

    def __init__(self, estimator: Estimator) -> None:
        self._estimator, self._scores, self._arrays = estimator, list[float](), dict[str, Float32]()
        self._highest, self._since = -math.inf, 0

    def is_over(self, samples: Samples) -> bool:
        """Measure the score; return whether it has not risen by more than ``tol`` in ``n_iter_no_change`` epochs."""
        estimator, (rows, numbers, weight) = self._estimator, samples
        outputs = estimator._outputs(rows.reshape(-1, *estimator.model_.input_shape))
        score = estimator._held_out_score(outputs, numbers, weight)
        self._since = 0 if score > self._highest + number(estimator.tol, "tol", 0) else self._since + 1
        if not self._arrays or score > self._highest:
            model = estimator.model_
            self._arrays = {name: array.copy() for name, array in {**model.parameters, **model.state}.items()}
            self._highest = score
        self._scores.append(score)
        return self._since >= whole(estimator.n_iter_no_change, "n_iter_no_change")

    def restore(self) -> None:
        """Write the best weights to the model, if scores were measured."""
        if self._arrays:
            self._estimator.model_.set_parameters(self._arrays)
            self._estimator.validation_scores_ = self._scores
            self._estimator.best_validation_score_ = self._highest


def _distinct(rows: Float32, numbers: Float64, weight: Float64) -> Samples:
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
