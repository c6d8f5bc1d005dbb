"""Convolution of 3×3 windows at stride 1 by Winograd's minimal filtering, F(2×2, 3×3) and F(4×4, 3×3).

A tile of m×m outputs needs (m+2)² inputs. Transformed, both become (m+2)² numbers that are multiplied one by one and
summed over channels, instead of 9·m² products: 2.25 times fewer for m = 2, 4 times for m = 4. For many tiles at once
that is one matrix product for each of the (m+2)² places, tiles × C times C × K, on the register tile:

    y = Aᵀ (Σ_c (G w Gᵀ) ⊙ (Bᵀ x B)) A        dw = Gᵀ (Σ_tiles (Bᵀ x B) ⊙ (A dy Aᵀ)) G

The weight gradient is the transpose of the forward pass with the same matrices, so it saves as much; for the input
gradient, dy is convolved with the window turned by half a circle.

The transforms interpolate at the points 0, ±p, ±q, ∞ (Lavin and Gray 2016, section 4; Blahut 2010, chapter 5): for
m = 2, p = 1; for m = 4, p = 1/√2 and q = √2, with half the error of 1 and 2. Oracle: ``tests/reference.py``.

What is transformed lies as places × 1 × rows × PANEL: for each panel of channels the tiles, or of filters the
channels, one behind the other, so that the products read memory in order. The number of rows is odd: the places of one
tile would else lie powers of two apart and share few lines of the cache.
"""

from functools import cache, lru_cache, partial
from math import isqrt, sqrt
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.memory import address, floats, stack_floats
from numbacnn.kernels.cpu.packing import Pack, pack_panels
from numbacnn.kernels.cpu.product import (
    NO_ADDRESS,
    NO_MASK,
    PANEL,
    ROWS,
    Product,
    row_block,
    row_table,
    tile_products,
    wide_tile,
)
from numbacnn.kernels.cpu.register_tile import Sum
from numbacnn.kernels.cpu.vector import LANES, load, rectified, splat, store, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined, int64_1d, prepare

compiled_into = partial(inlined, always=True)  # functions of a few vectors
NO_BIAS = np.empty(0, np.float32)
CHANNELS, SAVING = 64, 2  # at least, for tiles of 4×4 to gain: in few channels the transforms cost too much
ROUND_BYTES = 1 << 22  # of transformed tiles: images beyond go in rounds of their own
BLOCK = 4 * ROWS  # tiles whose products stay in the second-level cache until they are transformed back
VECTOR = 4 * LANES  # bytes

F4_P, F4_Q = np.float32(sqrt(0.5)), np.float32(sqrt(2))
HALF, TWO, SUM = np.float32(0.5), np.float32(2), np.float32(2.5)  # p², q², p² + q²; p²·q² is 1
P3, Q3 = np.float32(sqrt(0.125)), np.float32(sqrt(8))  # p³, q³
ZERO = np.float32(0)


class Tiling(NamedTuple):
    """How the images of one round are cut into tiles of m×m outputs."""

    images: int
    height: int  # of outputs
    width: int
    rows: int  # of tiles
    columns: int
    pad_top: int  # where a tile's inputs start: so many pixels before its outputs
    pad_left: int


def winograd_tile(g: ConvGeometry, algorithm: str) -> int:
    """m of the tiles for this convolution: 2 or 4, or 0 where it runs directly."""
    if algorithm.startswith("winograd"):
        return int(algorithm.removeprefix("winograd"))
    if algorithm != "auto" or not g.winograd_applies or min(g.c, g.k) < CHANNELS:
        return 0
    saving = min(4 * h * w / (16 * _tiles(h, 4) * _tiles(w, 4)) for h, w in ((g.p, g.q), (g.h, g.w)))
    return 4 if saving >= SAVING else 0


# -- the three directions ---------------------------------------------------------------------------------------------


def winograd_forward(y, x, w, b, packed, weights, tiles, g, relu=False):
    """y as of ``conv2d_forward``. packed, weights, tiles: scratch of ``winograd_shapes``."""
    bias = NO_BIAS if b is None else b
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    prepare(pack_panels, packed, w, Pack(g.k, 1, 0, 3, 3, g.c, w_row, w_column, w_channel))
    _convolve(y, x, packed, bias, NO_MASK, weights, tiles, (g.pad_top, g.pad_left), relu)


def winograd_input_gradient(dx, dy, w, packed, weights, tiles, g, mask=None):
    """dx as of ``conv2d_input_gradient``: the convolution of dy with the window turned by half a circle."""
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    last = 2 * w_row + 2 * w_column
    prepare(pack_panels, packed, w, Pack(g.c, w_channel, last, 3, 3, g.k, -w_row, -w_column, 1))
    pads = 2 - g.pad_top, 2 - g.pad_left
    _convolve(dx, dy, packed, NO_BIAS, NO_MASK if mask is None else mask, weights, tiles, pads, False)


def winograd_weight_gradient(dw, x, dy, x_tiles, dy_tiles, products, g):
    """dw as of ``conv2d_weight_gradient``. x_tiles, dy_tiles, products: scratch of ``winograd_gradient_shapes``."""
    m = isqrt(len(products)) - 2
    step = _images_of_gradient_round(g, len(x), m)
    for first in range(0, len(x), step):
        part = slice(first, min(first + step, len(x)))
        tiling = _tiling(part.stop - first, g.p, g.q, m, g.pad_top, g.pad_left)
        _window_kernel(m)(x_tiles, x[part], tiling)
        _output_window_kernel(m)(dy_tiles, dy[part], tiling._replace(pad_top=0, pad_left=0))
        plan = _gradient_plan(m, g.c, g.k, tiling, products.strides, x_tiles.strides, dy_tiles.strides, first > 0)
        tile_products(
            products, plan.c_rows, x_tiles, plan.a_rows, dy_tiles, NO_BIAS, NO_MASK, plan.c_rows, plan.product
        )
    _windows_from_products(dw, products, weight_transform(m))


def winograd_shapes(images, height, width, channels, filters, m):
    """Scratch: windows in panels, weights and tiles, for outputs height × width × filters of ``channels``."""
    panels, places = -(-filters // PANEL), (m + 2) ** 2
    count = _images_of_round(images, height, width, channels, m) * _tiles(height, m) * _tiles(width, m)
    return (
        (panels, 1, 9 * channels, PANEL),
        _places_shape(places, panels, _padded(channels)),
        _places_shape(places, -(-channels // PANEL), count),
    )


def winograd_gradient_shapes(g, images, m):
    """Scratch of the weight gradient: tiles of x and of dy, and their products."""
    places, panels = (m + 2) ** 2, (-(-g.c // PANEL), -(-g.k // PANEL))
    count = _images_of_gradient_round(g, images, m) * _tiles(g.p, m) * _tiles(g.q, m)
    return (
        *(_places_shape(places, number, count) for number in panels),
        _places_shape(places, panels[1], _padded(g.c)),
    )


def _places_shape(places, panels, rows):
    return places, 1, panels * rows | 1, PANEL


def _padded(channels):
    """Channels in whole panels."""
    return -(-channels // PANEL) * PANEL


def _tiling(images, height, width, m, pad_top, pad_left):
    return Tiling(images, height, width, _tiles(height, m), _tiles(width, m), pad_top, pad_left)


def _tiles(size, m):
    return -(-size // m)


def _images_of_round(images, height, width, channels, m):
    image = 4 * (m + 2) ** 2 * _tiles(height, m) * _tiles(width, m) * _padded(channels)
    return max(1, min(images, ROUND_BYTES // image))


def _images_of_gradient_round(g, images, m):
    """More where there are many weights, which every round reads and writes again."""
    image = _tiles(g.p, m) * _tiles(g.q, m) * (_padded(g.c) + _padded(g.k))
    weights = 2 * _padded(g.c) * _padded(g.k)
    return max(1, min(images, max(ROUND_BYTES // (4 * (m + 2) ** 2), weights) // image))


def _convolve(y, x, packed, bias, mask, weights, tiles, pads, relu):
    """y = x * window (+ bias), a round of images at a time."""
    m = isqrt(len(weights)) - 2
    prepare(_transform_weights, weights, packed, weight_transform(m))
    images, height, width, _ = y.shape
    step = _images_of_round(images, height, width, x.shape[3], m)
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        tiling = _tiling(part.stop - first, height, width, m, *pads)
        rows = row_table((tiling.images * tiling.rows * tiling.columns, PANEL))
        _window_kernel(m)(tiles, x[part], tiling)
        _product_kernel(m)(y[part], tiles, rows, weights, bias, mask[part], x.shape[3], tiling, relu)


class _Plan(NamedTuple):
    product: Product
    c_rows: np.ndarray
    a_rows: np.ndarray


@lru_cache(maxsize=1024)
def _gradient_plan(m, channels, filters, tiling, products_strides, x_strides, dy_strides, accumulate):
    """For each place, the product of channels × tiles and tiles × filters."""
    count, padded, panels = tiling.images * tiling.rows * tiling.columns, _padded(channels), -(-filters // PANEL)
    product = Product(
        groups=(m + 2) ** 2,
        columns=panels * PANEL,
        c_offset=0,
        c_group=products_strides[0] // 4,
        c_panel=padded * PANEL,
        a_offset=0,
        a_group=x_strides[0] // 4,
        b_group=dy_strides[0] // 4,
        b_panel=count * PANEL,
        total_0=(m + 2) ** 2,
        count_0=1,
        count_1=1,
        count_2=count,
        a_0=0,
        a_1=0,
        a_2=PANEL,
        b_0=0,
        b_1=0,
        b_2=PANEL,
        row_block=row_block(padded, panels),
        chunk_0=1,
        chunk_1=1,
        accumulate=int(accumulate),
    )
    c_rows = row_table((padded, PANEL))
    return _Plan(product, c_rows, row_table((padded // PANEL, count * PANEL), (PANEL, 1)))


# -- one dimension ----------------------------------------------------------------------------------------------------


@compiled_into
def _input_2(d):
    """Bᵀ·d for m = 2."""
    return d[0] - d[2], d[1] + d[2], d[2] - d[1], d[3] - d[1]


@compiled_into
def _output_2(t):
    """Aᵀ·t for m = 2."""
    return t[0] + t[1] + t[2], t[1] - t[2] + t[3]


@compiled_into
def _gradient_2(d):
    """A·d for m = 2."""
    return d[0], d[0] + d[1], d[0] - d[1], d[1]


@compiled_into
def _input_4(d):
    """Bᵀ·d for m = 4."""
    even_p, odd_p = d[4] - splat(TWO) * d[2], splat(F4_P) * (d[3] - splat(TWO) * d[1])
    even_q, odd_q = d[4] - splat(HALF) * d[2], splat(F4_Q) * (d[3] - splat(HALF) * d[1])
    first, last = d[0] + d[4] - splat(SUM) * d[2], d[1] + d[5] - splat(SUM) * d[3]
    return first, even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, last


@compiled_into
def _output_4(t):
    """Aᵀ·t for m = 4."""
    even_p, odd_p, even_q, odd_q = t[1] + t[2], t[1] - t[2], t[3] + t[4], t[3] - t[4]
    return (
        t[0] + even_p + even_q,
        splat(F4_P) * odd_p + splat(F4_Q) * odd_q,
        splat(HALF) * even_p + splat(TWO) * even_q,
        splat(P3) * odd_p + splat(Q3) * odd_q + t[5],
    )


@compiled_into
def _gradient_4(d):
    """A·d for m = 4."""
    even_p, odd_p = d[0] + splat(HALF) * d[2], splat(F4_P) * d[1] + splat(P3) * d[3]
    even_q, odd_q = d[0] + splat(TWO) * d[2], splat(F4_Q) * d[1] + splat(Q3) * d[3]
    return d[0], even_p + odd_p, even_p - odd_p, even_q + odd_q, even_q - odd_q, d[3]


INPUT, OUTPUT, GRADIENT = ({2: _input_2, 4: _input_4}, {2: _output_2, 4: _output_4}, {2: _gradient_2, 4: _gradient_4})


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


# -- two dimensions, a vector of channels at a time -------------------------------------------------------------------


@compiled_into
def _read_2(source, step, count):
    return load(source, count), load(source + step, count)


@compiled_into
def _read_4(source, step, count):
    return _read_2(source, step, count) + _read_2(source + 2 * step, step, count)


@compiled_into
def _read_6(source, step, count):
    return _read_4(source, step, count) + _read_2(source + 4 * step, step, count)


@compiled_into
def _write_2(target, step, values):
    store(target, values[0], LANES)
    store(target + step, values[1], LANES)


@compiled_into
def _write_4(target, step, values):
    _write_2(target, step, values[:2])
    _write_2(target + 2 * step, step, values[2:])


@compiled_into
def _write_6(target, step, values):
    _write_4(target, step, values[:4])
    _write_2(target + 4 * step, step, values[4:])


READ, WRITE = {2: _read_2, 4: _read_4, 6: _read_6}, {2: _write_2, 4: _write_4, 6: _write_6}


@cache
def _square(transform, taken, given):
    """A function that transforms taken×taken vectors, ``outer`` and ``inner`` bytes apart, along both of its axes to
    given×given. Of the source, ``count`` lanes are read, the others 0."""
    read, write = READ[taken], WRITE[given]
    memory, row = stack_floats(given * taken * LANES), taken * VECTOR

    @inlined
    def square(target, outer, inner, source, source_outer, source_inner, count):
        half = memory()
        for j in range(taken):
            write(half + j * VECTOR, row, transform(read(source + j * source_inner, source_outer, count)))
        for i in range(given):
            write(target + i * outer, inner, transform(read(half + i * row, VECTOR, LANES)))

    return square


# -- tiles ------------------------------------------------------------------------------------------------------------


@cache
def _window_kernel(m):
    """The kernel tiles = Bᵀ · x's windows · B."""
    return _make_window_kernel(m, m + 2, _square(INPUT[m], m + 2, m + 2), f"winograd_input_{m}")


@cache
def _output_window_kernel(m):
    """The kernel tiles = A · dy's tiles · Aᵀ."""
    return _make_window_kernel(m, m, _square(GRADIENT[m], m, m + 2), f"winograd_output_gradient_{m}")


def _make_window_kernel(m, size, square, name):
    """The kernel that transforms windows of size×size, m pixels apart."""
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
        window, outer = memory(), (m + 2) * place_step
        for c in range(0, PANEL, LANES):
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
        panels, count = -(-channels // PANEL), g.images * g.rows * g.columns
        for item in prange(g.images * g.rows * panels):
            panel, tile_row = np.intp(item) % panels, np.intp(item) // panels
            h = tile_row % g.rows * m - g.pad_top
            source = p_x + tile_row // g.rows * x_image + h * x_row + 4 * panel * PANEL
            target = p_tiles + 4 * PANEL * (panel * count + tile_row * g.columns)
            for column in range(g.columns):
                w = column * m - g.pad_left
                transform(
                    target + 4 * PANEL * column,
                    place_step,
                    source + w * x_pixel,
                    x_row,
                    x_pixel,
                    h,
                    w,
                    height,
                    width,
                    channels - panel * PANEL,
                    (tile_row % g.rows + 1) * m <= g.height and (column + 1) * m <= g.width,
                )

    winograd_windows.__name__ = winograd_windows.__qualname__ = name
    return cpu_kernel(float32_4d, float32_4d, Tiling)(winograd_windows)


@cache
def _product_kernel(m):
    """The kernel y's tile = Aᵀ · (Σ_c tiles ⊙ weights) · A + bias, rectified or masked if asked."""
    n = m + 2
    square = _square(OUTPUT[m], n, m)
    place = 4 * (BLOCK * PANEL + 16)  # bytes; a line of the cache more, for the reason above
    product_memory, tile_memory = stack_floats(n * n * place // 4), stack_floats(m * m * LANES)

    @inlined
    def multiply(products, tiles, place_step, weights, weight_step, first, last, rows, nest):
        """All places of a block of tiles and a panel of filters."""
        for i in range(n * n):
            for tile in range(first, last, ROWS):
                wide_tile(
                    products + i * place + 4 * PANEL * (tile - first),
                    rows,
                    tiles + i * place_step,
                    rows + 8 * tile,
                    weights + i * weight_step,
                    NO_ADDRESS,
                    PANEL,
                    0,
                    nest,
                )

    @inlined
    def finish(y, y_row, y_pixel, tile, height, width, count, bias, relu, mask, mask_row, mask_pixel):
        """The part of a tile inside the image, with what comes behind the convolution."""
        for i in range(min(m, height)):
            for j in range(min(m, width)):
                value = load(tile + (i * m + j) * VECTOR, LANES) + bias
                if relu:
                    value = rectified(value)
                if mask != NO_ADDRESS:
                    passes = load(mask + i * mask_row + j * mask_pixel, count)
                    value = where_greater(passes, splat(ZERO), value, splat(ZERO))
                store(y + i * y_row + j * y_pixel, value, count)

    def winograd_products(y, tiles, rows, weights, bias, mask, channels, g, relu):
        """Each thread owns a range of (panel of filters, block of tiles)."""
        _, height, width, filters = y.shape
        y_image, y_row, y_pixel = y.strides[:3]
        mask_image, mask_row, mask_pixel = mask.strides[:3]
        p_y, p_tiles, p_rows, p_weights = address(y), address(tiles), address(rows), address(weights)
        p_bias, p_mask = address(bias), address(mask)
        place_step, weight_step = tiles.strides[0], weights.strides[0]
        of_image, count = g.rows * g.columns, g.images * g.rows * g.columns
        panels, blocks, in_panels = -(-filters // PANEL), -(-count // BLOCK), -(-channels // PANEL)
        nest = Sum(1, in_panels, PANEL, 0, count * PANEL, 1, 0, PANEL * PANEL, PANEL)
        for item in prange(panels * blocks):
            products, done = product_memory(), tile_memory()
            panel, first = np.intp(item) // blocks, np.intp(item) % blocks * BLOCK
            last = min(first + BLOCK, count)
            of_panel = p_weights + 4 * PANEL * PANEL * in_panels * panel
            multiply(products, p_tiles, place_step, of_panel, weight_step, first, last, p_rows, nest)
            for tile in range(first, last):
                image, p, q = tile // of_image, tile % of_image // g.columns * m, tile % g.columns * m
                corner = p_y + image * y_image + p * y_row + q * y_pixel
                mask_corner = p_mask + image * mask_image + p * mask_row + q * mask_pixel
                for j in range(0, PANEL, LANES):
                    k = panel * PANEL + j
                    if k < filters:
                        source = products + 4 * (PANEL * (tile - first) + j)
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
                            mask_corner + 4 * k if mask.size else NO_ADDRESS,
                            mask_row,
                            mask_pixel,
                        )

    winograd_products.__name__ = winograd_products.__qualname__ = f"winograd_products_{m}"
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
    )
    return cpu_kernel(*parameters)(winograd_products)


# -- weights ----------------------------------------------------------------------------------------------------------

weight_memory = stack_floats(3 * 6 * LANES)


@cpu_kernel(float32_4d, float32_4d, float32_2d)
def _transform_weights(weights, packed, transform):
    """weights[place, panel, c] = (G · window · Gᵀ)[place] of the packed windows. Each thread owns (panel, c)."""
    panels, _, taps, _ = packed.shape
    channels, n = taps // 9, len(transform)
    padded = -(-channels // PANEL) * PANEL
    p_weights, p_packed, p_transform = address(weights), address(packed), address(transform)
    for item in prange(panels * padded):
        panel, c = np.intp(item) // padded, np.intp(item) % padded
        for j in range(0, PANEL, LANES):
            source = p_packed + 4 * ((panel * taps + c) * PANEL + j)
            target = p_weights + 4 * ((panel * padded + c) * PANEL + j)
            count = LANES if c < channels else 0
            _transform_window(target, weights.strides[0], source, 4 * channels * PANEL, p_transform, n, count)


@inlined
def _transform_window(target, place_step, source, tap_step, transform, n, count):
    """G · window · Gᵀ of one vector of filters; taps of the window are ``tap_step`` bytes apart."""
    half = weight_memory()
    g = floats(transform, 3 * n)
    for i in range(n):
        for s in range(3):
            total = splat(ZERO)
            for r in range(3):
                total += splat(g[3 * i + r]) * load(source + (3 * r + s) * tap_step, count)
            store(half + VECTOR * (3 * i + s), total, LANES)
    for i in range(n):
        for j in range(n):
            total = splat(ZERO)
            for s in range(3):
                total += splat(g[3 * j + s]) * load(half + VECTOR * (3 * i + s), LANES)
            store(target + (i * n + j) * place_step, total, LANES)


@cpu_kernel(float32_4d, float32_4d, float32_2d)
def _windows_from_products(dw, products, transform):
    """dw[r,s,c,k] = (Gᵀ · products[:, panel, c] · G)[r,s]. Each thread owns a range of (panel, c)."""
    _, _, channels, filters = dw.shape
    padded, panels, n = -(-channels // PANEL) * PANEL, -(-filters // PANEL), len(transform)
    dw_row, dw_column, dw_channel = dw.strides[:3]
    p_dw, p_products, p_transform = address(dw), address(products), address(transform)
    for item in prange(panels * channels):
        panel, c = np.intp(item) // channels, np.intp(item) % channels
        for k in range(panel * PANEL, min(filters, (panel + 1) * PANEL), LANES):
            source = p_products + 4 * ((panel * padded + c) * PANEL + k % PANEL)
            target = p_dw + c * dw_channel + 4 * k
            _window_of_products(target, dw_row, dw_column, source, products.strides[0], p_transform, n, filters - k)


@inlined
def _window_of_products(target, row, column, source, place_step, transform, n, count):
    """Gᵀ · products · G of one vector of filters."""
    half = weight_memory()
    g = floats(transform, 3 * n)
    for i in range(n):
        for s in range(3):
            total = splat(ZERO)
            for j in range(n):
                total += splat(g[3 * j + s]) * load(source + (i * n + j) * place_step, LANES)
            store(half + VECTOR * (3 * i + s), total, LANES)
    for r in range(3):
        for s in range(3):
            total = splat(ZERO)
            for i in range(n):
                total += splat(g[3 * i + r]) * load(half + VECTOR * (3 * i + s), LANES)
            store(target + r * row + s * column, total, count)
