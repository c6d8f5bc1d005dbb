"""The arrays of a model: parameters, their gradients, and state, in one flat arena each."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from typing import NamedTuple, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import did_you_mean, shown
from numbacnn._checks.names import AnswersAttributes
from numbacnn.engine.device import Device
from numbacnn.engine.locks import PROCESS_LOCK
from numbacnn.errors import ArgumentError, one_line
from numbacnn.geometry import Shape
from numbacnn.layers.initializers import initial_values

Float32 = NDArray[np.float32]
NO_PARAMETERS = "an optimizer is made without parameters, such as nc.SGD(0.01), and fit and step get the model"
ALIGNMENT = 16  # floats: each array starts on a cache line; the gaps stay zero
SEED_BITS = 128  # as many as NumPy draws for a seed of its own


class Slot(NamedTuple):
    """The position of an array in an arena."""

    start: int
    shape: Shape

    @property
    def stop(self) -> int:
        """The position after its last element."""
        return self.start + prod(self.shape)

    def of(self, arena: Float32) -> Float32:
        """Return the array as a view of ``arena``."""
        return arena[self.start : self.stop].reshape(self.shape)


class MissingArrayError(ArgumentError, KeyError):
    """There is no array of a name."""

    def __str__(self) -> str:
        return one_line(self.args[0])  # a KeyError shows its message in quotes


class Arrays(Mapping[str, Float32], AnswersAttributes):
    """Arrays by name."""

    def __init__(self, arrays: Mapping[str, Float32]) -> None:
        self._arrays = arrays

    def __getitem__(self, name: str) -> Float32:
        try:
            return self._arrays[name]
        except KeyError:
            raise MissingArrayError(_missing(name, self._arrays)) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._arrays)

    def __len__(self) -> int:
        return len(self._arrays)

    def __or__(self, other: Mapping[str, Float32]) -> dict[str, Float32]:
        """Return the arrays of both, as ``|`` of dicts does."""
        return {**self, **other}

    def __call__(self) -> NoReturn:
        """Raise ArgumentError: in PyTorch this is a method."""
        raise ArgumentError(
            'arrays by name are an attribute, so leave the () out: model.parameters["conv2d_1.weight"]; '
            f"{NO_PARAMETERS}"
        )


def _missing(name: object, known: Iterable[str]) -> str:
    """Describe the arrays of a layer, or the nearest to a name."""
    inner = [other for other in known if other.startswith(f"{name}.")]
    if inner:
        return f"no array {shown(name)}; the layer has {', '.join(inner)}"
    near = did_you_mean(str(name), known).strip()
    return f"no array {shown(name)}; {near or 'there are ' + (', '.join(list(known)[:4]) or 'none')}"


class Arena(NamedTuple):
    """A flat array and the named arrays in it."""

    slots: Mapping[str, Slot]
    array: Float32


Specifications = Mapping[str, tuple[Shape, str]]  # shape and initializer by name


class Parameters:
    """The named float32 arrays of a model, each kind in one flat arena, so that an update is one kernel.

    ``values`` holds the trained arrays, ``gradients`` their gradients, and ``state`` arrays that are kept but not
    trained. ``random`` is the key (seed, step) of the numbers that layers draw in training; every training forward is a
    step. ``frozen`` names the parameters that training does not change and whose gradients are zeros, and frozen layers
    without parameters.
    """

    def __init__(self, specifications: Specifications, state: Specifications, device: Device) -> None:
        self.specifications, self.state_specifications = dict(specifications), dict(state)
        self.device = device
        self.slots, self.size = _lay_out(specifications)
        self.state_slots, self._state_size = _lay_out(state)
        self._arenas: tuple[Float32, Float32] | None = None
        self._seed: int | None = None  # of the values to draw when the arenas are made
        self.random = np.zeros(2, np.uint64)
        self.frozen: frozenset[str] = frozenset()
        self._gradients: Float32 | None = None
        self._discarded: Float32 | None = None
        self.version = 0  # number of changes of values and state

    # -- arenas -------------------------------------------------------------------------------------------------------

    @property
    def values(self) -> Float32:
        """The flat arena of trained arrays."""
        return self._made()[0]

    @property
    def state(self) -> Float32:
        """The flat arena of kept arrays."""
        return self._made()[1]

    def _made(self) -> tuple[Float32, Float32]:
        """Return both arenas, made and drawn at first use: summaries and loading from a file need no initial values."""
        with PROCESS_LOCK:
            if self._arenas is None:
                self._arenas = self.device.zeros(self.size), self.device.zeros(self._state_size)
                if self._seed is not None:
                    self._draw(self._seed)
            return self._arenas

    @property
    def gradients(self) -> Float32:
        """The flat arena of gradients, made at first use."""
        if self._gradients is None:
            self._gradients = self.device.zeros(self.size)
        return self._gradients

    @property
    def discarded(self) -> Float32:
        """The arena for gradients that nobody reads, those of frozen parameters."""
        if self._discarded is None:
            self._discarded = self.device.zeros(self.size)
        return self._discarded

    @property
    def count(self) -> int:
        """The number of trained values."""
        return sum(prod(shape) for shape, _ in self.specifications.values())

    def arenas(self) -> dict[str, Arena]:
        """Return what training changes, values and state, to read or write."""
        self.changed()
        return {"parameter": Arena(self.slots, self.values), "state": Arena(self.state_slots, self.state)}

    def changed(self) -> None:
        """Note that values or state are written, so that inference prepares its weights again."""
        self.version += 1

    def freeze(self, names: frozenset[str]) -> None:
        """Freeze these parameters and layers, and no others."""
        self.frozen = names
        if self._gradients is not None:
            for name in names & self.slots.keys():
                slot = self.slots[name]
                self.device.write(slot.of(self._gradients), np.zeros(slot.shape, np.float32))

    # -- initial values -----------------------------------------------------------------------------------------------

    def initialize(self, seed: int) -> None:
        """Give every array the values that are drawn from the seed and its own name. Raises ArgumentError."""
        if not isinstance(seed, int | np.integer) or int(seed).bit_length() > SEED_BITS:
            raise ArgumentError(f"seed={shown(seed)}: pass a whole number of at most {SEED_BITS} bits")
        self.set_random(seed, 0)
        self._seed = seed
        if self._arenas is not None:
            self._draw(seed)

    def skip_initialization(self) -> None:
        """Draw no values, if that has not been done yet, since all of them will be written."""
        self._seed = None

    def _draw(self, seed: int) -> None:
        self.changed()
        for name, (shape, initializer) in {**self.specifications, **self.state_specifications}.items():
            self.device.write(self.array(name), initial_values(initializer, shape, seed, name))

    def set_random(self, seed: int, step: int) -> None:
        """Make the next training forward step ``step + 1`` under ``seed``."""
        self.random[:] = int(seed) % 2**64, step

    # -- arrays by name -----------------------------------------------------------------------------------------------

    def view(self, arena: Float32) -> Mapping[str, Float32]:
        """Return read-only views by name of ``values``, ``gradients``, or an optimizer's arena of the same layout."""
        return _views(self.slots, self.device.host(arena))

    def state_view(self) -> Mapping[str, Float32]:
        """Return read-only views by name of ``state``."""
        return _views(self.state_slots, self.device.host(self.state))

    def arrays(self) -> Mapping[str, Float32]:
        """Return read-only views of values and state, which a model file stores."""
        return {**self.view(self.values), **self.state_view()}

    def copies(self) -> dict[str, Float32]:
        """Return copies of values and state, made between two steps of a training, not during one."""
        with PROCESS_LOCK:
            return {name: np.array(array) for name, array in self.arrays().items()}

    def array(self, name: str) -> Float32:
        """Return one of the arrays, of values or state, to write to."""
        self.changed()
        return self.slots[name].of(self.values) if name in self.slots else self.state_slots[name].of(self.state)

    @contextmanager
    def editing(self, name: str) -> Iterator[Float32]:
        """Give the block one of the arrays on the host, to write to."""
        array = self.array(name)
        host = self.device.host(array)
        yield host
        if host is not array:  # a copy
            self.device.write(array, host)

    def set(self, arrays: Mapping[str, ArrayLike]) -> None:
        """Write values or state by name. Raises ArgumentError, and writes none, if a name or shape is wrong."""
        if not isinstance(arrays, Mapping):
            raise ArgumentError("set_parameters: pass arrays by name, like model.parameters")
        slots = {**self.slots, **self.state_slots}
        for name, array in arrays.items():
            if name not in slots:
                raise ArgumentError(f'no parameter is called "{name}"; there are {", ".join(slots)}')
            if np.shape(array) != slots[name].shape:
                raise ArgumentError(f'"{name}" has shape {slots[name].shape}, not {np.shape(array)}')
            if not np.can_cast(np.asarray(array).dtype, np.float32, "same_kind"):
                raise ArgumentError(f'"{name}" is {np.asarray(array).dtype}; pass real numbers')
        copies = {name: np.array(array, np.float32) for name, array in arrays.items()}  # they may be views of values
        for name, copy in copies.items():
            self.device.write(self.array(name), copy)


def _lay_out(specifications: Specifications) -> tuple[dict[str, Slot], int]:
    """Return the slots of the arrays in an arena, and its size."""
    slots: dict[str, Slot] = {}
    start = 0
    for name, (shape, _) in specifications.items():
        slots[name] = Slot(start, shape)
        start += -(-prod(shape) // ALIGNMENT) * ALIGNMENT
    return slots, start


def _views(slots: Mapping[str, Slot], arena: Float32) -> Mapping[str, Float32]:
    views = {}
    for name, slot in slots.items():
        views[name] = slot.of(arena)
        views[name].flags.writeable = False
    return Arrays(views)
