"""Depthwise convolution and its input gradient: every pixel of one image is a weighted sum over a window of another."""

from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.conv.depthwise.microkernel import Store, Strides, Tile, Window, depthwise_microkernel
from numbacnn.kernels.cpu.gemm.gemm import LANES, NO_ADDRESS, NO_AUX, NO_BIAS, shift
from numbacnn.kernels.cpu.gemm.rows import mask_row
from numbacnn.kernels.cpu.simd.llvm import LINE
from numbacnn.kernels.cpu.simd.memory import address, prefers_nontemporal
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined
from numbacnn.kernels.phases import axis_phases
from numbacnn.kernels.target import host_target

PIXELS = 7  # outputs of a microkernel: the widths of images of 224 pixels are multiples of 7
MANY_REGISTERS = host_target().registers >= 32
ROWS = 2 if MANY_REGISTERS else 1  # of outputs, if windows are as far apart as their own rows
WHOLE_LINES = 4 * LANES == LINE  # non-temporal stores of parts of cache lines would take twice as long

row_pair_microkernel = depthwise_microkernel(ROWS, PIXELS, LANES, masked=False)
row_microkernel, masked_row_microkernel, pixel_microkernel, masked_pixel_microkernel = (
    depthwise_microkernel(1, pixels, LANES, masked) for pixels in (PIXELS, 1) for masked in (False, True)
)


class Axis(NamedTuple):
    """One axis of outputs that are sums over windows.

    Output i is pixel first + i·step of y. Its tap t reads pixel x_first + i·x_step + t·x_tap of x, and row or column
    w_first + t·w_tap of the weights.
    """

    count: int
    first: int
    step: int
    x_first: int
    x_step: int
    taps: int
    x_tap: int
    w_first: int
    w_tap: int


def output_axes(g):
    """Rows and columns of y."""
    rows = Axis(g.p, 0, 1, -g.pad_top, g.stride_h, g.r, g.dilation_h, 0, 1)
    return rows, Axis(g.q, 0, 1, -g.pad_left, g.stride_w, g.s, g.dilation_w, 0, 1)


def gradient_axes(g):
    """Rows and columns of dx, for each phase of the input gradient."""
    rows = axis_phases(g.h, g.r, g.stride_h, g.dilation_h, g.pad_top)
    columns = axis_phases(g.w, g.s, g.stride_w, g.dilation_w, g.pad_left)
    return [(_phase_axis(row, g.stride_h), _phase_axis(column, g.stride_w)) for row in rows for column in columns]


def _phase_axis(t, stride):
    return Axis(t.pixels, t.phase, stride, t.first_output, 1, t.taps, t.output_step, t.first_tap, t.tap_step)


def depthwise_forward(y, x, w, bias, g, activation):
    """Write y, the convolution of x with w plus the bias, unless that is empty."""
    _sum_windows(y, x, w, bias, NO_AUX, *output_axes(g), activation)


def depthwise_input_gradient(dx, dy, w, g, mask):
    """Write dx, zero wherever ``mask`` is given and 0 or less."""
    for axes in gradient_axes(g):
        _sum_windows(dx, dy, w, NO_BIAS, NO_AUX if mask is None else mask, *axes, 0)


class Pixel(NamedTuple):
    """Addresses of an output, the first input of its window, the weights, and the bias or 0."""

    y: int
    x: int
    w: int
    bias: int


class RowSteps(NamedTuple):
    """Rows of outputs; bytes from row to row, from pixel to pixel, and to the pixels to prefetch."""

    count: int
    y_row: int
    y_pixel: int
    x_row: int
    x_pixel: int
    y_next: int
    x_next: int


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_1d, float32_4d, Axis, Axis, types.int64)
def _sum_windows(y, x, w, bias, mask, rows, columns, activation):
    """y = bias + Σ x · w over the windows of the two axes, then zero where the mask is 0 or less.

    An empty bias or mask means none. Each thread owns a range of rows (n, i) of outputs.
    """
    p_y, p_x, p_mask, channels = address(y), address(x), address(mask), y.shape[3]
    p_w = address(w) + rows.w_first * w.strides[0] + columns.w_first * w.strides[1]
    p_bias = address(bias) if bias.size else NO_ADDRESS
    y_pixel, x_pixel = columns.step * y.strides[2], columns.x_step * x.strides[2]
    window = Window(
        rows.taps,
        1,
        columns.taps,
        rows.x_tap * x.strides[1] // 4,
        0,
        columns.x_tap * x.strides[2] // 4,
        rows.w_tap * w.strides[0] // 4,
        0,
        columns.w_tap * w.strides[1] // 4,
    )
    together = ROWS if rows.taps > 0 and rows.x_step == rows.x_tap else 1
    y_row, x_row = rows.step * y.strides[1], rows.x_step * x.strides[1]
    y_next, x_next = together * y_row, (rows.taps - 1) * rows.x_tap * x.strides[1] + together * x_row
    nontemporal = WHOLE_LINES and channels % LANES == 0 and not mask.size and prefers_nontemporal(y)
    store = Store(activation, nontemporal)
    blocks = -(-rows.count // together)
    for item in prange(len(y) * blocks):
        n, first = np.intp(item) // blocks, np.intp(item) % blocks * together
        count = min(together, rows.count - first)
        h, x_h = rows.first + first * rows.step, rows.x_first + first * rows.x_step
        p_y_row = p_y + n * y.strides[0] + h * y.strides[1] + columns.first * y.strides[2]
        p_x_row = p_x + n * x.strides[0] + x_h * x.strides[1] + columns.x_first * x.strides[2]
        steps = RowSteps(count, y_row, y_pixel, x_row, x_pixel, y_next, x_next)
        sum_rows(Pixel(p_y_row, p_x_row, p_w, p_bias), columns.count, channels, steps, store, window)
        for i in range(count if mask.size else 0):
            p_mask_row = p_mask + n * mask.strides[0] + (h + i * rows.step) * mask.strides[1]
            for j in range(columns.count):
                p_pixel = p_y_row + i * y_row + j * y_pixel
                p_mask_pixel = p_mask_row + (columns.first + j * columns.step) * mask.strides[2]
                mask_row(p_pixel, p_pixel, p_mask_pixel, channels)


@inlined
def sum_rows(first, columns, channels, steps, store, window):
    """Compute ``columns`` outputs of each of up to ROWS rows, of which ``first`` is the first output."""
    tiled = columns // PIXELS * PIXELS
    for j in range(0, tiled, PIXELS):
        pixel = Pixel(first.y + j * steps.y_pixel, first.x + j * steps.x_pixel, first.w, first.bias)
        _rows_of_pixels(pixel, channels, steps, store, window)
    for i in range(steps.count):
        for j in range(tiled, columns):
            y, x = first.y + i * steps.y_row + j * steps.y_pixel, first.x + i * steps.x_row + j * steps.x_pixel
            _single_pixel(Pixel(y, x, first.w, first.bias), channels, store, window)


@inlined
def _rows_of_pixels(pixel, channels, steps, store, window):
    """Compute PIXELS outputs of each row, one vector of channels after the other."""
    strides = Strides(steps.y_row // 4, steps.y_pixel // 4, steps.x_pixel // 4)
    for c in range(0, channels, LANES):
        y, x, w, bias, left = pixel.y + 4 * c, pixel.x + 4 * c, pixel.w + 4 * c, shift(pixel.bias, c), channels - c
        y_next, x_next = pixel.y + steps.y_next + 4 * PIXELS * c, pixel.x + steps.x_next + 4 * PIXELS * c
        if left >= LANES and steps.count == ROWS:
            row_pair_microkernel(Tile(y, x, w, bias, y_next, x_next), strides, left, store, window)
        elif left >= LANES:
            row_microkernel(Tile(y, x, w, bias, y_next, x_next), strides, left, store, window)
        else:
            for i in range(steps.count):
                y_row, x_row = y + i * steps.y_row, x + i * steps.x_row
                tile = Tile(y_row, x_row, w, bias, y_next + i * steps.y_row, x_next + i * steps.x_row)
                masked_row_microkernel(tile, strides, left, Store(store.activation, False), window)


@inlined
def _single_pixel(pixel, channels, store, window):
    """Compute one output, one vector of channels after the other."""
    strides = Strides(0, 0, 0)
    for c in range(0, channels, LANES):
        y, x = pixel.y + 4 * c, pixel.x + 4 * c
        tile = Tile(y, x, pixel.w + 4 * c, shift(pixel.bias, c), y, x)
        if channels - c >= LANES:
            pixel_microkernel(tile, strides, channels - c, store, window)
        else:
            masked_pixel_microkernel(tile, strides, channels - c, Store(store.activation, False), window)
