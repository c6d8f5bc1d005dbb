"""The input gradient of a convolution by col2im, for few input channels.

The direct algorithm would fill only C lanes of a register, and multiply the zeros of the halo. Here each pixel of dy is
multiplied by all of wᵀ, K → R·S·C columns at once. The columns of some pixels stay in cache while they are added to the
windows of dx that forward reads. In each row of a window, S·C of them are contiguous.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.convolution import INPUT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cpu.conv.epilogues import apply_mask
from numbacnn.kernels.cpu.gemm.gemm import (
    NO_ADDRESS,
    NO_EPILOGUE,
    NR,
    WHOLE_K,
    Blocking,
    Gemm,
    Operand,
    Pointers,
    Rows,
    gemm_item,
    row_table,
    rows,
)
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest
from numbacnn.kernels.cpu.gemm.packing import Packing, pack
from numbacnn.kernels.cpu.gemm.rows import add_row, clear_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, load_between, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined

MAX_CHANNELS = 8
COLUMN_FLOATS = 1 << 14  # of the pixels that are multiplied at once
GROUPS = 16  # of bands of dx, each with its own columns
MIN_BAND = 8  # rows of a band per row of a window, since bands share rows of dy
ZERO = np.float32(0)


class Col2Im(ConvAlgorithm):
    """The algorithm for few input channels."""

    name = "col2im"
    directions = (INPUT_GRADIENT,)

    def applies(self, direction, g, pool):
        """Whether there are few channels, and more columns than channels."""
        return pool is None and g.groups == 1 and g.c <= MAX_CHANNELS and g.r * g.s > 1

    def scratch(self, direction, g, batch, pool=None):
        """Packed wᵀ, and the columns of each group of bands."""
        width, blocks = g.r * g.s * g.c, _blocks(g, batch)
        return {
            "packed": Scratch((-(-width // NR), 1, g.k, NR)),
            "columns": Scratch((min(blocks.bands * batch, GROUPS), 1, blocks.rows * blocks.columns, width)),
        }

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """dy times wᵀ, added to dx. dy needs no halo."""
        width, columns, blocks = g.r * g.s * g.c, scratch["columns"], _blocks(g, len(dx))
        pack(scratch["packed"], w, Packing(width, g.k, 0, 1, 1, g.k, 0, 0, 1))
        columns = columns[: blocks.bands * len(dx)]
        _col2im_gradient(dx, columns, dy, scratch["packed"], g, blocks, *_gemm(g, blocks, dy.strides))
        apply_mask(dx, epilogue)


class Blocks(NamedTuple):
    """The blocks of dy that are multiplied at once, ``rows`` × ``columns`` pixels, and the bands of rows of dx."""

    rows: int
    columns: int
    bands: int


def _blocks(g, images):
    """The blocks for ``images`` images, whose number changes the bands and the rows, but not the bits of dx.

    Rows of dy are added in order, whatever their blocks. Only blocks of one row have fewer columns than dy.
    """
    pixels = max(1, COLUMN_FLOATS // (g.r * g.s * g.c))
    bands = max(1, min(-(-GROUPS // images), g.h // (MIN_BAND * g.dilation_h * g.r)))
    return Blocks(_part(-(-g.p // bands), max(1, pixels // g.q)), _part(g.q, pixels), bands)


def _part(size, most):
    """The size of equal parts of up to ``most``."""
    return -(-size // -(-size // most))


@lru_cache(maxsize=1024)
def _gemm(g, blocks, dy_strides):
    """The GEMM of one block: dy's pixels times wᵀ."""
    width = g.r * g.s * g.c
    pixels = (blocks.rows, dy_strides[1] // 4), (blocks.columns, dy_strides[2] // 4)
    return Gemm(
        groups=1,
        m=rows(row_table((blocks.rows * blocks.columns, width)), row_table(*pixels)),
        n=width,
        k=LoopNest(1, 1, g.k, 0, 0, 1, 0, 0, NR),
        k_end=WHOLE_K,
        a=Operand(),
        b=Operand(panel=NR * g.k),
        c=Operand(panel=NR),
        epilogue=NO_EPILOGUE,
        blocking=Blocking(mc=1 << 30),
    )


class Band(NamedTuple):
    """The rows of an image of dx from ``first`` to ``last`` − 1; its address and strides in bytes."""

    dx: int
    row_step: int
    pixel_step: int
    first: int
    last: int


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_4d, ConvGeometry, Blocks, *Gemm.__annotations__.values())
def _col2im_gradient(
    dx, columns, dy, packed, g, blocks, groups, m, n, k, k_end, a_operand, b_operand, c_operand, epilogue, blocking
):
    """Each thread owns a range of groups of bands, and each group its columns."""
    parts, bands = len(columns), len(dx) * blocks.bands
    p_dx, p_columns, p_dy, p_packed = address(dx), address(columns), address(dy), address(packed)
    rows = Rows(m.count, address(m.c), address(m.a), NO_ADDRESS)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    scratch_step, panels = columns.strides[0], -(-n // NR)
    for item in prange(parts):
        part = np.intp(item)
        scratch = p_columns + part * scratch_step
        gemm = Gemm(groups, rows, n, k, k_end, a_operand, b_operand, c_operand, epilogue, blocking)
        for i in range(bands * part // parts, bands * (part + 1) // parts):
            image, at = i // blocks.bands, i % blocks.bands
            first, last = g.h * at // blocks.bands, g.h * (at + 1) // blocks.bands
            band = Band(p_dx + image * dx_image, dx_row, dx_pixel, first, last)
            _clear(band, g)
            first_p = max(0, -((g.dilation_h * (g.r - 1) - g.pad_top - first) // g.stride_h))
            last_p = min(g.p, (last - 1 + g.pad_top) // g.stride_h + 1)
            for p in range(first_p, last_p, blocks.rows):
                for q in range(0, g.q, blocks.columns):
                    # The last block starts early enough to be whole, and computes some columns again.
                    whole_p, whole_q = min(p, g.p - blocks.rows), min(q, g.q - blocks.columns)
                    source = p_dy + image * dy_image + whole_p * dy_row + whole_q * dy_pixel
                    pointers = Pointers(scratch, source, p_packed, NO_ADDRESS, NO_ADDRESS)
                    for panel in range(panels):
                        gemm_item(panel, pointers, gemm)
                    for row in range(p, min(p + blocks.rows, last_p)):
                        pixel = (row - whole_p) * blocks.columns + q - whole_q
                        _add_row(band, scratch + 4 * n * pixel, row, q, min(q + blocks.columns, g.q), g)


@inlined
def _clear(band, g):
    """dx = 0."""
    is_contiguous = band.pixel_step == 4 * g.c
    pixels, floats = (1, g.w * g.c) if is_contiguous else (g.w, g.c)
    for h in range(band.first, band.last):
        for w in range(pixels):
            clear_row(band.dx + h * band.row_step + w * band.pixel_step, floats)


@inlined
def _add_row(band, columns, p, first_q, last_q, g):
    """dx[h,w,c] += columns[q][r,s,c] for the pixels (p, q) of dy, with (h, w) inside of the band."""
    is_contiguous = g.dilation_w == 1 and band.pixel_step == 4 * g.c
    for r in range(g.r):
        h = p * g.stride_h + r * g.dilation_h - g.pad_top
        if band.first <= h < band.last:
            dx, source = band.dx + h * band.row_step, columns + 4 * r * g.s * g.c
            if is_contiguous:
                _add_windows(dx, source, first_q, last_q, g)
            else:
                _add_pixels(dx, band.pixel_step, source, first_q, last_q, g)


@inlined
def _add_windows(dx, columns, first_q, last_q, g):
    """One row of dx, whose pixels are contiguous, as are those of a window.

    Each vector gets the sum of all windows that it sees. To add one after another to memory would be slow, since a load
    waits for stores that cover a part of it.
    """
    width, step = g.s * g.c, g.stride_w * g.c
    start, end = (first_q * g.stride_w - g.pad_left) * g.c, ((last_q - 1) * g.stride_w - g.pad_left) * g.c + width
    for i in range(max(0, start), min(end, g.w * g.c), WIDTH):
        total, count = splat(ZERO), g.w * g.c - i
        first, last = max(0, (i - start - width) // step + 1), (min(end, i + WIDTH) - 1 - start) // step
        for q in range(first, min(last_q - first_q, last + 1)):
            at = start + q * step - i  # lane of the first float of the window
            total += load_between(columns + 4 * (q * g.r * width - at), at, at + width)
        store(dx + 4 * i, load(dx + 4 * i, count) + total, count)


@inlined
def _add_pixels(dx, pixel_step, columns, first_q, last_q, g):
    """One row of dx, pixel by pixel."""
    for q in range(first_q, last_q):
        for s in range(g.s):
            w = q * g.stride_w + s * g.dilation_w - g.pad_left
            if 0 <= w < g.w:
                add_row(dx + w * pixel_step, columns + 4 * ((q - first_q) * g.r * g.s + s) * g.c, g.c)
