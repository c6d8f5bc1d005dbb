"""Buffers, and their offsets in one arena: buffers that are never alive at the same time share memory."""

import sys
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from operator import attrgetter
from typing import NamedTuple, NoReturn

import numpy as np

from numbacnn._checks import format_shape
from numbacnn.errors import GeometryError
from numbacnn.geometry import NO_HALO, Halo, Shape, as_image

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
THICK_HALO = 0.25  # share of a buffer; a thicker halo is not worth clearing in every step
FOREVER = 1 << 30
MANY = 4096  # buffers, far more than those of the networks of the literature


class Part(NamedTuple):
    """A scratch array: its shape, and where it starts in its buffer, in bytes."""

    shape: Shape
    start: int


@dataclass(frozen=True, eq=False, slots=True)
class Layout:
    """The common part of equal buffers. A large graph has few layouts."""

    shape: Shape  # of the whole buffer: N×H×W×C with its halo, or (floats,) if it has parts
    bytes: int  # in the arena
    halo: Halo = NO_HALO
    parts: Mapping[str, Part] = field(default_factory=dict)  # scratch arrays by name

    @property
    def has_halo(self) -> bool:
        """Whether there are zeros around the images."""
        return self.halo is not NO_HALO

    @property
    def has_thick_halo(self) -> bool:
        """Whether much of a buffer is halo, which then is not cleared in every step: the memory is not shared."""
        if not self.has_halo:
            return False
        _, h, w, _ = self.shape
        inner = (h - self.halo.top - self.halo.bottom) * (w - self.halo.left - self.halo.right)
        return 1 - inner / (h * w) > THICK_HALO


def image_layout(shape: Shape, batch: int, halo: Halo) -> Layout:
    """Return the layout of ``batch`` values of ``shape`` with a halo; features (c,) are images of one pixel."""
    h, w, c = as_image(shape)
    full = batch, h + halo.top + halo.bottom, w + halo.left + halo.right, c
    return Layout(full, size_in_arena(full), halo if any(halo) else NO_HALO)


def scratch_layout(shapes: Mapping[str, Shape], gap: int = 0) -> Layout:
    """Return the layout of scratch arrays that follow each other, with ``gap`` bytes in between."""
    parts, end = {}, 0
    for name, shape in shapes.items():
        parts[name] = Part(shape, end)
        end += size_in_arena(shape) + gap
    return Layout((end // 4,), end, parts=parts)


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory for one value or gradient of a batch, or for scratch, alive from step ``first`` to step ``last``."""

    owner: str  # the name of the value or gradient, or of the node that needs the scratch
    layout: Layout
    first: int = FOREVER
    last: int = -1
    permanent: bool = False  # always alive: written from outside the plan, or kept from one run to the next
    offset: int = -1  # bytes into the arena
    shared: bool = False  # another buffer uses some of its memory at another time

    @property
    def shape(self) -> Shape:
        """The shape of the whole buffer."""
        return self.layout.shape

    @property
    def halo(self) -> Halo:
        """The halo of zeros."""
        return self.layout.halo

    @property
    def bytes(self) -> int:
        """Size in the arena."""
        return self.layout.bytes

    def use(self, time: int) -> None:
        """Extend the lifetime to ``time``, which is not before that of the last use."""
        if self.last < 0:
            self.first = time
        self.last = time


@dataclass(eq=False, slots=True)
class View:
    """A value or gradient: its buffer, and its own shape for one image."""

    buffer: Buffer
    shape: Shape


def size_in_arena(shape: Shape) -> int:
    """Return the bytes of a buffer of this shape."""
    return -(-4 * prod(shape) // ALIGNMENT) * ALIGNMENT


def allocate(buffers: Sequence[Buffer]) -> int:
    """Give every buffer an offset; return the arena's size in bytes.

    The time of ``_pack`` grows with the square of the number of buffers, that of ``_reuse`` with the number. Raises
    GeometryError if no computer has that much memory.
    """
    layouts = Counter(map(attrgetter("layout"), buffers))
    if sum([layout.bytes * count for layout, count in layouts.items()]) > sys.maxsize:
        _raise_too_large(max(buffers, key=lambda buffer: buffer.bytes))
    unshared = {layout for layout in layouts if layout.has_thick_halo}
    for buffer in [buffer for buffer in buffers if buffer.permanent or buffer.layout in unshared]:
        buffer.first, buffer.last = -1, FOREVER
    return _pack(buffers) if len(buffers) <= MANY else _reuse(buffers)


def _raise_too_large(buffer: Buffer) -> NoReturn:
    """Name a buffer, or its largest scratch array."""
    name, shape = buffer.owner, buffer.shape
    if buffer.layout.parts:
        part, (shape, _) = max(buffer.layout.parts.items(), key=lambda item: prod(item[1].shape))
        name = f"{name}.{part}"
    size = size_in_arena(shape) / 2**60
    raise GeometryError(f"{name} of {format_shape(shape)} numbers takes {size:,.0f} EiB; make it smaller")


def _pack(buffers: Sequence[Buffer]) -> int:
    """Give each buffer, the largest first, the lowest offset that is free during its whole lifetime.

    (Greedy by size: Pisarchyk and Lee 2020, "Efficient memory management for deep neural net inference".)
    """
    end, count = 0, 0
    starts, ends, firsts, lasts = np.empty((4, len(buffers)), np.int64)  # of the placed ones, by offset
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda item: -item.bytes):
        offset, size = 0, buffer.bytes
        together = (buffer.first <= lasts[:count]) & (firsts[:count] <= buffer.last)
        for start, stop in zip(starts[:count][together].tolist(), ends[:count][together].tolist(), strict=True):
            if start >= offset + size:
                break
            offset = max(offset, stop)
        for i in np.flatnonzero((offset < ends[:count]) & (starts[:count] < offset + size)):
            buffer.shared = placed[i].shared = True
        at = int(np.searchsorted(starts[:count], offset, "right"))
        for numbers, new in ((starts, offset), (ends, offset + size), (firsts, buffer.first), (lasts, buffer.last)):
            numbers[at + 1 : count + 1] = numbers[at:count]
            numbers[at] = new
        placed.insert(at, buffer)
        buffer.offset, count, end = offset, count + 1, max(end, offset + size)
    return end


def _reuse(buffers: Sequence[Buffer]) -> int:
    """Give each buffer, in the order of their first steps, the smallest block that is free and large enough.

    Buffers that are alive in one step only, such as most scratch, follow each other in a block that all steps share.
    """
    filled: dict[int, int] = {}  # by step: the bytes of its own buffers
    longer = list[Buffer]()
    for buffer in buffers:
        if buffer.first == buffer.last:
            buffer.offset, buffer.shared = filled.get(buffer.first, 0), True
            filled[buffer.first] = buffer.offset + buffer.layout.bytes
        else:
            longer.append(buffer)
    return _reuse_blocks(longer, max(filled.values(), default=0))


def _reuse_blocks(buffers: Sequence[Buffer], end: int) -> int:
    """Give each buffer a block from offset ``end`` on; return the end of the last one."""
    sizes: list[int] = []  # of free blocks, sorted, each once
    free: dict[int, list[int]] = {}  # offsets of the free blocks of a size
    ending: dict[int, list[tuple[int, int]]] = {}  # by last step: (bytes, offset) of the blocks in use
    steps = max([buffer.last + 1 for buffer in buffers if buffer.last < FOREVER], default=0)
    ended = -1  # blocks whose last step is before this one are free
    first_users: dict[int, Buffer] = {}  # of each block, by its offset
    large_first = sorted(buffers, key=attrgetter("layout.bytes"), reverse=True)  # equal ones in their own order
    for buffer in sorted(large_first, key=attrgetter("first")):
        first, last, needed = buffer.first, buffer.last, buffer.layout.bytes
        while ended < first and ended < steps:
            for size, offset in sorted(ending.pop(ended, ())):
                if size not in free:
                    insort(sizes, size)
                    free[size] = []
                free[size].append(offset)
            ended += 1
        at = bisect_left(sizes, needed)
        if at == len(sizes):
            size, offset = needed, end
            end += needed
            first_users[offset] = buffer
        else:
            size = sizes[at]
            offset = free[size].pop()
            if not free[size]:
                del free[size], sizes[at]
            buffer.shared = first_users[offset].shared = True
        buffer.offset = offset
        if last < FOREVER:
            ending.setdefault(last, []).append((size, offset))
    return end
