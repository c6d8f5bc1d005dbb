"""The phases of an input gradient: pixels of dx with the same remainder modulo the stride read the same taps."""

from math import gcd
from typing import NamedTuple


class Taps(NamedTuple):
    """The window taps of one phase of one axis, in ascending order of the outputs that they read."""

    phase: int
    pixels: int
    taps: int
    first_tap: int
    tap_step: int
    first_output: int  # that pixel 0 of the phase reads through its first tap
    output_step: int


def axis_phases(size: int, window: int, stride: int, dilation: int, padding: int) -> list[Taps]:
    """All phases of an axis with ``size`` pixels."""
    return [_taps(size, window, stride, dilation, padding, phase) for phase in range(min(size, stride))]


def _taps(size: int, window: int, stride: int, dilation: int, padding: int, phase: int) -> Taps:
    taps = [tap for tap in range(window) if (phase + padding - tap * dilation) % stride == 0]
    taps.reverse()
    common = gcd(stride, dilation)
    first_tap = taps[0] if taps else 0
    return Taps(
        phase=phase,
        pixels=-(-(size - phase) // stride),
        taps=len(taps),
        first_tap=first_tap,
        tap_step=-(stride // common),
        first_output=(phase + padding - first_tap * dilation) // stride,
        output_step=dilation // common,
    )
