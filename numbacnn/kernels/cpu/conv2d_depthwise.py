"""Depthwise convolution and its two gradients, a vector of channels at a time. Oracle: ``tests/reference.py``.

A channel meets its own R·S weights alone, so there is no matrix product for the register tile; but neighbouring
channels lie side by side, and fill a register. Where each channel has several filters (a multiplier), and for other
groups, the direct algorithm runs group by group.
"""

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.memory import address
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.cpu.vector import LANES, load, splat, store, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined

GROUPS = 16  # of rows in the weight gradient's sums
ZERO = np.float32(0)


def applies(g: ConvGeometry) -> bool:
    """Whether each of several channels has one filter of its own."""
    return g.groups == g.c == g.k > 1


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_1d, ConvGeometry, types.boolean)
def depthwise_forward(y, x, w, b, g, relu):
    """y as in ``conv2d_forward``; b has no elements where there is no bias. Each thread owns rows (n, p)."""
    p_y, p_x, p_w, p_b = address(y), address(x), address(w), address(b)
    y_image, y_row, y_pixel = y.strides[:3]
    x_image, x_row, x_pixel = x.strides[:3]
    for item in prange(len(y) * g.p):
        n, p = np.intp(item) // g.p, np.intp(item) % g.p
        outputs = p_y + n * y_image + p * y_row
        window = p_x + n * x_image + (p * g.stride_h - g.pad_top) * x_row - g.pad_left * x_pixel
        for q in range(g.q):
            pixels = window + q * g.stride_w * x_pixel
            for c in range(0, g.c, LANES):
                total = _window_product(pixels + 4 * c, x_row, x_pixel, p_w + 4 * c, g.c - c, g)
                if len(b):
                    total += load(p_b + 4 * c, g.c - c)
                if relu:
                    total = where_greater(total, splat(ZERO), total, splat(ZERO))
                store(outputs + q * y_pixel + 4 * c, total, g.c - c)


@inlined
def _window_product(x, x_row, x_pixel, w, count, g):
    """Σ_rs x · w for one output pixel and a vector of channels."""
    total = splat(ZERO)
    for r in range(g.r):
        for s in range(g.s):
            pixel = load(x + r * g.dilation_h * x_row + s * g.dilation_w * x_pixel, count)
            total += pixel * load(w + 4 * g.c * (r * g.s + s), count)
    return total


@cpu_kernel(float32_4d, float32_4d, float32_4d, ConvGeometry)
def depthwise_input_gradient(dx, dy, w, g):
    """dx as in ``conv2d_input_gradient``, of which dy's halo is not read. Each thread owns rows (n, h) of dx.

    Each tap adds its share to a row, a vector of channels at a time, so that the row stays in the first cache.
    """
    p_dx, p_dy, p_w = address(dx), address(dy), address(w)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    for item in prange(len(dx) * g.h):
        n, h = np.intp(item) // g.h, np.intp(item) % g.h
        row = p_dx + n * dx_image + h * dx_row
        for c in range(0, g.c, LANES):
            for pixel in range(g.w):
                store(row + pixel * dx_pixel + 4 * c, splat(ZERO), g.c - c)
            for r in range(g.r):
                place = h + g.pad_top - r * g.dilation_h
                p = place // g.stride_h
                if place == p * g.stride_h and 0 <= p < g.p:
                    gradients = p_dy + n * dy_image + p * dy_row + 4 * c
                    _add_taps(row + 4 * c, dx_pixel, gradients, dy_pixel, p_w + 4 * (g.c * r * g.s + c), g.c - c, g)


@inlined
def _add_taps(dx, dx_pixel, dy, dy_pixel, w, count, g):
    """dx[w] += dy[q] · w[s] where w = q·stride + s·dilation − pad, for one row of the window."""
    for s in range(g.s):
        weight, shift = load(w + 4 * g.c * s, count), s * g.dilation_w - g.pad_left
        first, last = max(0, -(shift // g.stride_w)), min(g.q, (g.w - 1 - shift) // g.stride_w + 1)
        for q in range(first, last):
            pixel = dx + (q * g.stride_w + shift) * dx_pixel
            store(pixel, load(pixel, count) + load(dy + q * dy_pixel, count) * weight, count)


def depthwise_weight_gradient(dw, x, dy, partial, g):
    """dw as in ``conv2d_weight_gradient``; partial: scratch of ``partial_depthwise_shape(g, N)``."""
    groups = _row_groups(g, len(x))
    _partial_weights(partial[:groups], x, dy, g)
    sum_groups(dw, partial[:groups])


def partial_depthwise_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the weight gradient: groups × 1 × taps × C."""
    return (_row_groups(g, images), 1, g.r * g.s, g.c)


def _row_groups(g, images):
    return min(GROUPS, images * g.p)


@cpu_kernel(float32_4d, float32_4d, float32_4d, ConvGeometry)
def _partial_weights(partial, x, dy, g):
    """partial[i,0,r·S+s,c] = Σ x · dy over the group's rows (n, p), each row summed by itself first.

    Each thread owns a range of groups.
    """
    p_partial, p_x, p_dy = address(partial), address(x), address(dy)
    x_image, x_row, x_pixel = x.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    groups, rows, taps = len(partial), len(x) * g.p, g.r * g.s
    for item in prange(groups):
        group = np.intp(item)
        totals = p_partial + 4 * group * taps * g.c
        for c in range(0, g.c, LANES):
            for tap in range(taps):
                store(totals + 4 * (tap * g.c + c), splat(ZERO), g.c - c)
        for m in range(rows * group // groups, rows * (group + 1) // groups):
            n, p = m // g.p, m % g.p
            gradients = p_dy + n * dy_image + p * dy_row
            window = p_x + n * x_image + (p * g.stride_h - g.pad_top) * x_row - g.pad_left * x_pixel
            for c in range(0, g.c, LANES):
                for tap in range(taps):
                    pixels = window + tap // g.s * g.dilation_h * x_row + tap % g.s * g.dilation_w * x_pixel + 4 * c
                    total = totals + 4 * (tap * g.c + c)
                    row = _row_product(pixels, g.stride_w * x_pixel, gradients + 4 * c, dy_pixel, g.q, g.c - c)
                    store(total, load(total, g.c - c) + row, g.c - c)


@inlined
def _row_product(x, x_step, dy, dy_step, pixels, count):
    total = splat(ZERO)
    for q in range(pixels):
        total += load(x + q * x_step, count) * load(dy + q * dy_step, count)
    return total
