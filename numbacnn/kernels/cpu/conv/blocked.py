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
from numbacnn.kernels.cpu.gemm.gemm import NO_MASK, PANEL, ROWS, Product, row_block, row_table, tile_products
from numbacnn.kernels.cpu.gemm.rows import copy_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.jit import cpu_kernel, float32_4d

NO_BIAS = np.empty(0, np.float32)
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
    return (1, 1, x_rows + dy_rows, PANEL)


def _images_of_round(g, images):
    x_rows, dy_rows = _rows(g, 1)
    return max(1, min(images, ROUND_BYTES // (4 * PANEL * (x_rows + dy_rows))))


def _rows(g, images):
    """Rows of the copies of x and of dy."""
    copied = _copied(g)
    return (
        -(-g.c // PANEL) * _panel_rows(images * copied.h * copied.w),
        -(-g.k // PANEL) * _panel_rows(images * g.p * g.q),
    )


def _panel_rows(pixels):
    """Odd: panels that lay powers of two apart would share few lines of the cache."""
    return pixels | 1


def weight_gradient_by_panels(dw, x, dy, scratch, g):
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
        plan = _plan(g, count, dw.strides, first > 0)
        tile_products(dw, plan.c_rows, x_copy, plan.a_rows, dy_copy, NO_BIAS, NO_MASK, plan.c_rows, plan.product)


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
    """panels[0, 0, panel·rows + pixel, j] = x's pixel, channel panel·PANEL + j. Each thread owns rows of pixels."""
    x_image, x_row, x_pixel = x.strides[:3]
    p_panels = address(panels)
    p_x = address(x) - g.top * x_row - g.left * x_pixel
    step = 4 * PANEL * (g.images * g.h * g.w | 1)
    for item in prange(g.images * g.h):
        row = np.intp(item)
        source = p_x + row // g.h * x_image + row % g.h * g.step_h * x_row
        target = p_panels + 4 * PANEL * row * g.w
        for _ in range(g.w):
            for c in range(0, g.channels, PANEL):
                copy_row(target + c // PANEL * step, source + 4 * c, min(PANEL, g.channels - c))
            source += g.step_w * x_pixel
            target += 4 * PANEL


class _PanelPlan(NamedTuple):
    product: Product
    c_rows: np.ndarray
    a_rows: np.ndarray


@lru_cache(maxsize=1024)
def _plan(g, images, dw_strides, accumulate):
    copied = _copied(g)
    x_panel, dy_panel = (PANEL * _panel_rows(images * n) for n in (copied.h * copied.w, g.p * g.q))
    x_row = copied.w * PANEL
    a_steps = (copied.h * x_row, copied.stride_h * x_row, copied.stride_w * PANEL)
    b_steps = (g.p * g.q * PANEL, g.q * PANEL, PANEL)
    chunk_1 = max(1, min(g.p, CHUNK_PIXELS // g.q))
    chunk_0 = max(1, CHUNK_PIXELS // (g.p * g.q))
    product = Product(
        groups=1,
        columns=g.k,
        c_offset=0,
        c_group=0,
        a_offset=0,
        a_group=0,
        b_group=0,
        b_panel=dy_panel,
        total_0=images,
        count_0=images,
        count_1=g.p,
        count_2=g.q,
        a_0=a_steps[0],
        a_1=a_steps[1],
        a_2=a_steps[2],
        b_0=b_steps[0],
        b_1=b_steps[1],
        b_2=b_steps[2],
        row_block=row_block(g.r * g.s * g.c, -(-g.k // PANEL)),
        chunk_0=chunk_0,
        chunk_1=chunk_1,
        accumulate=int(accumulate),
    )
    c_rows = row_table((g.r * g.s * g.c, dw_strides[2] // 4))
    return _PanelPlan(product, c_rows, _tap_rows(g, copied, x_panel))


def _tap_rows(g, copied, x_panel):
    """Where the inputs of dw[r,s,c] start in the copy."""
    c = np.arange(g.c)
    taps = row_table((g.r, g.dilation_h * copied.w * PANEL), (g.s, g.dilation_w * PANEL))[: g.r * g.s]
    table = (taps[:, None] + c // PANEL * x_panel + c % PANEL).ravel()
    return np.pad(table, (0, -table.size % ROWS), mode="edge")
