"""Convolution of 3×3 windows at stride 1 by Winograd's minimal filtering, F(2×2, 3×3) and F(4×4, 3×3).

A tile of m×m outputs needs (m+2)² inputs. Transformed, both become (m+2)² numbers that are multiplied one by one and
summed over channels, instead of 9·m² products: 2.25 times fewer for m = 2, 4 times for m = 4. For many tiles at once
that is one matrix product for each of the (m+2)² places, tiles × C times C × K, on the register tile.

The transforms interpolate at the points 0, ±p, ±q, ∞ (Lavin and Gray 2016, section 4; Blahut 2010, chapter 5): for
m = 2, p = 1; for m = 4, p = 1/√2 and q = √2, with half the error of 1 and 2. Oracle: ``tests/reference.py``.

Measured on a busy machine, direct against m = 4, forward: 64→64 at 56² 1.3 to 2.5 times as fast, 128→128 at 28² 1.9,
256→256 at 14² 1.9; 32→64 at 14² 0.7.
"""

from functools import cache, lru_cache
from math import isqrt, sqrt
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.elementwise import relu_gradient_in_place
from numbacnn.kernels.cpu.memory import address, floats, stack_floats
from numbacnn.kernels.cpu.packing import Pack, pack_panels
from numbacnn.kernels.cpu.product import NO_MASK, PANEL, Product, row_block, row_table, tile_products
from numbacnn.kernels.cpu.vector import LANES, load, rectified, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined
from numbacnn.kernels.recording import prepare

NO_BIAS = np.empty(0, np.float32)
CHANNELS, SIZE = 64, 10  # at least, for tiles of 4×4 to gain: in few channels or tiles the transforms cost too much
ROUND_BYTES = 1 << 23  # of transformed tiles and their products: images beyond go in rounds of their own

F4_P, F4_Q = np.float32(sqrt(0.5)), np.float32(sqrt(2))
HALF, TWO, SUM = np.float32(0.5), np.float32(2), np.float32(2.5)  # p², q², p² + q²; p²·q² is 1
ZERO = np.float32(0)
weight_memory = stack_floats(3 * 6 * LANES)
P3, Q3 = np.float32(sqrt(0.125)), np.float32(sqrt(8))  # p³, q³


class Tiling(NamedTuple):
    """How the images of one round are cut into tiles of m×m outputs."""

    images: int
    rows: int  # of tiles in an image
    columns: int
    pad_top: int  # where a tile's inputs start: so many pixels before its outputs
    pad_left: int


def winograd_tile(g: ConvGeometry, algorithm: str) -> int:
    """m of the tiles for this convolution: 2 or 4, or 0 where it runs directly."""
    if algorithm.startswith("winograd"):
        return int(algorithm.removeprefix("winograd"))
    gains = g.winograd_applies and min(g.c, g.k) >= CHANNELS and min(g.p, g.q, g.h, g.w) >= SIZE
    return 4 if algorithm == "auto" and gains else 0


# -- the two directions -----------------------------------------------------------------------------------------------


def winograd_forward(y, x, w, b, packed, weights, tiles, products, g, relu=False):
    """y as of ``conv2d_forward``. packed, weights, tiles, products: scratch of ``winograd_shapes``."""
    bias = NO_BIAS if b is None else b
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    prepare(pack_panels, packed, w, Pack(g.k, 1, 0, 3, 3, g.c, w_row, w_column, w_channel))
    _convolve(y, x, packed, bias, weights, tiles, products, (g.pad_top, g.pad_left), relu)


def winograd_input_gradient(dx, dy, w, packed, weights, tiles, products, g, mask=None):
    """dx as of ``conv2d_input_gradient``: the convolution of dy with the window turned by half a circle."""
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    last = 2 * w_row + 2 * w_column
    prepare(pack_panels, packed, w, Pack(g.c, w_channel, last, 3, 3, g.k, -w_row, -w_column, 1))
    _convolve(dx, dy, packed, NO_BIAS, weights, tiles, products, (2 - g.pad_top, 2 - g.pad_left), False)
    if mask is not None:
        relu_gradient_in_place(dx, mask)


def winograd_shapes(images, height, width, channels, filters, m):
    """Scratch: windows in panels, weights, tiles and products, for outputs height × width × filters of ``channels``."""
    panels, places = -(-filters // PANEL), (m + 2) ** 2
    count = _images_of_round(images, height, width, channels, filters, m) * _tiles(height, m) * _tiles(width, m)
    return (
        (panels, 1, 9 * channels, PANEL),
        (places, panels, channels, PANEL),
        (places, 1, count, channels),
        (places, 1, count, filters),
    )


def _tiles(size, m):
    return -(-size // m)


def _images_of_round(images, height, width, channels, filters, m):
    image = 4 * (m + 2) ** 2 * _tiles(height, m) * _tiles(width, m) * (channels + filters)
    return max(1, min(images, ROUND_BYTES // image))


def _convolve(y, x, packed, bias, weights, tiles, products, pads, relu):
    """y = x * window (+ bias), a round of images at a time."""
    m = isqrt(len(weights)) - 2
    prepare(_transform_weights, weights, packed, weight_transform(m))
    images, height, width, filters = y.shape
    step = _images_of_round(images, height, width, x.shape[3], filters, m)
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        tiling = Tiling(part.stop - first, _tiles(height, m), _tiles(width, m), *pads)
        count = tiling.images * tiling.rows * tiling.columns
        transformed, product = tiles[:, :, :count], products[:, :, :count]
        _input_kernel(m)(transformed, x[part], tiling)
        plan = _plan(len(weights), count, transformed.strides, product.strides, x.shape[3], filters)
        tile_products(
            product, plan.c_rows, transformed, plan.a_rows, weights, NO_BIAS, NO_MASK, plan.c_rows, plan.product
        )
        _output_kernel(m)(y[part], product, bias, tiling, relu)


class _Plan(NamedTuple):
    product: Product
    c_rows: np.ndarray
    a_rows: np.ndarray


@lru_cache(maxsize=1024)
def _plan(places, count, tiles_strides, products_strides, channels, filters):
    """For each place, the product of tiles × channels and channels × filters."""
    panels = -(-filters // PANEL)
    product = Product(
        groups=places,
        columns=filters,
        c_offset=0,
        c_group=products_strides[0] // 4,
        a_offset=0,
        a_group=tiles_strides[0] // 4,
        b_group=panels * channels * PANEL,
        b_panel=channels * PANEL,
        total_0=places,
        count_0=1,
        count_1=1,
        count_2=channels,
        a_0=0,
        a_1=0,
        a_2=1,
        b_0=0,
        b_1=0,
        b_2=PANEL,
        row_block=row_block(count, panels),
        chunk_0=1,
        chunk_1=1,
    )
    return _Plan(product, row_table((count, filters)), row_table((count, channels)))


# -- one dimension ----------------------------------------------------------------------------------------------------


@inlined
def _input_2(d0, d1, d2, d3):
    """Bᵀ·d for m = 2."""
    return d0 - d2, d1 + d2, d2 - d1, d3 - d1


@inlined
def _output_2(m0, m1, m2, m3):
    """Aᵀ·m for m = 2."""
    return m0 + m1 + m2, m1 - m2 + m3


@inlined
def _input_4(d0, d1, d2, d3, d4, d5):
    """Bᵀ·d for m = 4."""
    even_p, odd_p = d4 - splat(TWO) * d2, splat(F4_P) * (d3 - splat(TWO) * d1)
    even_q, odd_q = d4 - splat(HALF) * d2, splat(F4_Q) * (d3 - splat(HALF) * d1)
    first, last = d0 + d4 - splat(SUM) * d2, d1 + d5 - splat(SUM) * d3
    return first, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, last


@inlined
def _output_4(m0, m1, m2, m3, m4, m5):
    """Aᵀ·m for m = 4."""
    even_p, odd_p, even_q, odd_q = m1 + m2, m1 - m2, m3 + m4, m3 - m4
    return (
        m0 + even_p + even_q,
        splat(F4_P) * odd_p + splat(F4_Q) * odd_q,
        splat(HALF) * even_p + splat(TWO) * even_q,
        splat(P3) * odd_p + splat(Q3) * odd_q + m5,
    )


@cache
def weight_transform(m: int) -> np.ndarray:
    """G, (m+2)×3: row i holds the powers of point i over the product of its distances to the other points."""
    points = [0.0, 1.0, -1.0] if m == 2 else [0.0, sqrt(0.5), -sqrt(0.5), sqrt(2), -sqrt(2)]
    rows = []
    for i, x in enumerate(points):
        distance = np.prod([x - y for j, y in enumerate(points) if j != i])
        rows.append([1 / distance, x / distance, x * x / distance])
    if m == 2:
        rows[0] = [-value for value in rows[0]]  # as _input_2 has it
    return np.array([*rows, [0.0, 0.0, 1.0]], np.float32)


# -- tiles ------------------------------------------------------------------------------------------------------------


@cache
def _line(m):
    """A function that transforms the m+2 vectors at ``source``, ``step`` bytes apart, of ``count`` lanes."""
    if m == 2:

        @inlined
        def line(target, target_step, source, step, count, target_count):
            r0, r1, r2, r3 = _input_2(
                load(source, count),
                load(source + step, count),
                load(source + 2 * step, count),
                load(source + 3 * step, count),
            )
            store(target, r0, target_count)
            store(target + target_step, r1, target_count)
            store(target + 2 * target_step, r2, target_count)
            store(target + 3 * target_step, r3, target_count)

    else:

        @inlined
        def line(target, target_step, source, step, count, target_count):
            r0, r1, r2, r3, r4, r5 = _input_4(
                load(source, count),
                load(source + step, count),
                load(source + 2 * step, count),
                load(source + 3 * step, count),
                load(source + 4 * step, count),
                load(source + 5 * step, count),
            )
            store(target, r0, target_count)
            store(target + target_step, r1, target_count)
            store(target + 2 * target_step, r2, target_count)
            store(target + 3 * target_step, r3, target_count)
            store(target + 4 * target_step, r4, target_count)
            store(target + 5 * target_step, r5, target_count)

    return line


@cache
def _input_kernel(m):
    """The kernel tiles[place, 0, tile, c] = (Bᵀ · x's tile · B)[place]."""
    n = m + 2
    line, memory = _line(m), stack_floats(2 * n * n * LANES)
    row = 4 * n * LANES

    @inlined
    def gather(target, x, x_row, x_pixel, h, w, height, width, count):
        """The tile's inputs, zeros outside the image."""
        for i in range(n):
            for j in range(n):
                inside = 0 <= h + i < height and 0 <= w + j < width
                value = load(x + i * x_row + j * x_pixel, count if inside else 0)
                store(target + i * row + j * 4 * LANES, value, LANES)

    @inlined
    def transform(tiles, place_step, x, x_row, x_pixel, h, w, height, width, channels):
        """One tile, a vector of channels at a time."""
        loaded = memory()
        half = loaded + n * row
        inside = h >= 0 and w >= 0 and h + n <= height and w + n <= width
        for c in range(0, channels, LANES):
            count = channels - c
            if inside:
                for j in range(n):
                    line(half + j * 4 * LANES, row, x + 4 * c + j * x_pixel, x_row, count, LANES)
            else:
                gather(loaded, x + 4 * c, x_row, x_pixel, h, w, height, width, count)
                for j in range(n):
                    line(half + j * 4 * LANES, row, loaded + j * 4 * LANES, row, LANES, LANES)
            for i in range(n):
                target = tiles + 4 * c + i * n * place_step
                line(target, place_step, half + i * row, 4 * LANES, LANES, count)

    def winograd_input(tiles, x, g):
        """Each thread owns a range of rows of tiles."""
        _, height, width, channels = x.shape
        x_image, x_row, x_pixel = x.strides[:3]
        p_tiles, p_x, place_step = address(tiles), address(x), tiles.strides[0]
        for item in prange(g.images * g.rows):
            image, h = np.intp(item) // g.rows, np.intp(item) % g.rows * m - g.pad_top
            for column in range(g.columns):
                w = column * m - g.pad_left
                tile = np.intp(item) * g.columns + column
                corner = p_x + image * x_image + h * x_row + w * x_pixel
                target = p_tiles + 4 * tile * channels
                transform(target, place_step, corner, x_row, x_pixel, h, w, height, width, channels)

    winograd_input.__name__ = winograd_input.__qualname__ = f"winograd_input_{m}"
    return cpu_kernel(float32_4d, float32_4d, Tiling)(winograd_input)


@cache
def _output_kernel(m):
    """The kernel y's tile = Aᵀ · products[:, 0, tile, k] · A + bias, rectified if asked."""
    n = m + 2
    memory, row = stack_floats(m * n * LANES), 4 * n * LANES

    if m == 2:

        @inlined
        def half_line(target, source, step, count):
            r0, r1 = _output_2(
                load(source, count),
                load(source + step, count),
                load(source + 2 * step, count),
                load(source + 3 * step, count),
            )
            store(target, r0, LANES)
            store(target + row, r1, LANES)

        @inlined
        def whole_line(target, step, source, count, bias, relu, wanted):
            step_in = 4 * LANES
            r0, r1 = _output_2(
                load(source, LANES),
                load(source + step_in, LANES),
                load(source + 2 * step_in, LANES),
                load(source + 3 * step_in, LANES),
            )
            finish(target, r0, count, bias, relu, wanted > 0)
            finish(target + step, r1, count, bias, relu, wanted > 1)

    else:

        @inlined
        def half_line(target, source, step, count):
            r0, r1, r2, r3 = _output_4(
                load(source, count),
                load(source + step, count),
                load(source + 2 * step, count),
                load(source + 3 * step, count),
                load(source + 4 * step, count),
                load(source + 5 * step, count),
            )
            store(target, r0, LANES)
            store(target + row, r1, LANES)
            store(target + 2 * row, r2, LANES)
            store(target + 3 * row, r3, LANES)

        @inlined
        def whole_line(target, step, source, count, bias, relu, wanted):
            step_in = 4 * LANES
            r0, r1, r2, r3 = _output_4(
                load(source, LANES),
                load(source + step_in, LANES),
                load(source + 2 * step_in, LANES),
                load(source + 3 * step_in, LANES),
                load(source + 4 * step_in, LANES),
                load(source + 5 * step_in, LANES),
            )
            finish(target, r0, count, bias, relu, wanted > 0)
            finish(target + step, r1, count, bias, relu, wanted > 1)
            finish(target + 2 * step, r2, count, bias, relu, wanted > 2)
            finish(target + 3 * step, r3, count, bias, relu, wanted > 3)

    @inlined
    def finish(target, value, count, bias, relu, wanted):
        if wanted:
            value = value + bias
            store(target, rectified(value) if relu else value, count)

    @inlined
    def transform(y, y_row, y_pixel, products, place_step, bias, has_bias, filters, relu, rows, columns):
        """One tile, a vector of filters at a time; ``rows`` and ``columns`` of it lie inside the image."""
        half = memory()
        for k in range(0, filters, LANES):
            count = filters - k
            offset = load(bias + 4 * k, count) if has_bias else splat(ZERO)
            for j in range(n):
                half_line(half + j * 4 * LANES, products + 4 * k + j * place_step, n * place_step, count)
            for i in range(min(m, rows)):
                whole_line(y + i * y_row + 4 * k, y_pixel, half + i * row, count, offset, relu, columns)

    def winograd_output(y, products, bias, g, relu):
        """Each thread owns a range of rows of tiles."""
        _, height, width, filters = y.shape
        y_image, y_row, y_pixel = y.strides[:3]
        p_y, p_products, place_step, p_bias = address(y), address(products), products.strides[0], address(bias)
        for item in prange(g.images * g.rows):
            image, p = np.intp(item) // g.rows, np.intp(item) % g.rows * m
            for column in range(g.columns):
                q = column * m
                transform(
                    p_y + image * y_image + p * y_row + q * y_pixel,
                    y_row,
                    y_pixel,
                    p_products + 4 * (np.intp(item) * g.columns + column) * filters,
                    place_step,
                    p_bias,
                    bias.size > 0,
                    filters,
                    relu,
                    height - p,
                    width - q,
                )

    winograd_output.__name__ = winograd_output.__qualname__ = f"winograd_output_{m}"
    return cpu_kernel(float32_4d, float32_4d, float32_1d, Tiling, types.boolean)(winograd_output)


# -- weights ----------------------------------------------------------------------------------------------------------


@cpu_kernel(float32_4d, float32_4d, float32_2d)
def _transform_weights(weights, packed, transform):
    """weights[place, panel, c] = (G · window · Gᵀ)[place] of the packed windows. Each thread owns (panel, c)."""
    _, panels, channels, _ = weights.shape
    n = len(transform)
    p_weights, p_packed, p_transform = address(weights), address(packed), address(transform)
    for item in prange(panels * channels):
        panel, c = np.intp(item) // channels, np.intp(item) % channels
        for j in range(0, PANEL, LANES):
            source = p_packed + 4 * ((panel * 9 * channels + c) * PANEL + j)
            target = p_weights + 4 * ((panel * channels + c) * PANEL + j)
            _transform_window(target, weights.strides[0], source, 4 * channels * PANEL, p_transform, n)


@inlined
def _transform_window(target, place_step, source, tap_step, transform, n):
    """G · window · Gᵀ of one vector of filters; taps of the window are ``tap_step`` bytes apart."""
    half = weight_memory()
    g = floats(transform, 3 * n)
    for i in range(n):
        for s in range(3):
            total = splat(ZERO)
            for r in range(3):
                total += splat(g[3 * i + r]) * load(source + (3 * r + s) * tap_step, LANES)
            store(half + 4 * LANES * (3 * i + s), total, LANES)
    for i in range(n):
        for j in range(n):
            total = splat(ZERO)
            for s in range(3):
                total += splat(g[3 * j + s]) * load(half + 4 * LANES * (3 * i + s), LANES)
            store(target + (i * n + j) * place_step, total, LANES)
