"""Convolution and max-pooling in one pass: rows of C are the pixels of whole windows, and only their maxima are stored.

Indirection buffers put pixels in any order. With the pixels of each window in sequence, a microkernel of 8 rows
computes two windows of 2×2; one of 6 rows computes three in two calls. Their maxima are taken while C is in L1, so the
convolution's own output, four times as large, never reaches memory. Oracle: convolution, ReLU, then the pool.
"""

from functools import cache, lru_cache
from math import lcm
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from numbacnn.geometry import PoolGeometry
from numbacnn.kernels.convolution import FORWARD, ConvAlgorithm, Scratch
from numbacnn.kernels.cpu.conv import pixel_pairs
from numbacnn.kernels.cpu.conv.direct.forward import Strides, forward_gemm, packed_shape, weights_packing
from numbacnn.kernels.cpu.conv.direct.loops import elements
from numbacnn.kernels.cpu.conv.epilogues import activation_bit, bias_or_none
from numbacnn.kernels.cpu.conv.pixel_pairs import takes_pairs
from numbacnn.kernels.cpu.gemm.gemm import (
    MAX_MC,
    MR,
    NO_ADDRESS,
    NR,
    Epilogue,
    Gemm,
    gemm_rows,
    row_table,
    rows,
    shift,
)
from numbacnn.kernels.cpu.gemm.microkernel import WHOLE, Tile
from numbacnn.kernels.cpu.gemm.packing import pack
from numbacnn.kernels.cpu.simd.memory import address, offset, stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d
from numbacnn.kernels.recording import prepare

MAX_UNIT = 3 * MR  # a block of more rows would leave threads without work on one small image
ZERO = np.float32(0)
block_memory = stack_floats(MAX_MC * NR)


class Pooled(ConvAlgorithm):
    """The algorithm for max-pools, blocks of whose windows fill micro-panels of MR rows of C."""

    name = "pooled"
    directions = (FORWARD,)

    def applies(self, direction, g, pool):
        """Whether a block of C has room for windows, of pixels or of pairs of them, that fill its micro-panels."""
        if pool is None or g.groups > 1 or not windows_apart(pool):
            return False
        even = pool.s % 2 == pool.stride_w % 2 == 0 or not takes_pairs(g)
        return even and _block_unit(g, pool) <= MAX_UNIT

    def spreads(self, g):
        """To the other pixel of a pair."""
        return takes_pairs(g)

    def scratch(self, direction, g, batch, pool=None):
        """Packed weights, or those of pairs."""
        shape = pixel_pairs.forward_scratch_shape(g) if takes_pairs(g) else packed_shape(g)
        return {"packed": Scratch(shape, prepared=True)}

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """One GEMM, of whose C the maxima are stored."""
        packed, bias, pool = scratch["packed"], bias_or_none(b), epilogue.pool
        pairs = takes_pairs(g)
        packs = packed.size > 0 and not pairs
        if pairs:
            w, bias = pixel_pairs.weights_of_pairs(packed, w, bias, g)
        if packs:
            prepare(pack, packed, w, weights_packing(g, w.strides))
        strides = Strides(y.strides, x.strides, w.strides)
        gemm, y_rows, windows = pooled_gemm(g, pool, len(x), strides, packs, activation_bit(epilogue))
        kernel = _pooled_kernel(pool.r, pool.s, 2 if pairs else 1)
        kernel(y, epilogue.argmax, x, packed if packs else w, bias, y_rows, windows, *gemm)


def windows_apart(pool: PoolGeometry) -> bool:
    """Whether a pool's windows do not overlap and are whole: none reaches past the image."""
    apart = pool.stride_h >= pool.r and pool.stride_w >= pool.s
    whole = (pool.p - 1) * pool.stride_h + pool.r <= pool.h and (pool.q - 1) * pool.stride_w + pool.s <= pool.w
    return apart and whole and pool.pad_top == pool.pad_left == 0


def _window_rows(g, pool):
    """Rows of a window: its pixels, or pairs of them."""
    return pool.r * pool.s // (2 if takes_pairs(g) else 1)


def _block_unit(g, pool):
    """The fewest rows of C that are whole windows and whole micro-panels."""
    return lcm(MR, _window_rows(g, pool))


class Windows(NamedTuple):
    """The layout of the pool's windows in a block of C."""

    count: int  # per image
    rows: int  # of C, per window
    row_step: int  # floats from one row of a window to the next,
    pixel_step: int  # and from one pixel to the next in a row of C


class PooledGemm(NamedTuple):
    """A GEMM into blocks of C in scratch, the offsets of y's pixels, and the windows."""

    gemm: Gemm
    y_rows: NDArray[np.int64]
    windows: Windows


@lru_cache(maxsize=1024)
def pooled_gemm(g, pool, images, strides, packed, activation):
    """Return the GEMM whose rows are the pixels of window after window, or pairs of pixels."""
    pairs = takes_pairs(g)
    one, together = (pixel_pairs.pair_geometry(g), 2) if pairs else (g, 1)
    gemm = forward_gemm(one, images, strides, packed, epilogue=Epilogue(activation))
    y_steps, x_steps = elements(strides.y), elements(strides.x)
    row, pixel = g.stride_h * x_steps.row, g.stride_w * x_steps.pixel
    pixels = row_table(
        (pool.p, pool.stride_h * row),
        (pool.q, pool.stride_w * pixel),
        (pool.r, row),
        (pool.s // together, together * pixel),
    )
    windows = Windows(
        count=pool.p * pool.q,
        rows=_window_rows(g, pool),
        row_step=pool.s // together * NR,
        pixel_step=g.k if pairs else NR,
    )
    y_rows = row_table((pool.p, y_steps.row), (pool.q, y_steps.pixel))
    unit = _block_unit(g, pool)
    blocking = gemm.blocking._replace(mc=max(1, gemm.blocking.mc // unit) * unit)
    return PooledGemm(gemm._replace(m=rows(row_table((MAX_MC, NR)), pixels), blocking=blocking), y_rows, windows)


class Maxima(NamedTuple):
    """The outputs of one image: addresses of y, of its pixels' offsets, and of argmax or 0; filters of y."""

    y: int
    y_rows: int
    argmax: int
    filters: int


@cache
def _pooled_kernel(height, width, together):
    """Return the kernel for windows of height × width pixels, with their loops unrolled.

    ``together`` neighboring pixels of a window share a row of C.
    """

    @inlined
    def store_maxima(block, first, count, maxima, columns, windows):
        """Store the maxima of ``count`` windows, and their argmax."""
        for i in range(count):
            window = block + 4 * i * windows.rows * NR
            y_pixel = maxima.y + 4 * offset(maxima.y_rows, first + i)
            argmax_pixel = shift(maxima.argmax, (first + i) * maxima.filters)
            for c in range(0, columns, WIDTH):
                best, position = load(window + 4 * c, WIDTH), splat(ZERO)
                for at in range(1, height * width):
                    r, s = at // width, at % width
                    pixel = r * windows.row_step + s // together * NR + s % together * windows.pixel_step
                    value = load(window + 4 * (pixel + c), WIDTH)
                    position = where_greater(value, best, splat(np.float32(at)), position)
                    best = where_greater(value, best, value, best)
                store(y_pixel + 4 * c, best, columns - c)
                if argmax_pixel != NO_ADDRESS:
                    store(argmax_pixel + 4 * c, position, columns - c)

    @inlined
    def pool_block(first, last, at, n, mode, k, maxima, windows):
        """Rows [first, last) of one micro-panel, and their maxima."""
        block = block_memory()
        tile = Tile(block, at.c_rows - 8 * first, at.a, at.a_rows, at.b, at.bias)
        gemm_rows(first, last, tile, n, mode, k)
        count = (last - first) // windows.rows
        store_maxima(block, first // windows.rows, count, maxima, min(n, windows.pixel_step), windows)

    def pooled(y, argmax, x, w, bias, y_rows, windows, groups, m, n, k, k_end, a, b, c, epilogue, blocking):
        """Each thread owns a range of (image, block of windows, micro-panel)."""
        count, filters = windows.count * windows.rows, y.shape[3]
        panels, blocks = -(-n // NR), -(-count // blocking.mc)
        p_y, p_y_rows, p_x, p_w = address(y), address(y_rows), address(x), address(w)
        p_c_rows, p_a_rows = address(m.c), address(m.a)
        p_argmax, p_bias = address(argmax) if len(argmax) else NO_ADDRESS, address(bias) if bias.size else NO_ADDRESS
        mode = WHOLE | epilogue.activation
        for item in prange(groups * blocks * panels):
            panel, first = np.intp(item) % panels, np.intp(item) // panels % blocks * blocking.mc
            image = np.intp(item) // (panels * blocks)
            column = panel * NR
            maxima = Maxima(
                p_y + 4 * (image * c.group + column),
                p_y_rows,
                shift(p_argmax, image * windows.count * filters + column),
                filters,
            )
            at = Tile(
                NO_ADDRESS,
                p_c_rows,
                p_x + 4 * (a.offset + image * a.group),
                p_a_rows,
                p_w + 4 * panel * b.panel,
                shift(p_bias, column),
            )
            pool_block(first, min(first + blocking.mc, count), at, min(NR, n - column), mode, k, maxima, windows)

    pooled.__name__ = pooled.__qualname__ = f"pooled_{height}x{width}_by_{together}"
    arrays = float32_4d, float32_4d, float32_4d, float32_4d, float32_1d, int64_1d
    return cpu_kernel(*arrays, Windows, *Gemm.__annotations__.values())(pooled)
