"""The weight gradient of a convolution with many channels, from copies of x and dy in a blocked layout (NCHWc).

The direct algorithm steps over pixels, and with many channels each pixel is in another page of memory: it reads a few
floats of each page and stalls on every one. Here a round of images is copied first, so that the pixels of each block of
NR channels are contiguous, and multiplied while the copies are in cache. With 1×1 windows and few weights, each group
of rows has copies and a sum of its own, so that no thread multiplies copies that another has made.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.convolution import WEIGHT_GRADIENT, ConvAlgorithm, Scratch
from numbacnn.kernels.cpu.conv.direct.loops import group_slices, one_group
from numbacnn.kernels.cpu.gemm.gemm import (
    NO_ADDRESS,
    NR,
    Blocking,
    Epilogue,
    Gemm,
    Operand,
    choose_mc,
    gemm_rows,
    multiply,
    pad_rows,
    row_table,
    rows,
)
from numbacnn.kernels.cpu.gemm.microkernel import ACCUMULATE, LoopNest, Tile
from numbacnn.kernels.cpu.gemm.padding import in_longest_panels
from numbacnn.kernels.cpu.gemm.rows import copy_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d

# Channels times multiply-adds per copied float. With fewer channels, a page of memory holds several pixels; with fewer
# multiply-adds, copies cost more than they save.
MIN_REUSE = 25_000
ROUND_BYTES = 1 << 22  # of copies
GROUP_WEIGHTS = 1 << 17  # of 1×1 windows, whose sums stay in L2 with the copies of a group of rows
GROUP_FLOATS = 1 << 16  # of these copies
GROUPS = 16
MIN_GROUP_REUSE = 12_000
MIN_GROUP_PIXELS = 128  # of an image; with fewer, sums are written and read more often than they save
CHUNK_PIXELS = 1 << 10  # of a pass over k: three blocks of that many pixels stay in L2


class Blocked(ConvAlgorithm):
    """The algorithm for many channels, with many multiply-adds per pixel."""

    name = "blocked"
    directions = (WEIGHT_GRADIENT,)

    def applies(self, direction, g, pool):
        """Whether copies cost less than they save."""
        one = one_group(g)
        copied = _copied(one)
        pixels = one.p * one.q
        multiplies, floats = pixels * one.r * one.s * one.c * one.k, copied.h * copied.w * one.c + pixels * one.k
        return pool is None and one.c * multiplies >= (MIN_GROUP_REUSE if _in_groups(one) else MIN_REUSE) * floats

    def scratch(self, direction, g, batch, pool=None):
        """The copies of a round or of each group, those of x before those of dy; and the groups' sums."""
        one = one_group(g)
        if _in_groups(one):
            groups, pixels = min(GROUPS, batch * one.p), _rows_at_once(one) * one.q
            copies = (groups, 1, _rows_of_blocks(one.c, pixels) + _rows_of_blocks(one.k, pixels), NR)
            return {"copies": Scratch(copies), "partial": Scratch((groups, 1, one.c, one.k))}
        x_rows, dy_rows = _copy_rows(one, _images_per_round(one, batch))
        return {"copies": Scratch((1, 1, x_rows + dy_rows, NR))}

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """One GEMM per round of images, or per chunk of a group's rows, and group of channels."""
        one = one_group(g)
        at_once = _rows_at_once(one)
        for x_part, dy_part, k in group_slices(x, dy, g):
            if _in_groups(one):
                groups = min(GROUPS, len(x) * one.p)
                partial, copies = scratch["partial"][:groups], scratch["copies"][:groups]
                _sum_row_groups(partial, copies, x_part, dy_part, *_group_rows(one, at_once), at_once, one)
                sum_groups(dw[..., k], partial)
            else:
                blocked_weight_gradient(dw[..., k], x_part, dy_part, scratch["copies"], one)


def _in_groups(g):
    """Whether groups of rows have sums of their own."""
    fits = g.c * g.k <= GROUP_WEIGHTS and g.q * (g.c + g.k) <= GROUP_FLOATS
    return g.r * g.s == 1 and fits and g.p * g.q >= MIN_GROUP_PIXELS


def _rows_at_once(g):
    """Rows of dy that a group copies at once; the same on all processors, since they are added one after another."""
    return max(1, min(g.p, GROUP_FLOATS // (g.q * (in_longest_panels(g.c) + in_longest_panels(g.k)))))


@lru_cache(maxsize=1024)
def _group_rows(g, at_once):
    """Offsets of the channels of x in a group's copies of ``at_once`` rows, and of the rows of dw in its sum."""
    block = NR * _block_rows(at_once * g.q)
    return pad_rows(np.arange(g.c) // NR * block + np.arange(g.c) % NR), row_table((g.c, g.k))


class _Copied(NamedTuple):
    """The pixels of one image of x that windows read; with 1×1 windows, the stride skips the others."""

    h: int
    w: int
    step_h: int  # pixels of x from one copied pixel to the next
    step_w: int
    stride_h: int  # copied pixels from one window to the next
    stride_w: int


def _copied(g):
    (h, step_h, stride_h), (w, step_w, stride_w) = (
        _copied_axis(g.p, g.r, g.stride_h, g.dilation_h),
        _copied_axis(g.q, g.s, g.stride_w, g.dilation_w),
    )
    return _Copied(h, w, step_h, step_w, stride_h, stride_w)


def _copied_axis(outputs, window, stride, dilation):
    return (outputs, stride, 1) if window == 1 else ((outputs - 1) * stride + (window - 1) * dilation + 1, 1, stride)


def _images_per_round(g, images):
    return max(1, min(images, ROUND_BYTES // (4 * NR * sum(_copy_rows(g, 1)))))


def _copy_rows(g, images):
    """Rows of the copies of x and of dy."""
    copied = _copied(g)
    return _rows_of_blocks(g.c, images * copied.h * copied.w), _rows_of_blocks(g.k, images * g.p * g.q)


def _rows_of_blocks(channels, pixels):
    return -(-channels // NR) * _block_rows(pixels)


def _block_rows(pixels):
    """Rows of a block: an odd number, since blocks a power of two apart would map to the same few cache sets."""
    return pixels | 1


def blocked_weight_gradient(dw, x, dy, copies, g):
    """Write dw of one group."""
    images, copied = len(x), _copied(g)
    step = _images_per_round(g, images)
    x_rows, _ = _copy_rows(g, step)
    x_copy, dy_copy = copies[:, :, :x_rows], copies[:, :, x_rows:]
    for first in range(0, images, step):
        count = min(step, images - first)
        part = slice(first, first + count)
        x_pixels = CopiedPixels(count, copied.h, copied.w, copied.step_h, copied.step_w, g.c, g.pad_top, g.pad_left)
        _copy_blocks(x_copy, x[part], x_pixels)
        _copy_blocks(dy_copy, dy[part], CopiedPixels(count, g.p, g.q, 1, 1, g.k))
        multiply(dw, x_copy, dy_copy, _gemm(g, count, dw.strides, first > 0))


class CopiedPixels(NamedTuple):
    """The pixels to copy: ``h``×``w`` of each image, starting ``top`` and ``left`` pixels before its first."""

    images: int
    h: int
    w: int
    step_h: int
    step_w: int
    channels: int
    top: int = 0
    left: int = 0


@cpu_kernel(float32_4d, float32_4d, CopiedPixels)
def _copy_blocks(blocks, x, g):
    """blocks[0, 0, block·rows + pixel, j] = x's pixel, channel block·NR + j. Each thread owns rows of pixels."""
    x_image, x_row, x_pixel = x.strides[:3]
    p_blocks = address(blocks)
    p_x = address(x) - g.top * x_row - g.left * x_pixel
    step = 4 * NR * (g.images * g.h * g.w | 1)
    for item in prange(g.images * g.h):
        row = np.intp(item)
        source = p_x + row // g.h * x_image + row % g.h * g.step_h * x_row
        target = p_blocks + 4 * NR * row * g.w
        _copy_row(target, step, source, g.step_w * x_pixel, g.w, g.channels)


@inlined
def _copy_row(blocks, block_step, x, pixel_step, pixels, channels):
    """Copy a row of pixels, ``pixel_step`` bytes apart, into blocks of channels."""
    for _ in range(pixels):
        for c in range(0, channels, NR):
            copy_row(blocks + c // NR * block_step, x + 4 * c, min(NR, channels - c))
        blocks, x = blocks + 4 * NR, x + pixel_step


@cpu_kernel(*[float32_4d] * 4, int64_1d, int64_1d, types.int64, ConvGeometry)
def _sum_row_groups(partial, copies, x, dy, a_rows, c_rows, rows_at_once, g):
    """partial[i,0,c,k] = Σ x[n,p,q,c] · dy[n,p,q,k] over the rows (n, p) of group i, for 1×1 windows.

    ``a_rows``: offsets of channels in copies; ``c_rows``: those of their sums. Each thread owns a range of groups.
    """
    x_image, x_row, x_pixel = x.strides[0], g.stride_h * x.strides[1], g.stride_w * x.strides[2]
    dy_image, dy_row, dy_pixel = dy.strides[:3]
    p_x, p_dy = address(x) - g.pad_top * x.strides[1] - g.pad_left * x.strides[2], address(dy)
    p_partial, p_copies, p_a_rows, p_c_rows = address(partial), address(copies), address(a_rows), address(c_rows)
    groups, all_rows, step = len(partial), len(x) * g.p, 4 * NR * (rows_at_once * g.q | 1)
    for item in prange(groups):
        group = np.intp(item)
        x_blocks, total = p_copies + group * copies.strides[0], p_partial + group * partial.strides[0]
        dy_blocks = x_blocks + -(-g.c // NR) * step
        first, last, mode = all_rows * group // groups, all_rows * (group + 1) // groups, 0
        while first < last:
            count = min(rows_at_once, last - first)
            for i in range(count):
                n, p, at = (first + i) // g.p, (first + i) % g.p, 4 * NR * i * g.q
                _copy_row(x_blocks + at, step, p_x + n * x_image + p * x_row, x_pixel, g.q, g.c)
                _copy_row(dy_blocks + at, step, p_dy + n * dy_image + p * dy_row, dy_pixel, g.q, g.k)
            k = LoopNest(1, 1, count * g.q, 0, 0, NR, 0, 0, NR)
            for panel in range(-(-g.k // NR)):
                b, c = dy_blocks + panel * step, total + 4 * panel * NR
                tile = Tile(c, p_c_rows, x_blocks, p_a_rows, b, NO_ADDRESS)
                gemm_rows(0, len(a_rows), tile, min(NR, g.k - panel * NR), mode, k)
            first, mode = first + count, ACCUMULATE


@lru_cache(maxsize=1024)
def _gemm(g, images, dw_strides, accumulate):
    """The weight gradient's GEMM over the copies of ``images`` images."""
    copied, terms = _copied(g), g.r * g.s * g.c
    x_block, dy_block = (NR * _block_rows(images * n) for n in (copied.h * copied.w, g.p * g.q))
    x_row = copied.w * NR
    a_strides = (copied.h * x_row, copied.stride_h * x_row, copied.stride_w * NR)
    return Gemm(
        groups=1,
        m=rows(row_table((terms, dw_strides[2] // 4)), _tap_rows(g, copied, x_block)),
        n=g.k,
        k=LoopNest(images, g.p, g.q, *a_strides, g.p * g.q * NR, g.q * NR, NR),
        k_end=images,
        a=Operand(),
        b=Operand(panel=dy_block),
        c=Operand(panel=NR),
        epilogue=Epilogue(accumulate=accumulate),
        blocking=Blocking(
            choose_mc(terms, -(-g.k // NR)),
            kc_0=max(1, CHUNK_PIXELS // (g.p * g.q)),
            kc_1=max(1, min(g.p, CHUNK_PIXELS // g.q)),
        ),
    )


def _tap_rows(g, copied, x_block):
    """Offsets of the first input of dw[r,s,c] in the copy."""
    c = np.arange(g.c)
    taps = row_table((g.r, g.dilation_h * copied.w * NR), (g.s, g.dilation_w * NR))[: g.r * g.s]
    return pad_rows((taps[:, None] + c // NR * x_block + c % NR).ravel())
