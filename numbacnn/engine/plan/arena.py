"""Buffers, and their places in one arena: buffers that are never alive at the same time share memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from numbacnn.geometry import NO_HALO, Halo, Shape

ALIGNMENT = 64  # bytes: a cache line, and the widest vector
THICK_HALO = 0.25  # share of a buffer; a halo thicker than this is not worth clearing in every step


@dataclass(eq=False)
class Buffer:
    """Memory for one value, gradient or scratch of ``batch`` images; alive from ``first`` to ``last``."""

    name: str
    shape: Shape  # of the whole buffer: N×H×W×C with its halo, or a scratch's own
    halo: Halo = NO_HALO
    first: int = 1 << 30
    last: int = -1
    permanent: bool = False  # lives all the time: written from outside, or costly to clear
    offset: int = -1  # bytes into the arena
    shared: bool = False  # some of its memory serves another buffer at another time

    @property
    def bytes(self) -> int:
        """Size in the arena."""
        return -(-4 * prod(self.shape) // ALIGNMENT) * ALIGNMENT

    @property
    def halo_share(self) -> float:
        """What part of the buffer is halo."""
        _, h, w, _ = (*self.shape, 1, 1, 1)[:4]
        inner = (h - self.halo.top - self.halo.bottom) * (w - self.halo.left - self.halo.right)
        return 1 - inner / (h * w)

    def use(self, time: int) -> None:
        """Extends the life to ``time``."""
        self.first, self.last = min(self.first, time), max(self.last, time)


class View(NamedTuple):
    """A value or gradient: its buffer, seen in its own shape."""

    buffer: Buffer
    shape: Shape


def as_image(shape: Shape) -> tuple[int, int, int]:
    """Features (c,) lie as images of one pixel."""
    return (1, 1, shape[0]) if len(shape) == 1 else (shape[0], shape[1], shape[2])


def allocate(buffers: Sequence[Buffer]) -> int:
    """Gives every buffer its offset, the largest first, each at the lowest place that is free all its life.

    Returns the arena's size in bytes. (Pisarchyk and Lee 2020, "Efficient memory management for deep neural net
    inference", greedy by size.)
    """
    end = 0
    placed: list[Buffer] = []
    for buffer in sorted(buffers, key=lambda item: -item.bytes):
        if buffer.permanent or buffer.halo_share > THICK_HALO:
            buffer.first, buffer.last = -1, 1 << 30
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
