"""Optimisers: one kernel over the flat arena of parameters, and its state in arenas of the same layout."""

from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from numbacnn.device import ENGINE
from numbacnn.errors import ArgumentError
from numbacnn.parameters import Parameters

Float32 = NDArray[np.float32]


class Trainable(Protocol):
    """What an optimiser updates: a Model."""

    store: Parameters


class Optimizer:
    """Updates a model's parameters from its gradients. One optimiser serves one model, since it keeps its moments."""

    name: ClassVar[str]
    slot_names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, learning_rate: float, weight_decay: float = 0.0) -> None:
        _check("learning_rate", learning_rate, 0)
        _check("weight_decay", weight_decay, 0)
        self.learning_rate, self.weight_decay = float(learning_rate), float(weight_decay)
        self.steps = 0
        self.slots: dict[str, Float32] = {}
        self._store: Parameters | None = None

    def step(self, model: Trainable, scale: float = 1.0) -> None:
        """One update from ``model.gradients``, at ``scale`` times the learning rate."""
        with ENGINE:
            self.attach(model)
            self.steps += 1
            self._update(model.store.device.kernels, model.store, self.learning_rate * scale)

    def attach(self, model: Trainable) -> None:
        """Makes the state for this model. Raises ArgumentError where it serves another one already."""
        if self._store is model.store:
            return
        if self._store is not None:
            raise ArgumentError("this optimizer already serves another model; make one for each")
        self._store = model.store
        for name in self.slot_names:
            self.slots[name] = model.store.device.zeros(model.store.size)

    def _update(self, kernels: Any, store: Parameters, learning_rate: float) -> None:
        raise NotImplementedError


class SGD(Optimizer):
    """Stochastic gradient descent with momentum: v = μ·v + g, w −= lr·v, with g = gradient + weight_decay·w.

    ``nesterov`` steps by lr·(g + μ·v) instead (Sutskever et al. 2013). As in PyTorch, weight decay is part of g.
    """

    name: ClassVar[str] = "sgd"
    slot_names: ClassVar[tuple[str, ...]] = ("velocity",)

    def __init__(
        self, learning_rate: float = 0.05, momentum: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        _check("momentum", momentum, 0, 1)
        if nesterov and momentum == 0:
            raise ArgumentError("nesterov=True needs a momentum above 0")
        self.momentum, self.nesterov = float(momentum), bool(nesterov)

    def _update(self, kernels: Any, store: Parameters, learning_rate: float) -> None:
        kernels.sgd_update(
            store.values,
            self.slots["velocity"],
            store.gradients,
            learning_rate,
            self.momentum,
            self.weight_decay,
            self.nesterov,
        )


class Adam(Optimizer):
    """Adam (Kingma and Ba 2015, algorithm 1) with bias correction; weight decay is L2, part of the gradient."""

    name: ClassVar[str] = "adam"
    slot_names: ClassVar[tuple[str, ...]] = ("mean", "square")

    def __init__(
        self,
        learning_rate: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        epsilon: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(learning_rate, weight_decay)
        for beta in betas:
            _check("betas", beta, 0, 1)
        _check("epsilon", epsilon, 0)
        self.betas, self.epsilon = betas, epsilon

    def _update(self, kernels: Any, store: Parameters, learning_rate: float) -> None:
        beta_1, beta_2 = self.betas
        kernels.adam_update(
            store.values,
            self.slots["mean"],
            self.slots["square"],
            store.gradients,
            learning_rate / (1 - beta_1**self.steps),
            beta_1,
            beta_2,
            1 / (1 - beta_2**self.steps) ** 0.5,
            self.epsilon,
            self.weight_decay,
        )


OPTIMIZERS: dict[str, type[Optimizer]] = {kind.name: kind for kind in (SGD, Adam)}


def _check(name: str, value: float, low: float, below: float = float("inf")) -> None:
    if not low <= value < below:
        bound = f" and below {below:g}" if below != float("inf") else ""
        raise ArgumentError(f"{name}={value:g}: give a number of at least {low:g}{bound}")
