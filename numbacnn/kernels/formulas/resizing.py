"""Index arithmetic of upsampling and resizing along one axis, which the kernels of both devices share. ``axis`` is a
``geometry.ResizeAxis``."""

import math

import numpy as np

from numbacnn.geometry import ResizeAxis

ZERO, ONE = np.float32(0), np.float32(1)


def resize_rows(g):
    """The rows of a ``ResizeGeometry``."""
    return ResizeAxis(g.h, g.p, g.numerator_h, g.denominator_h, g.offset_h, g.shift_h, g.linear, g.up)


def resize_columns(g):
    """Its columns."""
    return ResizeAxis(g.w, g.q, g.numerator_w, g.denominator_w, g.offset_w, g.shift_w, g.linear, g.up)


def resize_taps(i, axis):
    """The two inputs that output i is made of, and the weight of the second; the same two if it is a copy of one."""
    position = (i + axis.offset) * axis.numerator / axis.denominator + axis.shift
    if axis.linear:
        position = min(max(position, 0.0), axis.size - 1.0)
        first = int(position)
        return first, min(first + 1, axis.size - 1), np.float32(position - first)
    nearest = int(math.ceil(position) if axis.up else math.floor(position))
    nearest = min(max(nearest, 0), axis.size - 1)
    return nearest, nearest, ZERO


def resize_outputs(h, axis):
    """A range of outputs that has all that input h contributes to: those less than one input away."""
    first, end = 0, axis.outputs
    if axis.numerator > 0:
        if h > 0:
            first = max(0, int((h - 1 - axis.shift) * axis.denominator / axis.numerator - axis.offset) - 1)
        if h < axis.size - 1:
            end = min(end, int((h + 1 - axis.shift) * axis.denominator / axis.numerator - axis.offset) + 2)
    return first, end


def bilinear_taps(p, factor, size):
    """The two inputs around the center of output p, and the weight of the second; computed in half pixels, exactly."""
    halves = max(0, 2 * p + 1 - factor)
    first = halves // (2 * factor)
    return first, min(first + 1, size - 1), np.float32(halves % (2 * factor)) / np.float32(2 * factor)


def bilinear_outputs(h, factor, outputs):
    """The range of outputs that input h contributes to."""
    return max(0, (factor * (2 * h - 1) + 1) // 2), min(outputs, factor * (2 * h + 3) // 2)


def linear_weight(h, taps):
    """The weight of input h in the output with these ``resize_taps`` or ``bilinear_taps``."""
    first, second, share = taps
    return (ONE - share if first == h else ZERO) + (share if second == h else ZERO)
