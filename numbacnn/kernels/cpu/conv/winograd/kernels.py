"""The kernels of Winograd's minimal filtering: tiles and weights are transformed, multiplied, and transformed back."""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.conv.winograd.transforms import GRADIENT, INPUT, OUTPUT, VECTOR, WEIGHTS, square_transform
from numbacnn.kernels.cpu.gemm.gemm import LANES, MR, NO_ADDRESS, NR, microkernel, streaming_microkernel
from numbacnn.kernels.cpu.gemm.microkernel import LINE, LoopNest, Tile, gemm_microkernel
from numbacnn.kernels.cpu.gemm.padding import compiled_in_panels
from numbacnn.kernels.cpu.simd.memory import address, prefers_nontemporal, stack_floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, rectified, splat, store, store_nontemporal, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d

ZERO = np.float32(0)
TILES = 4 * MR  # whose products stay in L2 until they are transformed back

vector_microkernel = gemm_microkernel(MR, 1, LANES, masked=False)


class Tiling(NamedTuple):
    """The division of images, of one round or all of them, into tiles of m×m outputs."""

    images: int
    height: int  # of outputs
    width: int
    rows: int  # of tiles
    columns: int
    pad_top: int  # pixels from a tile's first input to its first output
    pad_left: int


class Patch(NamedTuple):
    """The address of an image's pixel, and bytes from row to row and from pixel to pixel."""

    pixel: int
    row_step: int
    pixel_step: int


class Frame(NamedTuple):
    """The first pixel (h, w) of a patch, in an image of ``height`` × ``width`` pixels."""

    h: int
    w: int
    height: int
    width: int


# -- tiles ------------------------------------------------------------------------------------------------------------


@cache
def input_transform_kernel(f):
    """Return the kernel tiles = Bᵀ · x's windows · B."""
    return _make_window_kernel(f, f.n, square_transform(INPUT[f.n], f.n, f.n), f"winograd_input_{f.m}x{f.r}")


@cache
def gradient_transform_kernel(f):
    """Return the kernel tiles = A · dy's tiles · Aᵀ."""
    square = square_transform(GRADIENT[f.m, f.n], f.m, f.n)
    return _make_window_kernel(f, f.m, square, f"winograd_output_gradient_{f.m}x{f.r}")


def _make_window_kernel(f, size, square, name):
    """Return the kernel that transforms windows of size×size, m pixels apart."""
    m, transform = f.m, window_transform(f, size, square)

    def winograd_windows(tiles, x, g):
        """Each thread owns a range of (row of tiles, panel)."""
        _, height, width, channels = x.shape
        x_image, x_row, x_pixel = x.strides[:3]
        p_tiles, p_x, component_step = address(tiles), address(x), tiles.strides[0]
        panels, count = -(-channels // NR), g.images * g.rows * g.columns
        for item in prange(g.images * g.rows * panels):
            panel, tile_row = np.intp(item) % panels, np.intp(item) // panels
            h = tile_row % g.rows * m - g.pad_top
            source = p_x + tile_row // g.rows * x_image + h * x_row + 4 * panel * NR
            target = p_tiles + 4 * NR * (panel * count + tile_row * g.columns)
            for column in range(g.columns):
                w = column * m - g.pad_left
                is_whole = (tile_row % g.rows + 1) * m <= g.height and (column + 1) * m <= g.width
                patch, frame = Patch(source + w * x_pixel, x_row, x_pixel), Frame(h, w, height, width)
                transform(target + 4 * NR * column, component_step, patch, frame, channels - panel * NR, NR, is_whole)

    winograd_windows.__name__ = winograd_windows.__qualname__ = name
    return cpu_kernel(float32_4d, float32_4d, Tiling)(winograd_windows)


@cache
def window_transform(f, size, square):
    """Return the function that transforms one window of size×size pixels, for ``width`` floats of each component."""
    n, memory, row = f.n, stack_floats(size * size * WIDTH), size * VECTOR

    @inlined
    def gather(target, x, frame, count):
        """Copy the window, with zeros outside the image: it may reach past the halo."""
        for i in range(size):
            for j in range(size):
                inside = 0 <= frame.h + i < frame.height and 0 <= frame.w + j < frame.width
                value = load(x.pixel + i * x.row_step + j * x.pixel_step, count if inside else 0)
                store(target + i * row + j * VECTOR, value, WIDTH)

    @inlined
    def transform(tiles, component_step, x, frame, channels, width, is_whole):
        """The window of a whole tile is inside the image and its halo. Floats from ``channels`` to ``width`` are 0."""
        window, outer = memory(), n * component_step
        for c in range(0, width, WIDTH):
            target, source, count = tiles + 4 * c, Patch(x.pixel + 4 * c, x.row_step, x.pixel_step), channels - c
            if is_whole:
                square(target, outer, component_step, source.pixel, source.row_step, source.pixel_step, count)
            else:
                gather(window, source, frame, count)
                square(target, outer, component_step, window, row, VECTOR, WIDTH)

    return transform


class PostOps(NamedTuple):
    """The operations after a convolution: add aux before ReLU, or zero y where aux ≤ 0 (``gemm.Epilogue``)."""

    relu: bool
    adds_aux: bool
    nontemporal: bool  # how y is stored


class Images(NamedTuple):
    """The address of an array N×H×W×C, 0 if it is empty, its strides in bytes, and its sizes."""

    pixel: int
    image_step: int
    row_step: int
    pixel_step: int
    height: int
    width: int
    channels: int


class Block(NamedTuple):
    """A block of tiles and a panel of filters: their first ones, and the number of tiles."""

    first: int
    filter: int
    tiles: int


@inlined
def images_in(array):
    """The fields of ``Images``: a parallel loop captures a NamedTuple only if the loop's own function names it."""
    pixel = address(array) if array.size else NO_ADDRESS
    return (pixel, *array.strides[:3], *array.shape[1:])


@inlined
def patch_at(images, image, h, w, channel):
    """The patch of an image from a pixel and channel on, or that of an empty array."""
    if images.pixel == NO_ADDRESS:
        return Patch(NO_ADDRESS, 0, 0)
    pixel = images.pixel + image * images.image_step + h * images.row_step + w * images.pixel_step
    return Patch(pixel + 4 * channel, images.row_step, images.pixel_step)


@inlined
def tile_at(tile, m, g):
    """The image of a tile, and its first output (p, q)."""
    return tile // (g.rows * g.columns), tile // g.columns % g.rows * m, tile % g.columns * m


PRODUCT_STEP = 4 * (TILES * NR + LINE)  # bytes between components; a line more, so that they share few lines of a cache


def product_memory(f):
    """Return the function that allocates the products of a block and a panel."""
    return stack_floats(f.n**2 * PRODUCT_STEP // 4)


@cache
def component_products(f, streams_weights):
    """Return the function that multiplies all components of up to ``TILES`` tiles and one panel of filters."""
    components, products = f.n**2, streaming_microkernel if streams_weights else microkernel

    @inlined
    def multiply(at, tile_step, weight_step, tiles, filters, k):
        """``at`` describes the first component; ``filters`` are those from the first of the panel on."""
        for i in range(components):
            a, b = at.a + i * tile_step, at.b + i * weight_step
            here = Tile(at.c + i * PRODUCT_STEP, at.c_rows, a, at.a_rows, b, NO_ADDRESS)
            if filters > LANES:
                for row in range(0, tiles, MR):
                    products(here, row, NR, 0, k)
            else:
                for row in range(0, tiles, MR):
                    vector_microkernel(here, row, LANES, 0, k)

    return multiply


@cache
def output_transform(f):
    """Return the function that transforms the products of a block back, and stores its outputs."""
    m, n = f.m, f.n
    square, memory = square_transform(OUTPUT[m, n], n, m), stack_floats(m * m * WIDTH)

    @inlined
    def finish(y, tile, frame, count, bias, aux, ops):
        """Store the part of a tile that is inside the image."""
        for i in range(min(m, frame.height - frame.h)):
            for j in range(min(m, frame.width - frame.w)):
                value = load(tile + (i * m + j) * VECTOR, WIDTH) + bias
                if aux.pixel != NO_ADDRESS:
                    other = load(aux.pixel + i * aux.row_step + j * aux.pixel_step, count)
                    value = value + other if ops.adds_aux else where_greater(other, splat(ZERO), value, splat(ZERO))
                if ops.relu:
                    value = rectified(value)
                store_nontemporal(y.pixel + i * y.row_step + j * y.pixel_step, value, count, ops.nontemporal)

    @inlined
    def transform(y, products, block, bias, aux, g, ops):
        """A vector of filters at a time. An address of 0 means no bias."""
        done = memory()
        for i in range(block.tiles):
            image, p, q = tile_at(block.first + i, m, g)
            for k in range(block.filter, min(block.filter + NR, y.channels), WIDTH):
                source, count = products + 4 * (NR * i + k - block.filter), y.channels - k
                square(done, m * VECTOR, VECTOR, source, n * PRODUCT_STEP, PRODUCT_STEP, WIDTH)
                finish(
                    patch_at(y, image, p, q, k),
                    done,
                    Frame(p, q, y.height, y.width),
                    count,
                    load(bias + 4 * k, count) if bias != NO_ADDRESS else splat(ZERO),
                    patch_at(aux, image, p, q, k),
                    ops,
                )

    return transform


@cache
def output_kernel(f):
    """Return the kernel y's tile = Aᵀ · (Σ_c tiles ⊙ weights) · A + bias, followed by ``PostOps``."""
    multiply, transform = component_products(f, streams_weights=True), output_transform(f)
    memory = product_memory(f)

    def winograd_products(y, tiles, rows, weights, bias, aux, channels, g, ops):
        """Each thread owns a range of (block of tiles, panel of filters); of (panel, block) if there are more panels.

        So the larger operand is divided among the threads: the tiles of a thread are those that it has transformed.
        """
        to, masks, p_bias = Images(*images_in(y)), Images(*images_in(aux)), address(bias) if bias.size else NO_ADDRESS
        p_tiles, p_rows, p_weights = address(tiles), address(rows), address(weights)
        tile_step, weight_step = tiles.strides[0], weights.strides[0]
        filters, count = y.shape[3], g.images * g.rows * g.columns
        panels, blocks, c_panels = -(-filters // NR), -(-count // TILES), -(-channels // NR)
        k_loops = LoopNest(1, c_panels, NR, 0, count * NR, 1, 0, NR * NR, NR)
        for item in prange(panels * blocks):
            products = memory()
            if blocks < panels:
                panel, first = np.intp(item) // blocks, np.intp(item) % blocks * TILES
            else:
                panel, first = np.intp(item) % panels, np.intp(item) // panels * TILES
            block = Block(first, panel * NR, min(TILES, count - first))
            of_panel = p_weights + 4 * NR * NR * c_panels * panel
            at = Tile(products, p_rows, p_tiles, p_rows + 8 * first, of_panel, NO_ADDRESS)
            multiply(at, tile_step, weight_step, block.tiles, filters - block.filter, k_loops)
            transform(to, products, block, p_bias, masks, g, ops)

    winograd_products.__name__ = winograd_products.__qualname__ = f"winograd_products_{f.m}x{f.r}"
    arrays = float32_4d, float32_4d, int64_1d, float32_4d, float32_1d, float32_4d
    return cpu_kernel(*arrays, types.int64, Tiling, PostOps)(winograd_products)


# -- weights ----------------------------------------------------------------------------------------------------------


class Windows(NamedTuple):
    """The layout of the windows of all filters: elements from panel to panel, and so on; filters are contiguous."""

    channels: int
    filters: int
    panel: int
    channel: int
    row: int
    column: int


@cache
def weights_kernel(f):
    """Return the kernel weights[component, panel, c] = (G · window · Gᵀ)[component]."""
    n = f.n
    square, memory = square_transform(WEIGHTS[f.r, n], f.r, n), stack_floats(n * n * WIDTH)

    def winograd_weights(weights, source, windows):
        """Each thread owns a range of (panel, c)."""
        panels, padded = -(-windows.filters // NR), compiled_in_panels(windows.channels)
        p_weights, p_source, component_step = address(weights), address(source), weights.strides[0]
        nontemporal = prefers_nontemporal(weights)
        for item in prange(panels * padded):
            components = memory()
            panel, c = np.intp(item) // padded, np.intp(item) % padded
            window = p_source + 4 * (panel * windows.panel + c * windows.channel)
            target = p_weights + 4 * NR * (panel * padded + c)
            for j in range(0, NR, WIDTH):
                count = windows.filters - panel * NR - j if c < windows.channels else 0
                square(components, n * VECTOR, VECTOR, window + 4 * j, 4 * windows.row, 4 * windows.column, count)
                for i in range(n * n):
                    value = load(components + i * VECTOR, WIDTH)
                    store_nontemporal(target + i * component_step + 4 * j, value, WIDTH, nontemporal)

    winograd_weights.__name__ = winograd_weights.__qualname__ = f"winograd_weights_{f.m}x{f.r}"
    return cpu_kernel(float32_4d, float32_4d, Windows)(winograd_weights)
