"""Buffers, and their offsets in one arena: buffers that are never alive at the same time share memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from numbacnn.geometry import NO_HALO, Halo, Shape, as_image

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
THICK_HALO = 0.25  # share of a buffer; a thicker halo is not worth clearing in every step
FOREVER = 1 << 30


@dataclass(eq=False)
class Buffer:
    """Memory for one value, gradient or scratch array of a batch, alive from step ``first`` to step ``last``."""

    name: str
    shape: Shape  # of the whole buffer: N×H×W×C with its halo, or that of a scratch array
    halo: Halo = NO_HALO
    first: int = FOREVER
    last: int = -1
    permanent: bool = False  # always alive: written from outside the plan, or kept from one run to the next
    offset: int = -1  # bytes into the arena
    shared: bool = False  # another buffer uses some of its memory at another time

    @property
    def bytes(self) -> int:
        """Size in the arena."""
        return -(-4 * prod(self.shape) // ALIGNMENT) * ALIGNMENT

    @property
    def halo_share(self) -> float:
        """Share of the buffer that is halo."""
        _, h, w, _ = (*self.shape, 1, 1, 1)[:4]
        inner = (h - self.halo.top - self.halo.bottom) * (w - self.halo.left - self.halo.right)
        return 1 - inner / (h * w)

    def use(self, time: int) -> None:
        """Extend the lifetime to ``time``."""
        self.first, self.last = min(self.first, time), max(self.last, time)


class View(NamedTuple):
    """A value or gradient: its buffer, and its own shape for one image."""

    buffer: Buffer
    shape: Shape


def image_view(name: str, shape: Shape, batch: int, halo: Halo = NO_HALO) -> View:
    """Return a view of a new buffer for ``batch`` values of ``shape``; features (c,) are images of one pixel."""
    h, w, c = as_image(shape)
    full = (batch, h + halo.top + halo.bottom, w + halo.left + halo.right, c)
    return View(Buffer(name, full, halo), shape)


def allocate(buffers: Sequence[Buffer]) -> int:
    """Give every buffer an offset, the largest first, each the lowest one that is free during its whole lifetime.

    Return the arena's size in bytes. (Greedy by size: Pisarchyk and Lee 2020, "Efficient memory management for deep
    neural net inference".)
    """
    end = 0
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda item: -item.bytes):
        if buffer.permanent or buffer.halo_share > THICK_HALO:
            buffer.first, buffer.last = -1, FOREVER
        offset = 0
        for other in sorted(placed, key=lambda item: item.offset):
            together = buffer.first <= other.last and other.first <= buffer.last
            if together and offset < other.offset + other.bytes and other.offset < offset + buffer.bytes:
                offset = other.offset + other.bytes
        buffer.offset = offset
        for other in placed:
            if offset < other.offset + other.bytes and other.offset < offset + buffer.bytes:
                buffer.shared = other.shared = True
        placed.append(buffer)
        end = max(end, offset + buffer.bytes)
    return end
