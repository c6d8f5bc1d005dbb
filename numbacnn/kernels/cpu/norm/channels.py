"""Passes over images with per-channel numbers, of which batch and group normalization consist.

Images N×H×W×C form M sets: one set for the whole batch, one for each shard of it, or one for each image. The k
coefficients of each channel are stored as M×1×k×period: those of all channels repeated for several pixels, the period,
which fills whole vectors for any C. The rows of a set are divided into groups by the shape alone; each group has its
own sums.
"""

import math
from functools import lru_cache, partial
from typing import NamedTuple

import numpy as np
from numba import prange, types
from numpy.typing import NDArray

from numbacnn.kernels.cpu.simd.memory import floats, prefers_nontemporal, stack_floats
from numbacnn.kernels.cpu.simd.vector import (
    BLOCK_WIDTH,
    WIDTH,
    at_most,
    load,
    load_like,
    multiply_add,
    rectified,
    splat,
    splat_block,
    splat_like,
    store,
    store_nontemporal,
    where_inside,
)
from numbacnn.kernels.cpu.sums import plus
from numbacnn.kernels.cpu.views import row_address
from numbacnn.kernels.jit import cpu_kernel, float32_4d, in_order, inlined, int64_1d
from numbacnn.kernels.scalar import at_least

TERMS = 1024  # of a float32 sum, at most; these sums are added in float64
MIN_GROUPS = 16  # if there are as many rows: work for that many threads
CHANNELS = 16  # of a block, whose means and variances are computed together
MIN_SHARD_GROUPS = 8  # of a shard
ZERO, LARGEST = np.float32(0), np.finfo(np.float32).max
INFINITY, NAN = np.float32(np.inf), np.float32(np.nan)
stack_numbers = stack_floats(2 * 2 * CHANNELS)
at_least_ = inlined(at_least)
compiled_into = partial(inlined, always=True)  # a call for each vector would cost as much as its work


# -- shapes -----------------------------------------------------------------------------------------------------------


def period(c):
    """Floats of a period: eight pixels fill any vector; one pixel of 64 channels nearly does."""
    return c if c >= 64 else c * 8 * max(1, 8 // c)


def norm_coefficients_shape(sets, numbers, c):
    """Scratch of ``numbers`` for each channel and set."""
    return (sets, 1, numbers, period(c))


def norm_partial_shape(sets, rows, numbers, w, c):
    """Scratch of the partial sums: sets × groups × numbers × period, for sets of ``rows`` rows of ``w`` pixels."""
    return (sets, _groups(rows, w, c), numbers, period(c))


def _groups(rows, w, c, at_least=MIN_GROUPS):
    """The groups of the rows of a set; does not grow if rows shrink."""
    terms = -(-w * c // period(c))  # that a row adds to a sum
    return max(min(rows, at_least), -(-rows // max(1, TERMS // terms)))


class Sets(NamedTuple):
    """The sets of images that are normalized together."""

    starts: NDArray[np.int64]  # the first image of each set, and the number of images
    of_image: NDArray[np.int64]  # the set of each image
    groups: NDArray[np.int64]  # of the rows of each set, by their number alone: the same bits in any plan

    def fitting(self, partial):
        """The part of the scratch that these sets use."""
        return partial[: len(self.groups), : self.groups.max()]


@lru_cache(maxsize=1024)
def sets_of(starts, h, w, c, min_groups=MIN_GROUPS):
    """The sets that start at the images ``starts[:-1]``, of ``starts[-1]`` images h×w×c."""
    sizes = np.diff(starts)
    groups = np.array([_groups(int(size) * h, w, c, min_groups) for size in sizes], np.int64)
    return Sets(np.array(starts, np.int64), np.repeat(np.arange(len(sizes), dtype=np.int64), sizes), groups)


# -- rows -------------------------------------------------------------------------------------------------------------


def _over_row(work):
    """Make a function of a row from that of a part of it, ``work(zero, addresses, i, start, count, constants)``.

    The part: the ``count`` floats of the row from ``start`` on, which belong to channel numbers from ``i`` on. ``zero``
    is a vector or a block, in whose width to compute. Parts follow each other in memory: if a pass over two images or
    more kept the numbers of some channels in registers, for all pixels of a row, the hardware prefetcher would not
    follow, and large images would take twice as long.
    """
    work = compiled_into(work)

    @inlined
    def over_row(addresses, row_size, size, constants):
        rest = row_size % size
        whole, blocks = row_size - rest, size - size % BLOCK_WIDTH
        for start in range(0, whole, size):
            for i in range(0, blocks, BLOCK_WIDTH):
                work(splat_block(ZERO), addresses, i, start + i, BLOCK_WIDTH, constants)
            for i in range(blocks, size, WIDTH):
                work(splat(ZERO), addresses, i, start + i, size - i, constants)
        for i in range(0, rest, WIDTH):
            work(splat(ZERO), addresses, i, whole + i, rest - i, constants)

    return over_row


@compiled_into
def _clamp_gradient(gradient, difference, statistics, size, count, ceiling):
    """The gradient by v = difference·scale + shift, from that by v between 0 and ``ceiling``: 0 at the bounds.

    Where v is NaN, the gradient passes. v has the bits that ``normalize`` computed, so y need not be read.
    """
    scale, shift = statistics + 12 * size, statistics + 16 * size
    value = multiply_add(difference, load_like(gradient, scale, count), load_like(gradient, shift, count))
    return where_inside(value, splat_like(value, ceiling), gradient, splat_like(value, ZERO))


@inlined
def _upper_bound(ceiling):
    """The value from which on a clamp's gradient is 0; none, NaN, if the ceiling is infinite: ReLU's is 1 there."""
    return ceiling if ceiling < INFINITY else NAN


# -- sums -------------------------------------------------------------------------------------------------------------


@cpu_kernel(float32_4d, float32_4d, int64_1d, int64_1d)
def moments(partial, x, starts, groups):
    """partial[m,g] = (k, Σ(x − k), Σ(x − k)²) over the rows of group g of set m; k: the first period of the group.

    Subtracting k keeps a large mean from absorbing the deviations. A sum of squares that overflows is stored as −√Σ.
    starts, groups: of ``Sets``. Each thread owns a range of groups.
    """
    sets, most, _, size = partial.shape
    height, row_size = x.shape[1], x.shape[2] * x.shape[3]
    known = min(size, row_size)
    for item in prange(sets * most):
        m, g = np.intp(item) // most, np.intp(item) % most
        first, last = _rows_of(m, g, starts, groups, height)
        if first == last:
            continue
        shift = row_address(partial, item)
        total, square = shift + 4 * size, shift + 8 * size
        for i in range(0, known, WIDTH):
            store(shift + 4 * i, load(row_address(x, first) + 4 * i, known - i), known - i)
            store(total + 4 * i, splat(ZERO), known - i)
            store(square + 4 * i, splat(ZERO), known - i)
        for row in range(first, last):
            _add_moments((shift, row_address(x, row)), row_size, size, size)
        if not _all_finite(floats(square, known)):
            _store_roots(floats(square, known), floats(shift, known), x, first, last, size)


@_over_row
def _add_moments(zero, addresses, i, start, count, size):
    """Add a part of a row to the sums; the addresses: of the shifts, before the sums, and of x."""
    shift, pixels = addresses
    shift += 4 * i
    total, square = shift + 4 * size, shift + 8 * size
    difference = load_like(zero, pixels + 4 * start, count) - load_like(zero, shift, count)
    store(total, load_like(zero, total, count) + difference, count)
    store(square, multiply_add(difference, difference, load_like(zero, square, count)), count)


@inlined
def _all_finite(values):
    others = 0
    for i in range(len(values)):
        others += 0 if abs(values[i]) <= LARGEST else 1
    return others == 0


@inlined
def _store_roots(squares, shifts, x, first, last, size):
    """Replace the sums of squares that are not finite by −√ of the sums in float64."""
    row_size = x.shape[2] * x.shape[3]
    for i in range(len(squares)):
        if not abs(squares[i]) <= LARGEST:
            total = np.float64(0)
            for row in range(first, last):
                pixels = floats(row_address(x, row), row_size)
                for j in range(i, row_size, size):
                    total += (np.float64(pixels[j]) - np.float64(shifts[i])) ** 2
            squares[i] = -math.sqrt(total)


@inlined
def _sum_of_squares(stored):
    """The sum of squares, in float64."""
    value = np.float64(stored)
    return value * value if value < 0 else value


@cpu_kernel(*[float32_4d] * 4, int64_1d, int64_1d, types.float32)
def gradient_sums(partial, dy, x, statistics, starts, groups, ceiling):
    """partial[m,g] = (Σ dy, Σ dy·(x − center)) over the rows of group g of set m.

    statistics: of ``write_statistics``; starts, groups: of ``Sets``. Unless ``ceiling`` is NaN, dy counts as 0 where
    the clamp to 0 … ceiling of ``normalize`` has no gradient. Each thread owns a range of groups.
    """
    sets, most, _, size = partial.shape
    height, row_size = x.shape[1], x.shape[2] * x.shape[3]
    known = min(size, row_size)
    constants = size, not math.isnan(ceiling), _upper_bound(ceiling)
    for item in prange(sets * most):
        m, g = np.intp(item) // most, np.intp(item) % most
        first, last = _rows_of(m, g, starts, groups, height)
        center, total = row_address(statistics, m), row_address(partial, item)
        for i in range(0, known, WIDTH):
            store(total + 4 * i, splat(ZERO), known - i)
            store(total + 4 * size + 4 * i, splat(ZERO), known - i)
        for row in range(first, last):
            addresses = center, total, row_address(dy, row), row_address(x, row)
            _add_gradients(addresses, row_size, size, constants)


@_over_row
def _add_gradients(zero, addresses, i, start, count, constants):
    """Add a part of a row to the sums; the addresses: of statistics, sums, dy and x."""
    center, total, gradients, pixels = addresses
    size, bounded, ceiling = constants
    center, total = center + 4 * i, total + 4 * i
    product = total + 4 * size
    k, sums, products = load_like(zero, center, count), load_like(zero, total, count), load_like(zero, product, count)
    gradient = load_like(zero, gradients + 4 * start, count)
    difference = load_like(zero, pixels + 4 * start, count) - k
    if bounded:
        gradient = _clamp_gradient(gradient, difference, center, size, count, ceiling)
    sums = sums + gradient
    products = multiply_add(gradient, difference, products)
    store(total, sums, count)
    store(product, products, count)


@inlined
def _rows_of(m, g, starts, groups, height):
    """The range of group g of set m among the rows of all images; empty if the set has fewer groups."""
    first, rows = starts[m] * height, (starts[m + 1] - starts[m]) * height
    return first + rows * min(g, groups[m]) // groups[m], first + rows * min(g + 1, groups[m]) // groups[m]


@inlined
def mean_and_variance(partial, m, first, last, rows, groups, w, c):
    """The mean and variance of channels first … last − 1 of set m, in float64 (Chan et al. 1979, equation 2.1).

    partial: from ``moments``; rows, groups: of the set. The variance is the biased one, over the number of values.
    """
    pixels = partial.shape[3] // c
    periods, rest = w // pixels, w % pixels  # of a row; the pixels after the last whole one
    count = np.float64(rows) * w * (last - first)
    total, row = np.float64(0), 0
    for g in range(groups):
        before, row = row, rows * (g + 1) // groups
        for pixel in range(min(pixels, w)):
            terms = (row - before) * (periods + (1 if pixel < rest else 0))  # of each sum of this pixel and group
            for i in range(pixel * c + first, pixel * c + last):
                total += terms * np.float64(partial[m, g, 0, i]) + np.float64(partial[m, g, 1, i])
    mean = total / count
    square, row = np.float64(0), 0
    for g in range(groups):
        before, row = row, rows * (g + 1) // groups
        for pixel in range(min(pixels, w)):
            terms = (row - before) * (periods + (1 if pixel < rest else 0))
            for i in range(pixel * c + first, pixel * c + last):
                apart = np.float64(partial[m, g, 0, i]) - mean
                own = _sum_of_squares(partial[m, g, 2, i])
                square += own + apart * (2 * np.float64(partial[m, g, 1, i]) + terms * apart)
    return mean, at_least_(np.float64(0), square) / count


# -- the same for each channel of a block -----------------------------------------------------------------------------


@inlined
def channel_blocks(c):
    """The number of blocks of ``CHANNELS`` channels."""
    return -(-c // CHANNELS)


@inlined
def means_and_variances(moments, partial, m, block, rows, groups, w, c):
    """Write ``mean_and_variance`` of each channel of a block to ``moments``, two arrays of ``CHANNELS`` float64.

    Loops over channels are vectorized; one channel at a time, each addition would wait for the one before.
    """
    first, pixels = block * CHANNELS, partial.shape[3] // c
    channels = min(CHANNELS, c - first)
    periods, rest = w // pixels, w % pixels  # of a row; the pixels after the last whole one
    means, squares, count = moments[0], moments[1], np.float64(rows) * w
    for i in range(channels):
        means[i], squares[i] = 0, 0
    row = 0
    for g in range(groups):
        before, row = row, rows * (g + 1) // groups
        for pixel in range(min(pixels, w)):
            terms = np.float64((row - before) * (periods + (1 if pixel < rest else 0)))
            shifts, totals, _ = _group_numbers(partial, m, g, pixel * c + first, channels)
            for i in range(channels):
                means[i] = _plus_moment(means[i], terms, shifts[i], totals[i])
    for i in range(channels):
        means[i] /= count
    row = 0
    for g in range(groups):
        before, row = row, rows * (g + 1) // groups
        for pixel in range(min(pixels, w)):
            terms = np.float64((row - before) * (periods + (1 if pixel < rest else 0)))
            shifts, totals, own = _group_numbers(partial, m, g, pixel * c + first, channels)
            for i in range(channels):
                squares[i] = _plus_square(squares[i], terms, shifts[i], totals[i], own[i], means[i])
    for i in range(channels):
        squares[i] = at_least_(np.float64(0), squares[i]) / count


@inlined
def totals_of(totals, partial, m, block, groups, w, c):
    """Write ``total_of`` both numbers of each channel of a block to ``totals``, as in ``means_and_variances``."""
    first, pixels = block * CHANNELS, partial.shape[3] // c
    channels = min(CHANNELS, c - first)
    sums, products = totals
    for i in range(channels):
        sums[i], products[i] = 0, 0
    for g in range(groups):
        for pixel in range(min(pixels, w)):
            one, other = _group_numbers(partial, m, g, pixel * c + first, channels)[:2]
            for i in range(channels):
                sums[i] = plus(sums[i], np.float64(one[i]))
                products[i] = plus(products[i], np.float64(other[i]))


@compiled_into
def _group_numbers(partial, m, g, start, count):
    """The three sums of ``moments`` of ``count`` channels from ``start`` on."""
    size = partial.shape[3]
    position = row_address(partial, m * partial.shape[1] + g) + 4 * start
    return floats(position, count), floats(position + 4 * size, count), floats(position + 8 * size, count)


@in_order
def _plus_moment(total, terms, shift, difference):
    """total + the sum of ``terms`` values, rounded as written, however LLVM vectorizes the loop."""
    return total + (terms * np.float64(shift) + np.float64(difference))


@in_order
def _plus_square(total, terms, shift, difference, stored, mean):
    """total + the sum of the squared distances of ``terms`` values from the mean."""
    apart = np.float64(shift) - mean
    return total + (_sum_of_squares(stored) + apart * (2 * np.float64(difference) + terms * apart))


@inlined
def write_statistics(coefficients, statistics, m, channel, moments, scaling):
    """Write the coefficients of ``normalize`` and, unless it is empty, ``statistics`` of one channel of set m.

    moments: mean and 1 / deviation; scaling: C, weight and bias of the channel. Statistics are (center, remainder,
    1 / deviation) with center + remainder = mean, so that x − center is exact, then the coefficients (scale, shift).
    """
    (mean, inverse), (c, weight, bias) = moments, scaling
    center = np.float32(mean)
    remainder, scale = mean - np.float64(center), weight * inverse
    for i in range(channel, coefficients.shape[3], c):
        coefficients[m, 0, 0, i] = center
        coefficients[m, 0, 1, i] = scale
        coefficients[m, 0, 2, i] = bias - remainder * scale
        if len(statistics) > 0:
            statistics[m, 0, 0, i] = center
            statistics[m, 0, 1, i] = remainder
            statistics[m, 0, 2, i] = inverse
            statistics[m, 0, 3, i] = coefficients[m, 0, 1, i]
            statistics[m, 0, 4, i] = coefficients[m, 0, 2, i]


@inlined
def total_of(partial, m, number, channel, groups, w, c):
    """The sum over the groups of a number of ``gradient_sums``, for one channel of set m, in float64."""
    total = np.float64(0)
    for g in range(groups):
        for i in range(channel, min(partial.shape[3], w * c), c):
            total += partial[m, g, number, i]
    return total


# -- from per-channel numbers to images -------------------------------------------------------------------------------


@cpu_kernel(float32_4d, float32_4d, float32_4d, int64_1d, types.float32)
def normalize(y, x, coefficients, set_of_image, ceiling):
    """y = (x − center)·scale + shift, between 0 and ``ceiling`` unless that is NaN; coefficients: M×1×3×period.

    Each thread owns rows (n, h).
    """
    height, row_size, size = x.shape[1], x.shape[2] * x.shape[3], coefficients.shape[3]
    constants = size, not math.isnan(ceiling), ceiling, prefers_nontemporal(y)
    for item in prange(len(x) * height):
        row = np.intp(item)
        center = row_address(coefficients, set_of_image[row // height])
        _normalize_row((center, row_address(y, row), row_address(x, row)), row_size, size, constants)


@_over_row
def _normalize_row(zero, addresses, i, start, count, constants):
    """Write a part of a row; the addresses: of coefficients, y and x."""
    center, target, pixels = addresses
    size, bounded, ceiling, nontemporal = constants
    center += 4 * i
    k, scale = load_like(zero, center, count), load_like(zero, center + 4 * size, count)
    shift = load_like(zero, center + 8 * size, count)
    value = multiply_add(load_like(zero, pixels + 4 * start, count) - k, scale, shift)
    if bounded:
        value = at_most(rectified(value), splat_like(zero, ceiling))
    store_nontemporal(target + 4 * start, value, count, nontemporal)


@cpu_kernel(*[float32_4d] * 5, int64_1d, types.float32)
def normalize_gradient(dx, dy, x, coefficients, statistics, set_of_image, ceiling):
    """dx = a·dy + b·(x − center) + d; coefficients: M×1×(a, b, d)×period; dy by ``ceiling`` as in ``gradient_sums``.

    Each thread owns rows (n, h).
    """
    height, row_size, size = x.shape[1], x.shape[2] * x.shape[3], coefficients.shape[3]
    constants = size, not math.isnan(ceiling), _upper_bound(ceiling), prefers_nontemporal(dx)
    for item in prange(len(x) * height):
        row = np.intp(item)
        m = set_of_image[row // height]
        numbers = row_address(coefficients, m), row_address(statistics, m)
        addresses = *numbers, row_address(dx, row), row_address(dy, row), row_address(x, row)
        _normalize_gradient_row(addresses, row_size, size, constants)


@_over_row
def _normalize_gradient_row(zero, addresses, i, start, count, constants):
    """Write a part of a row; the addresses: of coefficients, statistics, dx, dy and x."""
    numbers, center, target, gradients, pixels = addresses
    size, bounded, ceiling, nontemporal = constants
    numbers, center = numbers + 4 * i, center + 4 * i
    a, b = load_like(zero, numbers, count), load_like(zero, numbers + 4 * size, count)
    d, k = load_like(zero, numbers + 8 * size, count), load_like(zero, center, count)
    gradient = load_like(zero, gradients + 4 * start, count)
    difference = load_like(zero, pixels + 4 * start, count) - k
    if bounded:
        gradient = _clamp_gradient(gradient, difference, center, size, count, ceiling)
    value = multiply_add(b, difference, multiply_add(a, gradient, d))
    store_nontemporal(target + 4 * start, value, count, nontemporal)
