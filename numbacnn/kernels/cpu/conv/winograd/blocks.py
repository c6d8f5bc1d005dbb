"""Winograd's algorithm in one pass: blocks of tiles stay in L2 from the first transform to the last.

The fewer channels, the more expensive are transforms compared to products, and writing transformed tiles to memory and
reading them again. Outputs and input gradients are summed in the order of rounds, so they have the same bits.
"""

from functools import cache

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.conv.winograd.kernels import (
    Block,
    Frame,
    Images,
    PostOps,
    Tiling,
    component_products,
    images_in,
    output_transform,
    patch_at,
    product_memory,
    tile_at,
    vector_microkernel,
    window_transform,
)
from numbacnn.kernels.cpu.conv.winograd.transforms import GRADIENT, INPUT, VECTOR, WINDOW, square_transform
from numbacnn.kernels.cpu.gemm.gemm import LANES, MR, NO_ADDRESS, NR, microkernel
from numbacnn.kernels.cpu.gemm.microkernel import ACCUMULATE, LINE, LoopNest, Tile
from numbacnn.kernels.cpu.gemm.padding import compiled_in_vectors
from numbacnn.kernels.cpu.simd.memory import address, offset, stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, store
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d

BLOCK_FLOATS = 2048  # of one component of a block's tiles
STACK_WEIGHTS = 1024  # of one component of the sums of a weight gradient on the stack; more are in scratch


@cache
def _tile_transform(f, size, transform):
    """Return the function that transforms the windows of size×size pixels of a block; of the m×m of dy, not padded."""
    m, pads = f.m, size > f.m
    to_tile = window_transform(f, size, square_transform(transform, size, f.n))

    @inlined
    def to_tiles(tiles, step, x, block, width, g):
        """``width`` floats of each component, of which the channels of x are not 0."""
        for i in range(block.tiles):
            image, p, q = tile_at(block.first + i, m, g)
            h, w = (p - g.pad_top, q - g.pad_left) if pads else (p, q)
            window, frame = patch_at(x, image, h, w, 0), Frame(h, w, x.height, x.width)
            is_whole = p + m <= g.height and q + m <= g.width
            to_tile(tiles + 4 * width * i, step, window, frame, x.channels, width, is_whole)

    return to_tiles


@cache
def block_kernel(f):
    """Return the kernel y's tile = Aᵀ · (Σ_c (Bᵀ · x's window · B) ⊙ weights) · A + bias, followed by ``PostOps``.

    ``a_rows`` are the offsets of ``size`` tiles, and ``c_rows`` those of their products.
    """
    to_tiles = _tile_transform(f, f.n, INPUT[f.n])
    multiply, from_products = component_products(f, streams_weights=False), output_transform(f)
    new_tiles, new_products = stack_floats(f.n**2 * (BLOCK_FLOATS + LINE)), product_memory(f)

    def winograd_blocks(y, x, a_rows, c_rows, weights, bias, aux, size, g, ops):
        """Each thread owns a range of blocks."""
        source, to, other = Images(*images_in(x)), Images(*images_in(y)), Images(*images_in(aux))
        p_a_rows, p_c_rows = address(a_rows), address(c_rows)
        p_weights, p_bias = address(weights), address(bias) if bias.size else NO_ADDRESS
        weight_step, channels, filters = weights.strides[0], x.shape[3], y.shape[3]
        width, count = compiled_in_vectors(channels), g.images * g.rows * g.columns
        step, panel_step = 4 * (size * width + LINE), 4 * NR * NR * -(-channels // NR)
        k_loops = LoopNest(1, 1, channels, 0, 0, 1, 0, 0, NR)
        for item in prange(-(-count // size)):
            tiles, products, first = new_tiles(), new_products(), np.intp(item) * size
            tiles_left = min(size, count - first)
            to_tiles(tiles, step, source, Block(first, 0, tiles_left), width, g)
            for panel in range(-(-filters // NR)):
                block = Block(first, panel * NR, tiles_left)
                at = Tile(products, p_c_rows, tiles, p_a_rows, p_weights + panel * panel_step, NO_ADDRESS)
                multiply(at, step, weight_step, tiles_left, filters - block.filter, k_loops)
                from_products(to, products, block, p_bias, other, g, ops)

    winograd_blocks.__name__ = winograd_blocks.__qualname__ = f"winograd_blocks_{f.m}x{f.r}"
    arrays = float32_4d, float32_4d, int64_1d, int64_1d, float32_4d, float32_1d, float32_4d
    return cpu_kernel(*arrays, types.int64, Tiling, PostOps)(winograd_blocks)


@cache
def block_gradient_kernel(f):
    """Return the kernel partial[group] = Gᵀ · (Σ_tiles (Bᵀ · x's window · B) ⊙ (A · dy's tile · Aᵀ)) · G.

    Group i sums the tiles from ``starts[i]`` to ``starts[i + 1] - 1``, ``size`` at a time. ``a_rows`` are offsets of
    x's channels, and ``c_rows`` those of their products. ``sums``: groups × components × 1 × (products and a line) of
    scratch for these; empty if a component has at most ``STACK_WEIGHTS``.
    """
    m, n, r = f.m, f.n, f.r
    to_x_tiles, to_dy_tiles = _tile_transform(f, n, INPUT[n]), _tile_transform(f, m, GRADIENT[m, n])
    square, new_window = square_transform(WINDOW[r, n], n, r), stack_floats(r * r * WIDTH)
    new_tiles = stack_floats(n * n * (BLOCK_FLOATS + 2 * LINE))
    new_products = stack_floats(n * n * (STACK_WEIGHTS + LINE))

    @inlined
    def multiply(at, steps, channels, filters, mode, k):
        """Write the products of all components, or add to them. ``steps`` in bytes: of x's and dy's tiles, products."""
        for i in range(n * n):
            for first in range(0, filters, NR):
                a, b, c = at.a + i * steps[0], at.b + i * steps[1] + 4 * first, at.c + i * steps[2] + 4 * first
                tile = Tile(c, at.c_rows, a, at.a_rows, b, NO_ADDRESS)
                if filters - first > LANES:
                    for row in range(0, channels, MR):
                        microkernel(tile, row, NR, mode, k)
                else:
                    for row in range(0, channels, MR):
                        vector_microkernel(tile, row, LANES, mode, k)

    @inlined
    def from_products(windows, products, step, columns, channels, filters):
        """Write the windows of all channels and filters, R×S×C×K."""
        window = new_window()
        for c in range(channels):
            for k in range(0, filters, WIDTH):
                square(window, r * VECTOR, VECTOR, products + 4 * (c * columns + k), n * step, step, WIDTH)
                for i in range(r * r):
                    target = windows + 4 * ((i * channels + c) * filters + k)
                    store(target, load(window + i * VECTOR, WIDTH), filters - k)

    def winograd_block_gradient(partial, sums, x, dy, a_rows, c_rows, starts, size, g):
        """Each thread owns a range of groups."""
        source, gradient = Images(*images_in(x)), Images(*images_in(dy))
        channels, filters = x.shape[3], dy.shape[3]
        p_partial, p_a_rows, p_c_rows = address(partial), address(a_rows), address(c_rows)
        p_starts, weights = address(starts), r * r * channels * filters
        p_sums, sums_step = address(sums) if sums.size else NO_ADDRESS, sums.strides[0]
        width, columns = compiled_in_vectors(channels), compiled_in_vectors(filters)
        steps = 4 * (size * width + LINE), 4 * (size * columns + LINE), 4 * (channels * columns + LINE)
        for item in prange(len(partial)):
            group, x_tiles, products = np.intp(item), new_tiles(), new_products()
            if p_sums != NO_ADDRESS:
                products = p_sums + group * sums_step
            dy_tiles, first, last = x_tiles + n * n * steps[0], offset(p_starts, group), offset(p_starts, group + 1)
            at, mode = Tile(products, p_c_rows, x_tiles, p_a_rows, dy_tiles, NO_ADDRESS), 0
            while first < last or mode == 0:  # a group without tiles has a sum of 0
                block = Block(first, 0, min(size, last - first))
                to_x_tiles(x_tiles, steps[0], source, block, width, g)
                to_dy_tiles(dy_tiles, steps[1], gradient, block, columns, g)
                multiply(at, steps, channels, filters, mode, LoopNest(1, 1, block.tiles, 0, 0, width, 0, 0, columns))
                first, mode = first + size, ACCUMULATE
            from_products(p_partial + 4 * group * weights, products, steps[2], columns, channels, filters)

    winograd_block_gradient.__name__ = winograd_block_gradient.__qualname__ = f"winograd_block_gradient_{m}x{r}"
    arrays = *[float32_4d] * 4, *[int64_1d] * 3
    return cpu_kernel(*arrays, types.int64, Tiling)(winograd_block_gradient)
