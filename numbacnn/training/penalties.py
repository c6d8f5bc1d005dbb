"""Penalties on weights, l1·Σ|w| + l2·Σw² of the layers that have them, as part of a training step."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.parameters import Parameters

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


class _Term(NamedTuple):
    """A penalized parameter, flat: its values, gradients, scratch for the sums, and the factors."""

    values: Float32
    gradients: Float32
    sums: Float32
    l1: float
    l2: float


class Penalties:
    """The penalties of a model: (l1, l2) by parameter name. If there are none, nothing is allocated or launched."""

    def __init__(self, factors: Mapping[str, tuple[float, float]], store: Parameters) -> None:
        self._factors, self._store = factors, store
        self._terms: list[_Term] | None = None
        self._frozen: frozenset[str] = frozenset()  # when the terms were made

    def __len__(self) -> int:
        """Return the number of penalized parameters, frozen ones included."""
        return len(self._factors)

    def launch(self, partial: Float64) -> None:
        """Add l1·sign(w) + 2·l2·w to the gradients, and write partial sums of each penalty to a row of ``partial``.

        The caller holds ``engine_lock``.
        """
        if self._terms is None or self._frozen != self._store.frozen:
            self._frozen = self._store.frozen
            trained = {name: factors for name, factors in self._factors.items() if name not in self._frozen}
            self._terms = [self._term(name, l1, l2) for name, (l1, l2) in trained.items()]
            self._store.device.write(partial, np.zeros(partial.shape))
        kernels = self._store.device.kernels
        for row, (values, gradients, sums, l1, l2) in enumerate(self._terms):
            kernels.add_penalty_in_place(sums, gradients, values, l1, l2)
            kernels.sum_losses(partial[row], sums, 1.0)

    def _term(self, name: str, l1: float, l2: float) -> _Term:
        store, slot = self._store, self._store.slots[name]
        sums = store.device.zeros(store.device.sizes.penalty_sums_shape(math.prod(slot.shape)))
        return _Term(slot.of(store.values).reshape(-1), slot.of(store.gradients).reshape(-1), sums, l1, l2)
