"""Stochastic gradient descent."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numbacnn._checks import flag, number
from numbacnn.errors import ArgumentError
from numbacnn.layers.bindings import Kernels
from numbacnn.optimizers.base import Float64, Optimizer, Tensors


@dataclass(eq=False)
class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v = μ·v + g, w −= lr·v, with g = gradient + weight_decay·w.

    ``nesterov`` steps by lr·(g + μ·v) instead (Sutskever et al. 2013). Weight decay is part of g, as in PyTorch.
    """

    name: ClassVar[str] = "sgd"
    recommended: ClassVar[Mapping[str, Any]] = {"learning_rate": 0.01, "momentum": 0.9}

    learning_rate: float = 0.05
    momentum: float = 0.0
    nesterov: bool = False
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        self.momentum = number(self.momentum, "momentum", 0, 1, below=True)
        self.weight_decay = number(self.weight_decay, "weight_decay", 0)
        self.nesterov = flag(self.nesterov, "nesterov")
        if self.nesterov and self.momentum == 0:
            raise ArgumentError("nesterov=True needs a momentum above 0")
        super().__post_init__()

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The velocity v."""
        return ("velocity",)

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        kernels.sgd_update(t.w, t.velocity, t.dw, scalars, self.momentum, self.weight_decay, self.nesterov)
