"""The three convolutions of Winograd's algorithm; the package describes the algorithm.

Tiles are transformed, multiplied and transformed back block by block (``blocks``). Where there would be few blocks for
the threads, or a block of few tiles because there are many channels or weights, that is done in rounds of images.
"""

from functools import lru_cache

import numpy as np

from numbacnn.kernels.cpu.conv.winograd.blocks import (
    BLOCK_FLOATS,
    STACK_WEIGHTS,
    block_gradient_kernel,
    block_kernel,
)
from numbacnn.kernels.cpu.conv.winograd.gradient import BLOCK_ROWS, LEVELS, sharded_kernel, windows_kernel
from numbacnn.kernels.cpu.conv.winograd.kernels import (
    TILES,
    PostOps,
    Tiling,
    Windows,
    gradient_transform_kernel,
    input_transform_kernel,
    output_kernel,
    weights_kernel,
)
from numbacnn.kernels.cpu.gemm.gemm import (
    MR,
    NO_BIAS,
    NR,
    WHOLE_K,
    Blocking,
    Epilogue,
    Gemm,
    Operand,
    choose_mc,
    multiply,
    row_table,
    rows,
)
from numbacnn.kernels.cpu.gemm.microkernel import LINE, LoopNest
from numbacnn.kernels.cpu.gemm.packing import Packing, pack
from numbacnn.kernels.cpu.gemm.padding import in_longest_panels, in_longest_vectors, in_panels, in_vectors
from numbacnn.kernels.cpu.sums import SHARDS_AT_ONCE, equal_ranges, sum_groups, sum_shards
from numbacnn.kernels.recording import prepare

ROUND_BYTES = 1 << 22  # of transformed tiles in a round
MIN_BLOCKS = 16  # for the threads
GROUPS = 32  # of blocks of a weight gradient, each with a partial sum
BLOCK_WEIGHTS = 4096  # of one component of a weight gradient in blocks; with more, rounds are as fast or faster
SCRATCH_GROUPS = 16  # with more than ``STACK_WEIGHTS``, whose sums take up to 9.5 MB
OUTPUT_BYTES = 1 << 22  # from which y is stored without reading its lines into caches that hold tiles and weights


def winograd_forward(y, x, w, bias, residual, scratch, g, f, relu):
    """Write y. An empty bias or residual means none; scratch of ``convolution_shapes``."""
    row, column, channel = (stride // 4 for stride in w.strides[:3])
    prepare(weights_kernel(f), scratch["weights"], w, Windows(g.c, g.k, NR, channel, row, column))
    _convolve(y, x, bias, residual, scratch, f, (g.pad_top, g.pad_left), relu, residual.size > 0)


def winograd_input_gradient(dx, dy, w, mask, scratch, g, f):
    """Write dx: the convolution of dy with the window rotated by 180°. An empty mask means none."""
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    last = (g.r - 1) * (w_row + w_column)
    prepare(pack, scratch["packed"], w, Packing(g.c, w_channel, last, g.r, g.s, g.k, -w_row, -w_column, 1))
    tap = g.k * NR  # of packed windows: taps × channels × NR
    windows = Windows(g.k, in_panels(g.c), f.r**2 * tap, NR, f.r * tap, tap)
    prepare(weights_kernel(f), scratch["weights"], scratch["packed"], windows)
    _convolve(dx, dy, NO_BIAS, mask, scratch, f, (g.r - 1 - g.pad_top, g.s - 1 - g.pad_left))


def winograd_weight_gradient(dw, x, dy, scratch, g, f):
    """Write dw; scratch of ``gradient_shapes``."""
    if gradient_block(g):
        partial = scratch["partial"]
        tiles_of_all = len(x) * tiles_of_image(g.p, g.q, f)
        groups = _groups(g, tiles_of_all)
        _sum_blocks(partial[:groups], scratch["sums"], x, dy, equal_ranges(tiles_of_all, groups), g, f)
        sum_groups(dw, partial[:groups])
        return
    x_tiles, dy_tiles, products = scratch["x_tiles"], scratch["dy_tiles"], scratch["products"]
    step = _images_per_gradient_round(g, len(x), f)
    for first in range(0, len(x), step):
        part = slice(first, min(first + step, len(x)))
        tiling = _transform_both(x_tiles, dy_tiles, x[part], dy[part], g, f)
        strides = products.strides[0], x_tiles.strides[0], dy_tiles.strides[0]
        multiply(products, x_tiles, dy_tiles, _gradient_gemm(f, g.c, g.k, tiling, strides, first > 0))
    windows_kernel(f)(dw, products)


def winograd_sharded_gradient(dw, x, dy, shards, scratch, g, f):
    """Write dw, the sum over shards that start at the images ``shards[:-1]``, at most ``shards_per_round``."""
    if gradient_block(g):
        partial = scratch["partial"][: len(shards) - 1]
        starts = np.array(shards, np.int64) * tiles_of_image(g.p, g.q, f)
        _sum_blocks(partial, scratch["sums"], x, dy, starts, g, f)
        sum_shards(dw, partial)
        return
    x_tiles, dy_tiles = scratch["x_tiles"], scratch["dy_tiles"]
    tiling = _transform_both(x_tiles, dy_tiles, x, dy, g, f)
    of_image = tiling.rows * tiling.columns
    rows = _channel_rows(in_panels(g.c), tiling.images * of_image)
    sharded_kernel(f)(dw, x_tiles, dy_tiles, rows, BLOCK_ROWS, np.array(shards, np.int64) * of_image)


def shards_per_round(g, batch, images, f):
    """The shards of up to ``images`` images that scratch for ``batch`` images has room for."""
    if gradient_block(g):
        return min(_partial_sums(g, batch, f), SHARDS_AT_ONCE)
    return min(_images_per_gradient_round(g, batch, f) // max(images, 1), 1 << LEVELS)


def _sum_blocks(partial, sums, x, dy, starts, g, f):
    """Write the sums of groups of tiles, each from one of ``starts`` on."""
    tiling = _tiling(len(x), g.p, g.q, f.m, (g.pad_top, g.pad_left))
    c_rows = row_table((g.c, in_vectors(g.k)))
    size, a_rows = gradient_block(g), row_table((g.c, 1))
    block_gradient_kernel(f)(partial, sums, x, dy, a_rows, c_rows, starts, size, tiling)


def _transform_both(x_tiles, dy_tiles, x, dy, g, f):
    """Transform the tiles of x and of dy; return the tiling."""
    tiling = _tiling(len(x), g.p, g.q, f.m, (g.pad_top, g.pad_left))
    input_transform_kernel(f)(x_tiles, x, tiling)
    gradient_transform_kernel(f)(dy_tiles, dy, tiling._replace(pad_top=0, pad_left=0))
    return tiling


def _convolve(y, x, bias, aux, scratch, f, pads, relu=False, adds_aux=False):
    """y = x * window + bias, followed by ``PostOps``, in blocks of tiles or in rounds of images."""
    weights, tiles = scratch["weights"], scratch["tiles"]
    ops = PostOps(relu, adds_aux, 4 * y.size >= OUTPUT_BYTES)
    (images, height, width, _), channels = y.shape, x.shape[3]
    size = _block(images * tiles_of_image(height, width, f), channels)
    if size:
        tables = row_table((size, in_vectors(channels))), row_table((size, NR))
        tiling = _tiling(images, height, width, f.m, pads)
        block_kernel(f)(y, x, *tables, weights, bias, aux, size, tiling, ops)
        return
    step = _images_per_round(images, height, width, channels, f)
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        tiling = _tiling(part.stop - first, height, width, f.m, pads)
        table = row_table((tiling.images * tiling.rows * tiling.columns, NR))
        input_transform_kernel(f)(tiles, x[part], tiling)
        output_kernel(f)(y[part], tiles, table, weights, bias, aux[part], channels, tiling, ops)


@lru_cache(maxsize=1024)
def _gradient_gemm(f, channels, filters, tiling, strides, accumulate):
    """Per component, the product of channels × tiles and tiles × filters; ``strides`` of products, x and dy tiles."""
    count, width, panels = tiling.images * tiling.rows * tiling.columns, in_panels(channels), -(-filters // NR)
    products, x_tiles, dy_tiles = (stride // 4 for stride in strides)
    return Gemm(
        groups=f.n**2,
        m=rows(row_table((width, NR)), _channel_rows(width, count)),
        n=panels * NR,
        k=LoopNest(1, 1, count, 0, 0, NR, 0, 0, NR),
        k_end=WHOLE_K,
        a=Operand(group=x_tiles),
        b=Operand(group=dy_tiles, panel=count * NR),
        c=Operand(group=products, panel=width * NR),
        epilogue=Epilogue(accumulate=accumulate),
        blocking=Blocking(choose_mc(width, panels)),
    )


def _channel_rows(width, count):
    """Offsets of ``width`` channels in ``count`` transformed tiles."""
    return row_table((width // NR, count * NR), (NR, 1))


# -- sizes ------------------------------------------------------------------------------------------------------------


def convolution_shapes(images, height, width, channels, filters, f):
    """Scratch for weights and tiles, for outputs height × width × filters of ``channels``.

    If that many images run in blocks, only smaller batches, which run in rounds, need room for tiles.
    """
    of_image = tiles_of_image(height, width, f)
    if _block(images * of_image, channels):
        images = 0 if _block(of_image, channels) else min(images, (MIN_BLOCKS * MR - 1) // of_image)
    count = _images_per_round(images, height, width, channels, f) * of_image if images else 0
    weights = _components_shape(f, -(-filters // NR), in_panels(channels))
    return weights, _components_shape(f, -(-channels // NR), count)


def packed_shape(g):
    """Scratch of the input gradient for windows in panels of channels."""
    return -(-g.c // NR), 1, g.r * g.s * g.k, NR


def gradient_shapes(g, images, f):
    """Scratch of the weight gradient: partial sums; or tiles of x and of dy, and their products."""
    if gradient_block(g):
        groups, products = _partial_sums(g, images, f), g.c * in_vectors(g.k)
        sums = groups if products > STACK_WEIGHTS else 0
        return {"partial": (groups, 1, g.r * g.s * g.c, g.k), "sums": (sums, f.n**2, 1, products + LINE)}
    panels = -(-g.c // NR), -(-g.k // NR)
    count = _images_per_gradient_round(g, images, f) * tiles_of_image(g.p, g.q, f)
    x_tiles, dy_tiles = (_components_shape(f, number, count) for number in panels)
    return {"x_tiles": x_tiles, "dy_tiles": dy_tiles, "products": _components_shape(f, panels[1], in_panels(g.c))}


def _block(count, channels):
    """Tiles of a block of a convolution of ``count`` tiles; 0 if it runs in rounds, which fill panels of channels."""
    width = in_vectors(channels)
    smallest = MR if width < NR else 0
    return min(TILES, BLOCK_FLOATS // width // MR * MR, max(count // MIN_BLOCKS // MR * MR, smallest))


def gradient_block(g):
    """Tiles of a block of a weight gradient; 0 if it runs in rounds."""
    c, k = in_longest_vectors(g.c), in_longest_vectors(g.k)
    return BLOCK_FLOATS // (c + k) if c * k <= BLOCK_WEIGHTS else 0


def _groups(g, count):
    """Groups of a weight gradient of ``count`` tiles, of a block each at least."""
    return max(1, min(_max_groups(g), count // gradient_block(g)))


def _max_groups(g):
    """The maximum number of groups, the same on all processors."""
    return SCRATCH_GROUPS if in_longest_vectors(g.c) * in_longest_vectors(g.k) > STACK_WEIGHTS else GROUPS


def _partial_sums(g, images, f):
    """Room for the groups of up to ``images`` images, and for their shards."""
    return max(_groups(g, images * tiles_of_image(g.p, g.q, f)), min(SHARDS_AT_ONCE, images))


def _components_shape(f, panels, rows):
    return f.n**2, 1, panels * rows | 1, NR


def _tiles(size, m):
    """Tiles along an axis of outputs."""
    return -(-size // m)


def tiles_of_image(height, width, f):
    """Tiles of height × width outputs."""
    return _tiles(height, f.m) * _tiles(width, f.m)


def _tiling(images, height, width, m, pads):
    return Tiling(images, height, width, _tiles(height, m), _tiles(width, m), *pads)


def _images_per_round(images, height, width, channels, f):
    image = 4 * f.n**2 * tiles_of_image(height, width, f) * in_panels(channels)
    return max(1, min(images, ROUND_BYTES // image))


def _images_per_gradient_round(g, images, f):
    """Images of a round; more if there are many weights, since every round reads and writes them again.

    The same on all processors, since rounds are added one after another.
    """
    c, k = in_longest_panels(g.c), in_longest_panels(g.k)
    image, weights = tiles_of_image(g.p, g.q, f) * (c + k), 2 * c * k
    return max(1, min(images, max(ROUND_BYTES // (4 * f.n**2), weights) // image))
