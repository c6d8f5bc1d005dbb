"""Adam, and what has been made of it."""

from dataclasses import dataclass
from math import fsum, sqrt
from types import SimpleNamespace
from typing import Any, ClassVar

from numbacnn._checks import number
from numbacnn.kernels.step_scalars import AdamStep
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

    def _update(self, device: Any, t: SimpleNamespace, step: int, scale: float) -> None:
        device.kernels.adam_update(t.w, t.mean, t.square, t.dw, self._options(step, self.learning_rate * scale))

    def _numbers(self, step: int, scale: float) -> tuple[float, ...]:
        options = self._options(step, self.learning_rate * scale)
        return options.step_size, options.correction, options.keep

    def _update_on_device(self, device: Any, t: SimpleNamespace, scalars: Any) -> None:
        device.loop_kernels.adam_step(t.w, t.mean, t.square, t.dw, scalars, self._options(1, 0.0))

    def _options(self, step: int, rate: float) -> AdamStep:
        return self._moments(step, rate)._replace(weight_decay=self.weight_decay)

    def _moments(self, step: int, rate: float) -> AdamStep:
        """A step without weight decay, its bias corrections made."""
        beta_1, beta_2 = self.betas
        return AdamStep(rate / (1 - beta_1**step), beta_1, beta_2, 1 / sqrt(1 - beta_2**step), self.eps)


@dataclass(eq=False)
class AdamW(Adam):
    """Adam with decoupled weight decay: w −= lr · weight_decay · w beside the step (Loshchilov and Hutter 2019,
    algorithm 2, with the learning rate in the decay as PyTorch has it)."""

    name: ClassVar[str] = "adamw"
    device_steps: ClassVar[bool] = True

    weight_decay: float = 0.01

    def _options(self, step: int, rate: float) -> AdamStep:
        return self._moments(step, rate)._replace(keep=1 - rate * self.weight_decay)


@dataclass(eq=False)
class LAMB(Adam):
    """LAMB (You et al. 2020, algorithm 2): each array steps along r = Adam's direction + weight_decay·w, by
    lr · ‖w‖ / ‖r‖; by lr where one of the two norms is 0. For large batches."""

    name: ClassVar[str] = "lamb"
    by_array: ClassVar[bool] = True
    device_steps: ClassVar[bool] = True

    eps: float = 1e-6
    weight_decay: float = 0.01

    def _update(self, device: Any, t: SimpleNamespace, step: int, scale: float) -> None:
        options = self._options(step, 1.0)
        device.kernels.lamb_moments(t.partial, t.w, t.mean, t.square, t.dw, options)
        weight, direction = map(fsum, device.host(t.partial))
        trust = sqrt(weight / direction) if weight > 0 and direction > 0 else 1.0
        device.kernels.lamb_update(t.w, t.mean, t.square, options, self.learning_rate * scale * trust)

    def _numbers(self, step: int, scale: float) -> tuple[float, ...]:
        options = self._options(step, 1.0)
        return options.step_size, options.correction, self.learning_rate * scale

    def _update_on_device(self, device: Any, t: SimpleNamespace, scalars: Any) -> None:
        device.loop_kernels.lamb_step(t.w, t.mean, t.square, t.dw, scalars, t.partial, self._options(1, 1.0))
