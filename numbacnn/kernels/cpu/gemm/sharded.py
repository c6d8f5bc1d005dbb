"""The weight gradient of dense layers over several shards of a batch, added in a binary tree while it is in cache.

A shard has few images, so that GEMMs of one shard each would spend most of their time on writing large gradients.
"""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.gemm.gemm import MR, NO_ADDRESS, NR, gemm_rows, row_table
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest, Tile
from numbacnn.kernels.cpu.simd.memory import address, stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d

ROWS = 8 * MR  # of a block
LEVELS = 6  # of the tree over the shards of one launch
BLOCK_ROWS = row_table((ROWS, NR))  # offsets of a block's rows
block_memory = stack_floats((LEVELS + 1) * ROWS * NR)


@inlined
def _add_next(block, rows, columns):
    """Add the block of the next level to that of a level."""
    for i in range(rows):
        for j in range(0, columns, WIDTH):
            at = block + 4 * (i * NR + j)
            store(at, load(at, WIDTH) + load(at + 4 * ROWS * NR, WIDTH), WIDTH)


@cpu_kernel(float32_4d, float32_4d, float32_4d, int64_1d, int64_1d, int64_1d)
def sharded_gradient(dw, x, dy, rows, block_rows, starts):
    """dw[0,0,c,k] = Σ_shards Σ_n x[n,0,0,c] · dy[n,0,0,k], of 2^n shards that start at the images ``starts[:-1]``.

    ``rows`` are the offsets of c, padded to a multiple of MR. Each thread owns a range of (panel of k, block of c).
    """
    _, _, channels, filters = dw.shape
    p_dw, p_x, p_dy = address(dw), address(x), address(dy)
    p_rows, p_block_rows = address(rows), address(block_rows)
    dw_row, x_image, dy_image = dw.strides[2], x.strides[0], dy.strides[0]
    panels, blocks = -(-filters // NR), -(-channels // ROWS)
    for item in prange(panels * blocks):
        block, panel, first = block_memory(), np.intp(item) // blocks, np.intp(item) % blocks * ROWS
        count, columns, level = min(ROWS, channels - first), min(NR, filters - panel * NR), 0
        for shard in range(len(starts) - 1):
            start, done = starts[shard], shard
            k = LoopNest(1, 1, starts[shard + 1] - start, 0, 0, x_image // 4, 0, 0, dy_image // 4)
            a, b = p_x + start * x_image, p_dy + start * dy_image + 4 * panel * NR
            target = block + 4 * level * ROWS * NR
            tile = Tile(target, p_block_rows, a, p_rows + 8 * first, b, NO_ADDRESS)
            gemm_rows(0, -(-count // MR) * MR, tile, columns, 0, k)
            while done % 2:
                level, done = level - 1, done // 2
                _add_next(block + 4 * level * ROWS * NR, count, columns)
            level += 1
        for i in range(count):
            target = p_dw + (first + i) * dw_row + 4 * panel * NR
            for j in range(0, columns, WIDTH):
                store(target + 4 * j, load(block + 4 * (i * NR + j), WIDTH), columns - j)
