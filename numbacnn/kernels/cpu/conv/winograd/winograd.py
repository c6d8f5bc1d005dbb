"""Convolution at stride 1 by Winograd's minimal filtering: F(2×2, 3×3), F(4×4, 3×3) and F(2×2, 5×5).

A tile of m×m outputs of r×r windows needs n² inputs, n = m + r − 1. Transformed, inputs and window become n² numbers
that are multiplied one by one and summed over channels, instead of r²·m² products: 2.25, 4 and 2.78 times fewer. For
many tiles at once that is one matrix product for each of the n² places, tiles × C times C × K, on the register tile:

    y = Aᵀ (Σ_c (G w Gᵀ) ⊙ (Bᵀ x B)) A        dw = Gᵀ (Σ_tiles (Bᵀ x B) ⊙ (A dy Aᵀ)) G

The weight gradient is the transpose of the forward pass with the same matrices, so it saves as much; for the input
gradient, dy is convolved with the window turned by half a circle.

The transforms interpolate at the points 0, ±p, ±q, ∞ (Lavin and Gray 2016, section 4; Blahut 2010, chapter 5): for
n = 4, p = 1; for n = 6, p = 1/√2 and q = √2, with half the error of 1 and 2. Oracle: ``tests/reference.py``.

What is transformed lies as places × 1 × rows × NR: for each panel of channels the tiles, or of filters the
channels, one behind the other, so that the products read memory in order. The number of rows is odd: the places of one
tile would else lie powers of two apart and share few lines of the cache.
"""

from functools import lru_cache
from math import isqrt

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.winograd.kernels import (
    PostOps,
    Tiling,
    gradient_transform_kernel,
    input_transform_kernel,
    output_kernel,
    transform_weights,
    windows_from_products,
)
from numbacnn.kernels.cpu.conv.winograd.transforms import Filtering, weight_transform
from numbacnn.kernels.cpu.gemm.gemm import (
    NO_AUX,
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
from numbacnn.kernels.registry import launcher

CHANNELS = 32  # at least: in fewer the transforms cost too much
SAVING = 2.07  # of products, at least, which are of whole tiles and whole panels: 2.06 was slower, 2.08 faster
ROUND_BYTES = 1 << 22  # of transformed tiles: images beyond go in rounds of their own


def winograd_filtering(g: ConvGeometry, algorithm: str) -> Filtering | None:
    """The sizes of the tiles and the window for this convolution; None where it runs directly."""
    if algorithm.startswith("winograd"):
        return Filtering(int(algorithm.removeprefix("winograd")), g.r)
    if algorithm != "auto" or not g.winograd_tiles or min(g.c, g.k) < CHANNELS:
        return None
    f = Filtering(max(g.winograd_tiles), g.r)
    taps, places = f.r**2 * g.c * g.k, f.n**2 * _padded(g.c) * _padded(g.k)
    saving = min(taps * h * w / (places * _tiles(h, f.m) * _tiles(w, f.m)) for h, w in ((g.p, g.q), (g.h, g.w)))
    return f if saving >= SAVING else None


def _filtering(transformed, g):
    return Filtering(isqrt(len(transformed)) - g.r + 1, g.r)


# -- the three directions ---------------------------------------------------------------------------------------------


@launcher
def winograd_forward(y, x, w, b, packed, weights, tiles, g, relu=False, addend=None):
    """y as of ``conv2d_forward``. packed, weights, tiles: scratch of ``winograd_shapes``."""
    bias = NO_BIAS if b is None else b
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    prepare(pack, packed, w, Packing(g.k, 1, 0, g.r, g.s, g.c, w_row, w_column, w_channel))
    f, pads = _filtering(weights, g), (g.pad_top, g.pad_left)
    aux, ops = NO_AUX if addend is None else addend, PostOps(relu, addend is not None)
    _convolve(y, x, packed, bias, aux, weights, tiles, f, pads, ops)


@launcher
def winograd_input_gradient(dx, dy, w, packed, weights, tiles, g, mask=None):
    """dx as of ``conv2d_input_gradient``: the convolution of dy with the window turned by half a circle."""
    w_row, w_column, w_channel = (stride // 4 for stride in w.strides[:3])
    last = (g.r - 1) * (w_row + w_column)
    prepare(pack, packed, w, Packing(g.c, w_channel, last, g.r, g.s, g.k, -w_row, -w_column, 1))
    f, pads = _filtering(weights, g), (g.r - 1 - g.pad_top, g.s - 1 - g.pad_left)
    aux = NO_AUX if mask is None else mask
    _convolve(dx, dy, packed, NO_BIAS, aux, weights, tiles, f, pads, PostOps(False, False))


@launcher
def winograd_weight_gradient(dw, x, dy, x_tiles, dy_tiles, products, g):
    """dw as of ``conv2d_weight_gradient``. x_tiles, dy_tiles, products: scratch of ``winograd_gradient_shapes``."""
    f = _filtering(products, g)
    step = _images_of_gradient_round(g, len(x), f)
    for first in range(0, len(x), step):
        part = slice(first, min(first + step, len(x)))
        tiling = _tiling(part.stop - first, g.p, g.q, f.m, g.pad_top, g.pad_left)
        input_transform_kernel(f)(x_tiles, x[part], tiling)
        gradient_transform_kernel(f)(dy_tiles, dy[part], tiling._replace(pad_top=0, pad_left=0))
        strides = products.strides[0], x_tiles.strides[0], dy_tiles.strides[0]
        multiply(products, x_tiles, dy_tiles, _gradient_gemm(f, g.c, g.k, tiling, strides, first > 0))
    windows_from_products(dw, products, weight_transform(f))


def winograd_shapes(images, height, width, channels, filters, f):
    """ScratchSpec: windows in panels, weights and tiles, for outputs height × width × filters of ``channels``."""
    panels, places = -(-filters // NR), f.n**2
    count = _images_of_round(images, height, width, channels, f) * _tiles(height, f.m) * _tiles(width, f.m)
    return (
        (panels, 1, f.r**2 * channels, NR),
        _places_shape(places, panels, _padded(channels)),
        _places_shape(places, -(-channels // NR), count),
    )


def winograd_gradient_shapes(g, images, f):
    """Scratch of the weight gradient: tiles of x and of dy, and their products."""
    places, panels = f.n**2, (-(-g.c // NR), -(-g.k // NR))
    count = _images_of_gradient_round(g, images, f) * _tiles(g.p, f.m) * _tiles(g.q, f.m)
    return (
        *(_places_shape(places, number, count) for number in panels),
        _places_shape(places, panels[1], _padded(g.c)),
    )


def _places_shape(places, panels, rows):
    return places, 1, panels * rows | 1, NR


def _padded(channels):
    """Channels in whole panels."""
    return -(-channels // NR) * NR


def _tiling(images, height, width, m, pad_top, pad_left):
    return Tiling(images, height, width, _tiles(height, m), _tiles(width, m), pad_top, pad_left)


def _tiles(size, m):
    return -(-size // m)


def _images_of_round(images, height, width, channels, f):
    image = 4 * f.n**2 * _tiles(height, f.m) * _tiles(width, f.m) * _padded(channels)
    return max(1, min(images, ROUND_BYTES // image))


def _images_of_gradient_round(g, images, f):
    """More where there are many weights, which every round reads and writes again."""
    image = _tiles(g.p, f.m) * _tiles(g.q, f.m) * (_padded(g.c) + _padded(g.k))
    weights = 2 * _padded(g.c) * _padded(g.k)
    return max(1, min(images, max(ROUND_BYTES // (4 * f.n**2), weights) // image))


def _convolve(y, x, packed, bias, aux, weights, tiles, f, pads, ops):
    """y = x * window + bias, one round of images after the other, followed by ``ops``."""
    prepare(transform_weights, weights, packed, weight_transform(f))
    images, height, width, _ = y.shape
    step = _images_of_round(images, height, width, x.shape[3], f)
    for first in range(0, images, step):
        part = slice(first, min(first + step, images))
        tiling = _tiling(part.stop - first, height, width, f.m, *pads)
        table = row_table((tiling.images * tiling.rows * tiling.columns, NR))
        input_transform_kernel(f)(tiles, x[part], tiling)
        output_kernel(f)(y[part], tiles, table, weights, bias, aux[part], x.shape[3], tiling, ops)


@lru_cache(maxsize=1024)
def _gradient_gemm(f, channels, filters, tiling, strides, accumulate):
    """For each place, the product of channels × tiles and tiles × filters; ``strides`` of products, x and dy tiles."""
    count, padded, panels = tiling.images * tiling.rows * tiling.columns, _padded(channels), -(-filters // NR)
    products, x_tiles, dy_tiles = (bytes_ // 4 for bytes_ in strides)
    return Gemm(
        groups=f.n**2,
        m=rows(row_table((padded, NR)), row_table((padded // NR, count * NR), (NR, 1))),
        n=panels * NR,
        k=LoopNest(1, 1, count, 0, 0, NR, 0, 0, NR),
        k_end=WHOLE_K,
        a=Operand(group=x_tiles),
        b=Operand(group=dy_tiles, panel=count * NR),
        c=Operand(group=products, panel=padded * NR),
        epilogue=Epilogue(accumulate=accumulate),
        blocking=Blocking(choose_mc(padded, panels)),
    )
