"""The weight gradient of a convolution of many channels, from copies of x and dy in panels.

The direct algorithm walks over pixels, and with many channels each lies in another page of memory: it reads a few
floats of each, and waits. Here a round of images is copied first, so that each panel of channels has its pixels one
behind the other, then multiplied while the copies are in the cache.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.gemm.gemm import (
    NR,
    Blocking,
    Epilogue,
    Gemm,
    Operand,
    choose_mc,
    multiply,
    pad_rows,
    row_table,
    rows,
)
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest
from numbacnn.kernels.cpu.gemm.rows import copy_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.jit import cpu_kernel, float32_4d

WORTH = 25_000  # channels times products a copied float, at least: of fewer channels the direct algorithm finds several
# pixels in a page of memory, and where few products read them, copies cost more than they save
ROUND_BYTES = 1 << 22  # of copies
CHUNK_PIXELS = 1 << 10  # summed in one pass: as many of three panels as stay in the second-level cache


def applies(g: ConvGeometry) -> bool:
    """Whether this algorithm is the faster one."""
    copied = _copied(g)
    products, floats = g.p * g.q * g.r * g.s * g.c * g.k, copied.h * copied.w * g.c + g.p * g.q * g.k
    return g.groups == 1 and g.c * products >= WORTH * floats


class _Copied(NamedTuple):
    """The pixels of x that windows meet, of one image; windows of one pixel skip the others."""

    h: int
    w: int
    step_h: int  # pixels of x from one to the next
    step_w: int
    stride_h: int  # from one window to the next, in the copy
    stride_w: int


def _copied(g):
    (h, step_h, stride_h), (w, step_w, stride_w) = (
        _copied_axis(g.p, g.r, g.stride_h, g.dilation_h),
        _copied_axis(g.q, g.s, g.stride_w, g.dilation_w),
    )
    return _Copied(h, w, step_h, step_w, stride_h, stride_w)


def _copied_axis(outputs, window, stride, dilation):
    return (outputs, stride, 1) if window == 1 else ((outputs - 1) * stride + (window - 1) * dilation + 1, 1, stride)


def scratch_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch for the copies of a round: those of x, then those of dy."""
    x_rows, dy_rows = _rows(g, _images_of_round(g, images))
    return (1, 1, x_rows + dy_rows, NR)


def _images_of_round(g, images):
    x_rows, dy_rows = _rows(g, 1)
    return max(1, min(images, ROUND_BYTES // (4 * NR * (x_rows + dy_rows))))


def _rows(g, images):
    """Rows of the copies of x and of dy."""
    copied = _copied(g)
    return (
        -(-g.c // NR) * _panel_rows(images * copied.h * copied.w),
        -(-g.k // NR) * _panel_rows(images * g.p * g.q),
    )


def _panel_rows(pixels):
    """Odd: panels that lay powers of two apart would share few lines of the cache."""
    return pixels | 1


def blocked_weight_gradient(dw, x, dy, scratch, g):
    """dw as in ``conv2d_weight_gradient``."""
    images, copied = len(x), _copied(g)
    step = _images_of_round(g, images)
    x_rows, _ = _rows(g, step)
    x_copy, dy_copy = scratch[:, :, :x_rows], scratch[:, :, x_rows:]
    for first in range(0, images, step):
        count = min(step, images - first)
        part = slice(first, first + count)
        x_pixels = CopiedPixels(count, copied.h, copied.w, copied.step_h, copied.step_w, g.c, g.pad_top, g.pad_left)
        _copy_panels(x_copy, x[part], x_pixels)
        _copy_panels(dy_copy, dy[part], CopiedPixels(count, g.p, g.q, 1, 1, g.k))
        multiply(dw, x_copy, dy_copy, _gemm(g, count, dw.strides, first > 0))


class CopiedPixels(NamedTuple):
    """Which pixels are copied: ``h``×``w`` of each image, from ``top`` and ``left`` pixels before its first on."""

    images: int
    h: int
    w: int
    step_h: int
    step_w: int
    channels: int
    top: int = 0
    left: int = 0


@cpu_kernel(float32_4d, float32_4d, CopiedPixels)
def _copy_panels(panels, x, g):
    """panels[0, 0, panel·rows + pixel, j] = x's pixel, channel panel·NR + j. Each thread owns rows of pixels."""
    x_image, x_row, x_pixel = x.strides[:3]
    p_panels = address(panels)
    p_x = address(x) - g.top * x_row - g.left * x_pixel
    step = 4 * NR * (g.images * g.h * g.w | 1)
    for item in prange(g.images * g.h):
        row = np.intp(item)
        source = p_x + row // g.h * x_image + row % g.h * g.step_h * x_row
        target = p_panels + 4 * NR * row * g.w
        for _ in range(g.w):
            for c in range(0, g.channels, NR):
                copy_row(target + c // NR * step, source + 4 * c, min(NR, g.channels - c))
            source += g.step_w * x_pixel
            target += 4 * NR


@lru_cache(maxsize=1024)
def _gemm(g, images, dw_strides, accumulate):
    """The weight gradient's GEMM over the copies of ``images`` images."""
    copied, terms = _copied(g), g.r * g.s * g.c
    x_panel, dy_panel = (NR * _panel_rows(images * n) for n in (copied.h * copied.w, g.p * g.q))
    x_row = copied.w * NR
    a_strides = (copied.h * x_row, copied.stride_h * x_row, copied.stride_w * NR)
    return Gemm(
        groups=1,
        m=rows(row_table((terms, dw_strides[2] // 4)), _tap_rows(g, copied, x_panel)),
        n=g.k,
        k=LoopNest(images, g.p, g.q, *a_strides, g.p * g.q * NR, g.q * NR, NR),
        k_end=images,
        a=Operand(),
        b=Operand(panel=dy_panel),
        c=Operand(panel=NR),
        epilogue=Epilogue(accumulate=accumulate),
        blocking=Blocking(
            choose_mc(terms, -(-g.k // NR)),
            kc_0=max(1, CHUNK_PIXELS // (g.p * g.q)),
            kc_1=max(1, min(g.p, CHUNK_PIXELS // g.q)),
        ),
    )


def _tap_rows(g, copied, x_panel):
    """Where the inputs of dw[r,s,c] start in the copy."""
    c = np.arange(g.c)
    taps = row_table((g.r, g.dilation_h * copied.w * NR), (g.s, g.dilation_w * NR))[: g.r * g.s]
    table = (taps[:, None] + c // NR * x_panel + c % NR).ravel()
    return pad_rows(table)
