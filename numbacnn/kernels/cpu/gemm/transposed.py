"""The product y = x · wᵀ of matrices that are stored by rows, without packing w: the input gradient of dense layers.

Rows of A are those of w, B is xᵀ in micro-panels, and blocks of C = w · xᵀ are transposed while they are in cache.
Weights are often many times as large as a batch, and to pack them would move them three times instead of once.
"""

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.gemm.gemm import MR, NO_ADDRESS, NR, gemm_rows, row_table
from numbacnn.kernels.cpu.gemm.microkernel import WHOLE, LoopNest, Tile
from numbacnn.kernels.cpu.gemm.packing import Packing, pack
from numbacnn.kernels.cpu.gemm.rows import mask_row
from numbacnn.kernels.cpu.simd.memory import address, stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, transpose
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d

MAX_ROWS = 8 * MR  # of a block of C
FEW_BLOCKS = 16  # for the threads: with fewer, blocks are smaller, or of one panel, and read x or w more often
BLOCK_ROWS = row_table((MAX_ROWS, NR))
block_memory = stack_floats(MAX_ROWS * NR)


def transposed_product(y, x, w, packed, mask):
    """y[n,0,0,c] = Σ_k x[n,0,0,k] · w[0,0,c,k], then 0 where ``mask``, unless empty, is 0 or less.

    packed: scratch of ``packed_rows_shape``.
    """
    count, (_, _, channels, terms) = len(x), w.shape
    pack(packed, x, Packing(count, x.strides[0] // 4, 0, 1, 1, terms, 0, 0, 1))
    rows = MAX_ROWS if -(-channels // MAX_ROWS) >= FEW_BLOCKS else 2 * MR
    panels = -(-count // NR) if -(-channels // rows) >= FEW_BLOCKS else 1
    chunk = NR if terms % NR == 0 else terms
    next_chunk = chunk if chunk < terms else 0  # which the microkernel prefetches
    k = LoopNest(1, terms // chunk, chunk, 0, next_chunk, 1, 0, chunk * NR, NR)
    _multiply(y, w, packed, mask, row_table((channels, w.strides[2] // 4)), BLOCK_ROWS, rows, panels, k)


def packed_rows_shape(count, terms):
    """Scratch for up to ``count`` rows of x: panels × 1 × terms × NR."""
    return -(-count // NR), 1, terms, NR


@cpu_kernel(*[float32_4d] * 4, int64_1d, int64_1d, types.int64, types.int64, LoopNest)
def _multiply(y, w, packed, mask, w_rows, block_rows, rows, panels, k):
    """``transposed_product`` of packed x, in blocks of ``rows`` channels and ``panels`` panels of x.

    ``w_rows`` are the offsets of w's rows, and ``block_rows`` those of a block. Each thread owns a range of blocks.
    """
    images, channels, panel_step = len(y), y.shape[3], 4 * NR * w.shape[3]
    p_y, p_w, p_packed, p_mask = address(y), address(w), address(packed), address(mask)
    p_w_rows, p_block_rows, y_image, mask_image = address(w_rows), address(block_rows), y.strides[0], mask.strides[0]
    all_panels = -(-images // NR)
    parts = -(-all_panels // panels)
    for item in prange(-(-channels // rows) * parts):
        block, first, first_panel = block_memory(), np.intp(item) // parts * rows, np.intp(item) % parts * panels
        count = min(rows, channels - first)
        for panel in range(first_panel, min(first_panel + panels, all_panels)):
            columns, b = min(NR, images - panel * NR), p_packed + panel * panel_step
            tile = Tile(block, p_block_rows, p_w, p_w_rows + 8 * first, b, NO_ADDRESS)
            gemm_rows(0, -(-count // MR) * MR, tile, columns, WHOLE, k)
            target = p_y + panel * NR * y_image + 4 * first
            _transpose(target, y_image, block, count, columns)
            for j in range(columns if mask.size else 0):
                p_mask_row = p_mask + (panel * NR + j) * mask_image + 4 * first
                mask_row(target + j * y_image, target + j * y_image, p_mask_row, count)


@inlined
def _transpose(y, y_step, block, rows, columns):
    """y[j,i] = block[i,j]."""
    for i in range(0, rows, WIDTH):
        for j in range(0, columns, WIDTH):
            source = block + 4 * (i * NR + j)
            transpose(y + j * y_step + 4 * i, y_step, source, 4 * NR, rows - i, columns - j)
