"""Convolution of images of one channel with few filters, and 2×2 max-pooling behind it: pixels in the lanes.

Elsewhere a vector's lanes are filters, and six filters leave most of sixteen lanes empty. Of one channel the pixels of
a row lie side by side, shifted by any place in the window. So a tile here is two rows of pixels times all filters: each
step of its sum loads pixels and multiplies them by one weight of each filter. The maxima of the windows are taken in
the registers, and shuffles bring the filters of a pixel side by side. The sums have the bits of ``conv2d_pooled``.

Measured on LeNet-5's first layer (1→6, 28², 5×5, batch 64) on two Zen 4 cores: 99 µs, where pairs of pixels take 141.
"""

from functools import cache

import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT32, INT64
from numbacnn.kernels.cpu.simd.memory import address
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, int64
from numbacnn.kernels.target import host_target

TARGET = host_target()
LANES = TARGET.lanes
ITEMS = 64  # of a launch, at least


def applies(g: ConvGeometry, pool: PoolGeometry) -> bool:
    """Whether the tile holds all filters, and its lanes are fuller of pixels than they would be of filters."""
    grey = g.c == g.groups == g.stride_w == 1
    halves = (pool.r, pool.s, pool.stride_h, pool.stride_w) == (2, 2, 2, 2)
    vectors = _vectors(g.k)
    if not (grey and halves and vectors):
        return False
    width = vectors * LANES
    return 2 * pool.q / (-(-2 * pool.q // width) * width) > g.k / (-(-g.k // LANES) * LANES)


def _vectors(filters):
    """Of a row of the tile: as many as leave registers for pixels; 0 where not even one does."""
    spare = TARGET.registers - (8 if TARGET.registers >= 32 else 4)
    return min(spare // (2 * filters), 2)


def pixels_pool_forward(y, argmax, x, w, bias, g, pool, relu):
    """``conv2d_pool_forward`` where this applies; an empty bias: none."""
    rows = max(1, pool.p * len(x) // ITEMS)
    _kernel(g.k)(y, argmax, x, w, bias, g, pool, min(rows, pool.p), int(relu))


@cache
def _kernel(filters):
    """The kernel for this many filters."""
    vectors = _vectors(filters)
    tile = pixel_tile(filters, vectors, LANES)
    windows = vectors * LANES // 2

    def pixels_pool_forward(y, argmax, x, w, bias, g, pool, row_block, relu):
        """Each thread owns a range of (image, block of rows of windows)."""
        blocks = -(-pool.p // row_block)
        x_image, x_row, y_image, y_row = x.strides[0], x.strides[1], y.strides[0], y.strides[1]
        p_x = address(x) - g.pad_top * x_row - 4 * g.pad_left
        p_y, p_argmax, p_w, p_bias = address(y), address(argmax), address(w), address(bias) if bias.size else np.intp(0)
        for item in prange(len(x) * blocks):
            image, first = np.intp(item) // blocks, np.intp(item) % blocks * row_block
            for p in range(first, min(first + row_block, pool.p)):
                for q in range(0, pool.q, windows):
                    place = ((image * pool.p + p) * pool.q + q) * filters
                    tile(
                        p_y + image * y_image + p * y_row + 4 * q * filters,
                        p_argmax + 4 * place if len(argmax) else np.intp(0),
                        p_x + image * x_image + 2 * p * g.stride_h * x_row + 8 * q,
                        g.stride_h * x_row // 4,
                        g.r,
                        g.dilation_h * x_row // 4,
                        g.s,
                        g.dilation_w,
                        p_w,
                        p_bias,
                        min(windows, pool.q - q),
                        relu,
                    )

    pixels_pool_forward.__name__ = pixels_pool_forward.__qualname__ = f"pixels_pool_forward_{filters}"
    arrays = float32_4d, float32_4d, float32_4d, float32_4d, float32_1d
    return cpu_kernel(*arrays, ConvGeometry, PoolGeometry, int64, int64)(pixels_pool_forward)


@cache
def pixel_tile(filters: int, vectors: int, lanes: int):
    """A function ``tile(y, argmax, x, row, r_count, r_step, s_count, s_step, w, bias, count, relu)`` for Numba code.

    y[i, k] and argmax[i, k], ``count`` windows times ``filters``, of the sums over r and s of
    x[h·row + r·r_step + s·s_step + j] · w[r, s, k] at the windows' pixels: rows h = 0, 1, columns j = 2i, 2i + 1.
    All but counts and steps are addresses; argmax and bias may be 0: none. At most ``vectors · lanes / 2`` windows.
    """
    windows = vectors * lanes // 2

    @intrinsic
    def tile(typing, y, argmax, x, row, r_count, r_step, s_count, s_step, w, bias, count, relu):
        def emit(context, builder, signature, arguments):
            y, argmax, x, row, r_count, r_step, s_count, s_step, w, bias, count, relu = arguments
            sums = _convolved(builder, filters, vectors, lanes, x, row, r_count, r_step, s_count, s_step, w, count)
            maxima, places = [], []
            for k in range(filters):
                rows = [[_finished(builder, part, k, bias, relu) for part in line] for line in sums[k]]
                best, place = _maximum(builder, _window_pixels(builder, rows, windows))
                maxima.append(best)
                places.append(place)
            _store_interleaved(builder, maxima, y, count)
            with builder.if_then(builder.icmp_unsigned("!=", argmax, INT64(0))):
                _store_interleaved(builder, places, argmax, count)
            return context.get_dummy_value()

        return types.void(*[types.intp] * 12), emit

    return tile


def _convolved(builder, filters, vectors, lanes, x, row, r_count, r_step, s_count, s_step, w, count):
    """sums[k][h][v]: the accumulated vectors of each filter, row of pixels, and vector of the row."""
    vector = ir.VectorType(FLOAT, lanes)
    pixels = builder.mul(count, INT64(2))
    masks = [llvm.mask(builder, builder.sub(pixels, INT64(v * lanes)), lanes) for v in range(vectors)]
    sums = [[[cgutils.alloca_once(builder, vector) for _ in masks] for _ in range(2)] for _ in range(filters)]
    for place in (place for lines in sums for line in lines for place in line):
        builder.store(llvm.zeros(vector), place)
    x, w = (builder.inttoptr(pointer, FLOAT.as_pointer()) for pointer in (x, w))
    with cgutils.for_range(builder, r_count, intp=INT64) as r, cgutils.for_range(builder, s_count, intp=INT64) as s:
        start = builder.gep(x, [builder.add(builder.mul(r.index, r_step), builder.mul(s.index, s_step))])
        term = builder.add(builder.mul(r.index, s_count), s.index)
        weights = builder.gep(w, [builder.mul(term, INT64(filters))])
        lines = [start, builder.gep(start, [row])]
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
                for part, place in zip(line, line_sums, strict=True):
                    builder.store(llvm.fma(builder, part, weight, builder.load(place), TARGET.fma), place)
    return [[[builder.load(place) for place in line] for line in lines] for lines in sums]


def _finished(builder, value, k, bias, relu):
    """The sums with filter k's bias, and max(·, 0) where that is asked for; NaN stays NaN."""
    result = cgutils.alloca_once_value(builder, value)
    with builder.if_then(builder.icmp_unsigned("!=", bias, INT64(0))):
        pointer = builder.gep(builder.inttoptr(bias, FLOAT.as_pointer()), [INT64(k)])
        shift = llvm.splat(builder, builder.load(pointer, align=4), value.type)
        builder.store(builder.fadd(value, shift), result)
    with builder.if_then(builder.icmp_unsigned("!=", relu, INT64(0))):
        value, zeros = builder.load(result), llvm.zeros(value.type)
        builder.store(builder.select(builder.fcmp_ordered("<", value, zeros), zeros, value), result)
    return builder.load(result)


def _window_pixels(builder, rows, windows):
    """The four pixels of all windows, in the order in which argmax counts them, each a vector of ``windows``."""
    for line in rows:
        for column in (0, 1):
            yield _shuffled(builder, line[0], line[-1], [2 * i + column for i in range(windows)])


def _maximum(builder, pixels):
    """The first of the greatest, or the last NaN, lane by lane, and its number as a float."""
    pixels = list(pixels)
    best, place = pixels[0], llvm.zeros(pixels[0].type)
    for number, pixel in enumerate(pixels[1:], 1):
        greater = builder.or_(builder.fcmp_ordered(">", pixel, best), builder.fcmp_unordered("uno", pixel, pixel))
        best = builder.select(greater, pixel, best)
        place = builder.select(greater, ir.Constant(place.type, [float(number)] * place.type.count), place)
    return best, place


def _store_interleaved(builder, vectors, target, count):
    """target[i, k] = lane i of vector k, for i < ``count``."""
    filters, lanes = len(vectors), vectors[0].type.count
    target, left = builder.inttoptr(target, FLOAT.as_pointer()), builder.mul(count, INT64(filters))
    for first in range(0, filters * lanes, lanes):
        sources = [divmod(place, filters) for place in range(first, first + lanes)]  # (lane, vector)
        value = _gathered(builder, vectors, sources)
        pointer, rest = builder.gep(target, [INT64(first)]), builder.sub(left, INT64(first))
        with builder.if_else(builder.icmp_signed(">=", rest, INT64(lanes))) as (whole, partial):
            with whole:
                llvm.store(builder, value, pointer)
            with partial:
                llvm.store_masked(builder, value, pointer, llvm.mask(builder, rest, lanes))


def _gathered(builder, vectors, sources):
    """The vector whose lane l is lane sources[l][0] of vector sources[l][1]."""
    value = None
    for k, vector in enumerate(vectors):
        wanted = {at: lane for at, (lane, source) in enumerate(sources) if source == k}
        if not wanted:
            continue
        lanes = len(sources)
        picks = [lanes + wanted[at] if at in wanted else at for at in range(lanes)]
        value = _shuffled(builder, vector if value is None else value, vector, picks)
    return value


def _shuffled(builder, a, b, picks):
    """Lanes of a, and behind them those of b."""
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(INT32, len(picks)), picks))
