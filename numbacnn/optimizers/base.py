"""The interface of optimizers: parameter groups, the segments that they make of the arena, clipping, and state."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose, matching, number, shown
from numbacnn._checks.names import AnswersAttributes, ChecksArguments, checks_call
from numbacnn.engine.device import Device
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import NO_PARAMETERS, Parameters
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.kernels.step_scalars import SUM_GROUPS
from numbacnn.layers.bindings import Kernels
from numbacnn.layers.registry import is_custom

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]
OF_THE_MODEL = ("groups", "clip_norm", "clip_value")  # arguments that a group cannot have


class Trainable(Protocol):
    """The interface of a model that an optimizer needs."""

    store: Parameters


class ParamGroup:
    """Options for the parameters whose names match ``pattern``, as in ``ParamGroup("*.bias", weight_decay=0)``.

    ``pattern`` is a pattern of fnmatch; a parameter belongs to the first group that matches its name in
    ``model.parameters``. ``options`` are arguments of the optimizer; other arguments are those of the optimizer itself.
    """

    def __init__(self, pattern: str, **options: Any) -> None:
        self.pattern, self.options = pattern, options

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"ParamGroup({self.pattern!r}{options})"


class Segment(NamedTuple):
    """Neighbors in the arena that one launch updates: a parameter, or several of the same group."""

    group: int  # index into ``groups``, or −1
    start: int
    stop: int
    shape: Shape  # of the first parameter


class Tensors:
    """The arrays of a segment, flat: ``w``, ``dw``, and the optimizer's slots and scratch by their names.

    ``partial`` is scratch for sums, 2 × SUM_GROUPS; ``shape`` is that of the segment's first parameter.
    """

    def __init__(self, w: Float32, dw: Float32, partial: Float64, shape: Shape, arrays: Mapping[str, Float32]) -> None:
        self.w, self.dw, self.partial, self.shape, self.arrays = w, dw, partial, shape, arrays

    def __getattr__(self, name: str) -> Float32:
        try:
            return self.arrays[name]
        except KeyError:
            raise AttributeError(f"this segment has no array {name!r}; it has {', '.join(self.arrays)}") from None


@dataclass(kw_only=True, eq=False)
class Optimizer(ChecksArguments, AnswersAttributes):
    """Updates a model's parameters from its gradients. An optimizer serves one model, since it keeps its moments.

    ``groups`` have options for some of the parameters. Before an update the gradients are clipped in place: each
    element to [−clip_value, clip_value], then all of them together to the Euclidean norm ``clip_norm`` (Pascanu et al.
    2013). Frozen parameters are not changed. A copy, by ``copy.deepcopy`` or pickle, keeps the moments and serves the
    first model that it is used with.

    An optimizer defines ``name``, its arguments as dataclass fields, ``slot_names``, ``step_scalars`` and ``_update``,
    which launches a formula of ``kernels.formulas.updates``.

    Attributes:
        steps: updates made.
        slots: the arenas of moments, by name.
    """

    name: ClassVar[str]
    recommended: ClassVar[Mapping[str, Any]] = {}  # defaults of training runs that differ from those of the arguments
    by_array: ClassVar[bool] = False  # whether a launch updates a single parameter, since it needs the whole of it
    only_launches: ClassVar[bool] = False  # whether ``_update`` only launches kernels; a custom class declares it

    learning_rate: float = 0.001
    groups: Sequence[ParamGroup] = ()
    clip_norm: float | None = None
    clip_value: float | None = None
    steps: int = field(default=0, init=False, repr=False)
    slots: dict[str, Float32] = field(default_factory=dict, init=False, repr=False)

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        if "only_launches" not in vars(cls):
            cls.only_launches = not is_custom(cls)

    def __post_init__(self) -> None:
        if isinstance(self.learning_rate, Iterable) and not isinstance(self.learning_rate, str):
            raise ArgumentError(f"learning_rate={shown(self.learning_rate)}: pass a number; {NO_PARAMETERS}")
        self.learning_rate = number(self.learning_rate, "learning_rate", 0)
        self._store: Parameters | None = None
        self._layout: dict[str, Shape] = {}
        self._segments: list[Segment] = []
        self._frozen: frozenset[str] = frozenset()
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                setattr(self, name, number(getattr(self, name), name, 0))
        if not isinstance(self.groups, Sequence) or not all(isinstance(group, ParamGroup) for group in self.groups):
            raise ArgumentError(
                f'groups={shown(self.groups)}: pass a list such as [nc.ParamGroup("*.bias", weight_decay=0)]'
            )
        self.by_group()  # raises an error for invalid options now rather than in the first step

    @property
    def slot_names(self) -> tuple[str, ...]:
        """Names of the arrays that it keeps for each parameter."""
        return ()

    @property
    def options(self) -> dict[str, Any]:
        """The arguments by name."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.init}

    @property
    def is_replayable(self) -> bool:
        """Whether a GPU can replay the launches of an update."""
        return self.only_launches

    @classmethod
    def defaults(cls) -> dict[str, Any]:
        """Return the defaults of the arguments in training runs."""
        return {part.name: part.default for part in fields(cls) if part.init} | dict(cls.recommended)

    @checks_call
    def step(self, model: Trainable, scale: float = 1.0) -> None:
        """Make one update from ``model.gradients``, at ``scale`` times the learning rate."""
        with engine_lock:
            self.attach(model)
            self.steps += 1
            model.store.changed()
            scalars = [[1.0, *one.step_scalars(self.steps, scale)] for one in self.by_group()]
            model.store.device.write(self._scalars, np.array(scalars))
            self.launch(model, self._scalars)

    def launch(self, model: Trainable, scalars: Float64) -> None:
        """Launch the kernels of an update.

        scalars: len(``by_group()``) × (1 + K), in device memory: 1, or 0 for no update, then the ``step_scalars`` of
        each. The caller holds ``engine_lock`` and counts the steps.
        """
        kernels, gradients = model.store.device.kernels, model.store.gradients
        if self.clip_value is not None:
            kernels.clip_in_place(gradients, self.clip_value)
        if self.clip_norm is not None:
            kernels.clip_norm_in_place(gradients, self._partial, self.clip_norm)
        optimizers = self.by_group()
        for segment in self._segments:
            one, numbers = optimizers[segment.group], scalars[segment.group % len(optimizers)]
            one._update(kernels, self._tensors(segment, model.store, one), numbers)

    def scalar_tables(self, first: int, count: int) -> Float64:
        """Return the step scalars of ``count`` updates from number ``first`` on, for each group as a + scale·b.

        The shape is count × 2·len(``by_group()``) × K, with a and b in turn.
        """
        optimizers, steps = self.by_group(), range(first, first + count)
        tables = np.array([[[one.step_scalars(n, scale) for scale in (0.0, 1.0)] for one in optimizers] for n in steps])
        tables[:, :, 1] -= tables[:, :, 0]
        return tables.reshape(count, 2 * len(optimizers), -1)

    def attach(self, model: Trainable) -> None:
        """Allocate the state for a model, and follow which of its parameters are frozen.

        Raises:
            ArgumentError: the optimizer serves another model, was copied from one for other parameters, a group matches
                no parameter, or all parameters are frozen.
        """
        try:
            store = model.store
        except AttributeError:
            raise ArgumentError(f"step needs the model: optimizer.step(model), not {type(model).__name__}") from None
        if self._store is store:
            if store.frozen != self._frozen:
                self._divide(store)
            return
        if self._store is not None:
            raise ArgumentError("this optimizer already serves another model; make one for each")
        layout = {name: slot.shape for name, slot in store.slots.items()}
        if self._layout and self._layout != layout:
            raise ArgumentError("this optimizer was copied from one that served a model with other parameters")
        self._divide(store)
        kept, optimizers = self.slots, self.by_group()
        self.slots = {name: store.device.zeros(store.size) for one in optimizers for name in one.slot_names}
        for name, arena in self.slots.items():
            if name in kept:
                store.device.write(arena, kept[name])
            else:
                self._initialize(store.device, name, arena)
        self._store, self._layout = store, layout
        self._partial = store.device.zeros((2, SUM_GROUPS), np.float64)
        self._scalars = store.device.zeros((len(optimizers), 1 + len(self.step_scalars(1, 1.0))), np.float64)

    def __getstate__(self) -> dict[str, Any]:
        slots = self.slots
        if self._store is not None:
            slots = {name: self._store.device.host(arena) for name, arena in slots.items()}
        return {**self.__dict__, "slots": slots, "_store": None, "_partial": None, "_scalars": None}

    def by_group(self) -> list["Optimizer"]:
        """Return an optimizer with the options of each group, and, as the last one, this optimizer."""
        if not self.groups:
            return [self]
        known = {part.name: part for part in fields(self) if part.init and part.name not in OF_THE_MODEL}
        found: list[Optimizer] = []
        for group in self.groups:
            for name in group.options:
                choose(f"option of {type(self).__name__} in {shown(group)}", name, known)
            found.append(replace(self, groups=(), clip_norm=None, clip_value=None, **group.options))
        return [*found, self]

    def _divide(self, store: Parameters) -> None:
        """Divide the arena into segments."""
        matched = [set(matching("the group's pattern", group.pattern, store.slots)) for group in self.groups]
        self._segments = []
        previous = None
        for name, slot in store.slots.items():
            group = None if name in store.frozen else next((i for i, names in enumerate(matched) if name in names), -1)
            if group is not None and group == previous and not self.by_array:
                self._segments[-1] = self._segments[-1]._replace(stop=slot.stop)
            elif group is not None:
                self._segments.append(Segment(group, slot.start, slot.stop, slot.shape))
            previous = group
        if store.slots and not self._segments:
            raise ArgumentError("every parameter is frozen, there is nothing to train; unfreeze some")
        self._frozen = store.frozen
        self._allocate_scratch(store)

    def _tensors(self, segment: Segment, store: Parameters, one: "Optimizer") -> Tensors:
        part = slice(segment.start, segment.stop)
        arrays = {name: self.slots[name][part] for name in one.slot_names} | dict(self._scratch(segment))
        return Tensors(store.values[part], store.gradients[part], self._partial, segment.shape, arrays)

    # -- to be defined by each optimizer ------------------------------------------------------------------------------

    def step_scalars(self, step: int, scale: float) -> tuple[float, ...]:
        """Return the numbers that differ from update to update, for update ``step`` from 1 on.

        They are a + scale·b with a and b that depend on ``step`` alone. By default, the learning rate.
        """
        return (self.learning_rate * scale,)

    def _update(self, kernels: Kernels, t: Tensors, scalars: Float64) -> None:
        """Launch the update of one segment. ``scalars``, in device memory, are a row of those of ``launch``."""
        raise NotImplementedError

    def _initialize(self, device: Device, slot: str, arena: Float32) -> None:
        """Write the initial values of a slot, if they are not zeros."""

    def _allocate_scratch(self, store: Parameters) -> None:
        """Allocate what the updates of the segments need besides the slots."""

    def _scratch(self, segment: Segment) -> Mapping[str, Float32]:
        """Return the scratch arrays for a segment by name."""
        return {}
