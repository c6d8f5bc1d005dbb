"""The input gradient from the gradient of the max-pool that follows."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cpu.conv.epilogues import aux_or_none
from numbacnn.kernels.cpu.conv.pool_backward.microkernels import Candidates, Tile, chosen_microkernel
from numbacnn.kernels.cpu.conv.pool_backward.weight_gradient import GROUPS, VECTORS, WIDTH
from numbacnn.kernels.cpu.gemm.gemm import HALF_LANES
from numbacnn.kernels.cpu.gemm.microkernel import LINE
from numbacnn.kernels.cpu.gemm.rows import clear_row, copy_row, gather_row, mask_row
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined


def pool_input_gradient(dx, dy, argmax, w, packed, image, g, pool, mask=None):
    """Write dx, zero wherever ``mask`` is given and 0 or less.

    dy, argmax: N×P×Q×K of the pool, contiguous; packed, image: scratch of ``packed_shape`` and ``image_shape``.
    """
    _pack_filters(packed, w.reshape(1, g.r, -1, g.k))
    _kernel(g.r)(dx, dy, argmax, packed, image[: len(dx)], aux_or_none(mask), g, pool)


def packed_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch for the weights by filter: 1 × K × R × S·C, with rows of whole cache lines."""
    return (1, g.k, g.r, -(-g.s * g.c // LINE) * LINE)


def image_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch for one padded image per group of images."""
    height = max(g.h + g.pad_top, (g.p - 1) * g.stride_h + (g.r - 1) * g.dilation_h + 1)
    width = max(g.w + g.pad_left, (g.q - 1) * g.stride_w + g.s)
    return (min(images, GROUPS), height, width, g.c)


@cpu_kernel(float32_4d, float32_4d)
def _pack_filters(packed, w):
    """packed[0,k,r,(s,c)] = w[0,r,(s,c),k]. Each thread owns a range of filters k."""
    _, filters, rows, step = packed.shape
    columns = w.shape[2]
    p_packed, p_w = address(packed), address(w)
    for item in prange(filters):
        k = np.intp(item)
        for r in range(rows):
            target, source = p_packed + 4 * (k * rows + r) * step, p_w + 4 * (r * columns * filters + k)
            gather_row(target, source, 4 * filters, columns)


class PoolPixel(NamedTuple):
    """A pixel of the pool's output: addresses of its gradients and argmax, and the first pixel of its window."""

    dy: int
    argmax: int
    h: int
    w: int


@cache
def _kernel(rows):
    """Return the kernel for windows of ``rows`` rows."""
    wide, narrow = chosen_microkernel(rows, VECTORS, HALF_LANES), chosen_microkernel(rows, 1, HALF_LANES)

    @inlined
    def add_pixel(image, row_step, at, packed, packed_step, g, pool):
        """Add the windows of the maxima of one pixel of the pool's output."""
        width = g.s * g.c
        entries = Candidates(at.dy, at.argmax, rows * packed_step, g.k)
        for position in range(pool.r * pool.s):
            r, s, choice = position // pool.s, position % pool.s, np.float32(position)
            window = image + 4 * ((at.h + r) * g.stride_h * row_step + (at.w + s) * g.stride_w * g.c)
            for j in range(0, width, WIDTH):
                tile = Tile(window + 4 * j, g.dilation_h * row_step, packed + 4 * j, packed_step)
                if width - j > HALF_LANES:
                    wide(tile, entries, choice, width - j)
                else:
                    narrow(tile, entries, choice, width - j)

    def kernel(dx, dy, argmax, packed, image, mask, g, pool):
        """Each thread owns a range of groups of images, and each group its scratch."""
        groups, images = len(image), len(dx)
        dx_image, dx_row = dx.strides[:2]
        pixel_size, packed_step = 4 * g.k, packed.shape[3]
        row_step, image_size = image.shape[2] * g.c, image.shape[1] * image.shape[2] * g.c
        p_dx, p_dy, p_argmax, p_packed = address(dx), address(dy), address(argmax), address(packed)
        p_image, p_mask = address(image), address(mask)
        mask_image, mask_step = mask.strides[:2]
        for item in prange(groups):
            group = np.intp(item)
            padded = p_image + 4 * group * image_size
            inner = padded + 4 * (g.pad_top * row_step + g.pad_left * g.c)
            for n in range(images * group // groups, images * (group + 1) // groups):
                clear_row(padded, image_size)
                for p in range(pool.p):
                    h = p * pool.stride_h - pool.pad_top
                    for q in range(pool.q):
                        w = q * pool.stride_w - pool.pad_left
                        at = ((n * pool.p + p) * pool.q + q) * pixel_size
                        pixel = PoolPixel(p_dy + at, p_argmax + at, h, w)
                        add_pixel(padded, row_step, pixel, p_packed, packed_step, g, pool)
                for h in range(g.h):
                    row, source = p_dx + n * dx_image + h * dx_row, inner + 4 * h * row_step
                    if mask.size:
                        mask_row(row, source, p_mask + n * mask_image + h * mask_step, g.w * g.c)
                    else:
                        copy_row(row, source, g.w * g.c)

    kernel.__name__ = kernel.__qualname__ = f"pool_input_gradient_{rows}"
    return cpu_kernel(*[float32_4d] * 6, ConvGeometry, PoolGeometry)(kernel)
