"""Depthwise convolution and its two gradients, a vector of channels at a time. Oracle: ``tests/reference.py``.

A channel meets its own R·S weights alone, so there is no matrix product for the register tile; but neighbouring
channels lie side by side, and fill a register. Where each channel has several filters (a multiplier), and for other
groups, the direct algorithm runs.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.depthwise_gradient_microkernel import (
    SIDE,
    SQUARE_VECTORS,
    PixelSteps,
    square_tile,
    tap_tile,
)
from numbacnn.kernels.cpu.conv.depthwise_microkernel import Window, window_tile
from numbacnn.kernels.cpu.gemm.gemm import LANES, NO_ADDRESS, NO_AUX, NO_BIAS, shift
from numbacnn.kernels.cpu.gemm.rows import mask_row
from numbacnn.kernels.cpu.simd.llvm import LINE
from numbacnn.kernels.cpu.simd.memory import address, goes_past_caches
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d
from numbacnn.kernels.phases import axis_phases
from numbacnn.kernels.target import host_target

PIXELS = 7  # of a tile: widths are multiples of 7 where images have 224 pixels
MANY_REGISTERS = host_target().registers >= 32
ROWS_TOGETHER = 2 if MANY_REGISTERS else 1  # rows of a tile, where windows are as far apart as their own rows
TAPS = 9  # of a tile of the weight gradient: a 3×3 window; as many sums hide the latency of multiply-adds
GROUPS = 16  # of rows in the weight gradient's sums
CHUNK_BYTES = 1 << 17  # of x and dy that a weight gradient reads again for each vector of channels
WHOLE_LINES = 4 * LANES == LINE  # a tile writes; parts of lines past the caches would take twice as long, not less


together = window_tile(ROWS_TOGETHER, PIXELS, LANES, masked=False)
several, several_masked, one, one_masked = (
    window_tile(1, pixels, LANES, masked) for pixels in (PIXELS, 1) for masked in (False, True)
)
taps, taps_masked = (tap_tile(TAPS, LANES, masked) for masked in (False, True))
square = square_tile(LANES)


def applies(g: ConvGeometry) -> bool:
    """Whether each of several channels has one filter of its own."""
    return g.groups == g.c == g.k > 1


# -- forward and input gradient ---------------------------------------------------------------------------------------


class Axis(NamedTuple):
    """One axis of outputs that see windows: output i is pixel first + i·step of y, and its tap t meets pixel
    x_first + i·x_step + t·x_tap of x with row, or column, w_first + t·w_tap of the weights.
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


def depthwise_forward(y, x, w, b, g, relu):
    """y as in ``conv2d_forward``; b has no elements where there is no bias."""
    _weigh_windows(y, x, w, b, NO_AUX, *output_axes(g), relu)


def depthwise_input_gradient(dx, dy, w, g, mask):
    """dx as in ``conv2d_input_gradient``: the pixels of each phase see dy through the phase's taps, flipped."""
    for axes in gradient_axes(g):
        _weigh_windows(dx, dy, w, NO_BIAS, NO_AUX if mask is None else mask, *axes, False)


def output_axes(g):
    """Rows and columns of y."""
    rows = Axis(g.p, 0, 1, -g.pad_top, g.stride_h, g.r, g.dilation_h, 0, 1)
    return rows, Axis(g.q, 0, 1, -g.pad_left, g.stride_w, g.s, g.dilation_w, 0, 1)


def gradient_axes(g):
    """Rows and columns of dx, for each of its phases."""
    rows = axis_phases(g.h, g.r, g.stride_h, g.dilation_h, g.pad_top)
    columns = axis_phases(g.w, g.s, g.stride_w, g.dilation_w, g.pad_left)
    return [(_phase_axis(row, g.stride_h), _phase_axis(column, g.stride_w)) for row in rows for column in columns]


def _phase_axis(t, stride):
    return Axis(t.pixels, t.phase, stride, t.first_output, 1, t.taps, t.output_step, t.first_tap, t.tap_step)


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_1d, float32_4d, Axis, Axis, types.boolean)
def _weigh_windows(y, x, w, b, mask, rows, columns, relu):
    """y = b + Σ of x by w over the windows of the two axes; zero where the mask is, as in ``conv2d_input_gradient``.

    Each thread owns a range of rows (n, i) of outputs.
    """
    p_y, p_x, p_mask, channels = address(y), address(x), address(mask), y.shape[3]
    p_w = address(w) + rows.w_first * w.strides[0] + columns.w_first * w.strides[1]
    p_b = address(b) if b.size else NO_ADDRESS
    y_step, x_step = columns.step * y.strides[2], columns.x_step * x.strides[2]
    mask_step = columns.step * mask.strides[2]
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
    most = ROWS_TOGETHER if rows.taps > 0 and rows.x_step == rows.x_tap else 1
    y_next, x_next = rows.step * y.strides[1], rows.x_step * x.strides[1]
    ahead = most * y_next, (rows.taps - 1) * rows.x_tap * x.strides[1] + most * x_next
    past = WHOLE_LINES and channels % LANES == 0 and not mask.size and goes_past_caches(y)
    blocks, tiled = -(-rows.count // most), columns.count // PIXELS * PIXELS
    for item in prange(len(y) * blocks):
        n, first = np.intp(item) // blocks, np.intp(item) % blocks * most
        count = min(most, rows.count - first)
        h, x_h = rows.first + first * rows.step, rows.x_first + first * rows.x_step
        y_row = p_y + n * y.strides[0] + h * y.strides[1] + columns.first * y.strides[2]
        x_row = p_x + n * x.strides[0] + x_h * x.strides[1] + columns.x_first * x.strides[2]
        steps = RowSteps(count, y_next, y_step, x_next, x_step, ahead[0], ahead[1])
        for j in range(0, tiled, PIXELS):
            _several(y_row + j * y_step, x_row + j * x_step, p_w, p_b, channels, steps, relu, past, window)
        for i in range(count):
            y_here, x_here = y_row + i * y_next, x_row + i * x_next
            for j in range(tiled, columns.count):
                _one(y_here + j * y_step, x_here + j * x_step, p_w, p_b, channels, relu, past, window)
            if mask.size:
                masks = p_mask + n * mask.strides[0] + (h + i * rows.step) * mask.strides[1]
                for j in range(columns.count):
                    here = y_here + j * y_step
                    mask_row(here, here, masks + columns.first * mask.strides[2] + j * mask_step, channels)


class RowSteps(NamedTuple):
    """Rows of outputs, and the bytes from row to row, from pixel to pixel, and to what comes a little later."""

    count: int
    y_next: int
    y_step: int
    x_next: int
    x_step: int
    y_ahead: int
    x_ahead: int


@inlined
def _several(y, x, w, b, channels, t, relu, past, window):
    """PIXELS outputs of each row, a vector of channels after the other."""
    y_next, y_step, x_step = t.y_next // 4, t.y_step // 4, t.x_step // 4
    for c in range(0, channels, LANES):
        y_here, x_here, w_here, b_here, left = y + 4 * c, x + 4 * c, w + 4 * c, shift(b, c), channels - c
        y_ahead, x_ahead = y + t.y_ahead + 4 * PIXELS * c, x + t.x_ahead + 4 * PIXELS * c
        if left >= LANES and t.count == ROWS_TOGETHER:
            together(y_here, y_next, y_step, x_here, x_step, w_here, b_here, left, x_ahead, y_ahead, relu, past, window)
        elif left >= LANES:
            several(y_here, 0, y_step, x_here, x_step, w_here, b_here, left, x_ahead, y_ahead, relu, past, window)
        else:
            for i in range(t.count):
                y_row, x_row = y_here + i * t.y_next, x_here + i * t.x_next
                aheads = x_ahead + i * t.x_next, y_ahead + i * t.y_next
                several_masked(
                    y_row, 0, y_step, x_row, x_step, w_here, b_here, left, aheads[0], aheads[1], relu, False, window
                )


@inlined
def _one(y, x, w, b, channels, relu, past, window):
    """One output."""
    for c in range(0, channels, LANES):
        y_here, x_here, w_here, b_here, left = y + 4 * c, x + 4 * c, w + 4 * c, shift(b, c), channels - c
        if left >= LANES:
            one(y_here, 0, 0, x_here, 0, w_here, b_here, left, x_here, y_here, relu, past, window)
        else:
            one_masked(y_here, 0, 0, x_here, 0, w_here, b_here, left, x_here, y_here, relu, False, window)


# -- weight gradient --------------------------------------------------------------------------------------------------


def depthwise_weight_gradient(dw, x, dy, partial, g):
    """dw as in ``conv2d_weight_gradient``; partial: scratch of ``partial_depthwise_shape(g, N)``."""
    groups = _row_groups(g, len(x))
    x_rows = _tap_table(g.r, g.dilation_h * x.strides[1] // 4, g.s, g.dilation_w * x.strides[2] // 4)
    _partial_weights(partial[:groups], _tap_table(g.r, g.s * g.c, g.s, g.c), x, x_rows, dy, g)
    sum_groups(dw, partial[:groups])


def partial_depthwise_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the weight gradient: groups × 1 × taps × C."""
    return (_row_groups(g, images), 1, g.r * g.s, g.c)


def _row_groups(g, images):
    return min(GROUPS, images * g.p)


@lru_cache(maxsize=1024)
def _tap_table(r, row_step, s, column_step):
    """Offsets of the taps of a window, as int64; the last is repeated until all tiles are full."""
    table = np.arange(r, dtype=np.int64)[:, None] * row_step + np.arange(s, dtype=np.int64) * column_step
    return np.pad(table.ravel(), (0, -r * s % TAPS), mode="edge")


@cpu_kernel(float32_4d, int64_1d, float32_4d, int64_1d, float32_4d, ConvGeometry)
def _partial_weights(partial, dw_rows, x, x_rows, dy, g):
    """partial[i,0,r·S+s,c] = Σ x · dy over the rows (n, p) of group i, as many at once as stay in the cache for all
    taps and channels, in float32. Each thread owns a range of groups.
    """
    p_partial, p_x, p_dy = address(partial), address(x), address(dy)
    groups, rows = len(partial), len(x) * g.p
    x_p, x_q, dy_p, dy_q = g.stride_h * x.strides[1], g.stride_w * x.strides[2], dy.strides[1], dy.strides[2]
    most = max(1, CHUNK_BYTES // (x_p + dy_p))
    is_square = MANY_REGISTERS and g.r == g.s == SIDE and g.stride_w == g.dilation_w
    for item in prange(groups):
        group = np.intp(item)
        first, last = rows * group // groups, rows * (group + 1) // groups
        target, m = p_partial + group * partial.strides[0], first
        while m < last:
            n, p = m // g.p, m % g.p
            count = min(most, last - m, g.p - p)
            inputs = p_x + n * x.strides[0] + p * x_p - g.pad_top * x.strides[1] - g.pad_left * x.strides[2]
            gradients = p_dy + n * dy.strides[0] + p * dy_p
            ahead = count * x_p // 4, count * dy_p // 4
            pixels = PixelSteps(count, g.q, x_p // 4, x_q // 4, dy_p // 4, dy_q // 4)
            for tap in range(0, x_rows.size, TAPS):
                tables = address(dw_rows) + 8 * tap, address(x_rows) + 8 * tap
                _add_taps(target, tables[0], inputs, tables[1], gradients, g.c, is_square, ahead, m > first, pixels)
            m += count


@inlined
def _add_taps(dw, dw_rows, x, x_rows, dy, channels, is_square, ahead, add, pixels):
    """TAPS taps, a vector of channels after the other."""
    done = channels // (SQUARE_VECTORS * LANES) * SQUARE_VECTORS * LANES if is_square else 0
    for c in range(0, done, SQUARE_VECTORS * LANES):
        square(dw + 4 * c, dw_rows, x + 4 * c, x_rows, dy + 4 * c, add, pixels)
    for c in range(done, channels, LANES):
        dw_here, x_here, dy_here, left = dw + 4 * c, x + 4 * c, dy + 4 * c, channels - c
        if left >= LANES:
            taps(dw_here, dw_rows, x_here, x_rows, dy_here, left, ahead[0], ahead[1], add, pixels)
        else:
            taps_masked(dw_here, dw_rows, x_here, x_rows, dy_here, left, ahead[0], ahead[1], add, pixels)
