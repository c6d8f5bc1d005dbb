"""Passes over images in which every channel has its own numbers: the parts that normalizations are made of.

Images N×H×W×C form M sets of equal size: one set for the whole batch, or one for each image. The k coefficients of each
channel are stored as M×1×k×C. The sums of a set are cut into groups of pixels, by the shape alone, and stored as
M×groups×k×C; a block then adds them in float64.
"""

import math

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.reduce import block_sum, column_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, device_math, scalar_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d
from numbacnn.kernels.cuda.vectors import add, multiply, multiply_add, subtract, vector_width, vectorized
from numbacnn.kernels.scalar import at_least

float32, float64 = types.float32, types.float64
at_least_ = scalar_function(at_least)
SUM_THREADS = min(128, THREADS)  # per block that adds the sums of groups
GROUP = 64  # pixels, unless that would be more than MAX_GROUPS
MAX_GROUPS = 512
COLUMNS = 32  # threads along the channels of a block, at most
ZERO, INFINITY = np.float32(0), np.float32(np.inf)
SHRINK, LARGEST = np.float32(2.0**-80), np.finfo(np.float32).max  # squares of numbers times SHRINK do not overflow


# -- shapes -----------------------------------------------------------------------------------------------------------


def norm_coefficients_shape(sets, numbers, c):
    """Scratch of ``numbers`` for each channel and set."""
    return (sets, 1, numbers, c)


def norm_partial_shape(sets, rows, numbers, w, c):
    """Scratch of the partial sums: sets × groups × numbers × C, for sets of ``rows`` rows of ``w`` pixels."""
    return (sets, max(1, min(MAX_GROUPS, rows * w // GROUP)), numbers, c)


def fitting(partial, x, sets):
    """The part of scratch, planned for a larger batch, that these images use: the same bits in any plan."""
    n, h, w, c = x.shape
    return partial[:sets, : norm_partial_shape(sets, n * h // sets, 1, w, c)[1]]


# -- sums: each block owns channels of a group, and each thread a vector of them in every blockDim.y-th pixel ---------


@device_function
def _stored_squares(square, small_square):
    """A sum of squares, or −√ of it if it overflows, from the sum of (SHRINK · x)²."""
    return -device_math.sqrt(small_square) / SHRINK if square > LARGEST else square


def moments(partial, x):
    """partial[m,g] = (k, Σ(x − k), Σ(x − k)²) over the pixels of group g of set m; k: the first pixel of the group.

    Subtracting k keeps a large mean from absorbing the deviations. A sum of squares that overflows is stored as −√Σ.
    """
    x = _merge_rows(len(partial), x)[0]
    width = vector_width(partial, x)
    _moments[width][_grid(partial, width)](partial, x)


@vectorized(float32_4d, float32_4d)
def _moments(vector):
    width, load, store, splat = vector[:4]
    add_, minus, multiply_add_ = vector.lift(add), vector.lift(subtract), vector.lift(multiply_add, 3)
    multiply_, stored = vector.lift(multiply), vector.lift(_stored_squares)
    column_sum_ = vector.join(column_sum, 1)

    def kernel(partial, x):
        shared = cuda.shared.array(THREADS, float32)
        m, g, c = _group_and_channel(partial, width)
        valid = c < x.shape[3]
        shift, total, square, small_square = splat(ZERO), splat(ZERO), splat(ZERO), splat(ZERO)
        if valid:
            n, h, w, left = _first_pixel(m, g, partial, x)
            shift = load(x, (n, h, w, c))
            n, h, w, left = _next_pixel(n, h, w, left, cuda.threadIdx.y, x)
            while left > 0:
                difference = minus(load(x, (n, h, w, c)), shift)
                total, square = add_(total, difference), multiply_add_(difference, difference, square)
                small = multiply_(difference, splat(SHRINK))
                small_square = multiply_add_(small, small, small_square)
                n, h, w, left = _next_pixel(n, h, w, left, cuda.blockDim.y, x)
        total, square = column_sum_((total,), (shared,)), column_sum_((square,), (shared,))
        small_square = column_sum_((small_square,), (shared,))
        if valid and cuda.threadIdx.y == 0:
            store(partial, (m, g, 0, c), shift)
            store(partial, (m, g, 1, c), total)
            store(partial, (m, g, 2, c), stored(square, small_square))

    return kernel


@device_function
def _sum_of_squares(stored):
    """The sum of squares, in float64."""
    value = np.float64(stored)
    return value * value if value < 0 else value


def gradient_sums(partial, dy, x, statistics, ceiling):
    """partial[m,g] = (Σ dy, Σ dy·(x − center)) over the pixels of group g of set m.

    statistics: of ``write_statistics``. Unless ``ceiling`` is NaN, dy counts as 0 where the clamp to 0 … ceiling of
    ``normalize`` has no gradient.
    """
    dy, x = _merge_rows(len(partial), dy, x)
    width = vector_width(partial, dy, x, statistics)
    _gradient_sums[width][_grid(partial, width)](partial, dy, x, statistics, np.float32(ceiling))


@device_function
def _clamp_gradient(dy, difference, scale, shift, ceiling):
    """The gradient by v = difference·scale + shift, from that by v between 0 and ``ceiling``, unless that is NaN.

    0 at the bounds, but at an infinite ceiling dy; where v is NaN, dy.
    """
    value = difference * scale + shift
    if ceiling != ceiling:  # NaN
        return dy
    return ZERO if value <= ZERO or (value >= ceiling and ceiling < INFINITY) else dy


@vectorized(float32_4d, float32_4d, float32_4d, float32_4d, float32)
def _gradient_sums(vector):
    width, load, store, splat = vector[:4]
    add_, minus, multiply_add_ = vector.lift(add), vector.lift(subtract), vector.lift(multiply_add, 3)
    column_sum_, clamp_gradient = vector.join(column_sum, 1), vector.join(_clamp_gradient, 4)

    def kernel(partial, dy, x, statistics, ceiling):
        shared = cuda.shared.array(THREADS, float32)
        m, g, c = _group_and_channel(partial, width)
        valid = c < x.shape[3]
        total, product = splat(ZERO), splat(ZERO)
        if valid:
            center, scale = load(statistics, (m, 0, 0, c)), load(statistics, (m, 0, 3, c))
            shift = load(statistics, (m, 0, 4, c))
            n, h, w, left = _first_pixel(m, g, partial, x)
            n, h, w, left = _next_pixel(n, h, w, left, cuda.threadIdx.y, x)
            while left > 0:
                gradient, difference = load(dy, (n, h, w, c)), minus(load(x, (n, h, w, c)), center)
                gradient = clamp_gradient((gradient, difference, scale, shift), (ceiling,))
                total, product = add_(total, gradient), multiply_add_(gradient, difference, product)
                n, h, w, left = _next_pixel(n, h, w, left, cuda.blockDim.y, x)
        total, product = column_sum_((total,), (shared,)), column_sum_((product,), (shared,))
        if valid and cuda.threadIdx.y == 0:
            store(partial, (m, g, 0, c), total)
            store(partial, (m, g, 1, c), product)

    return kernel


def _merge_rows(sets, *arrays):
    """The images with all pixels of a set in one row, if they are contiguous: it saves index arithmetic."""
    if not all(x.contiguous for x in arrays):
        return arrays
    return tuple(x.reshape(sets, 1, -1, x.shape[3]) for x in arrays)


def _grid(partial, width):
    """The launch configuration: a block for each group and up to ``COLUMNS`` vectors of channels."""
    sets, groups, _, c = partial.shape
    return (sets * groups, -(-c // (block_columns(c, width) * width))), block_threads(c, width)


def block_columns(c, width):
    """The threads of a block along the channels: a power of two, so that the number of rows is one, too."""
    columns = 1
    while columns * width < c and columns < min(COLUMNS, THREADS):
        columns *= 2
    return columns


def block_threads(c, width):
    """The threads of a block along the channels and along the pixels."""
    columns = block_columns(c, width)
    return columns, THREADS // columns


@device_function
def _group_and_channel(partial, width):
    """(m, g, c): the set and group of this block, and the first channel of this thread."""
    groups, column = partial.shape[1], cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    return cuda.blockIdx.x // groups, cuda.blockIdx.x % groups, column * width


@device_function
def _first_pixel(m, g, partial, x):
    """(n, h, w, left): the first pixel of group g of set m, and the number of pixels of the group."""
    sets, groups = partial.shape[:2]
    height, across = x.shape[1], x.shape[2]
    pixels = x.shape[0] * height * across // sets
    first, last = pixels * g // groups, pixels * (g + 1) // groups
    pixel = m * pixels + first
    return pixel // (height * across), pixel // across % height, pixel % across, last - first


@device_function
def _next_pixel(n, h, w, left, step, x):
    """The pixel ``step`` further on, without divisions."""
    w, left = w + step, left - step
    while w >= x.shape[2]:
        w -= x.shape[2]
        h += 1
        if h == x.shape[1]:
            h, n = 0, n + 1
    return n, h, w, left


# -- sums of groups: a one-dimensional block for channels of a set, whose threads all get the result ------------------


@device_function
def mean_and_variance(shared, partial, m, first, count, pixels):
    """The mean and variance of ``count`` channels of set m, in float64 (Chan et al. 1979, equation 2.1).

    partial: from ``moments``; pixels: of a set. The variance is the biased one, over the number of values.
    """
    groups, values = partial.shape[1], np.float64(pixels) * count
    total, item = np.float64(0), cuda.threadIdx.x
    while item < groups * count:
        g, c = item // count, first + item % count
        terms = pixels * (g + 1) // groups - pixels * g // groups
        total += terms * np.float64(partial[m, g, 0, c]) + np.float64(partial[m, g, 1, c])
        item += cuda.blockDim.x
    mean = block_sum(shared, total) / values
    square, item = np.float64(0), cuda.threadIdx.x
    while item < groups * count:
        g, c = item // count, first + item % count
        terms = pixels * (g + 1) // groups - pixels * g // groups
        shift = np.float64(partial[m, g, 0, c]) - mean
        square += _sum_of_squares(partial[m, g, 2, c]) + shift * (2 * np.float64(partial[m, g, 1, c]) + terms * shift)
        item += cuda.blockDim.x
    return mean, at_least_(np.float64(0), block_sum(shared, square)) / values


@device_function
def write_statistics(coefficients, statistics, m, c, moments, affine):
    """Write the coefficients of ``normalize`` and, unless it is empty, ``statistics`` of channel c of set m.

    moments: mean and 1 / deviation; affine: weight and bias of the channel. Statistics are (center, remainder,
    1 / deviation) with center + remainder = mean, so that x − center is exact, then the coefficients (scale, shift).
    """
    (mean, inverse), (weight, bias) = moments, affine
    center = np.float32(mean)
    remainder, scale = mean - np.float64(center), np.float64(weight) * inverse
    coefficients[m, 0, 0, c] = center
    coefficients[m, 0, 1, c] = np.float32(scale)
    coefficients[m, 0, 2, c] = np.float32(np.float64(bias) - remainder * scale)
    if len(statistics) > 0:
        statistics[m, 0, 0, c] = center
        statistics[m, 0, 1, c] = np.float32(remainder)
        statistics[m, 0, 2, c] = np.float32(inverse)
        statistics[m, 0, 3, c] = coefficients[m, 0, 1, c]
        statistics[m, 0, 4, c] = coefficients[m, 0, 2, c]


# -- from per-channel numbers to images -------------------------------------------------------------------------------


def normalize(y, x, coefficients, ceiling):
    """y = (x − center)·scale + shift, between 0 and ``ceiling`` unless that is NaN; coefficients: M×1×3×C."""
    _normalize([y], [x], [coefficients[:, 0, i] for i in range(3)], [np.float32(ceiling)])


@element_kernel(tables=3, constants=[float32])
def _normalize(x, center, scale, shift, ceiling):
    value = (x - center) * scale + shift
    if ceiling != ceiling:  # NaN
        return value
    return ZERO if value < ZERO else (ceiling if value > ceiling else value)


def normalize_gradient(dx, dy, x, coefficients, statistics, ceiling):
    """dx = a·dy + b·(x − center) + d; coefficients: M×1×(a, b, d)×C; dy by ``ceiling`` as in ``gradient_sums``."""
    tables = [coefficients[:, 0, i] for i in range(3)] + [statistics[:, 0, 0]]
    if math.isnan(ceiling):
        _normalize_gradient([dx], [dy, x], tables)
    else:
        tables += [statistics[:, 0, i] for i in (3, 4)]
        _normalize_clamped_gradient([dx], [dy, x], tables, [np.float32(ceiling)])


@element_kernel(inputs=2, tables=4)
def _normalize_gradient(dy, x, a, b, d, center):
    return a * dy + d + b * (x - center)


@element_kernel(inputs=2, tables=6, constants=[float32])
def _normalize_clamped_gradient(dy, x, a, b, d, center, scale, shift, ceiling):
    return a * _clamp_gradient(dy, x - center, scale, shift, ceiling) + d + b * (x - center)
