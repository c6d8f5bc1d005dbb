"""Buffers, and their offsets in one arena: buffers that are never alive at the same time share memory."""

import sys
from bisect import bisect_left, insort
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import NamedTuple

import numpy as np

from numbacnn._checks import format_shape
from numbacnn.errors import GeometryError
from numbacnn.geometry import NO_HALO, Halo, Shape, as_image

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
THICK_HALO = 0.25  # share of a buffer; a thicker halo is not worth clearing in every step
FOREVER = 1 << 30
MANY = 4096  # buffers, far more than those of the networks of the literature


@dataclass(eq=False, slots=True)
class Buffer:
    """Memory for one value, gradient or scratch array of a batch, alive from step ``first`` to step ``last``."""

    owner: str  # the name of the value or gradient, or of the node that needs the scratch
    shape: Shape  # of the whole buffer: N×H×W×C with its halo, or that of a scratch array
    halo: Halo = NO_HALO
    first: int = FOREVER
    last: int = -1
    permanent: bool = False  # always alive: written from outside the plan, or kept from one run to the next
    part: str = ""  # the name of the scratch
    offset: int = -1  # bytes into the arena
    shared: bool = False  # another buffer uses some of its memory at another time

    @property
    def name(self) -> str:
        """The name for messages, such as "stem.partial_bias"."""
        return f"{self.owner}.{self.part}" if self.part else self.owner

    @property
    def bytes(self) -> int:
        """Size in the arena."""
        return size_in_arena(self.shape)

    @property
    def halo_share(self) -> float:
        """Share of the buffer that is halo."""
        _, h, w, _ = (*self.shape, 1, 1, 1)[:4]
        inner = (h - self.halo.top - self.halo.bottom) * (w - self.halo.left - self.halo.right)
        return 1 - inner / (h * w)

    def use(self, time: int) -> None:
        """Extend the lifetime to ``time``."""
        if time < self.first:
            self.first = time
        if time > self.last:
            self.last = time


class View(NamedTuple):
    """A value or gradient: its buffer, and its own shape for one image."""

    buffer: Buffer
    shape: Shape


def size_in_arena(shape: Shape) -> int:
    """Return the bytes of a buffer of this shape."""
    return -(-4 * prod(shape) // ALIGNMENT) * ALIGNMENT


@lru_cache(1024)
def full_shape(shape: Shape, batch: int, halo: Halo) -> Shape:
    """Return N×H×W×C for ``batch`` values of ``shape`` with a halo; features (c,) are images of one pixel."""
    h, w, c = as_image(shape)
    return batch, h + halo.top + halo.bottom, w + halo.left + halo.right, c


def allocate(buffers: Sequence[Buffer]) -> int:
    """Give every buffer an offset; return the arena's size in bytes.

    The time of ``_pack`` grows with the square of the number of buffers, that of ``_reuse`` with the number. Raises
    GeometryError if no computer has that much memory.
    """
    if sum(_bytes(buffers)) > sys.maxsize:
        largest = max(buffers, key=lambda buffer: buffer.bytes)
        shape = format_shape(largest.shape)
        raise GeometryError(
            f"{largest.name} of {shape} numbers takes {largest.bytes / 2**60:,.0f} EiB; make it smaller"
        )
    for buffer in buffers:
        if buffer.permanent or (buffer.halo is not NO_HALO and buffer.halo_share > THICK_HALO):
            buffer.first, buffer.last = -1, FOREVER
    return _pack(buffers) if len(buffers) <= MANY else _reuse(buffers)


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
    """Give each buffer, in the order of their first steps, the smallest block that is free and large enough."""
    end = 0
    sizes: list[int] = []  # of free blocks, sorted, each once
    free: dict[int, list[int]] = {}  # offsets of the free blocks of a size
    ending: dict[int, list[tuple[int, int]]] = {}  # by last step: (bytes, offset) of the blocks in use
    steps = max([buffer.last + 1 for buffer in buffers if buffer.last < FOREVER], default=0)
    ended = -1  # blocks whose last step is before this one are free
    first_users: dict[int, Buffer] = {}  # of each block, by its offset
    firsts, needs = [buffer.first for buffer in buffers], _bytes(buffers)
    for i in np.lexsort((-np.array(needs, np.int64), np.array(firsts))).tolist():  # equal ones in their own order
        first, needed, buffer = firsts[i], needs[i], buffers[i]
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
        if buffer.last < FOREVER:
            ending.setdefault(buffer.last, []).append((size, offset))
    return end


def _bytes(buffers: Sequence[Buffer]) -> list[int]:
    """Return the size of each buffer. Most have one of a few shapes."""
    shapes = [buffer.shape for buffer in buffers]
    sizes = {shape: size_in_arena(shape) for shape in set(shapes)}
    return [sizes[shape] for shape in shapes]
