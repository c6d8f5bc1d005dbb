"""Convolution and max-pooling in one: a tile's rows are the pixels of whole windows, and only maxima leave it.

The row tables of a product put pixels in any order. With the pixels of each window one after the other, a register
tile of 8 rows computes two windows of 2×2; their maxima are taken while the tile lies in the first-level cache, and
the convolution's own output, four times as large, never reaches memory. Oracle: convolution, ReLU, then the pool.
"""

from functools import cache, lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cpu.conv import pixel_pairs, single_channel
from numbacnn.kernels.cpu.conv.direct import NO_BIAS, forward_plan
from numbacnn.kernels.cpu.gemm.gemm import BLOCK_ROWS, NO_ADDRESS, PANEL, ROWS, Product, product_rows, row_table, shift
from numbacnn.kernels.cpu.gemm.microkernel import RELU, WHOLE, Sum
from numbacnn.kernels.cpu.gemm.packing import pack_panels
from numbacnn.kernels.cpu.simd.memory import address, offset, stack_floats
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d
from numbacnn.kernels.recording import prepare
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)
block_memory = stack_floats(BLOCK_ROWS * PANEL)


def pool_fuses(g: ConvGeometry, pool: PoolGeometry) -> bool:
    """Whether a convolution can take the maxima of its own output: whole windows apart, a few of them to a tile."""
    apart = pool.stride_h >= pool.r and pool.stride_w >= pool.s
    whole = (pool.p - 1) * pool.stride_h + pool.r <= pool.h and (pool.q - 1) * pool.stride_w + pool.s <= pool.w
    inside = pool.pad_top == pool.pad_left == 0 and whole
    return apart and inside and g.groups == 1 and (single_channel.applies(g, pool) or _fills_tiles(g, pool))


def _fills_tiles(g, pool):
    """Whether windows of the pool, of pixels or of pairs of them, come to whole tiles."""
    even = pool.s % 2 == pool.stride_w % 2 == 0 or not pixel_pairs.applies(g)
    return even and ROWS % _rows_of(g, pool) == 0


def _rows_of(g, pool):
    """Rows of a tile that one window takes: its pixels, or pairs of them."""
    return pool.r * pool.s // (2 if pixel_pairs.applies(g) else 1)


class Windows(NamedTuple):
    """How the pixels of the pool's windows lie in a tile."""

    count: int  # of one image
    rows: int  # of the tile, for each window
    row_step: int  # from one row of a window to the next, in floats,
    pixel_step: int  # and from one pixel to the next


@launcher
def conv2d_pool_forward(y, argmax, x, w, b, packed, g, pool, relu=False):
    """y, argmax as of ``max_pool_forward`` from what ``conv2d_forward`` would write.

    y: N×P×Q×K of the pool; argmax: the same, contiguous, or without images where no gradient will be asked for; the
    others as in ``conv2d_forward``.
    """
    bias = NO_BIAS if b is None else b
    if single_channel.applies(g, pool):
        single_channel.pixels_pool_forward(y, argmax, x, w, bias, g, pool, relu)
        return
    if pixel_pairs.applies(g):
        w, bias = pixel_pairs.weights_of_pairs(packed, w, bias, g)
    plan = _plan(g, pool, len(x), y.strides, x.strides, w.strides, packed.size > 0, relu)
    if plan.pack is not None:
        prepare(pack_panels, packed, w, plan.pack)
        w = packed
    kernel = _pooled_products(pool.r, pool.s)
    kernel(y, argmax, plan.y_rows, x, plan.a_rows, plan.block_rows, w, bias, plan.product, plan.windows)


class _PooledPlan(NamedTuple):
    product: Product
    windows: Windows
    y_rows: np.ndarray  # of the windows
    a_rows: np.ndarray  # of their pixels, or pairs
    block_rows: np.ndarray
    pack: object


@lru_cache(maxsize=1024)
def _plan(g, pool, images, y_strides, x_strides, w_strides, packed, relu):
    pairs = pixel_pairs.applies(g)
    one = pixel_pairs.pair_geometry(g) if pairs else g
    direct = forward_plan(one, images, y_strides, x_strides, w_strides, packed and not pairs, relu)
    together = 2 if pairs else 1
    h_step, w_step = g.stride_h * x_strides[1] // 4, g.stride_w * x_strides[2] // 4
    a_rows = row_table(
        (pool.p, pool.stride_h * h_step),
        (pool.q, pool.stride_w * w_step),
        (pool.r, h_step),
        (pool.s // together, together * w_step),
    )
    windows = Windows(
        count=pool.p * pool.q,
        rows=_rows_of(g, pool),
        row_step=pool.s // together * PANEL,
        pixel_step=g.k if pairs else PANEL,
    )
    y_rows = row_table((pool.p, y_strides[1] // 4), (pool.q, y_strides[2] // 4))
    return _PooledPlan(direct.product, windows, y_rows, a_rows, row_table((BLOCK_ROWS, PANEL)), direct.pack)


@cache
def _pooled_products(height, width):
    """The kernel for windows of height × width pixels, whose loops are unrolled."""

    @inlined
    def take_maxima(rows, first, count, y, y_rows, argmax, filters, columns, windows):
        """The maxima of ``count`` windows, and their places."""
        for i in range(count):
            window = rows + 4 * i * windows.rows * PANEL
            y_pixel = y + 4 * offset(y_rows, first + i)
            argmax_pixel = shift(argmax, (first + i) * filters)
            for c in range(0, columns, LANES):
                best, place = load(window + 4 * c, LANES), splat(ZERO)
                for at in range(1, height * width):
                    r, s = at // width, at % width
                    value = load(window + 4 * (r * windows.row_step + s * windows.pixel_step + c), LANES)
                    place = where_greater(value, best, splat(np.float32(at)), place)
                    best = where_greater(value, best, value, best)
                store(y_pixel + 4 * c, best, columns - c)
                if argmax != NO_ADDRESS:
                    store(argmax_pixel + 4 * c, place, columns - c)

    @inlined
    def block(first, last, y, y_rows, argmax, x, a_rows, block_rows, w, bias, columns, filters, g, windows):
        """Rows [first, last) of one panel."""
        rows = block_memory()
        nest = Sum(g.count_0, g.count_1, g.count_2, g.a_0, g.a_1, g.a_2, g.b_0, g.b_1, g.b_2)
        mode = WHOLE | (RELU if g.relu else 0)
        product_rows(first, last, rows, block_rows - 8 * first, x, a_rows, w, bias, columns, mode, nest)
        window, count = first // windows.rows, (last - first) // windows.rows
        take_maxima(rows, window, count, y, y_rows, argmax, filters, min(columns, windows.pixel_step), windows)

    def pooled_products(y, argmax, y_rows, x, a_rows, block_rows, w, bias, g, windows):
        """Each thread owns a range of (image, block of windows, panel of filters)."""
        rows, filters = windows.count * windows.rows, y.shape[3]
        panels, blocks = -(-g.columns // PANEL), -(-rows // g.row_block)
        p_y, p_y_rows, p_x, p_a_rows = address(y), address(y_rows), address(x), address(a_rows)
        p_argmax = address(argmax) if len(argmax) else NO_ADDRESS
        p_block_rows, p_w, p_bias = address(block_rows), address(w), address(bias) if bias.size else NO_ADDRESS
        for item in prange(g.groups * blocks * panels):
            panel, first = np.intp(item) % panels, np.intp(item) // panels % blocks * g.row_block
            image = np.intp(item) // (panels * blocks)
            block(
                first,
                min(first + g.row_block, rows),
                p_y + 4 * (image * g.c_group + panel * PANEL),
                p_y_rows,
                shift(p_argmax, image * windows.count * filters + panel * PANEL),
                p_x + 4 * (g.a_offset + image * g.a_group),
                p_a_rows,
                p_block_rows,
                p_w + 4 * panel * g.b_panel,
                shift(p_bias, panel * PANEL),
                min(PANEL, g.columns - panel * PANEL),
                filters,
                g,
                windows,
            )

    pooled_products.__name__ = pooled_products.__qualname__ = f"pooled_products_{height}x{width}"
    arrays = float32_4d, float32_4d, int64_1d, float32_4d, int64_1d, int64_1d, float32_4d, float32_1d
    return cpu_kernel(*arrays, Product, Windows)(pooled_products)
