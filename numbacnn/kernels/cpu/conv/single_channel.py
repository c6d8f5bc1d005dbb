"""Convolution of one-channel images with few filters, followed by 2×2 max-pooling, with pixels in the lanes.

Elsewhere the lanes of a vector are filters, and six filters leave most of sixteen lanes empty. With one channel, the
pixels of a row are contiguous, whatever the offset in the window. The microkernel computes two rows of pixels for all
filters: each step of its sum loads pixels and multiplies them by one weight of every filter. The maxima of the windows
are taken in registers, and shuffles bring the filters of a pixel together. The sums have the same bits as those of
``pooled``.

Measured on LeNet-5's first layer (1→6, 28², 5×5, batch 64) on two Zen 4 cores: 99 µs, against 141 for pixel pairs.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.convolution import FORWARD, ConvAlgorithm
from numbacnn.kernels.cpu.conv.epilogues import bias_or_none
from numbacnn.kernels.cpu.conv.pooled import windows_apart
from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT32, INT64
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, int64
from numbacnn.kernels.target import host_target

TARGET = host_target()
LANES = TARGET.lanes
MIN_ITEMS = 64  # of a launch


class SingleChannelPooled(ConvAlgorithm):
    """The algorithm for one channel and few filters, with pixels in the lanes."""

    name = "single channel"
    directions = (FORWARD,)

    def applies(self, direction, g, pool):
        """Whether the accumulators of all filters fit the registers, and pixels fill the lanes better than filters."""
        if pool is None or not (g.c == g.groups == g.stride_w == 1) or not windows_apart(pool):
            return False
        halves = (pool.r, pool.s, pool.stride_h, pool.stride_w) == (2, 2, 2, 2)
        vectors = _vectors(g.k)
        if not (halves and vectors):
            return False
        width = vectors * LANES
        return 2 * pool.q / (-(-2 * pool.q // width) * width) > g.k / (-(-g.k // LANES) * LANES)

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Two rows of pixels at a time."""
        pool = epilogue.pool
        rows = min(max(1, pool.p * len(x) // MIN_ITEMS), pool.p)
        _kernel(g.k)(y, epilogue.argmax, x, w, bias_or_none(b), g, pool, rows, int(epilogue.relu))


def _vectors(filters):
    """Vectors per row of pixels that leave registers for the operands; 0 if even one does not."""
    spare = TARGET.registers - (8 if TARGET.registers >= 32 else 4)
    return min(spare // (2 * filters), 2)


@cache
def _kernel(filters):
    """Return the kernel for this many filters."""
    vectors = _vectors(filters)
    microkernel = pixel_microkernel(filters, vectors, LANES)
    windows = vectors * LANES // 2

    def single_channel_pooled(y, argmax, x, w, bias, g, pool, row_block, relu):
        """Each thread owns a range of (image, block of rows of windows)."""
        blocks = -(-pool.p // row_block)
        x_image, x_row, y_image, y_row = x.strides[0], x.strides[1], y.strides[0], y.strides[1]
        p_x = address(x) - g.pad_top * x_row - 4 * g.pad_left
        p_y, p_argmax, p_w, p_bias = address(y), address(argmax), address(w), address(bias) if bias.size else np.intp(0)
        for item in prange(len(x) * blocks):
            image, first = np.intp(item) // blocks, np.intp(item) % blocks * row_block
            window = Window(g.stride_h * x_row // 4, g.r, g.dilation_h * x_row // 4, g.s, g.dilation_w)
            for p in range(first, min(first + row_block, pool.p)):
                for q in range(0, pool.q, windows):
                    at = ((image * pool.p + p) * pool.q + q) * filters
                    tile = Tile(
                        p_y + image * y_image + p * y_row + 4 * q * filters,
                        p_argmax + 4 * at if len(argmax) else np.intp(0),
                        p_x + image * x_image + 2 * p * g.stride_h * x_row + 8 * q,
                        p_w,
                        p_bias,
                    )
                    microkernel(tile, window, min(windows, pool.q - q), relu)

    single_channel_pooled.__name__ = single_channel_pooled.__qualname__ = f"single_channel_pooled_{filters}"
    arrays = float32_4d, float32_4d, float32_4d, float32_4d, float32_1d
    return cpu_kernel(*arrays, ConvGeometry, PoolGeometry, int64, int64)(single_channel_pooled)


class Tile(NamedTuple):
    """Addresses of the first output, of argmax or 0, of the first input, the weights, and the bias or 0."""

    y: int
    argmax: int
    x: int
    w: int
    bias: int


class Window(NamedTuple):
    """Elements between rows of pixels; rows and columns of a window, and elements between them."""

    pixel_row: int
    r: int
    x_r: int
    s: int
    x_s: int


@cache
def pixel_microkernel(filters: int, vectors: int, lanes: int):
    """Return the Numba intrinsic ``microkernel(tile, window, count, relu)``: ``count`` pooled windows, all filters.

    y[i, k] and argmax[i, k] are those of the sums over r and s of x[h·pixel_row + r·x_r + s·x_s + j] · w[r, s, k] at
    the pixels of window i: rows h = 0, 1 and columns j = 2i, 2i + 1. At most ``vectors · lanes / 2`` windows.
    """
    windows = vectors * lanes // 2

    @intrinsic
    def microkernel(typing, tile, window, count, relu):
        def emit(context, builder, signature, arguments):
            tile, window, count, relu = arguments
            tile = Tile(*cgutils.unpack_tuple(builder, tile, len(Tile._fields)))
            window = Window(*cgutils.unpack_tuple(builder, window, len(Window._fields)))
            sums = _convolved(builder, (filters, vectors, lanes), tile, window, count)
            maxima, positions = [], []
            for k in range(filters):
                rows = [[_finished(builder, part, k, tile.bias, relu) for part in line] for line in sums[k]]
                best, position = _maximum(builder, _window_pixels(builder, rows, windows))
                maxima.append(best)
                positions.append(position)
            _store_interleaved(builder, maxima, tile.y, count)
            with builder.if_then(builder.icmp_unsigned("!=", tile.argmax, INT64(0))):
                _store_interleaved(builder, positions, tile.argmax, count)
            return context.get_dummy_value()

        return types.void(tile, window, types.intp, types.intp), emit

    return microkernel


def _convolved(builder, size, tile, window, count):
    """Return sums[k][h][v], the vectors of each filter, row of pixels, and vector of the row."""
    filters, vectors, lanes = size
    vector = ir.VectorType(FLOAT, lanes)
    pixels = builder.mul(count, INT64(2))
    masks = [llvm.mask(builder, builder.sub(pixels, INT64(v * lanes)), lanes) for v in range(vectors)]
    sums = [[[cgutils.alloca_once(builder, vector) for _ in masks] for _ in range(2)] for _ in range(filters)]
    for accumulator in (accumulator for lines in sums for line in lines for accumulator in line):
        builder.store(llvm.zeros(vector), accumulator)
    x, w = (builder.inttoptr(pointer, FLOAT.as_pointer()) for pointer in (tile.x, tile.w))
    with (
        cgutils.for_range(builder, window.r, intp=INT64) as r,
        cgutils.for_range(builder, window.s, intp=INT64) as s,
    ):
        start = builder.gep(x, [builder.add(builder.mul(r.index, window.x_r), builder.mul(s.index, window.x_s))])
        tap = builder.add(builder.mul(r.index, window.s), s.index)
        weights = builder.gep(w, [builder.mul(tap, INT64(filters))])
        lines = [start, builder.gep(start, [window.pixel_row])]
        loaded = [
            [
                llvm.load_masked(builder, builder.gep(line, [INT64(v * lanes)]), mask, vector)
                for v, mask in enumerate(masks)
            ]
            for line in lines
        ]
        for k in range(filters):
            weight = llvm.splat(builder, builder.load(builder.gep(weights, [INT64(k)]), align=4), vector)
            for line, line_sums in zip(loaded, sums[k], strict=True):
                for part, accumulator in zip(line, line_sums, strict=True):
                    value = llvm.fma(builder, part, weight, builder.load(accumulator), TARGET.fma)
                    builder.store(value, accumulator)
    return [[[builder.load(accumulator) for accumulator in line] for line in lines] for lines in sums]


def _finished(builder, value, k, bias, relu):
    """Return sums plus the bias of filter k, then ReLU if ``relu``; NaN stays NaN."""
    result = cgutils.alloca_once_value(builder, value)
    with builder.if_then(builder.icmp_unsigned("!=", bias, INT64(0))):
        pointer = builder.gep(builder.inttoptr(bias, FLOAT.as_pointer()), [INT64(k)])
        shift = llvm.splat(builder, builder.load(pointer, align=4), value.type)
        builder.store(builder.fadd(value, shift), result)
    with builder.if_then(builder.icmp_unsigned("!=", relu, INT64(0))):
        builder.store(llvm.relu(builder, builder.load(result)), result)
    return builder.load(result)


def _window_pixels(builder, rows, windows):
    """Yield the four pixels of all windows in argmax's order, each a vector of ``windows``."""
    for line in rows:
        for column in (0, 1):
            yield _shuffled(builder, line[0], line[-1], [2 * i + column for i in range(windows)])


def _maximum(builder, pixels):
    """Return, lane by lane, the first of the greatest or the last NaN, and its position as a float."""
    pixels = list(pixels)
    best, position = pixels[0], llvm.zeros(pixels[0].type)
    for number, pixel in enumerate(pixels[1:], 1):
        greater = builder.or_(builder.fcmp_ordered(">", pixel, best), builder.fcmp_unordered("uno", pixel, pixel))
        best = builder.select(greater, pixel, best)
        here = ir.Constant(position.type, [float(number)] * position.type.count)
        position = builder.select(greater, here, position)
    return best, position


def _store_interleaved(builder, vectors, target, count):
    """target[i, k] = lane i of vector k, for i < ``count``."""
    filters, lanes = len(vectors), vectors[0].type.count
    target, left = builder.inttoptr(target, FLOAT.as_pointer()), builder.mul(count, INT64(filters))
    for first in range(0, filters * lanes, lanes):
        sources = [divmod(at, filters) for at in range(first, first + lanes)]  # (lane, vector)
        value = _gathered(builder, vectors, sources)
        pointer, rest = builder.gep(target, [INT64(first)]), builder.sub(left, INT64(first))
        with builder.if_else(builder.icmp_signed(">=", rest, INT64(lanes))) as (whole, partial):
            with whole:
                llvm.store(builder, value, pointer)
            with partial:
                llvm.store_masked(builder, value, pointer, llvm.mask(builder, rest, lanes))


def _gathered(builder, vectors, sources):
    """Return the vector whose lane l is lane sources[l][0] of vector sources[l][1]."""
    value = None
    for k, vector in enumerate(vectors):
        from_here = {at: lane for at, (lane, source) in enumerate(sources) if source == k}
        if not from_here:
            continue
        lanes = len(sources)
        picks = [lanes + from_here[at] if at in from_here else at for at in range(lanes)]
        value = _shuffled(builder, vector if value is None else value, vector, picks)
    return value


def _shuffled(builder, a, b, picks):
    """Return the picked lanes of a and b, those of b counted after those of a."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(picks)), picks))
