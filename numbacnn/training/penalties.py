"""Penalties on weights: l1·Σ|w| + l2·Σw² of the layers that ask for them, as part of a training step."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.parameters import Parameters

Float32 = NDArray[np.float32]


class _Term(NamedTuple):
    """One penalised parameter, flat: its values, gradients, scratch for the sum, and the factors."""

    values: Float32
    gradients: Float32
    sums: Float32
    l1: float
    l2: float


class Penalties:
    """The penalties of a model: (l1, l2) by parameter name. Without any, nothing is done or allocated."""

    def __init__(self, factors: Mapping[str, tuple[float, float]], store: Parameters) -> None:
        self._factors, self._store = factors, store
        self._terms: list[_Term] | None = None
        self._frozen: frozenset[str] = frozenset()  # when the terms were made

    def __len__(self) -> int:
        """How many parameters are penalised."""
        return len(self._factors.keys() - self._store.frozen)

    def add(self) -> float:
        """Adds l1·sign(w) + 2·l2·w to the gradients; returns l1·Σ|w| + l2·Σw². The caller holds ``engine_lock``."""
        return sum(float(self._store.device.host(sums).sum(dtype=np.float64)) for sums in self.launch())

    def launch(self) -> list[Float32]:
        """Launches the kernels of ``add``; the arrays whose numbers add up to what it returns."""
        if self._terms is None or self._frozen != self._store.frozen:
            self._frozen = self._store.frozen
            trained = {name: factors for name, factors in self._factors.items() if name not in self._frozen}
            self._terms = [self._term(name, l1, l2) for name, (l1, l2) in trained.items()]
        for values, gradients, sums, l1, l2 in self._terms:
            self._store.device.kernels.add_penalty_in_place(sums, gradients, values, l1, l2)
        return [term.sums for term in self._terms]

    def _term(self, name: str, l1: float, l2: float) -> _Term:
        store, slot = self._store, self._store.slots[name]
        sums = store.device.zeros(store.device.sizes.penalty_sums_shape(math.prod(slot.shape)))
        return _Term(slot.of(store.values).reshape(-1), slot.of(store.gradients).reshape(-1), sums, l1, l2)
