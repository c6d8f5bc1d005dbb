"""Augmentation: random numbers for each image, resampling, and pixel operations. Images are N×H×W×C in any units.

Every random number is a word of Philox, keyed by the seed, at the counter (block of four words, index of the image in
its data set, epoch, purpose), so that an image has the same numbers in any batch and on any thread. ``random`` is
(seed, epoch); ``purpose`` is 0 for the numbers that the whole chain of transforms shares, or a transform's position in
it, from 1.

All arithmetic is in order, without fast-math: the results are those of the same formulas in NumPy.
"""

import math
from functools import partial

import numpy as np
from numba import prange, types

from numbacnn.kernels import scalar
from numbacnn.kernels.cpu.elementwise import uint8_2d
from numbacnn.kernels.cpu.simd.memory import address, floats, stack_floats
from numbacnn.kernels.cpu.views import row
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, in_order, inlined, int64_1d
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import HALF, LOW, ONE, SHIFT, ZERO

uint64 = types.uint64
uint64_1d = types.Array(uint64, 1, "C")
int64_2d = types.Array(types.int64, 2, "C")
compiled_into = partial(inlined, always=True)  # a call would keep the loop around it from being vectorized
philox, luma = compiled_into(scalar.philox), in_order(scalar.luma)

PURPOSE = np.uint64(0xA4630000)  # far from the streams of dropout layers, which may share the seed
EIGHT, BYTE = np.uint64(8), np.float32(255)
UNIT, TWO_UNITS = np.float32(2.0**-24), np.float32(2.0**-23)
WORD, TURN = 2.0**-32, 2 * math.pi


@compiled_into
def _words(block, index, random, purpose):
    seed, epoch = random[0], random[1]
    counter_2, counter_3 = epoch & LOW, PURPOSE + purpose
    return philox(np.uint64(block), np.uint64(index) & LOW, counter_2, counter_3, seed & LOW, seed >> SHIFT)


@in_order
def _uniform(word):
    """A number in [0, 1) from 24 bits, which float32 holds exactly."""
    return np.float32(word >> EIGHT) * UNIT


@launcher
@cpu_kernel(float32_2d, int64_1d, uint64_1d)
def draw_uniforms(u, indices, random):
    """u: N × a multiple of 4, uniform in [0, 1). Each thread owns a range of images."""
    for item in prange(len(u)):
        n = np.intp(item)
        for block in range(u.shape[1] // 4):
            words = _words(block, indices[n], random, np.uint64(0))
            for i in range(4):
                u[n, 4 * block + i] = _uniform(words[i])


# -- the field of elastic distortions ---------------------------------------------------------------------------------


@launcher
@cpu_kernel(float32_2d, float32_2d, int64_1d, uint64_1d, uint64, float32_1d, float32_1d, types.int64)
def draw_field(field, scratch, indices, random, purpose, strengths, weights, width):
    """field[2n] and field[2n + 1] = the displacements along x and y of image n's pixels, planes of H·W numbers.

    They are uniform numbers in [−1, 1), drawn column by column, smoothed by ``weights`` along both axes with zeros
    outside, times strengths[n] (Simard et al. 2003, section 2). scratch: of the size of field. Each thread owns a range
    of planes.
    """
    for item in prange(len(field)):
        plane = np.intp(item)
        n, axis = plane // 2, plane % 2
        y, z = field[plane], scratch[plane]
        height = len(y) // width
        if strengths[n] == ZERO:
            _clear(y)
        else:
            _draw_plane(y, indices[n], random, purpose, axis)
            _smooth(z, y, weights, height)
            _transpose(y, z, width, height)
            _smooth(z, y, weights, width)
            _scale(y, z, strengths[n])


@in_order
def _draw_plane(y, index, random, purpose, axis):
    whole, blocks = len(y) // 4, -(-len(y) // 4)
    for block in range(whole):  # without branches, so that it is vectorized over blocks
        a, b, c, d = _words(axis * blocks + block, index, random, purpose)
        i = np.uintp(4 * block)
        y[i], y[i + 1], y[i + 2], y[i + 3] = _signed(a), _signed(b), _signed(c), _signed(d)
    if whole < blocks:
        words = _words(axis * blocks + whole, index, random, purpose)
        for i in range(len(y) - 4 * whole):
            y[4 * whole + i] = _signed(words[i])


@in_order
def _signed(word):
    """A number in [−1, 1)."""
    return np.float32(word >> EIGHT) * TWO_UNITS - ONE


@in_order
def _smooth(y, x, weights, stride):
    """Smooth along the slow axis, in steps of ``stride``: each weight is applied to the whole plane, in vectors."""
    radius = len(weights) // 2
    _clear(y)
    for k in range(-radius, radius + 1):
        count = len(x) - abs(k) * stride
        if count > 0:
            to, start = max(0, -k) * stride, max(0, k) * stride
            _add_scaled(floats(address(y) + 4 * to, count), floats(address(x) + 4 * start, count), weights[k + radius])


@in_order
def _add_scaled(y, x, weight):
    for i in range(len(y)):
        y[i] += weight * x[i]


@in_order
def _transpose(y, x, rows, columns):
    """y = xᵀ; y: columns × rows, x: rows × columns."""
    for j in range(columns):
        for i in range(rows):
            y[j * rows + i] = x[i * columns + j]


@in_order
def _clear(y):
    for i in range(len(y)):
        y[i] = 0


@in_order
def _scale(y, x, factor):
    for i in range(len(y)):
        y[i] = factor * x[i]


# -- resampling -------------------------------------------------------------------------------------------------------

PART = 64  # pixels of a row whose sources are computed together: few enough for the first-level cache
_memory = stack_floats(2 * PART)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_2d, float32_2d, types.float32)
def warp_bilinear(y, x, matrices, field, fill):
    """y[n,h,w] = x at (a·w + b·h + t, c·w + d·h + u), interpolated between four pixels, with ``fill`` outside.

    matrices: N×6, (a, b, t, c, d, u) of each image. field: 2N × H·W, added to (w, h) first, or 0×0 for none. x has no
    halo. Each thread owns a range of rows (n, h) of y.
    """
    for item in prange(y.shape[0] * y.shape[1]):
        n, h = np.intp(item) // y.shape[1], np.intp(item) % y.shape[1]
        line, image, channels, memory = row(y, item), _image(x, n), y.shape[3], _memory()
        for first in range(0, y.shape[2], PART):
            i, j = _sources(memory, n, h, first, y.shape[2], matrices, field)
            _clip(i, np.float32(x.shape[1]))
            _clip(j, np.float32(x.shape[2]))
            part = floats(address(line) + 4 * first * channels, len(i) * channels)
            _interpolate(part, image, i, j, x.shape[1], x.shape[2], channels, fill)


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_2d, float32_2d, types.float32)
def warp_nearest(y, x, matrices, field, fill):
    """``warp_bilinear`` with the nearest pixel instead of interpolation: for masks, whose numbers are classes."""
    for item in prange(y.shape[0] * y.shape[1]):
        n, h, memory = np.intp(item) // y.shape[1], np.intp(item) % y.shape[1], _memory()
        for first in range(0, y.shape[2], PART):
            rows, columns = _sources(memory, n, h, first, y.shape[2], matrices, field)
            for k in range(len(rows)):
                i, j = math.floor(rows[k] + HALF), math.floor(columns[k] + HALF)
                inside = 0 <= i < x.shape[1] and 0 <= j < x.shape[2]
                for c in range(y.shape[3]):
                    y[n, h, first + k, c] = x[n, np.intp(i), np.intp(j), c] if inside else fill


@inlined
def _image(x, n):
    return floats(address(x) + n * x.strides[0], x.shape[1] * x.shape[2] * x.shape[3])


@inlined
def _sources(memory, n, h, first, width, matrices, field):
    """The rows and columns of x, in ``memory``, of at most PART pixels of row h of y from ``first`` on."""
    count = min(PART, width - first)
    i, j = floats(memory, count), floats(memory + 4 * PART, count)
    _number(i, j, h, first)
    if len(field) > 0:
        start = address(field) + 2 * n * field.strides[0] + 4 * (h * width + first)
        _add_scaled(j, floats(start, count), ONE)
        _add_scaled(i, floats(start + field.strides[0], count), ONE)
    _transform(i, j, matrices[n])
    return i, j


@in_order
def _number(i, j, h, first):
    for k in range(len(i)):
        i[k], j[k] = h, first + k


@in_order
def _transform(i, j, matrix):
    a, b, t, c, d, u = matrix[0], matrix[1], matrix[2], matrix[3], matrix[4], matrix[5]
    for k in range(len(i)):
        across, down = j[k], i[k]
        i[k], j[k] = c * across + d * down + u, a * across + b * down + t


@in_order
def _clip(i, size):
    """Replace NaN, and coordinates to which no pixel contributes, by ``size``, which is outside too."""
    for k in range(len(i)):
        i[k] = i[k] if -ONE < i[k] < size else size


@in_order
def _interpolate(y, x, i, j, height, width, channels, fill):
    """Write a row of pixels. Interpolating by differences keeps constant areas exact."""
    line = width * channels
    for k in range(len(i)):
        # i, j > −1, so truncating i + 1 is floor(i) + 1. floor would be a function call.
        top, left = np.intp(i[k] + ONE) - 1, np.intp(j[k] + ONE) - 1
        down, across = i[k] - np.float32(top), j[k] - np.float32(left)
        north, south = 0 <= top < height, top + 1 < height
        west, east = 0 <= left < width, left + 1 < width
        inside = north and south and west and east
        for channel in range(channels):
            at = (top * width + left) * channels + channel
            if inside:
                a, b = x[np.uintp(at)], x[np.uintp(at + channels)]
                c, d = x[np.uintp(at + line)], x[np.uintp(at + line + channels)]
            else:
                a = x[np.uintp(at)] if north and west else fill
                b = x[np.uintp(at + channels)] if north and east else fill
                c = x[np.uintp(at + line)] if south and west else fill
                d = x[np.uintp(at + line + channels)] if south and east else fill
            above, below = a + across * (b - a), c + across * (d - c)
            y[np.uintp(k * channels + channel)] = above + down * (below - above)


# -- pixel operations -------------------------------------------------------------------------------------------------


@launcher
@cpu_kernel(float32_4d, int64_2d, types.float32)
def fill_boxes_in_place(x, boxes, fill):
    """x[n] = fill where top ≤ h < bottom, left ≤ w < right. boxes: N × (top, left, bottom, right), inside the image.

    Each thread owns a range of images.
    """
    for n in prange(len(x)):
        for h in range(boxes[n, 0], boxes[n, 2]):
            for w in range(boxes[n, 1], boxes[n, 3]):
                for c in range(x.shape[3]):
                    x[n, h, w, c] = fill


@launcher
@cpu_kernel(float32_4d, float32_4d, int64_2d)
def paste_boxes_in_place(y, x, boxes):
    """y[n] = x[n] in the boxes of ``fill_boxes_in_place`` (CutMix). Each thread owns a range of images."""
    for n in prange(len(y)):
        for h in range(boxes[n, 0], boxes[n, 2]):
            for w in range(boxes[n, 1], boxes[n, 3]):
                for c in range(y.shape[3]):
                    y[n, h, w, c] = x[n, h, w, c]


@launcher
@cpu_kernel(float32_4d, float32_4d, float32_1d)
def mix_in_place(y, x, shares):
    """y[n] becomes y[n] + shares[n] · (x[n] − y[n]) (mixup). Each thread owns a range of rows (n, h)."""
    for item in prange(y.shape[0] * y.shape[1]):
        _mix_row(row(y, item), row(x, item), shares[np.intp(item) // y.shape[1]])


@in_order
def _mix_row(y, x, share):
    for i in range(len(y)):
        y[i] += share * (x[i] - y[i])


@launcher
@cpu_kernel(float32_4d, int64_1d, uint64_1d, uint64, float32_1d)
def add_noise_in_place(x, indices, random, purpose, deviations):
    """x[n] += deviations[n] · normal numbers (Box and Muller 1958). Each thread owns a range of rows (n, h)."""
    for item in prange(x.shape[0] * x.shape[1]):
        n, h = np.intp(item) // x.shape[1], np.intp(item) % x.shape[1]
        if deviations[n] != ZERO:
            _add_noise(row(x, item), h, indices[n], random, purpose, deviations[n])


@in_order
def _add_noise(x, h, index, random, purpose, deviation):
    """Four words make four numbers: two radii, each with the cosine and sine of an angle."""
    blocks = -(-len(x) // 4)
    for block in range(blocks):
        words = _words(h * blocks + block, index, random, purpose)
        for pair in range(min(2, (len(x) - 4 * block + 1) // 2)):
            i = 4 * block + 2 * pair
            radius = math.sqrt(-2 * math.log((np.float64(words[2 * pair]) + 1) * WORD))
            angle = TURN * WORD * np.float64(words[2 * pair + 1])
            x[i] += deviation * np.float32(radius * math.cos(angle))
            if i + 1 < len(x):
                x[i + 1] += deviation * np.float32(radius * math.sin(angle))


@launcher
@cpu_kernel(float32_4d, float32_2d)
def jitter_colors_in_place(x, factors):
    """factors: N × (brightness, contrast, saturation). Each thread owns a range of images.

    In this order: multiply by brightness; scale the distance from the image's mean gray by contrast; scale the distance
    from the pixel's own gray by saturation.
    """
    for item in prange(len(x)):
        n = np.intp(item)
        brightness, contrast, saturation = factors[n, 0], factors[n, 1], factors[n, 2]
        if brightness != ONE or contrast != ONE or saturation != ONE:
            _jitter(x, n, brightness, contrast, saturation)


@in_order
def _jitter(x, n, brightness, contrast, saturation):
    total = 0.0
    for h in range(x.shape[1]):
        for w in range(x.shape[2]):
            total += luma(x, n, h, w)
    center = (ONE - contrast) * (brightness * np.float32(total / (x.shape[1] * x.shape[2])))
    for h in range(x.shape[1]):
        for w in range(x.shape[2]):
            for c in range(x.shape[3]):
                x[n, h, w, c] = contrast * (brightness * x[n, h, w, c]) + center
            gray = (ONE - saturation) * luma(x, n, h, w)
            for c in range(x.shape[3]):
                x[n, h, w, c] = saturation * x[n, h, w, c] + gray


@launcher
@cpu_kernel(uint8_2d, float32_4d)
def round_to_bytes(y, x):
    """y = x rounded to the nearest byte; N·H × W·C. Each thread owns a range of rows (n, h)."""
    for item in prange(x.shape[0] * x.shape[1]):
        _round_row(y[np.intp(item)], row(x, item))


@in_order
def _round_row(y, x):
    for i in range(len(x)):
        value = x[i] + HALF
        y[i] = np.uint8(min(max(value, ZERO), BYTE))
