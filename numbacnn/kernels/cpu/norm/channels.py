"""Passes over images with per-channel numbers, of which batch and group normalization consist.

Images N×H×W×C form M sets: one set for the whole batch, one for each shard of it, or one for each image. The k
coefficients of each channel are stored as M×1×k×period: those of all channels repeated for several pixels, the period,
which fills whole vectors for any C. Rows are processed a period at a time. The rows of a set are divided into groups by
the shape alone; each group has its own sums.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange, types
from numpy.typing import NDArray

from numbacnn.kernels.cpu.simd.memory import floats, prefers_nontemporal
from numbacnn.kernels.cpu.simd.vector import (
    WIDTH,
    at_most,
    load,
    multiply_add,
    rectified,
    splat,
    store,
    store_nontemporal,
)
from numbacnn.kernels.cpu.views import row_address
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined, int64_1d
from numbacnn.kernels.scalar import at_least

TERMS = 1024  # of a float32 sum, at most; these sums are added in float64
MIN_GROUPS = 16  # if there are as many rows: work for that many threads
MIN_SHARD_GROUPS = 8  # of a shard
ZERO, LARGEST = np.float32(0), np.finfo(np.float32).max
at_least_ = inlined(at_least)


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
            for start in range(0, row_size, size):
                pixels, count = row_address(x, row) + 4 * start, min(size, row_size - start)
                for i in range(0, count, WIDTH):
                    difference = load(pixels + 4 * i, count - i) - load(shift + 4 * i, count - i)
                    store(total + 4 * i, load(total + 4 * i, count - i) + difference, count - i)
                    store(square + 4 * i, load(square + 4 * i, count - i) + difference * difference, count - i)
        if not _all_finite(floats(square, known)):
            _store_roots(floats(square, known), floats(shift, known), x, first, last, size)


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


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_4d, int64_1d, int64_1d)
def gradient_sums(partial, dy, x, statistics, starts, groups):
    """partial[m,g] = (Σ dy, Σ dy·(x − center)) over the rows of group g of set m; center: the first of ``statistics``.

    starts, groups: of ``Sets``. Each thread owns a range of groups.
    """
    sets, most, _, size = partial.shape
    height, row_size = x.shape[1], x.shape[2] * x.shape[3]
    known = min(size, row_size)
    for item in prange(sets * most):
        m, g = np.intp(item) // most, np.intp(item) % most
        first, last = _rows_of(m, g, starts, groups, height)
        center, total = row_address(statistics, m), row_address(partial, item)
        product = total + 4 * size
        for i in range(0, known, WIDTH):
            store(total + 4 * i, splat(ZERO), known - i)
            store(product + 4 * i, splat(ZERO), known - i)
        for row in range(first, last):
            for start in range(0, row_size, size):
                pixels, gradients = row_address(x, row) + 4 * start, row_address(dy, row) + 4 * start
                count = min(size, row_size - start)
                for i in range(0, count, WIDTH):
                    gradient = load(gradients + 4 * i, count - i)
                    difference = load(pixels + 4 * i, count - i) - load(center + 4 * i, count - i)
                    store(total + 4 * i, load(total + 4 * i, count - i) + gradient, count - i)
                    store(product + 4 * i, load(product + 4 * i, count - i) + gradient * difference, count - i)


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


@inlined
def write_statistics(coefficients, statistics, m, channel, moments, scaling):
    """Write the coefficients of ``normalize`` and, unless it is empty, ``statistics`` of one channel of set m.

    moments: mean and 1 / deviation; scaling: C, weight and bias of the channel. Statistics are (center, remainder,
    1 / deviation) with center + remainder = mean, so that x − center is exact.
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
    bounded = not math.isnan(ceiling)
    height, row_size, size = x.shape[1], x.shape[2] * x.shape[3], coefficients.shape[3]
    nontemporal = prefers_nontemporal(y)
    for item in prange(len(x) * height):
        row = np.intp(item)
        center = row_address(coefficients, set_of_image[row // height])
        scale, shift = center + 4 * size, center + 8 * size
        for start in range(0, row_size, size):
            target, pixels = row_address(y, row) + 4 * start, row_address(x, row) + 4 * start
            count = min(size, row_size - start)
            for i in range(0, count, WIDTH):
                value = load(pixels + 4 * i, count - i) - load(center + 4 * i, count - i)
                value = multiply_add(value, load(scale + 4 * i, count - i), load(shift + 4 * i, count - i))
                if bounded:
                    value = at_most(rectified(value), splat(ceiling))
                store_nontemporal(target + 4 * i, value, count - i, nontemporal)


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_4d, int64_1d)
def normalize_gradient(dx, dy, x, coefficients, set_of_image):
    """dx = a·dy + b·(x − center) + d; coefficients: M×1×(center, a, b, d)×period. Each thread owns rows (n, h)."""
    height, row_size, size = x.shape[1], x.shape[2] * x.shape[3], coefficients.shape[3]
    nontemporal = prefers_nontemporal(dx)
    for item in prange(len(x) * height):
        row = np.intp(item)
        center = row_address(coefficients, set_of_image[row // height])
        a, b, d = center + 4 * size, center + 8 * size, center + 12 * size
        for start in range(0, row_size, size):
            target, count = row_address(dx, row) + 4 * start, min(size, row_size - start)
            pixels, gradients = row_address(x, row) + 4 * start, row_address(dy, row) + 4 * start
            for i in range(0, count, WIDTH):
                value = load(a + 4 * i, count - i) * load(gradients + 4 * i, count - i) + load(d + 4 * i, count - i)
                apart = load(pixels + 4 * i, count - i) - load(center + 4 * i, count - i)
                store_nontemporal(target + 4 * i, value + load(b + 4 * i, count - i) * apart, count - i, nontemporal)
