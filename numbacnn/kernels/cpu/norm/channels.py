"""Passes over images in which every channel has numbers of its own: what the normalisations are made of.

Images N×H×W×C fall into M sets of equally many rows: one set over the whole batch, or one for each image. Rows are
walked a pattern at a time, some pixels whose floats fill vectors whatever C is; numbers of a channel stand in an array
M×1×k×pattern, repeated for each pixel of it. Sums of a set are cut into groups of rows, by the shape alone.
"""

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.simd.memory import address, goes_past_caches
from numbacnn.kernels.cpu.simd.vector import LANES, load, splat, store, stream, where_greater
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined

TERMS = 1024  # of one float32 sum at most; the sums are added in float64
LEAST_GROUPS = 16  # where there are so many rows: work for that many threads
ZERO = np.float32(0)


# -- shapes -----------------------------------------------------------------------------------------------------------


def pattern_size(c):
    """Floats of a pattern: from 8 channels on 8 pixels fill any vector, from 64 on one does so nearly."""
    return c if c >= 64 else c * 8 * max(1, 8 // c)


def pattern_shape(sets, numbers, c):
    """Scratch of ``numbers`` for each channel and set."""
    return (sets, 1, numbers, pattern_size(c))


def partial_shape(sets, rows, numbers, w, c):
    """Scratch of the partial sums: sets × groups × numbers × pattern, for sets of ``rows`` rows of ``w`` pixels."""
    terms = -(-w * c // pattern_size(c))  # that a row adds to a sum
    groups = max(min(rows, LEAST_GROUPS), -(-rows // max(1, TERMS // terms)))  # never more for fewer rows
    return (sets, groups, numbers, pattern_size(c))


def fitting(partial, x, sets):
    """Of scratch that a plan made for a larger batch, the part for the images at hand: the same bits in any plan."""
    _, h, w, c = x.shape
    return partial[:sets, : partial_shape(sets, len(x) * h // sets, 1, w, c)[1]]


# -- sums -------------------------------------------------------------------------------------------------------------


@cpu_kernel(float32_4d, float32_4d)
def moments(partial, x):
    """partial[m,g] = (k, Σ(x − k), Σ(x − k)²) over the rows of group g of set m; k: the group's first pixels.

    So that squares do not drown in the mean's. Each thread owns a range of groups.
    """
    sets, groups, _, size = partial.shape
    rows, row_size = len(x) * x.shape[1] // sets, x.shape[2] * x.shape[3]
    known = min(size, row_size)
    for item in prange(sets * groups):
        m, g = np.intp(item) // groups, np.intp(item) % groups
        first, last = _rows_of(m, g, rows, groups)
        shift = address(partial) + m * partial.strides[0] + g * partial.strides[1]
        total, square = shift + 4 * size, shift + 8 * size
        for i in range(0, known, LANES):
            store(shift + 4 * i, load(_row(x, first) + 4 * i, known - i), known - i)
            store(total + 4 * i, splat(ZERO), known - i)
            store(square + 4 * i, splat(ZERO), known - i)
        for row in range(first, last):
            for start in range(0, row_size, size):
                pixels, count = _row(x, row) + 4 * start, min(size, row_size - start)
                for i in range(0, count, LANES):
                    difference = load(pixels + 4 * i, count - i) - load(shift + 4 * i, count - i)
                    store(total + 4 * i, load(total + 4 * i, count - i) + difference, count - i)
                    store(square + 4 * i, load(square + 4 * i, count - i) + difference * difference, count - i)


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_4d)
def gradient_sums(partial, dy, x, statistics):
    """partial[m,g] = (Σ dy, Σ dy·(x − centre)) over the rows of group g of set m; centre: the first of statistics.

    Each thread owns a range of groups.
    """
    sets, groups, _, size = partial.shape
    rows, row_size = len(x) * x.shape[1] // sets, x.shape[2] * x.shape[3]
    known = min(size, row_size)
    for item in prange(sets * groups):
        m, g = np.intp(item) // groups, np.intp(item) % groups
        first, last = _rows_of(m, g, rows, groups)
        centre = address(statistics) + m * statistics.strides[0]
        total = address(partial) + m * partial.strides[0] + g * partial.strides[1]
        product = total + 4 * size
        for i in range(0, known, LANES):
            store(total + 4 * i, splat(ZERO), known - i)
            store(product + 4 * i, splat(ZERO), known - i)
        for row in range(first, last):
            for start in range(0, row_size, size):
                pixels, gradients = _row(x, row) + 4 * start, _row(dy, row) + 4 * start
                count = min(size, row_size - start)
                for i in range(0, count, LANES):
                    gradient = load(gradients + 4 * i, count - i)
                    difference = load(pixels + 4 * i, count - i) - load(centre + 4 * i, count - i)
                    store(total + 4 * i, load(total + 4 * i, count - i) + gradient, count - i)
                    store(product + 4 * i, load(product + 4 * i, count - i) + gradient * difference, count - i)


@inlined
def _row(x, row):
    """Where row number ``row`` of all the images' rows starts."""
    return address(x) + row // x.shape[1] * x.strides[0] + row % x.shape[1] * x.strides[1]


@inlined
def _rows_of(m, g, rows, groups):
    """The rows of group g of set m, of all the images' rows."""
    return m * rows + rows * g // groups, m * rows + rows * (g + 1) // groups


@inlined
def mean_and_variance(partial, m, first, last, rows, w, c):
    """Of channels first … last − 1 of set m, from ``moments``, in float64 (Chan et al. 1979, equation 2.1).

    rows, w, c: of a set, as ``moments`` saw them. The variance is the biased one, over the number of values.
    """
    groups, pixels = partial.shape[1], partial.shape[3] // c
    count = np.float64(rows) * w * (last - first)
    total = np.float64(0)
    for g in range(groups):
        for pixel in range(min(pixels, w)):
            terms = _terms(g, pixel, rows, groups, pixels, w)
            for i in range(pixel * c + first, pixel * c + last):
                total += terms * np.float64(partial[m, g, 0, i]) + np.float64(partial[m, g, 1, i])
    mean = total / count
    square = np.float64(0)
    for g in range(groups):
        for pixel in range(min(pixels, w)):
            terms = _terms(g, pixel, rows, groups, pixels, w)
            for i in range(pixel * c + first, pixel * c + last):
                apart = np.float64(partial[m, g, 0, i]) - mean
                square += partial[m, g, 2, i] + apart * (2 * np.float64(partial[m, g, 1, i]) + terms * apart)
    return mean, max(square, np.float64(0)) / count


@inlined
def _terms(g, pixel, rows, groups, pixels, w):
    """How many values each channel of a pattern's pixel met in group g."""
    return (rows * (g + 1) // groups - rows * g // groups) * (w // pixels + (1 if pixel < w % pixels else 0))


@inlined
def write_statistics(pattern, statistics, m, channel, c, mean, inverse, weight, bias):
    """The pattern of ``normalize`` for one channel of set m, and its statistics where there is room:
    (centre, remainder, 1 / deviation) with centre + remainder = mean, so that x − centre loses nothing."""
    centre = np.float32(mean)
    remainder, scale = mean - np.float64(centre), weight * inverse
    for i in range(channel, pattern.shape[3], c):
        pattern[m, 0, 0, i] = centre
        pattern[m, 0, 1, i] = scale
        pattern[m, 0, 2, i] = bias - remainder * scale
        if len(statistics) > 0:
            statistics[m, 0, 0, i] = centre
            statistics[m, 0, 1, i] = remainder
            statistics[m, 0, 2, i] = inverse


@inlined
def total_of(partial, m, number, channel, w, c):
    """Σ of one of the numbers of ``gradient_sums`` for one channel of set m, in float64."""
    total = np.float64(0)
    for g in range(partial.shape[1]):
        for i in range(channel, min(partial.shape[3], w * c), c):
            total += partial[m, g, number, i]
    return total


# -- from numbers of a channel to images ------------------------------------------------------------------------------


@cpu_kernel(float32_4d, float32_4d, float32_4d, types.boolean)
def normalize(y, x, pattern, relu):
    """y = (x − centre)·scale + shift, then ReLU if asked; pattern: M×1×3×pattern. Each thread owns rows (n, h)."""
    row_size, size = x.shape[2] * x.shape[3], pattern.shape[3]
    rows, past = len(x) * x.shape[1] // len(pattern), goes_past_caches(y)
    for item in prange(len(x) * x.shape[1]):
        row = np.intp(item)
        centre = address(pattern) + row // rows * pattern.strides[0]
        scale, shift = centre + 4 * size, centre + 8 * size
        for start in range(0, row_size, size):
            target, pixels, count = _row(y, row) + 4 * start, _row(x, row) + 4 * start, min(size, row_size - start)
            for i in range(0, count, LANES):
                value = load(pixels + 4 * i, count - i) - load(centre + 4 * i, count - i)
                value = value * load(scale + 4 * i, count - i) + load(shift + 4 * i, count - i)
                if relu:
                    value = where_greater(value, splat(ZERO), value, splat(ZERO))
                stream(target + 4 * i, value, count - i, past)


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_4d)
def normalize_gradient(dx, dy, x, pattern):
    """dx = a·dy + b·(x − centre) + d; pattern: M×1×(centre, a, b, d)×pattern. Each thread owns rows (n, h)."""
    row_size, size = x.shape[2] * x.shape[3], pattern.shape[3]
    rows, past = len(x) * x.shape[1] // len(pattern), goes_past_caches(dx)
    for item in prange(len(x) * x.shape[1]):
        row = np.intp(item)
        centre = address(pattern) + row // rows * pattern.strides[0]
        a, b, d = centre + 4 * size, centre + 8 * size, centre + 12 * size
        for start in range(0, row_size, size):
            target, count = _row(dx, row) + 4 * start, min(size, row_size - start)
            pixels, gradients = _row(x, row) + 4 * start, _row(dy, row) + 4 * start
            for i in range(0, count, LANES):
                value = load(a + 4 * i, count - i) * load(gradients + 4 * i, count - i) + load(d + 4 * i, count - i)
                apart = load(pixels + 4 * i, count - i) - load(centre + 4 * i, count - i)
                stream(target + 4 * i, value + load(b + 4 * i, count - i) * apart, count - i, past)
