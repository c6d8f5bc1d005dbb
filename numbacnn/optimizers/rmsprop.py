"""RMSprop and Adagrad: steps divided by the root of a running mean, or of the sum, of squared gradients."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from numbacnn._checks import flag, number
from numbacnn.engine.device import Device
from numbacnn.kernels.step_scalars import RmspropOptions
from numbacnn.layers.bindings import Kernels
from numbacnn.optimizers.base import Float32, Float64, Optimizer, Tensors


@dataclass(eq=False)
class RMSprop(Optimizer):
    """RMSprop (Hinton 2012, lecture 6e): w −= lr · g / (√E[g²] + ε), with g = gradient + weight_decay·w.

    ``alpha`` is the decay of the running mean E[g²]. ``centered`` divides by the standard deviation √(E[g²] − E[g]²)
    instead (Graves 2013); ``momentum`` accumulates the steps. All as in PyTorch.
    """

    name: ClassVar[str] = "rmsprop"

    learning_rate: float = 0.001
    alpha: float = 0.99
    eps: float = 1e-8
    momentum: float = 0.0
    centered: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.centered = flag(self.centered, "centered")
        self.alpha = number(self.alpha, "alpha", 0, 1, below=True)
        self.momentum = number(self.momentum, "momentum", 0, 1, below=True)
        self.eps, self.weight_decay = number(self.eps, "eps", 0), number(self.weight_decay, "weight_decay", 0)
        super().__post_init__()

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The running mean of g², if centered that of g, and with momentum the sum of the steps."""
        return ("square", *(["mean"] if self.centered else []), *(["velocity"] if self.momentum else []))

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        form = ("_centered" if self.centered else "") + ("_momentum" if self.momentum else "")
        options = RmspropOptions(self.alpha, self.momentum, self.eps, self.weight_decay)
        slots = [getattr(t, name) for name in self.slot_names]
        getattr(kernels, f"rmsprop{form}_update")(t.w, *slots, t.dw, scalars, options)


@dataclass(eq=False)
class Adagrad(Optimizer):
    """Adagrad (Duchi et al. 2011): w −= lr · g / (√Σ g² + ε), with g = gradient + weight_decay·w.

    The sum starts at ``initial_accumulator``.
    """

    name: ClassVar[str] = "adagrad"

    learning_rate: float = 0.01
    eps: float = 1e-10
    initial_accumulator: float = 0.0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.eps, self.weight_decay = number(self.eps, "eps", 0), number(self.weight_decay, "weight_decay", 0)
        self.initial_accumulator = number(self.initial_accumulator, "initial_accumulator", 0)
        super().__post_init__()

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The sum of g²."""
        return ("square",)

    def _initialize(self, device: Device, slot: str, arena: Float32) -> None:
        optimizers = self.by_group()
        for segment in self._segments:
            one = optimizers[segment.group]
            assert isinstance(one, Adagrad)
            part = arena[segment.start : segment.stop]
            device.write(part, np.full(part.size, one.initial_accumulator, np.float32))

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        kernels.adagrad_update(t.w, t.square, t.dw, scalars, self.eps, self.weight_decay)
