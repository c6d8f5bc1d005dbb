"""An executor that detects kernels that write outside their outputs, or leave output elements unwritten."""

import numpy as np
from engine import run_planned

from numbacnn.engine.executor import Executor
from numbacnn.engine.plan import ScratchArray
from numbacnn.engine.plan.arena import scratch_layout

ZONE = 1 << 12  # bytes between buffers
POISON = np.uint32(0x7FC0DEAD)  # a NaN that no computation makes


class Guarded(Executor):
    """Runs a plan whose buffers share no memory, with poison between them and in them, except in their halos.

    An element that is left unwritten, or read from outside a buffer, becomes NaN. A write outside a buffer, into the
    images after a smaller batch, or between the gradients of two parameters, is reported after every step.
    """

    def __init__(self, plan, parameters, device):
        end = ZONE
        for buffer in plan.buffers:
            if buffer.layout.parts:
                shapes = {name: part.shape for name, part in buffer.layout.parts.items()}
                buffer.layout = scratch_layout(shapes, gap=ZONE)
            buffer.offset = end
            end += buffer.bytes + ZONE
        plan.bytes = end
        super().__init__(plan, parameters, device)
        self.bits = self.arena.view(np.uint32)
        self.owned = {name: array for i, buffer in enumerate(plan.buffers) for name, array in self._arrays(i, buffer)}
        self.outside = np.ones(self.arena.shape, bool)
        for array in self.owned.values():
            start = self._offset(array) // 4
            self.outside[start : start + array.size] = False
        for buffer in plan.buffers:
            self._whole(buffer)[_inside(buffer)] = POISON.view(np.float32)
        self.bits[self.outside] = POISON
        steps = [*plan.forward, *plan.backward]
        views = [view for step in steps for view in (*step.xs, step.y, *step.dxs, step.dy) if view is not None]
        self.by_image = {id(view.buffer): view.buffer for view in views}.values()
        self.arenas = [_Gaps(parameters.values, parameters.slots), _Gaps(parameters.state, parameters.state_slots)]
        if plan.training:
            for slot in parameters.slots.values():
                slot.of(parameters.gradients)[...] = POISON.view(np.float32)
            self.arenas.append(_Gaps(parameters.gradients, parameters.slots))

    def _arrays(self, i, buffer):
        """Return pairs of a name and an array: of the buffer, or of each scratch array in it."""
        if not buffer.layout.parts:
            return [(f"buffer {i}, {buffer.owner}", self._whole(buffer))]
        parts = buffer.layout.parts.items()
        return [
            (f"buffer {i}, {buffer.owner}.{name}", self._scratch_array(ScratchArray(buffer, part)))
            for name, part in parts
        ]

    def _offset(self, array):
        return array.ctypes.data - self.arena.ctypes.data

    def forward(self, n):
        """Run forward, then check the poison."""
        return self._watched(super().forward, n, self.bind(n).forward)

    def backward(self, n):
        return self._watched(super().backward, n, self.bind(n).backward)

    def _watched(self, run, n, steps):
        try:
            binding = run(n)
            self._check(n, f"one of {[step.node.name for step in steps]}")
        finally:
            for gaps in self.arenas:
                gaps.clear()
        for gaps in self.arenas:
            gaps.poison()
        return binding

    def _check(self, n, who):
        wrong = np.flatnonzero(self.outside & (self.bits != POISON))
        assert not wrong.size, f"{who} wrote outside a buffer, at {4 * wrong[0]} {self._near(4 * wrong[0])}"
        for buffer in self.by_image:
            spare = self._whole(buffer)[_inside(buffer)][n:]
            assert (spare.view(np.uint32) == POISON).all(), f"{who} wrote after image {n} in {buffer.owner}"
        for gaps in self.arenas:
            assert gaps.whole(), f"{who} wrote between the arrays of parameters"

    def _near(self, offset):
        ends = {name: array.nbytes for name, array in self.owned.items()}
        starts = {name: self._offset(array) for name, array in self.owned.items()}
        name = min(starts, key=lambda name: min(abs(offset - starts[name]), abs(offset - starts[name] - ends[name])))
        return f'near "{name}", which is [{starts[name]}, {starts[name] + ends[name]})'


class _Gaps:
    """Poison between the arrays of an arena, where zeros are otherwise."""

    def __init__(self, arena, slots):
        self.bits = arena.view(np.uint32)
        self.outside = np.ones(arena.shape, bool)
        for slot in slots.values():
            self.outside[slot.start : slot.stop] = False
        self.poison()

    def poison(self):
        self.bits[self.outside] = POISON

    def clear(self):
        self.bits[self.outside] = 0

    def whole(self):
        return (self.bits[self.outside] == POISON).all()


def _inside(buffer):
    """The part of a buffer inside its halo, as an index."""
    if not any(buffer.halo):
        return ...
    top, bottom, left, right = buffer.halo
    _, height, width, _ = buffer.shape
    return slice(None), slice(top, height - bottom), slice(left, width - right)


def run_guarded(model, xs, dys, **options):
    """Run ``engine.run_planned`` with a guarded executor."""
    try:
        return run_planned(model, xs, dys, executor=Guarded, **options)
    finally:
        for arena, slots in ((model.store.values, model.store.slots), (model.store.gradients, model.store.slots)):
            _Gaps(arena, slots).clear()
        _Gaps(model.store.state, model.store.state_slots).clear()
