"""Convolution in narrow groups, and its two gradients, a vector of channels at a time. Oracle: ``tests/reference.py``.

Where a group has few channels, as in ResNeXt or where each channel has several filters of its own, the register tile
would leave lanes empty, and every group would be a launch. Here the lanes are neighbouring channels of the output,
whatever their groups, and the tiles are those of depthwise convolution: before they run, a band of the image is spread
in a scratch, so that term t of an output's group,

    spread[row, t, pixel, lane] = x[row, pixel, group(lane) · terms + t],

stands in the lane of the output. The input gradient is the same with dy and the weights of each group transposed.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.depthwise import (
    PIXELS,
    TAPS,
    Axis,
    gradient_axes,
    one,
    one_masked,
    output_axes,
    several,
    several_masked,
    taps,
    taps_masked,
)
from numbacnn.kernels.cpu.conv.depthwise_gradient_microkernel import PixelSteps
from numbacnn.kernels.cpu.conv.depthwise_microkernel import Window
from numbacnn.kernels.cpu.gemm.gemm import LANES, NO_ADDRESS, NO_AUX, NO_BIAS, shift
from numbacnn.kernels.cpu.gemm.rows import copy_row, mask_row
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.cpu.simd.vector import LANES as STORED
from numbacnn.kernels.cpu.simd.vector import splat, store
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined, int64_1d

WORKERS = 16  # bands that are spread at a time, each in a scratch of its own
GROUPS = 16  # partial sums of the weight gradient, at most
BAND_FLOATS = 1 << 15  # of a scratch, unless one row of outputs needs more


def applies(g: ConvGeometry) -> bool:
    """Whether groups fill less than half of a register, but for those of one channel with one filter. Wider ones are
    no faster here: each input is spread as often as there are terms."""
    return g.groups > 1 and 1 < max(_channels(g)) < LANES // 2


def _channels(g):
    """Channels of a group: inputs, outputs."""
    return g.c // g.groups, g.k // g.groups


class Fan(NamedTuple):
    """An output channel has ``terms``, which so many ``outputs`` share; rows of outputs in a band."""

    terms: int
    outputs: int
    band: int


def _fan(rows, columns, terms, outputs):
    row = max(1, terms * _reach(columns) * LANES)
    spare = BAND_FLOATS // row - _reach(rows._replace(count=1))
    return Fan(terms, outputs, max(1, min(rows.count, 1 + spare // rows.x_step)))


def _reach(axis):
    """Pixels of x from the first that an axis reads to the last."""
    return (axis.count - 1) * axis.x_step + max(0, axis.taps - 1) * axis.x_tap + 1


def _scratch_floats(rows, columns, fan):
    """Of a band, and of the weights for a vector of channels."""
    pixels = _reach(rows._replace(count=fan.band)) * _reach(columns)
    return (pixels + rows.taps * columns.taps) * fan.terms * LANES


# -- forward and input gradient ---------------------------------------------------------------------------------------


def grouped_forward(y, x, w, b, scratch, g, relu):
    """y as in ``conv2d_forward``; scratch of ``forward_scratch_shape(g)``."""
    rows, columns = output_axes(g)
    _weigh_groups(y, x, w, b, NO_AUX, scratch, rows, columns, _fan(rows, columns, *_channels(g)), relu)


def grouped_input_gradient(dx, dy, w, packed, scratch, g, mask):
    """dx as in ``conv2d_input_gradient``; packed, scratch of ``transposed_shape(g)``, ``gradient_scratch_shape(g)``."""
    c, k = _channels(g)
    _transpose_groups(packed, w, c, k)
    for rows, columns in gradient_axes(g):
        fan, masks = _fan(rows, columns, k, c), NO_AUX if mask is None else mask
        _weigh_groups(dx, dy, packed, NO_BIAS, masks, scratch, rows, columns, fan, False)


def forward_scratch_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the forward pass: a band for each worker."""
    return _scratch_shape([output_axes(g)], *_channels(g))


def gradient_scratch_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the input gradient: a band for each worker, of the phase that needs most."""
    return _scratch_shape(gradient_axes(g), *_channels(g)[::-1])


def transposed_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """The weights as the input gradient reads them: R × S × K/groups × C."""
    return (g.r, g.s, g.k // g.groups, g.c)


def _scratch_shape(phases, terms, outputs):
    floats = [_scratch_floats(*axes, _fan(*axes, terms, outputs)) for axes in phases]
    return (WORKERS, 1, 1, max(floats))


@cpu_kernel(*[float32_4d] * 3, float32_1d, float32_4d, float32_4d, Axis, Axis, Fan, types.boolean)
def _weigh_groups(y, x, w, b, mask, scratch, rows, columns, fan, relu):
    """y = b + Σ of x by w over the windows of the two axes; zero where the mask is, as in ``conv2d_input_gradient``.

    Each worker owns a scratch and a range of (n, band of rows, vector of channels); each thread owns workers.
    """
    channels = y.shape[3]
    blocks, bands = -(-channels // LANES), -(-rows.count // fan.band)
    items, workers = len(y) * bands * blocks, len(scratch)
    width = (columns.count - 1) * columns.x_step + max(0, columns.taps - 1) * columns.x_tap + 1
    line = width * LANES  # of one term
    p_b = address(b) if b.size else NO_ADDRESS
    window = Window(
        rows.taps,
        fan.terms,
        columns.taps,
        rows.x_tap * fan.terms * line,
        line,
        columns.x_tap * LANES,
        fan.terms * columns.taps * LANES,
        columns.taps * LANES,
        LANES,
    )
    for item in prange(workers):
        worker = np.intp(item)
        weights = address(scratch) + worker * scratch.strides[0]
        memory = weights + 4 * window.r * window.w_r
        for part in range(items * worker // workers, items * (worker + 1) // workers):
            c, band, n = part % blocks * LANES, part // blocks % bands * fan.band, part // (blocks * bands)
            _gather_weights(weights, w, rows, columns, window, c, channels - c)
            count = min(fan.band, rows.count - band)
            x_band = address(x) + n * x.strides[0] + (rows.x_first + band * rows.x_step) * x.strides[1]
            if rows.taps * columns.taps > 0:
                high = (count - 1) * rows.x_step + (rows.taps - 1) * rows.x_tap + 1
                first = x_band + columns.x_first * x.strides[2]
                _spread(memory, first, x.strides[1], x.strides[2], high, width, c, min(LANES, channels - c), fan)
            y_row, y_step = rows.step * y.strides[1], columns.step * y.strides[2]
            x_row, x_step = 4 * rows.x_step * fan.terms * line, 4 * columns.x_step * LANES
            h = rows.first + band * rows.step
            target = address(y) + n * y.strides[0] + h * y.strides[1] + columns.first * y.strides[2] + 4 * c
            tiles = columns.count // PIXELS
            for j in range(tiles):  # downwards, so that the rows that windows share stay in the first cache
                for i in range(count):
                    y_tile, x_tile = target + i * y_row + j * PIXELS * y_step, memory + i * x_row + j * PIXELS * x_step
                    _several(
                        y_tile, y_step // 4, x_tile, x_step // 4, weights, shift(p_b, c), channels - c, relu, window
                    )
            for j in range(tiles * PIXELS, columns.count):
                for i in range(count):
                    y_pixel, x_pixel = target + i * y_row + j * y_step, memory + i * x_row + j * x_step
                    _one(y_pixel, x_pixel, weights, shift(p_b, c), channels - c, relu, window)
            if mask.size:
                masks = address(mask) + n * mask.strides[0] + h * mask.strides[1] + columns.first * mask.strides[2]
                for i in range(count):
                    for j in range(columns.count):
                        pixel = target + i * y_row + j * y_step
                        place = masks + i * rows.step * mask.strides[1] + j * columns.step * mask.strides[2]
                        mask_row(pixel, pixel, place + 4 * c, min(LANES, channels - c))


@inlined
def _gather_weights(weights, w, rows, columns, window, c, left):
    """The weights of a vector of channels, in the order in which tiles read them."""
    for r in range(window.r):
        for t in range(window.t):
            for s in range(window.s):
                w_row, w_column = rows.w_first + r * rows.w_tap, columns.w_first + s * columns.w_tap
                source = address(w) + w_row * w.strides[0] + t * w.strides[2] + w_column * w.strides[1] + 4 * c
                copy_row(weights + 4 * (r * window.w_r + t * window.w_t + s * window.w_s), source, min(LANES, left))


@inlined
def _spread(memory, x, x_row, x_pixel, height, width, c, count, fan):
    """The band of x whose first pixel is at ``x``, for outputs c … c + count − 1. The outputs of a group are written
    together, and those behind them too: their turn comes."""
    lane = 0
    while lane < count:
        group = (c + lane) // fan.outputs
        end = min(count, (group + 1) * fan.outputs - c)
        for row in range(height):
            for t in range(fan.terms):
                source = x + row * x_row + 4 * (group * fan.terms + t)
                target = memory + 4 * ((row * fan.terms + t) * width * LANES + lane)
                for done in range(0, end - lane, STORED):
                    left = LANES - lane - done
                    for pixel in range(width):
                        value = splat(floats(source + pixel * x_pixel, 1)[0])
                        store(target + 4 * (pixel * LANES + done), value, left)
        lane = end


@inlined
def _several(y, y_step, x, x_step, w, b, channels, relu, window):
    """PIXELS outputs, for a vector of channels."""
    if channels >= LANES:
        several(y, 0, y_step, x, x_step, w, b, channels, x, y, relu, False, window)
    else:
        several_masked(y, 0, y_step, x, x_step, w, b, channels, x, y, relu, False, window)


@inlined
def _one(y, x, w, b, channels, relu, window):
    """One output, for a vector of channels."""
    if channels >= LANES:
        one(y, 0, 0, x, 0, w, b, channels, x, y, relu, False, window)
    else:
        one_masked(y, 0, 0, x, 0, w, b, channels, x, y, relu, False, window)


@cpu_kernel(float32_4d, float32_4d, types.int64, types.int64)
def _transpose_groups(packed, w, c, k):
    """packed[r,s,j,i·c + t] = w[r,s,t,i·k + j], groups i of c inputs and k outputs. Each thread owns rows (r, j)."""
    for item in prange(len(packed) * k):
        r, j = np.intp(item) // k, np.intp(item) % k
        for s in range(packed.shape[1]):
            for i in range(packed.shape[3]):
                packed[r, s, j, i] = w[r, s, i % c, i // c * k + j]


# -- weight gradient --------------------------------------------------------------------------------------------------


def grouped_weight_gradient(dw, x, dy, partial, g):
    """dw as in ``conv2d_weight_gradient``; partial: scratch of ``partial_grouped_shape(g, N)``."""
    rows, columns = output_axes(g)
    fan, images = _fan(rows, columns, *_channels(g)), len(x)
    groups, terms = _sum_groups_count(rows, fan, images), g.r * g.s * fan.terms
    flat = partial.reshape(-1)
    sums = flat[: groups * terms * g.k].reshape(groups, 1, terms, g.k)
    scratch = flat[-WORKERS * _scratch_floats(rows, columns, fan) :].reshape(WORKERS, -1)
    tables = _term_tables(g.r, g.s, fan.terms, g.k, g.dilation_h, g.dilation_w, _reach(columns))
    _partial_weights(sums, *tables, x, dy, scratch, rows, columns, fan)
    sum_groups(dw.reshape(1, 1, terms, g.k), sums)


def partial_grouped_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the weight gradient: partial sums, and behind them a band for each worker."""
    rows, columns = output_axes(g)
    fan = _fan(rows, columns, *_channels(g))
    sums = _sum_groups_count(rows, fan, images) * g.r * g.s * fan.terms * g.k
    return (1, 1, 1, sums + WORKERS * _scratch_floats(rows, columns, fan))


def _sum_groups_count(rows, fan, images):
    return min(GROUPS, images * -(-rows.count // fan.band))


@lru_cache(maxsize=1024)
def _term_tables(r, s, terms, k, dilation_h, dilation_w, width):
    """Where the weights and the spread inputs of each (r, s, t) lie, as int64; the last is repeated to fill tiles."""
    r_, s_, t_ = np.indices((r, s, terms), dtype=np.int64).reshape(3, -1)
    inputs = ((r_ * dilation_h * terms + t_) * width + s_ * dilation_w) * LANES
    return [np.pad(table, (0, -table.size % TAPS), mode="edge") for table in (np.arange(r_.size) * k, inputs)]


@cpu_kernel(float32_4d, int64_1d, int64_1d, float32_4d, float32_4d, float32_2d, Axis, Axis, Fan)
def _partial_weights(partial, dw_rows, x_rows, x, dy, scratch, rows, columns, fan):
    """partial[i,0,(r·S + s)·terms + t,k] = Σ x · dy over the bands of group i of (n, band).

    Each worker owns a scratch and a range of (group, vector of channels); each thread owns workers.
    """
    channels = dy.shape[3]
    blocks, bands, workers = -(-channels // LANES), -(-rows.count // fan.band), len(scratch)
    groups = len(partial)
    items, units = groups * blocks, len(x) * bands
    width = (columns.count - 1) * columns.x_step + (columns.taps - 1) * columns.x_tap + 1
    for item in prange(workers):
        worker = np.intp(item)
        memory = address(scratch) + worker * scratch.strides[0]
        for part in range(items * worker // workers, items * (worker + 1) // workers):
            c, group = part % blocks * LANES, part // blocks
            target = address(partial) + group * partial.strides[0] + 4 * c
            first, last = units * group // groups, units * (group + 1) // groups
            for unit in range(first, last):
                n, band = unit // bands, unit % bands * fan.band
                count = min(fan.band, rows.count - band)
                high = (count - 1) * rows.x_step + (rows.taps - 1) * rows.x_tap + 1
                x_band = address(x) + n * x.strides[0] + (rows.x_first + band * rows.x_step) * x.strides[1]
                x_first = x_band + columns.x_first * x.strides[2]
                _spread(memory, x_first, x.strides[1], x.strides[2], high, width, c, min(LANES, channels - c), fan)
                gradients = address(dy) + n * dy.strides[0] + band * dy.strides[1] + 4 * c
                x_p, x_q = rows.x_step * fan.terms * width * LANES, columns.x_step * LANES
                pixels = PixelSteps(count, columns.count, x_p, x_q, dy.strides[1] // 4, dy.strides[2] // 4)
                for term in range(0, x_rows.size, TAPS):
                    dw_table, x_table = address(dw_rows) + 8 * term, address(x_rows) + 8 * term
                    if channels - c >= LANES:
                        taps(target, dw_table, memory, x_table, gradients, channels - c, 0, 0, unit > first, pixels)
                    else:
                        taps_masked(
                            target, dw_table, memory, x_table, gradients, channels - c, 0, 0, unit > first, pixels
                        )
