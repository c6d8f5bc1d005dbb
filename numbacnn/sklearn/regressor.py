"""The estimator that predicts numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags

from numbacnn.errors import ArgumentError
from numbacnn.losses import Loss
from numbacnn.losses.base import Float32, Float64, Target
from numbacnn.schedules import constant
from numbacnn.sklearn.base import Estimator


@dataclass(eq=False, repr=False)
class CNNRegressor(RegressorMixin, Estimator):  # type: ignore[misc]
    """A network that predicts numbers, trained with the mean squared error of standardized targets.

    Targets are (n,) or (n, outputs). The arguments are those of ``CNNClassifier`` without ``class_weight``.

    Attributes:
        model_: the trained Model, whose outputs are (targets − ``target_mean_``) / ``target_std_``.
        target_mean_, target_std_: (outputs,) float64, of the distinct samples.
        image_shape_, loss_curve_, validation_scores_, n_features_in_ and others: as in ``CNNClassifier``.
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
        found: Float64 = self._outputs(self._images(X)) * self.target_std_ + self.target_mean_
        return found[:, 0] if self._is_flat else found

    def __sklearn_tags__(self) -> Tags:
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

    def _held_out_score(self, outputs: Float32, numbers: Float64, weight: Float64) -> float:
        found = outputs * self.target_std_ + self.target_mean_
        return float(r2_score(numbers, found, sample_weight=weight)) if len(numbers) > 1 else 0.0

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
        """Compute loss and gradient with NumPy. Raises ArgumentError if the arrays are on a GPU."""
        if not isinstance(x, np.ndarray):
            raise ArgumentError('CNNRegressor runs on device="cpu"')
        difference, weight = x.reshape(len(x), -1) - target[:, :-1], target[:, -1:] / x.shape[-1]
        losses[:] = (weight * difference**2).sum(axis=1)
        dx[...] = (2 * scale * weight * difference).reshape(dx.shape)
