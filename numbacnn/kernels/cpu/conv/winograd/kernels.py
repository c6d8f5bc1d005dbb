"""The kernels of Winograd's minimal filtering: tiles and weights transformed, multiplied, and back."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.conv.winograd.transforms import GRADIENT, INPUT, OUTPUT, VECTOR, square_transform
from numbacnn.kernels.cpu.gemm.gemm import MR, NO_ADDRESS, NR, microkernel
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest, Tile
from numbacnn.kernels.cpu.simd.memory import address, floats, stack_floats
from numbacnn.kernels.cpu.simd.vector import LANES, load, rectified, splat, store, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined, int64_1d

ZERO = np.float32(0)
BLOCK = 4 * MR  # tiles whose products stay in the second-level cache until they are transformed back


class Tiling(NamedTuple):
    """How the images of one round are cut into tiles of m×m outputs."""

    images: int
    height: int  # of outputs
    width: int
    rows: int  # of tiles
    columns: int
    pad_top: int  # where a tile's inputs start: so many pixels before its outputs
    pad_left: int


# -- tiles ------------------------------------------------------------------------------------------------------------


@cache
def window_kernel(f):
    """The kernel tiles = Bᵀ · x's windows · B."""
    return _make_window_kernel(f, f.n, square_transform(INPUT[f.n], f.n, f.n), f"winograd_input_{f.m}x{f.r}")


@cache
def output_window_kernel(f):
    """The kernel tiles = A · dy's tiles · Aᵀ."""
    square = square_transform(GRADIENT[f.m, f.n], f.m, f.n)
    return _make_window_kernel(f, f.m, square, f"winograd_output_gradient_{f.m}x{f.r}")


def _make_window_kernel(f, size, square, name):
    """The kernel that transforms windows of size×size, m pixels apart."""
    m, n = f.m, f.n
    memory, row = stack_floats(size * size * LANES), size * VECTOR

    @inlined
    def gather(target, x, x_row, x_pixel, h, w, height, width, count):
        """The window, zeros outside the image: it may reach farther than the halo."""
        for i in range(size):
            for j in range(size):
                inside = 0 <= h + i < height and 0 <= w + j < width
                value = load(x + i * x_row + j * x_pixel, count if inside else 0)
                store(target + i * row + j * VECTOR, value, LANES)

    @inlined
    def transform(tiles, place_step, x, x_row, x_pixel, h, w, height, width, channels, whole):
        """One window of one panel; that of a whole tile lies inside the image and its halo."""
        window, outer = memory(), n * place_step
        for c in range(0, NR, LANES):
            target, source, count = tiles + 4 * c, x + 4 * c, channels - c
            if whole:
                square(target, outer, place_step, source, x_row, x_pixel, count)
            else:
                gather(window, source, x_row, x_pixel, h, w, height, width, count)
                square(target, outer, place_step, window, row, VECTOR, LANES)

    def winograd_windows(tiles, x, g):
        """Each thread owns a range of (row of tiles, panel)."""
        _, height, width, channels = x.shape
        x_image, x_row, x_pixel = x.strides[:3]
        p_tiles, p_x, place_step = address(tiles), address(x), tiles.strides[0]
        panels, count = -(-channels // NR), g.images * g.rows * g.columns
        for item in prange(g.images * g.rows * panels):
            panel, tile_row = np.intp(item) % panels, np.intp(item) // panels
            h = tile_row % g.rows * m - g.pad_top
            source = p_x + tile_row // g.rows * x_image + h * x_row + 4 * panel * NR
            target = p_tiles + 4 * NR * (panel * count + tile_row * g.columns)
            for column in range(g.columns):
                w = column * m - g.pad_left
                transform(
                    target + 4 * NR * column,
                    place_step,
                    source + w * x_pixel,
                    x_row,
                    x_pixel,
                    h,
                    w,
                    height,
                    width,
                    channels - panel * NR,
                    (tile_row % g.rows + 1) * m <= g.height and (column + 1) * m <= g.width,
                )

    winograd_windows.__name__ = winograd_windows.__qualname__ = name
    return cpu_kernel(float32_4d, float32_4d, Tiling)(winograd_windows)


@cache
def product_kernel(f):
    """The kernel y's tile = Aᵀ · (Σ_c tiles ⊙ weights) · A + bias, masked or added to and rectified if asked."""
    m, n = f.m, f.n
    square = square_transform(OUTPUT[m, n], n, m)
    place = 4 * (BLOCK * NR + 16)  # bytes; a line of the cache more, for the reason above
    product_memory, tile_memory = stack_floats(n * n * place // 4), stack_floats(m * m * LANES)

    @inlined
    def multiply(products, tiles, place_step, weights, weight_step, first, last, rows, nest):
        """All places of a block of tiles and a panel of filters."""
        for i in range(n * n):
            for tile in range(first, last, MR):
                c = products + i * place + 4 * NR * (tile - first)
                at = Tile(c, rows, tiles + i * place_step, rows + 8 * tile, weights + i * weight_step, NO_ADDRESS)
                microkernel(at, 0, NR, 0, nest)

    @inlined
    def finish(y, y_row, y_pixel, tile, height, width, count, bias, relu, adds, mask, mask_row, mask_pixel):
        """The part of a tile inside the image, with what comes behind the convolution."""
        for i in range(min(m, height)):
            for j in range(min(m, width)):
                value = load(tile + (i * m + j) * VECTOR, LANES) + bias
                if mask != NO_ADDRESS:
                    beside = load(mask + i * mask_row + j * mask_pixel, count)
                    value = value + beside if adds else where_greater(beside, splat(ZERO), value, splat(ZERO))
                if relu:
                    value = rectified(value)
                store(y + i * y_row + j * y_pixel, value, count)

    def winograd_products(y, tiles, rows, weights, bias, mask, channels, g, relu, adds):
        """Each thread owns a range of (panel of filters, block of tiles)."""
        _, height, width, filters = y.shape
        y_image, y_row, y_pixel = y.strides[:3]
        mask_image, mask_row, mask_pixel = mask.strides[:3]
        p_y, p_tiles, p_rows, p_weights = address(y), address(tiles), address(rows), address(weights)
        p_bias, p_mask = address(bias), address(mask)
        place_step, weight_step = tiles.strides[0], weights.strides[0]
        of_image, count = g.rows * g.columns, g.images * g.rows * g.columns
        panels, blocks, in_panels = -(-filters // NR), -(-count // BLOCK), -(-channels // NR)
        nest = LoopNest(1, in_panels, NR, 0, count * NR, 1, 0, NR * NR, NR)
        for item in prange(panels * blocks):
            products, done = product_memory(), tile_memory()
            panel, first = np.intp(item) // blocks, np.intp(item) % blocks * BLOCK
            last = min(first + BLOCK, count)
            of_panel = p_weights + 4 * NR * NR * in_panels * panel
            multiply(products, p_tiles, place_step, of_panel, weight_step, first, last, p_rows, nest)
            for tile in range(first, last):
                image, p, q = tile // of_image, tile % of_image // g.columns * m, tile % g.columns * m
                corner = p_y + image * y_image + p * y_row + q * y_pixel
                mask_corner = p_mask + image * mask_image + p * mask_row + q * mask_pixel
                for j in range(0, NR, LANES):
                    k = panel * NR + j
                    if k < filters:
                        source = products + 4 * (NR * (tile - first) + j)
                        square(done, m * VECTOR, VECTOR, source, n * place, place, LANES)
                        finish(
                            corner + 4 * k,
                            y_row,
                            y_pixel,
                            done,
                            height - p,
                            width - q,
                            filters - k,
                            load(p_bias + 4 * k, filters - k) if bias.size else splat(ZERO),
                            relu,
                            adds,
                            mask_corner + 4 * k if mask.size else NO_ADDRESS,
                            mask_row,
                            mask_pixel,
                        )

    winograd_products.__name__ = winograd_products.__qualname__ = f"winograd_products_{m}x{f.r}"
    parameters = (
        float32_4d,
        float32_4d,
        int64_1d,
        float32_4d,
        float32_1d,
        float32_4d,
        types.int64,
        Tiling,
        types.boolean,
        types.boolean,
    )
    return cpu_kernel(*parameters)(winograd_products)


# -- weights ----------------------------------------------------------------------------------------------------------

weight_memory = stack_floats(5 * 6 * LANES)  # r × n vectors


@cpu_kernel(float32_4d, float32_4d, float32_2d)
def transform_weights(weights, packed, transform):
    """weights[place, panel, c] = (G · window · Gᵀ)[place] of the packed windows. Each thread owns (panel, c)."""
    panels, _, terms, _ = packed.shape
    n, r = transform.shape
    channels = terms // (r * r)
    padded = -(-channels // NR) * NR
    p_weights, p_packed, p_transform = address(weights), address(packed), address(transform)
    for item in prange(panels * padded):
        panel, c = np.intp(item) // padded, np.intp(item) % padded
        for j in range(0, NR, LANES):
            source = p_packed + 4 * ((panel * terms + c) * NR + j)
            target = p_weights + 4 * ((panel * padded + c) * NR + j)
            count = LANES if c < channels else 0
            _transform_window(target, weights.strides[0], source, 4 * channels * NR, p_transform, n, r, count)


@inlined
def _transform_window(target, place_step, source, tap_step, transform, n, r, count):
    """G · window · Gᵀ of one vector of filters; taps of the window are ``tap_step`` bytes apart."""
    half = weight_memory()
    g = floats(transform, n * r)
    for i in range(n):
        for s in range(r):
            total = splat(ZERO)
            for t in range(r):
                total += splat(g[r * i + t]) * load(source + (r * t + s) * tap_step, count)
            store(half + VECTOR * (r * i + s), total, LANES)
    for i in range(n):
        for j in range(n):
            total = splat(ZERO)
            for s in range(r):
                total += splat(g[r * j + s]) * load(half + VECTOR * (r * i + s), LANES)
            store(target + (i * n + j) * place_step, total, LANES)


@cpu_kernel(float32_4d, float32_4d, float32_2d)
def windows_from_products(dw, products, transform):
    """dw[r,s,c,k] = (Gᵀ · products[:, panel, c] · G)[r,s]. Each thread owns a range of (panel, c)."""
    _, _, channels, filters = dw.shape
    padded, panels = -(-channels // NR) * NR, -(-filters // NR)
    n, r = transform.shape
    dw_row, dw_column, dw_channel = dw.strides[:3]
    p_dw, p_products, p_transform = address(dw), address(products), address(transform)
    for item in prange(panels * channels):
        panel, c = np.intp(item) // channels, np.intp(item) % channels
        for k in range(panel * NR, min(filters, (panel + 1) * NR), LANES):
            source = p_products + 4 * ((panel * padded + c) * NR + k % NR)
            target = p_dw + c * dw_channel + 4 * k
            _window_of_products(target, dw_row, dw_column, source, products.strides[0], p_transform, n, r, filters - k)


@inlined
def _window_of_products(target, row, column, source, place_step, transform, n, r, count):
    """Gᵀ · products · G of one vector of filters."""
    half = weight_memory()
    g = floats(transform, n * r)
    for i in range(n):
        for s in range(r):
            total = splat(ZERO)
            for j in range(n):
                total += splat(g[r * j + s]) * load(source + (i * n + j) * place_step, LANES)
            store(half + VECTOR * (r * i + s), total, LANES)
    for t in range(r):
        for s in range(r):
            total = splat(ZERO)
            for i in range(n):
                total += splat(g[r * i + t]) * load(half + VECTOR * (r * i + s), LANES)
            store(target + t * row + s * column, total, count)
