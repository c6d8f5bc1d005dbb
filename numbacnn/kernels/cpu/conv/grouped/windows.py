"""Grouped convolution and its input gradient: sums over windows of spread bands."""

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.depthwise.microkernel import Store, Strides, Tile, Window
from numbacnn.kernels.cpu.conv.depthwise.windows import (
    PIXELS,
    Axis,
    gradient_axes,
    masked_pixel_microkernel,
    masked_row_microkernel,
    output_axes,
    pixel_microkernel,
    row_microkernel,
)
from numbacnn.kernels.cpu.conv.grouped.bands import WORKERS, Band, Fan, group_channels, make_fan, scratch_floats, spread
from numbacnn.kernels.cpu.gemm.gemm import LANES, NO_ADDRESS, NO_AUX, NO_BIAS, shift
from numbacnn.kernels.cpu.gemm.rows import copy_row, mask_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined


def grouped_forward(y, x, w, bias, scratch, g, activation):
    """Write y, the convolution of x with w plus the bias, unless that is empty.

    scratch: of ``forward_scratch_shape``.
    """
    rows, columns = output_axes(g)
    _sum_windows(y, x, w, bias, NO_AUX, scratch, rows, columns, make_fan(rows, columns, *group_channels(g)), activation)


def grouped_input_gradient(dx, dy, w, packed, scratch, g, mask):
    """Write dx, zero wherever ``mask`` is given and 0 or less.

    packed, scratch: of ``transposed_shape`` and ``gradient_scratch_shape``.
    """
    c, k = group_channels(g)
    _transpose_groups(packed, w, c, k)
    for rows, columns in gradient_axes(g):
        fan, masks = make_fan(rows, columns, k, c), NO_AUX if mask is None else mask
        _sum_windows(dx, dy, packed, NO_BIAS, masks, scratch, rows, columns, fan, 0)


def forward_scratch_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the forward pass: a band and weights for each worker."""
    return _scratch_shape([output_axes(g)], *group_channels(g))


def gradient_scratch_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the input gradient: a band and weights for each worker, of the largest phase."""
    return _scratch_shape(gradient_axes(g), *group_channels(g)[::-1])


def transposed_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch for the weights, transposed within each group: R × S × K/groups × C."""
    return (g.r, g.s, g.k // g.groups, g.c)


def _scratch_shape(phases, terms, outputs):
    return (WORKERS, 1, 1, max(scratch_floats(*axes, make_fan(*axes, terms, outputs)) for axes in phases))


@cpu_kernel(*[float32_4d] * 3, float32_1d, float32_4d, float32_4d, Axis, Axis, Fan, types.int64)
def _sum_windows(y, x, w, bias, mask, scratch, rows, columns, fan, activation):
    """y = bias + Σ x · w over the windows of the two axes, then zero where the mask is 0 or less.

    An empty bias or mask means none. Each worker owns a scratch and a range of (n, band of rows, vector of channels);
    each thread owns workers.
    """
    channels = y.shape[3]
    blocks, bands = -(-channels // LANES), -(-rows.count // fan.band)
    items, workers = len(y) * bands * blocks, len(scratch)
    width = (columns.count - 1) * columns.x_step + max(0, columns.taps - 1) * columns.x_tap + 1
    line = width * LANES  # floats of one term
    p_bias = address(bias) if bias.size else NO_ADDRESS
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
    y_row, y_pixel = rows.step * y.strides[1], columns.step * y.strides[2]
    x_row, x_pixel = 4 * rows.x_step * fan.terms * line, 4 * columns.x_step * LANES
    for item in prange(workers):
        worker = np.intp(item)
        weights = address(scratch) + worker * scratch.strides[0]
        memory = weights + 4 * window.r * window.w_r
        for part in range(items * worker // workers, items * (worker + 1) // workers):
            c, band, n = part % blocks * LANES, part // blocks % bands * fan.band, part // (blocks * bands)
            _gather_weights(weights, w, rows, columns, window, c, channels - c)
            count = min(fan.band, rows.count - band)
            if rows.taps * columns.taps > 0:
                p_x = address(x) + n * x.strides[0] + (rows.x_first + band * rows.x_step) * x.strides[1]
                height = (count - 1) * rows.x_step + (rows.taps - 1) * rows.x_tap + 1
                source = Band(p_x + columns.x_first * x.strides[2], x.strides[1], x.strides[2], height, width)
                spread(memory, source, c, min(LANES, channels - c), fan)
            h = rows.first + band * rows.step
            target = address(y) + n * y.strides[0] + h * y.strides[1] + columns.first * y.strides[2] + 4 * c
            strides, tiled = Strides(0, y_pixel // 4, x_pixel // 4), columns.count // PIXELS
            store = Store(activation, False)
            for j in range(tiled):  # down the image, so that rows shared by windows stay in L1
                for i in range(count):
                    p_y, p_x = target + i * y_row + j * PIXELS * y_pixel, memory + i * x_row + j * PIXELS * x_pixel
                    tile = Tile(p_y, p_x, weights, shift(p_bias, c), p_y, p_x)
                    _row(tile, strides, channels - c, store, window)
            for j in range(tiled * PIXELS, columns.count):
                for i in range(count):
                    p_y, p_x = target + i * y_row + j * y_pixel, memory + i * x_row + j * x_pixel
                    tile = Tile(p_y, p_x, weights, shift(p_bias, c), p_y, p_x)
                    _pixel(tile, strides, channels - c, store, window)
            if mask.size:
                p_mask = address(mask) + n * mask.strides[0] + h * mask.strides[1] + columns.first * mask.strides[2]
                for i in range(count):
                    for j in range(columns.count):
                        pixel = target + i * y_row + j * y_pixel
                        at = p_mask + i * rows.step * mask.strides[1] + j * columns.step * mask.strides[2]
                        mask_row(pixel, pixel, at + 4 * c, min(LANES, channels - c))


@inlined
def _gather_weights(weights, w, rows, columns, window, c, left):
    """Copy the weights of a vector of channels in the order in which the microkernels read them."""
    for r in range(window.r):
        for t in range(window.t):
            for s in range(window.s):
                w_row, w_column = rows.w_first + r * rows.w_tap, columns.w_first + s * columns.w_tap
                source = address(w) + w_row * w.strides[0] + t * w.strides[2] + w_column * w.strides[1] + 4 * c
                copy_row(weights + 4 * (r * window.w_r + t * window.w_t + s * window.w_s), source, min(LANES, left))


@inlined
def _row(tile, strides, channels, store, window):
    """Compute PIXELS outputs, for one vector of channels."""
    if channels >= LANES:
        row_microkernel(tile, strides, channels, store, window)
    else:
        masked_row_microkernel(tile, strides, channels, store, window)


@inlined
def _pixel(tile, strides, channels, store, window):
    """Compute one output, for one vector of channels."""
    if channels >= LANES:
        pixel_microkernel(tile, strides, channels, store, window)
    else:
        masked_pixel_microkernel(tile, strides, channels, store, window)


@cpu_kernel(float32_4d, float32_4d, types.int64, types.int64)
def _transpose_groups(packed, w, c, k):
    """packed[r,s,j,i·c + t] = w[r,s,t,i·k + j] for groups i of c inputs and k outputs. Each thread owns rows (r, j)."""
    for item in prange(len(packed) * k):
        r, j = np.intp(item) // k, np.intp(item) % k
        for s in range(packed.shape[1]):
            for i in range(packed.shape[3]):
                packed[r, s, j, i] = w[r, s, i % c, i // c * k + j]
