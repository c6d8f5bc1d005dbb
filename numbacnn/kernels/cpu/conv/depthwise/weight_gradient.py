"""The depthwise weight gradient: partial sums over groups of rows, which are added in order."""

from functools import lru_cache

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.depthwise.weight_gradient_microkernel import (
    ROWS,
    PixelLoops,
    TapTile,
    taps_microkernel,
    window_microkernel,
)
from numbacnn.kernels.cpu.conv.depthwise.windows import MANY_REGISTERS
from numbacnn.kernels.cpu.gemm.gemm import LANES
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d
from numbacnn.kernels.target import host_target

TAPS = 9  # of a microkernel: enough sums to hide the latency of multiply-adds
GROUPS = 16  # of rows, each with a partial sum
FREE_MASKS = "AVX-512" in host_target().instruction_set  # whole vectors need no microkernels of their own
CHUNK_BYTES = 1 << 17  # of x and dy, which are read again for each vector of channels

microkernel, masked_microkernel = (taps_microkernel(TAPS, 1, LANES, masked) for masked in (False, True))
pairs, masked_pairs = (taps_microkernel(TAPS, ROWS, LANES, masked) for masked in (False, True))
(
    (window_3x3, masked_window_3x3),
    (strided_window_3x3, masked_strided_window_3x3),
    (first_rows_of_5, masked_first_rows_of_5),
    (last_row_of_5, masked_last_row_of_5),
) = (
    [window_microkernel(rows, taps, step, LANES, masked, prefetches) for masked in (False, True)]
    for rows, taps, step, prefetches in ((3, 3, 1, True), (3, 3, 2, True), (2, 5, 1, False), (1, 5, 1, True))
)


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
    return min(GROUPS, images * -(-g.p // ROWS))


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
    step = _window_step(g)
    block = ROWS if step else 1
    chunk = max(1, CHUNK_BYTES // (block * (x_p + dy_p))) * block
    for item in prange(groups):
        group = np.intp(item)
        first, last = rows * group // groups, rows * (group + 1) // groups
        target, row = p_partial + group * partial.strides[0], first
        while row < last:
            n, p = row // g.p, row % g.p
            count = min(chunk, last - row, g.p - p)
            inputs = p_x + n * x.strides[0] + p * x_p - g.pad_top * x.strides[1] - g.pad_left * x.strides[2]
            gradients = p_dy + n * dy.strides[0] + p * dy_p
            ahead = count if row + count < last else 0  # rows from this chunk to the next of the same group
            pixels = PixelLoops(
                count, g.q, x_p // 4, x_q // 4, dy_p // 4, dy_q // 4, ahead * x_p // 4, ahead * dy_p // 4
            )
            tile = TapTile(target, p_dw_rows, inputs, p_x_rows, gradients)
            if step:
                add_windows(tile, g.c, g.r, step, row > first, pixels)
            else:
                _add_taps(tile, g.c, x_rows.size, row > first, pixels)
            row += count


@inlined
def _window_step(g):
    """The distance of pixels in taps if there are microkernels for such windows, else 0.

    The pixels of such windows are summed in pairs of rows, on processors with few registers too: with the same bits.
    """
    step = g.stride_w // g.dilation_w
    if g.r != g.s or g.stride_h != step * g.dilation_h or g.stride_w != step * g.dilation_w:
        return 0
    return step if (g.r == 3 and (step == 1 or step == 2)) or (g.r == 5 and step == 1) else 0


def _adder_of_taps(microkernel, masked_microkernel):
    """Return the function that adds the products of taps by these microkernels."""

    @inlined
    def add_taps(tile, channels, taps, accumulate, pixels):
        for tap in range(0, taps, TAPS):
            for c in range(0, channels, LANES):
                if channels - c >= LANES:
                    microkernel(_at(tile, tap, c), channels - c, accumulate, pixels)
                else:
                    masked_microkernel(_at(tile, tap, c), channels - c, accumulate, pixels)

    return add_taps


_add_taps, _add_pairs = _adder_of_taps(microkernel, masked_microkernel), _adder_of_taps(pairs, masked_pairs)


@inlined
def _add_windows_of_pairs(tile, channels, side, step, accumulate, pixels):
    """``_add_windows`` for processors with few registers."""
    _add_pairs(tile, channels, side * side, accumulate, pixels)


@inlined
def _add_windows(tile, channels, side, step, accumulate, pixels):
    """Add the products of the windows, one vector of channels after the other."""
    for c in range(0, channels, LANES):
        first, left, whole = _at(tile, 0, c), channels - c, not FREE_MASKS and channels - c >= LANES
        if side == 3 and step == 1 and whole:
            window_3x3(first, left, accumulate, pixels)
        elif side == 3 and step == 1:
            masked_window_3x3(first, left, accumulate, pixels)
        elif side == 3 and whole:
            strided_window_3x3(first, left, accumulate, pixels)
        elif side == 3:
            masked_strided_window_3x3(first, left, accumulate, pixels)
        elif whole:
            for tap in range(0, 20, 10):
                first_rows_of_5(_at(first, tap, 0), left, accumulate, pixels)
            last_row_of_5(_at(first, 20, 0), left, accumulate, pixels)
        else:
            for tap in range(0, 20, 10):
                masked_first_rows_of_5(_at(first, tap, 0), left, accumulate, pixels)
            masked_last_row_of_5(_at(first, 20, 0), left, accumulate, pixels)


add_windows = _add_windows if MANY_REGISTERS else _add_windows_of_pairs


@inlined
def _at(tile, tap, c):
    """The tile, ``tap`` taps and ``c`` channels later."""
    return TapTile(tile.dw + 4 * c, tile.dw_rows + 8 * tap, tile.x + 4 * c, tile.x_rows + 8 * tap, tile.dy + 4 * c)
