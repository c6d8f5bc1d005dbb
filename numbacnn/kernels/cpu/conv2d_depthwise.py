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
from numbacnn.kernels.cpu.memory import address, goes_past_caches
from numbacnn.kernels.cpu.product import LANES, NO_ADDRESS, NO_MASK, shift
from numbacnn.kernels.cpu.rows import mask_row
from numbacnn.kernels.cpu.simd_ir import LINE
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.cpu.window_tile import PixelSteps, Window, tap_tile, window_tile
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d
from numbacnn.kernels.phases import axis_phases

PIXELS = 7  # of a tile: widths are multiples of 7 where images have 224 pixels
TAPS = 9  # of a tile of the weight gradient: a 3×3 window; as many sums hide the latency of multiply-adds
GROUPS = 16  # of rows in the weight gradient's sums
CHUNK_BYTES = 1 << 17  # of x and dy that a weight gradient reads again for each vector of channels
WHOLE_LINES = 4 * LANES == LINE  # a tile writes; parts of lines past the caches would take twice as long, not less
NO_BIAS = np.empty(0, np.float32)

several, several_masked, one, one_masked = (
    window_tile(pixels, LANES, masked) for pixels in (PIXELS, 1) for masked in (False, True)
)
taps, taps_masked = (tap_tile(TAPS, LANES, masked) for masked in (False, True))


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
    _weigh_windows(y, x, w, b, NO_MASK, *output_axes(g), relu)


def depthwise_input_gradient(dx, dy, w, g, mask):
    """dx as in ``conv2d_input_gradient``: the pixels of each phase see dy through the phase's taps, flipped."""
    for axes in gradient_axes(g):
        _weigh_windows(dx, dy, w, NO_BIAS, NO_MASK if mask is None else mask, *axes, False)


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
    y_next, x_next = rows.step * y.strides[1], (rows.x_step + (rows.taps - 1) * rows.x_tap) * x.strides[1]
    past = WHOLE_LINES and channels % LANES == 0 and not mask.size and goes_past_caches(y)
    for item in prange(len(y) * rows.count):
        n, i = np.intp(item) // rows.count, np.intp(item) % rows.count
        h, x_h = rows.first + i * rows.step, rows.x_first + i * rows.x_step
        y_row = p_y + n * y.strides[0] + h * y.strides[1] + columns.first * y.strides[2]
        x_row = p_x + n * x.strides[0] + x_h * x.strides[1] + columns.x_first * x.strides[2]
        tiles = columns.count // PIXELS
        for j in range(tiles):
            y_tile, x_tile = y_row + j * PIXELS * y_step, x_row + j * PIXELS * x_step
            _several(y_tile, y_step, y_next, x_tile, x_step, x_next, p_w, p_b, channels, relu, past, window)
        for j in range(tiles * PIXELS, columns.count):
            _one(y_row + j * y_step, x_row + j * x_step, p_w, p_b, channels, relu, past, window)
        if mask.size:
            masks = p_mask + n * mask.strides[0] + h * mask.strides[1] + columns.first * mask.strides[2]
            for j in range(columns.count):
                mask_row(y_row + j * y_step, y_row + j * y_step, masks + j * mask_step, channels)


@inlined
def _several(y, y_step, y_next, x, x_step, x_next, w, b, channels, relu, past, window):
    """PIXELS outputs, a vector of channels after the other; steps in bytes, to the next pixel and the next row."""
    for c in range(0, channels, LANES):
        y_here, x_here, w_here, b_here, left = y + 4 * c, x + 4 * c, w + 4 * c, shift(b, c), channels - c
        y_ahead, x_ahead = y + y_next + 4 * PIXELS * c, x + x_next + 4 * PIXELS * c
        steps = y_step // 4, x_step // 4
        if left >= LANES:
            several(y_here, steps[0], x_here, steps[1], w_here, b_here, left, x_ahead, y_ahead, relu, past, window)
        else:
            several_masked(
                y_here, steps[0], x_here, steps[1], w_here, b_here, left, x_ahead, y_ahead, relu, False, window
            )


@inlined
def _one(y, x, w, b, channels, relu, past, window):
    """One output."""
    for c in range(0, channels, LANES):
        y_here, x_here, w_here, b_here, left = y + 4 * c, x + 4 * c, w + 4 * c, shift(b, c), channels - c
        if left >= LANES:
            one(y_here, 0, x_here, 0, w_here, b_here, left, x_here, y_here, relu, past, window)
        else:
            one_masked(y_here, 0, x_here, 0, w_here, b_here, left, x_here, y_here, relu, False, window)


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
                _add_taps(target, tables[0], inputs, tables[1], gradients, g.c, ahead, m > first, pixels)
            m += count


@inlined
def _add_taps(dw, dw_rows, x, x_rows, dy, channels, ahead, add, pixels):
    """TAPS taps, a vector of channels after the other."""
    for c in range(0, channels, LANES):
        dw_here, x_here, dy_here, left = dw + 4 * c, x + 4 * c, dy + 4 * c, channels - c
        if left >= LANES:
            taps(dw_here, dw_rows, x_here, x_rows, dy_here, left, ahead[0], ahead[1], add, pixels)
        else:
            taps_masked(dw_here, dw_rows, x_here, x_rows, dy_here, left, ahead[0], ahead[1], add, pixels)
