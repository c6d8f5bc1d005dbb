"""The trained arrays of a model: values and gradients in one flat arena each, so that an update is one kernel."""

from collections.abc import Mapping
from math import prod
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.initializers import initial_values

Float32 = NDArray[np.float32]
ALIGNMENT = 16  # floats: each array starts on a cache line; the gaps stay zero


class Slot(NamedTuple):
    """Where one array lies in the arena."""

    start: int
    shape: Shape

    @property
    def stop(self) -> int:
        """Behind its last number."""
        return self.start + prod(self.shape)

    def of(self, arena: Float32) -> Float32:
        """The array in ``arena``."""
        return arena[self.start : self.stop].reshape(self.shape)


class Parameters:
    """Named float32 arrays in a flat arena ``values``, with their gradients in ``gradients`` (made when first used).

    ``frozen`` names the parameters that training leaves as they are, and frozen layers that have none; their gradients
    are zeros.
    """

    def __init__(self, specifications: Mapping[str, tuple[Shape, str]], device: Device) -> None:
        self.specifications = dict(specifications)
        self.device = device
        self.slots: dict[str, Slot] = {}
        start = 0
        for name, (shape, _) in self.specifications.items():
            self.slots[name] = Slot(start, shape)
            start += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
        self.size = start
        self.values = device.zeros(start)
        self.frozen: frozenset[str] = frozenset()
        self._gradients: Float32 | None = None
        self._discarded: Float32 | None = None

    @property
    def gradients(self) -> Float32:
        """The flat arena of gradients."""
        if self._gradients is None:
            self._gradients = self.device.zeros(self.size)
        return self._gradients

    @property
    def discarded(self) -> Float32:
        """Where layers write gradients that nobody reads: those of frozen parameters."""
        if self._discarded is None:
            self._discarded = self.device.zeros(self.size)
        return self._discarded

    def freeze(self, names: frozenset[str]) -> None:
        """Makes these, and no others, the frozen ones."""
        self.frozen = names
        if self._gradients is not None:
            for name in names & self.slots.keys():
                self._gradients[self.slots[name].start : self.slots[name].stop] = 0

    @property
    def count(self) -> int:
        """How many numbers are trained."""
        return sum(prod(shape) for shape, _ in self.specifications.values())

    def initialize(self, seed: int) -> None:
        """Draws every array from the seed and its own name."""
        for name, (shape, initializer) in self.specifications.items():
            self.device.write(self.slots[name].of(self.values), initial_values(initializer, shape, seed, name))

    def view(self, arena: Float32) -> Mapping[str, Float32]:
        """Read-only views by name into ``arena``: ``values``, ``gradients``, or an optimiser's of the same layout."""
        views = {}
        for name, slot in self.slots.items():
            views[name] = slot.of(arena)
            views[name].flags.writeable = False
        return MappingProxyType(views)

    def set(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Writes some of the arrays. Raises ArgumentError, and writes none, where a name or a shape does not fit."""
        for name, array in arrays.items():
            if name not in self.slots:
                raise ArgumentError(f'no parameter is called "{name}"; there are {", ".join(self.slots)}')
            if np.shape(array) != self.slots[name].shape:
                raise ArgumentError(f'"{name}" has shape {self.slots[name].shape}, not {np.shape(array)}')
            if not np.can_cast(np.asarray(array).dtype, np.float32, "same_kind"):
                raise ArgumentError(f'"{name}" is {np.asarray(array).dtype}; give real numbers')
        copies = {name: np.array(array, np.float32) for name, array in arrays.items()}  # they may be views of values
        for name, array in copies.items():
            self.device.write(self.slots[name].of(self.values), array)
