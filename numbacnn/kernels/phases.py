"""The phases of an input gradient: pixels of dx with the same remainder by the stride see the same taps."""

from math import gcd
from typing import NamedTuple


class Taps(NamedTuple):
    """The window taps that one phase of one axis sees, in rising order of the outputs they read."""

    phase: int
    pixels: int
    taps: int
    first_tap: int
    tap_step: int
    first_output: int  # read by the phase's pixel 0 through its first tap
    output_step: int


def axis_phases(size: int, window: int, stride: int, dilation: int, padding: int) -> list[Taps]:
    """Every phase of an axis of ``size`` pixels."""
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
