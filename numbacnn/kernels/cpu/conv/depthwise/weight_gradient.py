"""The depthwise weight gradient: partial sums over groups of rows, which are added in order."""

from functools import lru_cache

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.depthwise.weight_gradient_microkernel import (
    SIDE,
    SQUARE_VECTORS,
    PixelLoops,
    TapTile,
    square_microkernel,
    taps_microkernel,
)
from numbacnn.kernels.cpu.conv.depthwise.windows import MANY_REGISTERS
from numbacnn.kernels.cpu.gemm.gemm import LANES
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d

TAPS = 9  # of a microkernel: a 3×3 window, and enough sums to hide the latency of multiply-adds
GROUPS = 16  # of rows, each with a partial sum
CHUNK_BYTES = 1 << 17  # of x and dy, which are read again for each vector of channels

microkernel, masked_microkernel = (taps_microkernel(TAPS, LANES, masked) for masked in (False, True))
square = square_microkernel(LANES)


def depthwise_weight_gradient(dw, x, dy, partial, g):
    """Write dw, from partial sums in scratch of ``partial_depthwise_shape``."""
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
def _tap_table(r, row_stride, s, column_stride):
    """Offsets of a window's taps, as int64; the last is repeated up to a multiple of TAPS."""
    table = np.arange(r, dtype=np.int64)[:, None] * row_stride + np.arange(s, dtype=np.int64) * column_stride
    return np.pad(table.ravel(), (0, -r * s % TAPS), mode="edge")


@cpu_kernel(float32_4d, int64_1d, float32_4d, int64_1d, float32_4d, ConvGeometry)
def _partial_weights(partial, dw_rows, x, x_rows, dy, g):
    """partial[i,0,r·S+s,c] = Σ x · dy over the rows (n, p) of group i, in float32.

    A chunk of rows stays in cache for all taps and channels. Each thread owns a range of groups.
    """
    p_partial, p_x, p_dy = address(partial), address(x), address(dy)
    p_dw_rows, p_x_rows = address(dw_rows), address(x_rows)
    groups, rows = len(partial), len(x) * g.p
    x_p, x_q, dy_p, dy_q = g.stride_h * x.strides[1], g.stride_w * x.strides[2], dy.strides[1], dy.strides[2]
    chunk = max(1, CHUNK_BYTES // (x_p + dy_p))
    is_square = MANY_REGISTERS and g.r == g.s == SIDE and g.stride_w == g.dilation_w
    for item in prange(groups):
        group = np.intp(item)
        first, last = rows * group // groups, rows * (group + 1) // groups
        target, row = p_partial + group * partial.strides[0], first
        while row < last:
            n, p = row // g.p, row % g.p
            count = min(chunk, last - row, g.p - p)
            inputs = p_x + n * x.strides[0] + p * x_p - g.pad_top * x.strides[1] - g.pad_left * x.strides[2]
            gradients = p_dy + n * dy.strides[0] + p * dy_p
            pixels = PixelLoops(
                count, g.q, x_p // 4, x_q // 4, dy_p // 4, dy_q // 4, count * x_p // 4, count * dy_p // 4
            )
            for tap in range(0, x_rows.size, TAPS):
                tile = TapTile(target, p_dw_rows + 8 * tap, inputs, p_x_rows + 8 * tap, gradients)
                _add_taps(tile, g.c, is_square, row > first, pixels)
            row += count


@inlined
def _add_taps(at, channels, is_square, accumulate, pixels):
    """Add the products of TAPS taps, one vector of channels after the other."""
    done = channels // (SQUARE_VECTORS * LANES) * SQUARE_VECTORS * LANES if is_square else 0
    for c in range(0, done, SQUARE_VECTORS * LANES):
        square(at_channel(at, c), accumulate, pixels)
    for c in range(done, channels, LANES):
        if channels - c >= LANES:
            microkernel(at_channel(at, c), channels - c, accumulate, pixels)
        else:
            masked_microkernel(at_channel(at, c), channels - c, accumulate, pixels)


@inlined
def at_channel(at, c):
    """The tile, ``c`` channels later."""
    return TapTile(at.dw + 4 * c, at.dw_rows, at.x + 4 * c, at.x_rows, at.dy + 4 * c)
