"""The input gradient of a convolution by col2im, for few input channels and small images.

The direct algorithm would fill only C lanes of a register, and multiply the zeros of the halo. Here each pixel of dy is
multiplied by all of wᵀ, K → R·S·C columns at once, and each pixel of dx gathers its R·S terms from columns that stay in
L2. Measured on LeNet-5's second layer (6 channels, 14², 5×5) at batch 64: 2.3 times as fast.
"""

from functools import lru_cache

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
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined

MAX_CHANNELS = 8
MAX_COLUMN_BYTES = 1 << 17  # of one image's columns
GROUPS = 16  # of images, each with its own columns
ZERO = np.float32(0)


class Col2Im(ConvAlgorithm):
    """The algorithm for few input channels at stride 1."""

    name = "col2im"
    directions = (INPUT_GRADIENT,)

    def applies(self, direction, g, pool):
        """Whether there are few channels, and an image's columns stay in cache."""
        plain = (g.stride_h, g.stride_w, g.dilation_h, g.dilation_w, g.groups) == (1,) * 5
        small = g.c <= MAX_CHANNELS and g.r * g.s > 1 and 4 * g.p * g.q * g.r * g.s * g.c <= MAX_COLUMN_BYTES
        return pool is None and plain and small

    def scratch(self, direction, g, batch, pool=None):
        """Packed wᵀ, and the columns of each group of images."""
        width = g.r * g.s * g.c
        return {
            "packed": Scratch((-(-width // NR), 1, g.k, NR)),
            "columns": Scratch((min(batch, GROUPS), 1, g.p * g.q, width)),
        }

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """dy times wᵀ, gathered. dy needs no halo."""
        width = g.r * g.s * g.c
        pack(scratch["packed"], w, Packing(width, g.k, 0, 1, 1, g.k, 0, 0, 1))
        _col2im_gradient(dx, scratch["columns"][: len(dx)], dy, scratch["packed"], g, *_gemm(g, dy.strides))
        apply_mask(dx, epilogue)


@lru_cache(maxsize=1024)
def _gemm(g, dy_strides):
    """The GEMM of one image: dy's pixels times wᵀ."""
    width = g.r * g.s * g.c
    return Gemm(
        groups=1,
        m=rows(row_table((g.p * g.q, width)), row_table((g.p, dy_strides[1] // 4), (g.q, dy_strides[2] // 4))),
        n=width,
        k=LoopNest(1, 1, g.k, 0, 0, 1, 0, 0, NR),
        k_end=WHOLE_K,
        a=Operand(),
        b=Operand(panel=NR * g.k),
        c=Operand(panel=NR),
        epilogue=NO_EPILOGUE,
        blocking=Blocking(mc=1 << 30),
    )


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_4d, ConvGeometry, *Gemm.__annotations__.values())
def _col2im_gradient(
    dx, columns, dy, packed, geometry, groups, m, n, k, k_end, a_operand, b_operand, c_operand, epilogue, blocking
):
    """Each thread owns a range of groups of images, and each group its columns."""
    parts, images = len(columns), len(dx)
    p_dx, p_columns, p_dy, p_packed = address(dx), address(columns), address(dy), address(packed)
    rows = Rows(m.count, address(m.c), address(m.a), NO_ADDRESS)
    dx_image, dx_row, dx_pixel = dx.strides[:3]
    dy_image, scratch_step = dy.strides[0], columns.strides[0]
    panels = -(-n // NR)
    for item in prange(parts):
        part = np.intp(item)
        scratch = p_columns + part * scratch_step
        g = Gemm(groups, rows, n, k, k_end, a_operand, b_operand, c_operand, epilogue, blocking)
        for image in range(images * part // parts, images * (part + 1) // parts):
            p = Pointers(scratch, p_dy + image * dy_image, p_packed, NO_ADDRESS, NO_ADDRESS)
            for panel in range(panels):
                gemm_item(panel, p, g)
            _col2im(p_dx + image * dx_image, dx_row, dx_pixel, scratch, geometry)


@inlined
def _col2im(dx, dx_row, dx_pixel, columns, g):
    """dx[h,w,c] = Σ_rs columns[h + pad − r, w + pad − s][r,s,c], over the pixels of dy that exist."""
    width = g.r * g.s * g.c
    for h in range(g.h):
        bottom = h + g.pad_top
        first_r, last_r = max(0, bottom - g.p + 1), min(g.r, bottom + 1)
        for w in range(g.w):
            right = w + g.pad_left
            first_s, last_s = max(0, right - g.q + 1), min(g.s, right + 1)
            for c in range(0, g.c, WIDTH):
                total = splat(ZERO)
                for r in range(first_r, last_r):
                    pixel = (bottom - r) * g.q + right
                    for s in range(first_s, last_s):
                        part = (pixel - s) * width + (r * g.s + s) * g.c + c
                        total += load(columns + 4 * part, g.c - c)
                store(dx + h * dx_row + w * dx_pixel + 4 * c, total, g.c - c)
