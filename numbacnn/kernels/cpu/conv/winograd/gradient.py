"""The last kernels of Winograd's weight gradient: products are transformed back into windows.

Two ways to the same bits. ``windows_kernel`` reads products that GEMMs have written, of any number of tiles.
``sharded_kernel`` computes the products of a block of channels and filters for one shard of a batch after another,
transforms them back and adds the shards in a binary tree, all in cache: the products are many times as large as the
windows, and a shard has few tiles.
"""

from functools import cache

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.conv.winograd.transforms import VECTOR, WINDOW, square_transform
from numbacnn.kernels.cpu.gemm.gemm import MR, NO_ADDRESS, NR, microkernel, row_table
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest, Tile
from numbacnn.kernels.cpu.gemm.padding import compiled_in_panels
from numbacnn.kernels.cpu.simd.memory import address, stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d

CHANNELS = {3: 4 * MR, 5: 2 * MR}  # of a block, by r: more would not fit on a stack of 512 KiB
LEVELS = 6  # of the tree over the shards of one launch
BLOCK_ROWS = row_table((max(CHANNELS.values()), NR))  # offsets of a block's channels


@cache
def windows_kernel(f):
    """Return the kernel dw[r,s,c,k] = (Gᵀ · products[:, panel, c] · G)[r,s]."""
    r, n = f.r, f.n
    square, memory = square_transform(WINDOW[r, n], n, r), stack_floats(r * r * WIDTH)

    def winograd_windows(dw, products):
        """Each thread owns a range of (panel, c)."""
        _, _, channels, filters = dw.shape
        padded, panels = compiled_in_panels(channels), -(-filters // NR)
        dw_row, dw_column, dw_channel = dw.strides[:3]
        p_dw, p_products, component = address(dw), address(products), products.strides[0]
        for item in prange(panels * channels):
            window = memory()
            panel, c = np.intp(item) // channels, np.intp(item) % channels
            for k in range(panel * NR, min(filters, (panel + 1) * NR), WIDTH):
                source = p_products + 4 * ((panel * padded + c) * NR + k % NR)
                square(window, r * VECTOR, VECTOR, source, n * component, component, WIDTH)
                target = p_dw + c * dw_channel + 4 * k
                for i in range(r):
                    for j in range(r):
                        value = load(window + (i * r + j) * VECTOR, WIDTH)
                        store(target + i * dw_row + j * dw_column, value, filters - k)

    winograd_windows.__name__ = winograd_windows.__qualname__ = f"winograd_windows_from_products_{f.m}x{r}"
    return cpu_kernel(float32_4d, float32_4d)(winograd_windows)


@cache
def sharded_kernel(f):
    """Return the kernel dw[r,s,c,k] = Σ_shards (Gᵀ · (Σ_tiles x ⊙ dy) · G)[r,s], of 2, 4, … 2^LEVELS shards.

    ``rows`` are the offsets of channels in x_tiles, and ``starts`` the first tile of each shard, and their number.
    """
    r, n = f.r, f.n
    square = square_transform(WINDOW[r, n], n, r)
    most = CHANNELS[r]
    component = 4 * (most * NR + 16)  # bytes; a cache line more, as in ``kernels.output_kernel``
    tap = 4 * most * NR
    product_memory, level_memory = stack_floats(n * n * component // 4), stack_floats((LEVELS + 1) * r * r * tap // 4)

    @inlined
    def multiply(products, at, x_step, dy_step, channels, k):
        """All components of a block."""
        for i in range(n * n):
            a, b = at.a + i * x_step, at.b + i * dy_step
            for row in range(0, channels, MR):
                microkernel(Tile(products + i * component, at.c_rows, a, at.a_rows, b, NO_ADDRESS), row, NR, 0, k)

    @inlined
    def transform(windows, products, channels):
        """The windows of a block."""
        for i in range(0, channels * NR, WIDTH):
            square(windows + 4 * i, r * tap, tap, products + 4 * i, n * component, component, WIDTH)

    @inlined
    def add(windows, channels):
        """Add the windows of the next level to those of a level."""
        for i in range(r * r):
            for j in range(0, channels * NR, WIDTH):
                at = windows + i * tap + 4 * j
                store(at, load(at, WIDTH) + load(at + r * r * tap, WIDTH), WIDTH)

    @inlined
    def write(dw, strides, windows, channels, filters):
        """Store the windows of a block, of up to NR filters."""
        for i in range(r):
            for j in range(r):
                for c in range(channels):
                    target = dw + i * strides[0] + j * strides[1] + c * strides[2]
                    for k in range(0, min(NR, filters), WIDTH):
                        value = load(windows + (i * r + j) * tap + 4 * (c * NR + k), WIDTH)
                        store(target + 4 * k, value, filters - k)

    def winograd_shards(dw, x_tiles, dy_tiles, rows, block_rows, starts):
        """Each thread owns a range of (panel of filters, block of channels)."""
        _, _, channels, filters = dw.shape
        strides, x_step, dy_step = dw.strides[:3], x_tiles.strides[0], dy_tiles.strides[0]
        p_dw, p_x, p_dy = address(dw), address(x_tiles), address(dy_tiles)
        p_rows, p_block_rows = address(rows), address(block_rows)
        shards, tiles = len(starts) - 1, starts[len(starts) - 1]
        panels, blocks = -(-filters // NR), -(-channels // most)
        for item in prange(panels * blocks):
            products, windows = product_memory(), level_memory()
            panel, first = np.intp(item) // blocks, np.intp(item) % blocks * most
            count, level = min(most, channels - first), 0
            for shard in range(shards):
                start, done = starts[shard], shard
                k = LoopNest(1, 1, starts[shard + 1] - start, 0, 0, NR, 0, 0, NR)
                a, b = p_x + 4 * NR * start, p_dy + 4 * NR * (panel * tiles + start)
                at = Tile(products, p_block_rows, a, p_rows + 8 * first, b, NO_ADDRESS)
                multiply(products, at, x_step, dy_step, count, k)
                transform(windows + level * r * r * tap, products, count)
                while done % 2:
                    level, done = level - 1, done // 2
                    add(windows + level * r * r * tap, count)
                level += 1
            target = p_dw + first * strides[2] + 4 * panel * NR
            write(target, strides, windows, count, filters - panel * NR)

    winograd_shards.__name__ = winograd_shards.__qualname__ = f"winograd_shards_{f.m}x{r}"
    return cpu_kernel(float32_4d, float32_4d, float32_4d, int64_1d, int64_1d, int64_1d)(winograd_shards)
