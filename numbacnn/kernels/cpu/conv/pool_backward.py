"""The gradients of a convolution behind which a max-pool follows, from the gradient of the pool's output.

Behind windows that do not overlap all pixels but one have a gradient of zero: of 2×2 windows, three in four
multiplications of the direct algorithm are by zero. These read the places of the maxima instead, so the gradient is
never spread over the image either. An output whose gradient is zero adds nothing, even where it would meet an infinity.
Oracle: the pool's gradient, then the convolution's, in ``tests/reference.py``.

Measured on one core against the direct algorithms and the pool's own gradient: LeNet-5's second layer (6→16, 14², 5×5)
2.1 times as fast for the weights and 4 for the input.
"""

from functools import cache

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry, PoolGeometry
from numbacnn.kernels.cpu.conv.winograd.weighted_sum import chosen_sum, listed_sum
from numbacnn.kernels.cpu.gemm.gemm import HALF_LANES, NO_AUX, row_table
from numbacnn.kernels.cpu.gemm.rows import add_row, clear_row, copy_row, gather_row, mask_row, spread_row
from numbacnn.kernels.cpu.simd.memory import address, floats, integers
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64, int64_1d
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.target import host_target

VECTORS = 4 if host_target().registers >= 32 else 2  # of the wide tile; narrower ones split fewer cache lines
BLOCK = VECTORS * HALF_LANES
ROWS = 5  # of the window, at most: each is a row of the tile
AREA = 16  # of the pool's window, at most: the filters are listed for each of its pixels
GROUPS = 16  # of images; each has its own partial sums and scratch
TERMS = 100  # that the direct algorithm sums for each maximum, at least; below, it fills the vectors better
WEIGHT_BYTES = 5 << 18  # that every window reads
IMAGE_BYTES = 1 << 19  # of an image's input gradient, to which windows are added here and there
CHUNK_BYTES = 1 << 14  # of x, which every filter reads
ALIGNED = 16  # floats of a cache line
ZERO = np.float32(0)


def maxima_apply(g: ConvGeometry, pool: PoolGeometry) -> bool:
    """Whether these kernels can take the place of the pool's gradient and the direct ones, and are faster."""
    apart = pool.stride_h >= pool.r and pool.stride_w >= pool.s and 1 < pool.r * pool.s <= AREA
    contiguous = g.groups == 1 and g.dilation_w == 1 and g.r <= ROWS
    terms = g.r * g.s * g.c
    filled = g.k / (-(-g.k // HALF_LANES) * HALF_LANES)
    dense = pool.r * pool.s * terms >= TERMS * filled
    small = 4 * terms * g.k <= WEIGHT_BYTES and 4 * g.h * g.w * g.c <= IMAGE_BYTES
    return apart and contiguous and dense and small


# -- weight gradient --------------------------------------------------------------------------------------------------


@launcher
def maxima_weight_gradient(dw, x, dy, argmax, partial, places, g, pool):
    """dw[r,s,c,k] = Σ_npq x[n, h·stride + r·dilation, w·stride + s, c] · dy[n,p,q,k], (h, w) the maximum's pixel.

    dw: R×S×C×K; x as in the forward pass; dy, argmax: N×P×Q×K of the pool, contiguous; partial, places: scratch of
    ``maxima_partial_shape`` and ``maxima_places_shape``.
    """
    partial = partial[: len(x)]
    row_step, pixel_step = pool.stride_h * g.stride_h * x.strides[1], pool.stride_w * g.stride_w * x.strides[2]
    chunk = max(1, min(pool.p, CHUNK_BYTES // row_step))
    corners = row_table((chunk, row_step // 4), (pool.q, pixel_step // 4), (g.k, 0))
    _weight_gradient_kernel(g.r)(partial, places, x, dy, argmax, corners, chunk, g, pool)
    _sum_filters(dw.reshape(1, 1, -1, g.k), partial)


def maxima_partial_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the partial sums: groups × 1 × K × R·S·C."""
    return (min(images, GROUPS), 1, g.k, g.r * g.s * g.c)


def maxima_places_shape(g: ConvGeometry, pool: PoolGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of each group's places in x: groups × P × Q × K."""
    return (min(images, GROUPS), pool.p, pool.q, g.k)


@cache
def _weight_gradient_kernel(rows):
    """The kernel for windows of ``rows`` rows."""
    add_windows = _window_sums(rows)

    def weight_gradient(partial, places, x, dy, argmax, corners, chunk, g, pool):
        """partial[group,0,k,(r,s,c)]: the share of the group's images, ``chunk`` rows of windows at a time, which
        start at ``corners``. Each thread owns a range of groups."""
        groups, images, width = len(partial), len(x), g.s * g.c
        x_image, x_row, x_pixel = x.strides[:3]
        size, row_size = 4 * g.k * rows * width, 4 * pool.q * g.k
        p_partial, p_places, p_dy, p_argmax = address(partial), address(places), address(dy), address(argmax)
        p_x = address(x) - g.pad_top * x_row - g.pad_left * x_pixel
        for item in prange(groups):
            group = np.intp(item)
            total, place = p_partial + group * size, p_places + group * pool.p * row_size
            clear_row(total, size // 4)
            for n in range(images * group // groups, images * (group + 1) // groups):
                for first in range(0, pool.p, chunk):
                    last = min(first + chunk, pool.p)
                    start = (n * pool.p + first) * row_size
                    size_here = (last - first) * pool.q * g.k
                    _find_places(place, p_argmax + start, size_here, first, corners, x_row, x_pixel, g, pool)
                    for k in range(g.k):
                        add_windows(
                            total + 4 * k * rows * width,
                            width,
                            p_x + n * x_image,
                            g.dilation_h * x_row // 4,
                            place + 4 * k,
                            p_dy + start + 4 * k,
                            g.k,
                            (last - first) * pool.q,
                            width,
                        )

    weight_gradient.__name__ = weight_gradient.__qualname__ = f"maxima_weight_gradient_{rows}"
    return cpu_kernel(*[float32_4d] * 5, int64_1d, int64, ConvGeometry, PoolGeometry)(weight_gradient)


@cache
def _window_sums(rows):
    """``listed_sum`` for windows of ``rows`` rows and any width."""
    wide, narrow = listed_sum(rows, VECTORS, HALF_LANES), listed_sum(rows, 1, HALF_LANES)

    @inlined
    def add_windows(c, c_step, a, a_step, places, weights, step, count, width):
        for j in range(0, width, BLOCK):
            if width - j > HALF_LANES:
                wide(c + 4 * j, c_step, a + 4 * j, a_step, places, weights, step, count, width - j)
            else:
                narrow(c + 4 * j, c_step, a + 4 * j, a_step, places, weights, step, count, width - j)

    return add_windows


@inlined
def _find_places(places, argmax, size, first, corners, x_row, x_pixel, g, pool):
    """Where in x the windows of ``size`` maxima start: all pixels and filters from row ``first`` of the pool's output.
    Several rows together, as the last few of a loop take as long as many in vectors."""
    found, chosen = integers(places, size), floats(argmax, size)
    row_step, pixel_step = np.int32(g.stride_h * x_row // 4), np.int32(g.stride_w * x_pixel // 4)
    start = np.int32(first * pool.stride_h - pool.pad_top) * row_step - np.int32(pool.pad_left) * pixel_step
    share, width = np.float32(1) / np.float32(pool.s), np.int32(pool.s)
    for i in range(size):
        r = np.int32((chosen[i] + np.float32(0.5)) * share)
        s = np.int32(chosen[i]) - r * width
        found[i] = start + np.int32(corners[i]) + r * row_step + s * pixel_step


@cpu_kernel(float32_4d, float32_4d)
def _sum_filters(dw, partial):
    """dw[0,0,m,k] = Σ_group partial[group,0,k,m], groups in order. Each thread owns a range of filters k."""
    groups, _, filters, terms = partial.shape
    p_dw, p_partial, step = address(dw), address(partial), dw.strides[2]
    for item in prange(filters):
        k = np.intp(item)
        total = p_partial + 4 * k * terms
        for group in range(1, groups):
            add_row(total, total + 4 * group * filters * terms, terms)
        spread_row(p_dw + 4 * k, step, total, terms)


# -- input gradient ---------------------------------------------------------------------------------------------------


@launcher
def maxima_input_gradient(dx, dy, argmax, w, packed, image, g, pool, mask=None):
    """dx as in ``conv2d_input_gradient``, from the gradient of a max-pool behind the convolution.

    dx: N×H×W×C; dy, argmax: N×P×Q×K of the pool, contiguous; w: R×S×C×K; packed, image: scratch of
    ``maxima_packed_shape`` and ``maxima_image_shape``; mask as in ``conv2d_input_gradient``.
    """
    _pack_filters(packed, w.reshape(1, g.r, -1, g.k))
    mask = NO_AUX if mask is None else mask
    _input_gradient_kernel(g.r)(dx, dy, argmax, packed, image[: len(dx)], mask, g, pool)


def maxima_packed_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the weights by filter: 1 × K × R × S·C, rows in whole cache lines."""
    return (1, g.k, g.r, -(-g.s * g.c // ALIGNED) * ALIGNED)


def maxima_image_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of one padded image for each group of images."""
    height = max(g.h + g.pad_top, (g.p - 1) * g.stride_h + (g.r - 1) * g.dilation_h + 1)
    width = max(g.w + g.pad_left, (g.q - 1) * g.stride_w + g.s)
    return (min(images, GROUPS), height, width, g.c)


@cpu_kernel(float32_4d, float32_4d)
def _pack_filters(packed, w):
    """packed[0,k,r,(s,c)] = w[0,r,(s,c),k]. Each thread owns a range of filters k."""
    _, filters, rows, step = packed.shape
    columns = w.shape[2]
    p_packed, p_w = address(packed), address(w)
    for item in prange(filters):
        k = np.intp(item)
        for r in range(rows):
            gather_row(
                p_packed + 4 * (k * rows + r) * step, p_w + 4 * (r * columns * filters + k), 4 * filters, columns
            )


@cache
def _input_gradient_kernel(rows):
    """The kernel for windows of ``rows`` rows."""
    wide, narrow = chosen_sum(rows, VECTORS, HALF_LANES), chosen_sum(rows, 1, HALF_LANES)

    @inlined
    def add_pixel(image, row_step, dy, argmax, packed, packed_step, h, w, g, pool):
        """Adds the windows of the maxima of one pixel of the pool's output, whose own window starts at (h, w)."""
        size, step, width = rows * packed_step, g.dilation_h * row_step, g.s * g.c
        for place in range(pool.r * pool.s):
            r, s, choice = place // pool.s, place % pool.s, np.float32(place)
            window = image + 4 * ((h + r) * g.stride_h * row_step + (w + s) * g.stride_w * g.c)
            for j in range(0, width, BLOCK):
                c, a, left = window + 4 * j, packed + 4 * j, width - j
                if left > HALF_LANES:
                    wide(c, step, a, packed_step, size, dy, argmax, choice, g.k, left)
                else:
                    narrow(c, step, a, packed_step, size, dy, argmax, choice, g.k, left)

    def input_gradient(dx, dy, argmax, packed, image, mask, g, pool):
        """Each thread owns a range of groups of images, and each group its scratch."""
        groups, images = len(image), len(dx)
        dx_image, dx_row = dx.strides[:2]
        pixel_size, packed_step = 4 * g.k, packed.shape[3]
        row_step, image_size = image.shape[2] * g.c, image.shape[1] * image.shape[2] * g.c
        p_dx, p_dy, p_argmax, p_packed = address(dx), address(dy), address(argmax), address(packed)
        p_image, p_mask = address(image), address(mask)
        mask_image, mask_step = mask.strides[:2]
        for item in prange(groups):
            group = np.intp(item)
            padded = p_image + 4 * group * image_size
            inner = padded + 4 * (g.pad_top * row_step + g.pad_left * g.c)
            for n in range(images * group // groups, images * (group + 1) // groups):
                clear_row(padded, image_size)
                for p in range(pool.p):
                    h = p * pool.stride_h - pool.pad_top
                    for q in range(pool.q):
                        w = q * pool.stride_w - pool.pad_left
                        at = ((n * pool.p + p) * pool.q + q) * pixel_size
                        add_pixel(padded, row_step, p_dy + at, p_argmax + at, p_packed, packed_step, h, w, g, pool)
                for h in range(g.h):
                    row, source = p_dx + n * dx_image + h * dx_row, inner + 4 * h * row_step
                    if mask.size:
                        mask_row(row, source, p_mask + n * mask_image + h * mask_step, g.w * g.c)
                    else:
                        copy_row(row, source, g.w * g.c)

    input_gradient.__name__ = input_gradient.__qualname__ = f"maxima_input_gradient_{rows}"
    return cpu_kernel(*[float32_4d] * 6, ConvGeometry, PoolGeometry)(input_gradient)
