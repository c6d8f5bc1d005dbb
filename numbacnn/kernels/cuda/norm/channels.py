"""Passes over images in which every channel has numbers of its own: what the normalisations are made of.

Images N×H×W×C fall into M sets: one of the whole batch, or one for each image. Numbers of a channel stand in an array
M×1×k×C. Sums of a set are cut into groups of pixels, by the shape of the set alone; they lie in an array M×groups×k×C,
until a block of threads adds them up in float64.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.lanes import add, in_lanes, multiply_add, subtract, width_of
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d

float32, float64 = types.float32, types.float64
SUM_THREADS = min(128, THREADS)  # of a block that adds up the sums of groups
GROUP = 64  # pixels; more where that would be too many groups
MOST_GROUPS = 512
COLUMNS = 32  # vectors of channels side by side in a block at most
ZERO = np.float32(0)


# -- shapes -----------------------------------------------------------------------------------------------------------


def pattern_shape(sets, numbers, c):
    """Scratch of ``numbers`` for each channel and set."""
    return (sets, 1, numbers, c)


def partial_shape(sets, pixels, numbers, c):
    """Scratch of the partial sums of sets of ``pixels`` each: sets × groups × numbers × C."""
    return (sets, max(1, min(MOST_GROUPS, pixels // GROUP)), numbers, c)


def fitting(partial, x, sets):
    """Of scratch that a plan made for a larger batch, the part for the images at hand: the same bits in any plan."""
    n, h, w, c = x.shape
    return partial[:sets, : partial_shape(sets, n * h * w // sets, 1, c)[1]]


# -- sums: each block owns some channels of a group, each thread a vector of them in every so many pixels -------------


@device_function
def sum_down(value, shared):
    """The sum over the threads below each other in a block, for the uppermost. shared: an element for each thread."""
    i, step = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x, cuda.blockDim.y // 2
    cuda.syncthreads()  # what an earlier call left may still be read
    shared[i] = value
    while step > 0:
        cuda.syncthreads()
        if cuda.threadIdx.y < step:
            shared[i] += shared[i + step * cuda.blockDim.x]
        step //= 2
    return shared[i]


def moments(partial, x):
    """partial[m,g] = (k, Σ(x − k), Σ(x − k)²) over the pixels of group g of set m; k: the group's first pixel.

    So that squares do not drown in the mean's.
    """
    x = _in_long_rows(len(partial), x)[0]
    width = width_of(partial, x)
    _moments[width][_grid(partial, width)](partial, x)


@in_lanes(float32_4d, float32_4d)
def _moments(lanes):
    width, load, store, splat = lanes[:4]
    add_, minus, multiply_add_ = lanes.lift(add), lanes.lift(subtract), lanes.lift(multiply_add, 3)
    down = lanes.join(sum_down, 1)

    def kernel(partial, x):
        shared = cuda.shared.array(THREADS, float32)
        m, g, c = _group_and_channel(partial, width)
        known = c < x.shape[3]
        shift, total, square = splat(ZERO), splat(ZERO), splat(ZERO)
        if known:
            n, h, w, left = _first_pixel(m, g, partial, x)
            shift = load(x, (n, h, w, c))
            n, h, w, left = _next_pixel(n, h, w, left, cuda.threadIdx.y, x)
            while left > 0:
                apart = minus(load(x, (n, h, w, c)), shift)
                total, square = add_(total, apart), multiply_add_(apart, apart, square)
                n, h, w, left = _next_pixel(n, h, w, left, cuda.blockDim.y, x)
        total, square = down((total,), (shared,)), down((square,), (shared,))
        if known and cuda.threadIdx.y == 0:
            store(partial, (m, g, 0, c), shift)
            store(partial, (m, g, 1, c), total)
            store(partial, (m, g, 2, c), square)

    return kernel


def gradient_sums(partial, dy, x, statistics):
    """partial[m,g] = (Σ dy, Σ dy·(x − centre)) over the pixels of group g of set m; centre: the first of statistics."""
    dy, x = _in_long_rows(len(partial), dy, x)
    width = width_of(partial, dy, x, statistics)
    _gradient_sums[width][_grid(partial, width)](partial, dy, x, statistics)


@in_lanes(float32_4d, float32_4d, float32_4d, float32_4d)
def _gradient_sums(lanes):
    width, load, store, splat = lanes[:4]
    add_, minus, multiply_add_ = lanes.lift(add), lanes.lift(subtract), lanes.lift(multiply_add, 3)
    down = lanes.join(sum_down, 1)

    def kernel(partial, dy, x, statistics):
        shared = cuda.shared.array(THREADS, float32)
        m, g, c = _group_and_channel(partial, width)
        known = c < x.shape[3]
        total, product = splat(ZERO), splat(ZERO)
        if known:
            centre = load(statistics, (m, 0, 0, c))
            n, h, w, left = _first_pixel(m, g, partial, x)
            n, h, w, left = _next_pixel(n, h, w, left, cuda.threadIdx.y, x)
            while left > 0:
                gradient, value = load(dy, (n, h, w, c)), load(x, (n, h, w, c))
                total, product = add_(total, gradient), multiply_add_(gradient, minus(value, centre), product)
                n, h, w, left = _next_pixel(n, h, w, left, cuda.blockDim.y, x)
        total, product = down((total,), (shared,)), down((product,), (shared,))
        if known and cuda.threadIdx.y == 0:
            store(partial, (m, g, 0, c), total)
            store(partial, (m, g, 1, c), product)

    return kernel


def _in_long_rows(sets, *arrays):
    """The images with all pixels of a set in one row, where they lie so: there is less to count."""
    if not all(x.contiguous for x in arrays):
        return arrays
    return tuple(x.reshape(sets, 1, -1, x.shape[3]) for x in arrays)


def _grid(partial, width):
    """Blocks of as many columns as there are vectors of channels, up to ``COLUMNS``, and pixels below each other."""
    sets, groups, _, c = partial.shape
    return (sets * groups, -(-c // (block_columns(c, width) * width))), block_threads(c, width)


def block_columns(c, width):
    """Threads side by side: a power of two, so that the rows below are one, too."""
    columns = 1
    while columns * width < c and columns < min(COLUMNS, THREADS):
        columns *= 2
    return columns


def block_threads(c, width):
    """The threads of a block, side by side and below each other."""
    columns = block_columns(c, width)
    return columns, THREADS // columns


@device_function
def _group_and_channel(partial, width):
    """(m, g, c): the set and group of this block, and the first channel of this thread."""
    groups, column = partial.shape[1], cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    return cuda.blockIdx.x // groups, cuda.blockIdx.x % groups, column * width


@device_function
def _first_pixel(m, g, partial, x):
    """(n, h, w, left): the first pixel of group g of set m, and how many the group has."""
    sets, groups = partial.shape[:2]
    height, across = x.shape[1], x.shape[2]
    pixels = x.shape[0] * height * across // sets
    first, last = pixels * g // groups, pixels * (g + 1) // groups
    pixel = m * pixels + first
    return pixel // (height * across), pixel // across % height, pixel % across, last - first


@device_function
def _next_pixel(n, h, w, left, step, x):
    """The pixel ``step`` further, without divisions where rows are longer than that."""
    w, left = w + step, left - step
    while w >= x.shape[2]:
        w -= x.shape[2]
        h += 1
        if h == x.shape[1]:
            h, n = 0, n + 1
    return n, h, w, left


# -- sums of groups: a block of one axis for some channels of a set, whose threads all get the result ------------------


@device_function
def mean_and_variance(shared, partial, m, first, count, pixels):
    """Of channels first … first + count − 1 of set m, from ``moments``, in float64 (Chan et al. 1979, equation 2.1).

    pixels: of a set. The variance is the biased one, over the number of values.
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
        apart = np.float64(partial[m, g, 0, c]) - mean
        square += np.float64(partial[m, g, 2, c]) + apart * (2 * np.float64(partial[m, g, 1, c]) + terms * apart)
        item += cuda.blockDim.x
    return mean, max(block_sum(shared, square), np.float64(0)) / values


@device_function
def write_statistics(pattern, statistics, m, c, mean, inverse, weight, bias):
    """The pattern of ``normalize`` for one channel of set m, and its statistics where there is room:
    (centre, remainder, 1 / deviation) with centre + remainder = mean, so that x − centre loses nothing."""
    centre = np.float32(mean)
    remainder, scale = mean - np.float64(centre), np.float64(weight) * inverse
    pattern[m, 0, 0, c] = centre
    pattern[m, 0, 1, c] = np.float32(scale)
    pattern[m, 0, 2, c] = np.float32(np.float64(bias) - remainder * scale)
    if len(statistics) > 0:
        statistics[m, 0, 0, c] = centre
        statistics[m, 0, 1, c] = np.float32(remainder)
        statistics[m, 0, 2, c] = np.float32(inverse)


# -- from numbers of a channel to images ------------------------------------------------------------------------------


def normalize(y, x, pattern, relu):
    """y = (x − centre)·scale + shift, then ReLU if asked; pattern: M×1×3×C."""
    _normalize([y], [x], [pattern[:, 0, i] for i in range(3)], [relu])


@element_kernel(tables=3, constants=[types.boolean])
def _normalize(x, centre, scale, shift, relu):
    value = (x - centre) * scale + shift
    return ZERO if relu and value < ZERO else value


def normalize_gradient(dx, dy, x, pattern):
    """dx = a·dy + b·(x − centre) + d; pattern: M×1×(centre, a, b, d)×C."""
    _normalize_gradient([dx], [dy, x], [pattern[:, 0, i] for i in range(4)])


@element_kernel(inputs=2, tables=4)
def _normalize_gradient(dy, x, centre, a, b, d):
    return a * dy + d + b * (x - centre)
