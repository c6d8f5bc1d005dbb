"""Adam, AdamW and LAMB."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any, ClassVar

from numbacnn._checks import number, shown
from numbacnn.errors import ArgumentError
from numbacnn.kernels.step_scalars import AdamOptions
from numbacnn.layers.bindings import Kernels
from numbacnn.optimizers.base import Float64, Optimizer, Tensors


@dataclass(eq=False)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) with bias correction; weight decay is L2, part of the gradient."""

    name: ClassVar[str] = "adam"

    learning_rate: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.betas, str) or not hasattr(self.betas, "__len__") or len(self.betas) != 2:
            raise ArgumentError(f"betas={shown(self.betas)}: use two numbers")
        beta_1, beta_2 = (number(beta, "betas", 0, 1, below=True) for beta in self.betas)
        self.betas = beta_1, beta_2
        self.eps, self.weight_decay = number(self.eps, "eps", 0), number(self.weight_decay, "weight_decay", 0)
        super().__post_init__()

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square."""
        return ("mean", "square")

    def step_scalars(self, step: int, scale: float) -> tuple[float, ...]:
        """Return the step size, the correction of the second moment, and the share of w that stays."""
        return *self._corrections(step, self.learning_rate * scale), 1.0

    def _corrections(self, step: int, rate: float) -> tuple[float, float]:
        """Return rate / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ)."""
        beta_1, beta_2 = self.betas
        return rate / (1 - beta_1**step), 1 / sqrt(1 - beta_2**step)

    def _kernel_options(self) -> AdamOptions:
        return AdamOptions(*self.betas, self.eps, self.weight_decay)

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        kernels.adam_update(t.w, t.mean, t.square, t.dw, scalars, self._kernel_options())


@dataclass(eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: each step also subtracts lr · weight_decay · w.

    Loshchilov and Hutter 2019, algorithm 2, with the learning rate in the decay as in PyTorch.
    """

    name: ClassVar[str] = "adamw"

    weight_decay: float = 0.01

    def step_scalars(self, step: int, scale: float) -> tuple[float, ...]:
        """Return the step size, the correction of the second moment, and the share of w that stays."""
        rate = self.learning_rate * scale
        return *self._corrections(step, rate), 1 - rate * self.weight_decay

    def _kernel_options(self) -> AdamOptions:
        return super()._kernel_options()._replace(weight_decay=0.0)


@dataclass(eq=False)
class LAMB(Adam):
    """LAMB (You et al. 2020, algorithm 2), for large batches: Adam with a learning rate for each parameter array.

    Each array steps along r = Adam's direction + weight_decay·w, by lr · ‖w‖ / ‖r‖, or by lr if one of the norms is 0.
    """

    name: ClassVar[str] = "lamb"
    recommended: ClassVar[Mapping[str, Any]] = {"learning_rate": 0.005}
    by_array: ClassVar[bool] = True

    eps: float = 1e-6
    weight_decay: float = 0.01

    def step_scalars(self, step: int, scale: float) -> tuple[float, ...]:
        """Return the two bias corrections and the learning rate."""
        return *self._corrections(step, 1.0), self.learning_rate * scale

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        options = self._kernel_options()
        kernels.lamb_moments(t.mean, t.square, t.dw, scalars, options)
        kernels.lamb_trust(t.partial, t.w, t.mean, t.square, scalars, options)
        kernels.lamb_update(t.w, t.mean, t.square, scalars, t.partial[1], options)
