"""The three convolutions of Winograd's algorithm, in rounds of images; the package describes the algorithm."""

from functools import lru_cache

import numpy as np

from numbacnn.kernels.cpu.conv.winograd.gradient import BLOCK_ROWS, LEVELS, sharded_kernel, windows_kernel
from numbacnn.kernels.cpu.conv.winograd.kernels import (
    PostOps,
    Tiling,
    Windows,
    gradient_transform_kernel,
    input_transform_kernel,
    output_kernel,
    weights_kernel,
)
from numbacnn.kernels.cpu.gemm.gemm import (
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
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest
from numbacnn.kernels.cpu.gemm.packing import Packing, pack
from numbacnn.kernels.recording import prepare

ROUND_BYTES = 1 << 22  # of transformed tiles in a round
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
    windows = Windows(g.k, padded(g.c), f.r**2 * tap, NR, f.r * tap, tap)
    prepare(weights_kernel(f), scratch["weights"], scratch["packed"], windows)
    _convolve(dx, dy, NO_BIAS, mask, scratch, f, (g.r - 1 - g.pad_top, g.s - 1 - g.pad_left))


def winograd_weight_gradient(dw, x, dy, scratch, g, f):
    """Write dw; scratch of ``gradient_shapes``."""
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
    x_tiles, dy_tiles = scratch["x_tiles"], scratch["dy_tiles"]
    tiling = _transform_both(x_tiles, dy_tiles, x, dy, g, f)
    of_image = tiling.rows * tiling.columns
    rows = _channel_rows(padded(g.c), tiling.images * of_image)
    sharded_kernel(f)(dw, x_tiles, dy_tiles, rows, BLOCK_ROWS, np.array(shards, np.int64) * of_image)


def shards_per_round(g, batch, images, f):
    """The shards of up to ``images`` images that scratch for ``batch`` images has room for."""
    return min(_images_per_gradient_round(g, batch, f) // max(images, 1), 1 << LEVELS)


def _transform_both(x_tiles, dy_tiles, x, dy, g, f):
    """Transform the tiles of x and of dy; return the tiling."""
    tiling = _tiling(len(x), g.p, g.q, f.m, (g.pad_top, g.pad_left))
    input_transform_kernel(f)(x_tiles, x, tiling)
    gradient_transform_kernel(f)(dy_tiles, dy, tiling._replace(pad_top=0, pad_left=0))
    return tiling


def _convolve(y, x, bias, aux, scratch, f, pads, relu=False, adds_aux=False):
    """y = x * window + bias, followed by ``PostOps``, in rounds of images."""
    weights, tiles = scratch["weights"], scratch["tiles"]
    ops = PostOps(relu, adds_aux, 4 * y.size >= OUTPUT_BYTES)
    images, height, width, _ = y.shape
    step = _images_per_round(images, height, width, x.shape[3], f)
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        tiling = _tiling(part.stop - first, height, width, f.m, pads)
        table = row_table((tiling.images * tiling.rows * tiling.columns, NR))
        input_transform_kernel(f)(tiles, x[part], tiling)
        output_kernel(f)(y[part], tiles, table, weights, bias, aux[part], x.shape[3], tiling, ops)


@lru_cache(maxsize=1024)
def _gradient_gemm(f, channels, filters, tiling, strides, accumulate):
    """Per component, the product of channels × tiles and tiles × filters; ``strides`` of products, x and dy tiles."""
    count, width, panels = tiling.images * tiling.rows * tiling.columns, padded(channels), -(-filters // NR)
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
    """Scratch for weights and tiles, for outputs height × width × filters of ``channels``."""
    count = _images_per_round(images, height, width, channels, f) * tiles(height, f.m) * tiles(width, f.m)
    weights = _components_shape(f, -(-filters // NR), padded(channels))
    return weights, _components_shape(f, -(-channels // NR), count)


def packed_shape(g):
    """Scratch of the input gradient for windows in panels of channels."""
    return -(-g.c // NR), 1, g.r * g.s * g.k, NR


def gradient_shapes(g, images, f):
    """Scratch of the weight gradient: tiles of x and of dy, and their products."""
    panels = -(-g.c // NR), -(-g.k // NR)
    count = _images_per_gradient_round(g, images, f) * tiles(g.p, f.m) * tiles(g.q, f.m)
    return (*(_components_shape(f, number, count) for number in panels), _components_shape(f, panels[1], padded(g.c)))


def _components_shape(f, panels, rows):
    return f.n**2, 1, panels * rows | 1, NR


def padded(channels):
    """Channels in whole panels."""
    return -(-channels // NR) * NR


def tiles(size, m):
    """Tiles along an axis of outputs."""
    return -(-size // m)


def _tiling(images, height, width, m, pads):
    return Tiling(images, height, width, tiles(height, m), tiles(width, m), *pads)


def _images_per_round(images, height, width, channels, f):
    image = 4 * f.n**2 * tiles(height, f.m) * tiles(width, f.m) * padded(channels)
    return max(1, min(images, ROUND_BYTES // image))


def _images_per_gradient_round(g, images, f):
    """Images of a round; more if there are many weights, since every round reads and writes them again."""
    image = tiles(g.p, f.m) * tiles(g.q, f.m) * (padded(g.c) + padded(g.k))
    weights = 2 * padded(g.c) * padded(g.k)
    return max(1, min(images, max(ROUND_BYTES // (4 * f.n**2), weights) // image))
