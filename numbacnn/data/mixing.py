"""The transforms that mix two images: mixup and CutMix."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.transforms import Float32, Float64, Integers, Ranges, Transform, random_boxes
from numbacnn.layers.bindings import Kernels

QUANTILES = 1024  # of the beta distributions


@dataclass(frozen=True)
class Mixing(Transform):
    """A transform that mixes each image with another one of the data set, and their labels with the same weights.

    The other image passes through the preceding transforms, as it would on its own. Its weight follows the distribution
    Beta(alpha, alpha).
    """

    ranges: ClassVar[Ranges] = {"alpha": (0.01, 100)}

    alpha: float

    def partners(self, u: Float64, count: int) -> Integers:
        """Return the indices of the other images in a set of ``count``."""
        return (u[:, 0] * count).astype(np.int64)

    def plan(self, u: Float64, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return the parameters of ``mix`` for each of N images of ``shape`` N×H×W×C."""
        raise NotImplementedError

    def shares(self, plan: NDArray[Any], shape: tuple[int, ...]) -> Float64:
        """Return the weight of the other image in each."""
        raise NotImplementedError

    def mix(self, kernels: Kernels, x: Float32, other: Float32, plan: NDArray[Any]) -> None:
        """Mix ``other`` into x. Only launches kernels, so that it can be recorded."""
        raise NotImplementedError

    def _weights(self, u: Float64) -> Float64:
        levels = (np.arange(QUANTILES) + 0.5) / QUANTILES
        return np.where(self._applied(u), np.interp(u[:, 1], levels, self._quantiles), 0)

    @cached_property
    def _quantiles(self) -> Float64:
        """Quantiles of the symmetric distribution. As a function of v = xᵅ its density has no pole at 0 for α < 1."""
        power = min(self.alpha, 1)
        v = np.linspace(0, 0.5**power, 1 << 14)
        x = v ** (1 / power)
        density = x ** (self.alpha - power) * (1 - x) ** (self.alpha - 1)
        below = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
        half = np.interp((np.arange(QUANTILES // 2) + 0.5) * (2 / QUANTILES), below / below[-1], v) ** (1 / power)
        return np.concatenate([half, 1 - half[::-1]])


@dataclass(frozen=True)
class Mixup(Mixing):
    """Blend two images with random weights (Zhang et al. 2018, "mixup: Beyond empirical risk minimization")."""

    name: ClassVar[str] = "mixup"

    alpha: float = 0.2

    def plan(self, u: Float64, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return weights."""
        return self._weights(u).astype(np.float32)

    def shares(self, plan: NDArray[Any], shape: tuple[int, ...]) -> Float64:
        """Return the weights as they are."""
        return plan.astype(np.float64)

    def mix(self, kernels: Kernels, x: Float32, other: Float32, plan: NDArray[Any]) -> None:
        """Blend the images."""
        kernels.mix_in_place(x, other, plan)


@dataclass(frozen=True)
class CutMix(Mixing):
    """Paste a random box of another image, whose fraction of the area weights the label (Yun et al. 2019)."""

    name: ClassVar[str] = "cutmix"

    alpha: float = 1.0

    def plan(self, u: Float64, shape: tuple[int, ...]) -> NDArray[Any]:
        """Return boxes."""
        sides = np.sqrt(self._weights(u))
        return random_boxes(u[:, 2:], np.rint(sides * shape[1]), np.rint(sides * shape[2]), shape)

    def shares(self, plan: NDArray[Any], shape: tuple[int, ...]) -> Float64:
        """Return the fractions of the area."""
        areas: Float64 = (plan[:, 2] - plan[:, 0]) * (plan[:, 3] - plan[:, 1]) / (shape[1] * shape[2])
        return areas

    def mix(self, kernels: Kernels, x: Float32, other: Float32, plan: NDArray[Any]) -> None:
        """Paste the boxes."""
        kernels.paste_boxes_in_place(x, other, plan)
