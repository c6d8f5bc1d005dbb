"""What optimisers share: parameter groups, the segments they make of the arena, clipping, and the state they keep."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from math import fsum, sqrt
from types import SimpleNamespace
from typing import Any, ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose, matching, number
from numbacnn.engine.device import Device
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.kernels.step_scalars import SUM_GROUPS

Float32 = NDArray[np.float32]
OWN = ("groups", "clip_norm", "clip_value")  # what concerns the whole model, and no group


class Trainable(Protocol):
    """What an optimiser updates: a Model."""

    store: Parameters


class ParamGroup:
    """Options of their own for the parameters whose names match ``pattern``: ``ParamGroup("*.bias", weight_decay=0)``.

    ``pattern`` is of fnmatch's form, over names as in ``model.parameters``; of several groups the first that matches
    counts. ``options`` are arguments of the optimiser; those not given are the optimiser's own.
    """

    def __init__(self, pattern: str, **options: Any) -> None:
        self.pattern, self.options = pattern, options

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"ParamGroup({self.pattern!r}{options})"


class Segment(NamedTuple):
    """Neighbours in the arena that one rule updates: one array, or several with the same options."""

    group: int  # index into ``groups``; −1: none
    start: int
    stop: int
    shape: Shape  # of the first array


@dataclass(kw_only=True, eq=False)
class Optimizer:
    """Updates a model's parameters from its gradients. One optimiser serves one model, since it keeps its moments.

    ``groups`` give other options to some parameters. Before an update the gradients are clipped, in place: each number
    to [−clip_value, clip_value], then all of them together to the Euclidean norm ``clip_norm`` (Pascanu et al. 2013).
    Frozen parameters are left as they are. A copy, by ``copy.deepcopy`` or pickle, keeps the moments, and serves the
    first model that it is used with.
    """

    name: ClassVar[str]
    by_array: ClassVar[bool] = False  # the update of an array needs the whole array, and it alone
    device_steps: ClassVar[bool] = False  # has ``_update_on_device``; each class says so itself, a subclass of it anew

    learning_rate: float = 0.001
    groups: Sequence[ParamGroup] = ()
    clip_norm: float | None = None
    clip_value: float | None = None
    steps: int = field(default=0, init=False, repr=False)
    slots: dict[str, Float32] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        self.learning_rate = number(self.learning_rate, "learning_rate", 0)
        self._store: Parameters | None = None
        self._layout: dict[str, Shape] = {}
        self._segments: list[Segment] = []
        self._frozen: frozenset[str] = frozenset()
        for name in ("clip_norm", "clip_value"):
            if getattr(self, name) is not None:
                number(getattr(self, name), name, 0)
        self._rules()  # refuses wrong options now, rather than in the first step

    @property
    def slot_names(self) -> tuple[str, ...]:
        """The arrays that this rule keeps for each parameter."""
        return ()

    @property
    def options(self) -> dict[str, Any]:
        """Its arguments, by name."""
        return {part.name: getattr(self, part.name) for part in fields(self) if part.init}

    def step(self, model: Trainable, scale: float = 1.0) -> None:
        """One update from ``model.gradients``, at ``scale`` times the learning rate."""
        with engine_lock:
            self.attach(model)
            self._clip(model.store)
            self.steps += 1
            model.store.changed()
            rules = self._rules()
            numbers = [[1.0, *rule._numbers(self.steps, scale)] for rule in rules]
            model.store.device.write(self._scalars, np.array(numbers))
            for segment in self._segments:
                rule = rules[segment.group]
                scalars = self._scalars[segment.group % len(rules)]
                rule._update(model.store.device, self._arrays(segment, model.store, rule), scalars)

    # -- where a GPU drives the steps itself --------------------------------------------------------------------------

    @property
    def runs_on_device(self) -> bool:
        """Whether updates can run from numbers that lie in the device's memory."""
        return bool(vars(type(self)).get("device_steps", False))

    def device_numbers(self, first: int, count: int) -> NDArray[np.float64]:
        """Of updates ``first``, ``first`` + 1, … the numbers of each rule that differ from update to update, as (a, b)
        of a + scale·b: count × 2·rules × K."""
        rules = self._rules()
        steps = range(first, first + count)
        numbers = np.array([[[rule._numbers(n, scale) for scale in (0.0, 1.0)] for rule in rules] for n in steps])
        numbers[:, :, 1] -= numbers[:, :, 0]
        return numbers.reshape(count, 2 * len(rules), -1)

    def launch_on_device(self, model: Trainable, scalars: Any) -> None:
        """Launch the kernels of an update, which read ``device_numbers`` from ``scalars``, rules × (1 + K).

        See ``kernels.cuda.device_loop``. The caller holds ``engine_lock``, and counts the steps.
        """
        device, gradients = model.store.device, model.store.gradients
        if self.clip_value is not None:
            device.kernels.clip_in_place(gradients, self.clip_value)
        if self.clip_norm is not None:
            device.kernels.clip_norm_in_place(gradients, self._partial, self.clip_norm)
        rules = self._rules()
        for segment in self._segments:
            rule = rules[segment.group]
            rule._update(device, self._arrays(segment, model.store, rule), scalars[segment.group % len(rules)])

    def attach(self, model: Trainable) -> None:
        """Makes the state for this model, and follows what it has frozen.

        Raises:
            ArgumentError: it serves another model already, was copied from one of other parameters, a group matches
                no parameter, or all of them are frozen.
        """
        store = model.store
        if self._store is store:
            if store.frozen != self._frozen:
                self._cut(store)
            return
        if self._store is not None:
            raise ArgumentError("this optimizer already serves another model; make one for each")
        layout = {name: slot.shape for name, slot in store.slots.items()}
        if self._layout and self._layout != layout:
            raise ArgumentError("this optimizer was copied from one that served a model of other parameters")
        self._cut(store)
        kept = self.slots
        self.slots = {name: store.device.zeros(store.size) for rule in self._rules() for name in rule.slot_names}
        for name, arena in self.slots.items():
            if name in kept:
                store.device.write(arena, kept[name])
            else:
                self._start(store.device, name, arena)
        self._store, self._layout = store, layout
        self._partial = store.device.zeros((2, SUM_GROUPS), np.float64)
        self._scalars = store.device.zeros((len(self._rules()), 1 + len(self._numbers(1, 1.0))), np.float64)

    def __getstate__(self) -> dict[str, Any]:
        slots = self.slots
        if self._store is not None:
            slots = {name: self._store.device.host(arena) for name, arena in slots.items()}
        return {**self.__dict__, "slots": slots, "_store": None, "_partial": None, "_scalars": None}

    def _rules(self) -> list["Optimizer"]:
        """This optimiser's rule for each group, and, as the last one, for all other parameters."""
        rules: list[Optimizer] = []
        known = {f.name: f for f in fields(self) if f.init and f.name not in OWN}
        for group in self.groups:
            for name in group.options:
                choose(f"option of {type(self).__name__} in {group!r}", name, known)
            rules.append(replace(self, groups=(), clip_norm=None, clip_value=None, **group.options))
        return [*rules, self]

    def _cut(self, store: Parameters) -> None:
        """Cuts the arena into segments."""
        matched = [set(matching("the group's pattern", group.pattern, store.slots)) for group in self.groups]
        self._segments = []
        before = None
        for name, slot in store.slots.items():
            group = None if name in store.frozen else next((i for i, names in enumerate(matched) if name in names), -1)
            if group is not None and group == before and not self.by_array:
                self._segments[-1] = self._segments[-1]._replace(stop=slot.stop)
            elif group is not None:
                self._segments.append(Segment(group, slot.start, slot.stop, slot.shape))
            before = group
        if store.slots and not self._segments:
            raise ArgumentError("every parameter is frozen, there is nothing to train; unfreeze some")
        self._frozen = store.frozen
        self._prepare(store)

    def _arrays(self, segment: Segment, store: Parameters, rule: "Optimizer") -> SimpleNamespace:
        """``w``, ``dw`` and the slots of a segment, flat, with the ``shape`` of its first array."""
        part = slice(segment.start, segment.stop)
        slots = {name: self.slots[name][part] for name in rule.slot_names}
        arrays = {"w": store.values[part], "dw": store.gradients[part], "partial": self._partial}
        return SimpleNamespace(shape=segment.shape, **arrays, **slots, **self._scratch(segment))

    def _clip(self, store: Parameters) -> None:
        kernels, gradients = store.device.kernels, store.gradients
        if self.clip_value is not None:
            kernels.clip_in_place(gradients, self.clip_value)
        if self.clip_norm is not None:
            kernels.clip_norm_in_place(gradients, self._partial, self.clip_norm)

    # -- what the optimisers say of themselves ------------------------------------------------------------------------

    def _update(self, device: Any, t: SimpleNamespace, scalars: Any) -> None:
        """Launch the update of one segment. ``scalars``, on the device: 1, or 0 for no update, then ``_numbers``."""
        raise NotImplementedError

    def _numbers(self, step: int, scale: float) -> tuple[float, ...]:
        """What differs from update to update, as many numbers in each: a + scale·b, with a and b of ``step`` alone."""
        raise NotImplementedError

    def _start(self, device: Device, slot: str, arena: Float32) -> None:
        """Writes a slot's values before the first step, where they are not zeros."""

    def _prepare(self, store: Parameters) -> None:
        """Allocates what updates of the segments need beside the slots."""

    def _scratch(self, segment: Segment) -> Mapping[str, Float32]:
        """That part of it which serves one segment."""
        return {}


def norm_of(device: Device, x: Float32, partial: NDArray[np.float64]) -> float:
    """√Σ x², summed in float64 in an order that the size of x alone decides."""
    device.kernels.sum_squares(partial, x)
    sums = device.host(partial)
    return sqrt(fsum(sums)) if np.isfinite(sums).all() else float(sum(sums))


def check_betas(betas: tuple[float, float]) -> tuple[float, float]:
    """Two decay rates from 0 to below 1."""
    if len(betas) != 2:
        raise ArgumentError(f"betas={betas}: give two numbers")
    return number(betas[0], "betas", 0, 1, below=True), number(betas[1], "betas", 0, 1, below=True)
