"""Adam, and what has been made of it."""

from dataclasses import dataclass
from math import sqrt
from types import SimpleNamespace
from typing import Any, ClassVar

from numbacnn._checks import number
from numbacnn.kernels.step_scalars import AdamOptions
from numbacnn.optimizers.base import Optimizer, check_betas


@dataclass(eq=False)
class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) with bias correction; weight decay is L2, part of the gradient."""

    name: ClassVar[str] = "adam"
    device_steps: ClassVar[bool] = True

    learning_rate: float = 0.001
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.betas = check_betas(self.betas)
        self.eps = number(self.eps, "eps", 0)
        self.weight_decay = number(self.weight_decay, "weight_decay", 0)
        super().__post_init__()

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The running means of the gradient and of its square."""
        return ("mean", "square")

    def _numbers(self, step: int, scale: float) -> tuple[float, ...]:
        return *self._corrections(step, self.learning_rate * scale), 1.0

    def _corrections(self, step: int, rate: float) -> tuple[float, float]:
        """rate / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ)."""
        beta_1, beta_2 = self.betas
        return rate / (1 - beta_1**step), 1 / sqrt(1 - beta_2**step)

    def _options(self) -> AdamOptions:
        return AdamOptions(*self.betas, self.eps, self.weight_decay)

    def _update(self, device: Any, t: SimpleNamespace, scalars: Any) -> None:
        device.kernels.adam_update(t.w, t.mean, t.square, t.dw, scalars, self._options())


@dataclass(eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: w −= lr · weight_decay · w beside the step (Loshchilov and Hutter 2019,
    algorithm 2, with the learning rate in the decay as PyTorch has it)."""

    name: ClassVar[str] = "adamw"
    device_steps: ClassVar[bool] = True

    weight_decay: float = 0.01

    def _numbers(self, step: int, scale: float) -> tuple[float, ...]:
        rate = self.learning_rate * scale
        return *self._corrections(step, rate), 1 - rate * self.weight_decay

    def _options(self) -> AdamOptions:
        return super()._options()._replace(weight_decay=0.0)


@dataclass(eq=False)
class LAMB(Adam):
    """LAMB (You et al. 2020, algorithm 2): each array steps along r = Adam's direction + weight_decay·w, by
    lr · ‖w‖ / ‖r‖; by lr where one of the two norms is 0. For large batches."""

    name: ClassVar[str] = "lamb"
    by_array: ClassVar[bool] = True
    device_steps: ClassVar[bool] = True

    eps: float = 1e-6
    weight_decay: float = 0.01

    def _numbers(self, step: int, scale: float) -> tuple[float, ...]:
        return *self._corrections(step, 1.0), self.learning_rate * scale

    def _update(self, device: Any, t: SimpleNamespace, scalars: Any) -> None:
        kernels, options = device.kernels, self._options()
        kernels.lamb_moments(t.mean, t.square, t.dw, scalars, options)
        kernels.lamb_trust(t.partial, t.w, t.mean, t.square, scalars, options)
        kernels.lamb_update(t.w, t.mean, t.square, scalars, t.partial[1], options)
