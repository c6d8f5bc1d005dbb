"""The memory and time that decoding a JPEG file needs, from its headers (ITU-T T.81, annex B).

A progressive file, or one whose components are in several scans, is decoded into a buffer of all coefficients, and each
scan visits all of their blocks, even if a few bytes say that they are zero.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import ceil
from typing import BinaryIO, NamedTuple

_MARKER = re.compile(rb"\xff([^\x00\xff])")  # FF before it are fill bytes
_STANDALONE = {0x01, *range(0xD0, 0xD9)}  # without a length: TEM, restarts, start of image
_END, _SCAN = 0xD9, 0xDA
_HUFFMAN, _PROGRESSIVE, _ARITHMETIC = (0xC0, 0xC1, 0xC2), (0xC2, 0xCA), (0xC9, 0xCA)
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # the others are tables
_SLOWER = 16  # than Huffman codes are arithmetic ones, which continue with zeros where a file ends


@dataclass
class Needs:
    """The memory and the time that decoding needs.

    Attributes:
        coefficients: bytes of the buffer of coefficients, or 0 if there is none.
        visits: the number of times that a block is decoded, in all scans.
        is_scalable: whether the image can be decoded at a fraction of its size.
    """

    coefficients: int = 0
    visits: int = 0
    is_scalable: bool = False


class _Segment(NamedTuple):
    marker: int
    content: bytes


@dataclass
class _Frame:
    """The kind of a frame, and the number of blocks of each of its components by number."""

    marker: int = 0
    blocks: dict[int, int] = field(default_factory=dict)


def needs(file: BinaryIO) -> Needs:
    """Return what decoding an open file needs. Reads it up to its first scan, or as a whole if that is not its last."""
    found, frame = Needs(), _Frame()
    for segment in _segments(file):
        if segment.marker in _FRAMES:
            frame = _frame(segment)
            found.is_scalable = frame.marker in (*_HUFFMAN, *_ARITHMETIC)
        elif segment.marker == _SCAN:
            components = segment.content[1 : 1 + 2 * segment.content[0] : 2] if segment.content else b""
            is_whole = frame.marker not in _PROGRESSIVE and len(components) == len(frame.blocks)
            blocks = sum(frame.blocks.get(component, 0) for component in components)
            found.visits += blocks * (_SLOWER if frame.marker in _ARITHMETIC else 1)
            if is_whole:
                break
            found.coefficients = 2 * 64 * sum(frame.blocks.values())
    return found


def _segments(file: BinaryIO) -> Iterator[_Segment]:
    """Yield the marker segments; the data between them is skipped, as decoders do."""
    content, position = file.read(1 << 16), 2
    is_whole = False
    while True:
        match = _MARKER.search(content, position)
        length = int.from_bytes(content[match.end() : match.end() + 2], "big") if match else 0
        if not is_whole and (match is None or match.end() + length > len(content)):
            content, is_whole = content + file.read(), True
            continue
        if match is None or match[1][0] == _END:
            return
        position = match.end()
        if match[1][0] not in _STANDALONE:
            if length < 2:
                return
            yield _Segment(match[1][0], content[position + 2 : position + length])
            position += length


def _frame(segment: _Segment) -> _Frame:
    """Return the frame of its header."""
    content = segment.content
    height, width = int.from_bytes(content[1:3], "big"), int.from_bytes(content[3:5], "big")
    factors = {
        content[at]: (content[at + 1] >> 4, content[at + 1] & 15)
        for at in range(6, min(len(content) - 2, 6 + 3 * content[5]), 3)
    }
    across, down = (max((pair[axis] for pair in factors.values()), default=0) or 1 for axis in (0, 1))
    blocks = {
        name: ceil(width / (8 * across)) * horizontal * ceil(height / (8 * down)) * vertical
        for name, (horizontal, vertical) in factors.items()
    }
    return _Frame(segment.marker, blocks)
