"""The weight gradient of narrow groups: partial sums over groups of spread bands, which are added in order."""

from functools import lru_cache

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.depthwise.weight_gradient import TAPS, masked_microkernel, microkernel
from numbacnn.kernels.cpu.conv.depthwise.weight_gradient_microkernel import PixelLoops, TapTile
from numbacnn.kernels.cpu.conv.depthwise.windows import Axis, output_axes
from numbacnn.kernels.cpu.conv.grouped.bands import (
    WORKERS,
    Band,
    Fan,
    group_channels,
    make_fan,
    reach,
    scratch_floats,
    spread,
)
from numbacnn.kernels.cpu.gemm.gemm import LANES
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.jit import cpu_kernel, float32_2d, float32_4d, int64_1d

GROUPS = 16  # partial sums, at most


def grouped_weight_gradient(dw, x, dy, partial, g):
    """Write dw, from partial sums in scratch of ``partial_grouped_shape``."""
    rows, columns = output_axes(g)
    fan, images = make_fan(rows, columns, *group_channels(g)), len(x)
    groups, terms = _partial_sums(rows, fan, images), g.r * g.s * fan.terms
    flat = partial.reshape(-1)
    sums = flat[: groups * terms * g.k].reshape(groups, 1, terms, g.k)
    scratch = flat[-WORKERS * scratch_floats(rows, columns, fan) :].reshape(WORKERS, -1)
    tables = _term_tables(g.r, g.s, fan.terms, g.k, g.dilation_h, g.dilation_w, reach(columns))
    _partial_weights(sums, *tables, x, dy, scratch, rows, columns, fan)
    sum_groups(dw.reshape(1, 1, terms, g.k), sums)


def partial_grouped_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the weight gradient: partial sums, then a band for each worker."""
    rows, columns = output_axes(g)
    fan = make_fan(rows, columns, *group_channels(g))
    sums = _partial_sums(rows, fan, images) * g.r * g.s * fan.terms * g.k
    return (1, 1, 1, sums + WORKERS * scratch_floats(rows, columns, fan))


def _partial_sums(rows, fan, images):
    return min(GROUPS, images * -(-rows.count // fan.band))


@lru_cache(maxsize=1024)
def _term_tables(r, s, terms, k, dilation_h, dilation_w, width):
    """Offsets of the weight and the spread input of each (r, s, t), as int64, padded to a multiple of TAPS."""
    r_, s_, t_ = np.indices((r, s, terms), dtype=np.int64).reshape(3, -1)
    tap = np.arange(r_.size, dtype=np.int64)
    inputs = ((r_ * dilation_h * terms + t_) * width + s_ * dilation_w) * LANES
    return [np.pad(table, (0, -table.size % TAPS), mode="edge") for table in (tap * k, inputs)]


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
    x_p, x_q = rows.x_step * fan.terms * width * LANES, columns.x_step * LANES
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
                height = (count - 1) * rows.x_step + (rows.taps - 1) * rows.x_tap + 1
                p_x = address(x) + n * x.strides[0] + (rows.x_first + band * rows.x_step) * x.strides[1]
                source = Band(p_x + columns.x_first * x.strides[2], x.strides[1], x.strides[2], height, width)
                spread(memory, source, c, min(LANES, channels - c), fan)
                gradients = address(dy) + n * dy.strides[0] + band * dy.strides[1] + 4 * c
                pixels = PixelLoops(count, columns.count, x_p, x_q, dy.strides[1] // 4, dy.strides[2] // 4, 0, 0)
                for term in range(0, x_rows.size, TAPS):
                    dw_table, x_table = address(dw_rows) + 8 * term, address(x_rows) + 8 * term
                    tile = TapTile(target, dw_table, memory, x_table, gradients)
                    if channels - c >= LANES:
                        microkernel(tile, channels - c, unit > first, pixels)
                    else:
                        masked_microkernel(tile, channels - c, unit > first, pixels)
