"""Augmentation: random numbers for each image, resampling, and pixel transforms. Images are N×H×W×C.

Every random number is a word of Philox at the counter (block, index of the image in its data set, epoch, purpose),
keyed by the seed, as on the CPU. ``random`` is (seed, epoch). ``purpose`` separates streams: 0 for the uniform numbers
of all transforms, otherwise the position of a transform in the chain.
"""

import numpy as np
from numba import types

from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.elementwise import uint8_2d
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cospi, cuda, device_function, device_math, scalar_function, sinpi
from numbacnn.kernels.cuda.runtime.jit import (
    THREADS,
    cuda_kernel,
    float32_1d,
    float32_2d,
    float32_3d,
    float32_4d,
    int64,
    int64_1d,
    over,
    over_rows,
    row_loop,
)
from numbacnn.kernels.cuda.vectors import owned_vector
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import LOW, ONE, SHIFT, ZERO

float32, float64, uint64 = types.float32, types.float64, types.uint64
uint64_1d = types.Array(uint64, 1, "C")
int64_2d = types.Array(types.int64, 2, "C")
philox, luma = scalar_function(scalar.philox), scalar_function(scalar.luma)

PURPOSE = np.uint64(0xA4630000)  # far from the streams of dropout layers, which use the same seed
EIGHT, HALF_WAY, BYTE = np.uint64(8), np.float32(0.5), np.float32(255)
UNIT, TWO_UNITS = np.float32(2.0**-24), np.float32(2.0**-23)
WORD = np.float64(2.0**-32)


@device_function
def _words(block, index, random, purpose):
    seed, epoch = random[0], random[1]
    counter_2, counter_3 = epoch & LOW, PURPOSE + purpose
    return philox(np.uint64(block), np.uint64(index) & LOW, counter_2, counter_3, seed & LOW, seed >> SHIFT)


@launcher
def draw_uniforms(u, indices, random):
    """u: N × a multiple of 4, uniform in [0, 1)."""
    _draw_uniforms[over(u.size // 4)](u, indices, random)


@cuda_kernel(float32_2d, int64_1d, uint64_1d)
def _draw_uniforms(u, indices, random):
    """Each thread owns four numbers of an image."""
    item, blocks = cuda.grid(1), u.shape[1] // 4
    n, block = item // blocks, item % blocks
    if n < len(u):
        words = _words(block, indices[n], random, np.uint64(0))
        for i in range(4):
            u[n, 4 * block + i] = np.float32(words[i] >> EIGHT) * UNIT


# -- the field of elastic distortions ---------------------------------------------------------------------------------


@launcher
def draw_field(field, scratch, indices, random, purpose, strengths, weights, width):
    """field[2n] and field[2n + 1]: displacements along x and y of image n's pixels, planes of H·W numbers.

    Uniform numbers in [−1, 1), drawn column by column, smoothed by ``weights`` along both axes with zeros outside,
    times strengths[n] (Simard et al. 2003, section 2). scratch: as large.
    """
    height = field.shape[1] // width
    planes, size = field.shape
    _draw_planes[over(planes * -(-size // 4))](field, indices, random, purpose)
    _smooth_across[over(field.size)](scratch, field, weights, height)
    _smooth_down[over(field.size)](field, scratch, strengths, weights, width)


@cuda_kernel(float32_2d, int64_1d, uint64_1d, uint64)
def _draw_planes(planes, indices, random, purpose):
    """Each thread owns four numbers of a plane."""
    item, size = cuda.grid(1), planes.shape[1]
    blocks = (size + 3) // 4
    plane, block = item // blocks, item % blocks
    if plane < len(planes):
        words = _words(plane % 2 * blocks + block, indices[plane // 2], random, purpose)
        for i in range(min(4, size - 4 * block)):
            planes[plane, 4 * block + i] = np.float32(words[i] >> EIGHT) * TWO_UNITS - ONE


@cuda_kernel(float32_2d, float32_2d, float32_1d, int64)
def _smooth_across(y, x, weights, height):
    """Planes by columns, smoothed along rows. Each thread owns a number."""
    item, size, radius = cuda.grid(1), x.shape[1], len(weights) // 2
    plane, i = item // size, item % size
    if plane < len(x):
        total = ZERO
        for k in range(max(-radius, -(i // height)), min(radius, (size - 1 - i) // height) + 1):
            total += weights[k + radius] * x[plane, i + k * height]
        y[plane, i] = total


@cuda_kernel(float32_2d, float32_2d, float32_1d, float32_1d, int64)
def _smooth_down(y, x, strengths, weights, width):
    """Planes by rows from planes by columns, smoothed along columns, times the strength. Each thread owns a number."""
    item, size, radius = cuda.grid(1), x.shape[1], len(weights) // 2
    plane, i = item // size, item % size
    if plane < len(x):
        height, h, w, total = size // width, i // width, i % width, ZERO
        for k in range(max(-radius, -h), min(radius, height - 1 - h) + 1):
            total += weights[k + radius] * x[plane, w * height + h + k]
        y[plane, i] = strengths[plane // 2] * total


# -- resampling -------------------------------------------------------------------------------------------------------


@launcher
def warp_bilinear(y, x, matrices, field, fill):
    """y[n,h,w] = x at column a·w + b·h + t and row c·w + d·h + u, interpolated; ``fill`` outside.

    matrices: N×6, (a, b, t, c, d, u) of each image. field: 2N × H·W, added to (w, h) first; or 0×0 for none. x has no
    halo.
    """
    _warp_bilinear[over(y.size)](y, x, matrices, field, fill)


@cuda_kernel(float32_4d, float32_4d, float32_2d, float32_2d, float32)
def _warp_bilinear(y, x, matrices, field, fill):
    """Each thread owns a channel of a pixel. Interpolating as a + t·(b − a) keeps constants exact."""
    n, h, w, c = owned_vector(y, 1)
    if n < len(y):
        i, j = source(n, h, w, y.shape[2], matrices, field)
        value = fill
        if -ONE < i < np.float32(x.shape[1]) and -ONE < j < np.float32(x.shape[2]):
            top, left = int(i + ONE) - 1, int(j + ONE) - 1
            down, across = i - np.float32(top), j - np.float32(left)
            a, b = _padded(x, n, top, left, c, fill), _padded(x, n, top, left + 1, c, fill)
            d, e = _padded(x, n, top + 1, left, c, fill), _padded(x, n, top + 1, left + 1, c, fill)
            above, below = a + across * (b - a), d + across * (e - d)
            value = above + down * (below - above)
        y[n, h, w, c] = value


@launcher
def warp_nearest(y, x, matrices, field, fill):
    """``warp_bilinear`` with the nearest pixel instead of interpolation, for masks of classes."""
    _warp_nearest[over(y.size)](y, x, matrices, field, fill)


@cuda_kernel(float32_4d, float32_4d, float32_2d, float32_2d, float32)
def _warp_nearest(y, x, matrices, field, fill):
    """Each thread owns a channel of a pixel."""
    n, h, w, c = owned_vector(y, 1)
    if n < len(y):
        i, j = source(n, h, w, y.shape[2], matrices, field)
        value = fill
        if -ONE < i < np.float32(x.shape[1]) and -ONE < j < np.float32(x.shape[2]):
            value = _padded(x, n, int(i + HALF_WAY + ONE) - 1, int(j + HALF_WAY + ONE) - 1, c, fill)
        y[n, h, w, c] = value


@device_function
def _padded(x, n, h, w, c, fill):
    return x[n, h, w, c] if 0 <= h < x.shape[1] and 0 <= w < x.shape[2] else fill


@device_function
def source(n, h, w, width, matrices, field):
    """The row and column of x that pixel (h, w) of y comes from."""
    across, down = np.float32(w), np.float32(h)
    if len(field) > 0:
        pixel = h * width + w
        across, down = across + field[2 * n, pixel], down + field[2 * n + 1, pixel]
    a, b, t = matrices[n, 0], matrices[n, 1], matrices[n, 2]
    c, d, u = matrices[n, 3], matrices[n, 4], matrices[n, 5]
    return c * across + d * down + u, a * across + b * down + t


# -- pixel transforms -------------------------------------------------------------------------------------------------


@launcher
def fill_boxes_in_place(x, boxes, fill):
    """x[n] = fill where top ≤ h < bottom, left ≤ w < right. boxes: N × (top, left, bottom, right), inside the image."""
    _fill_boxes[over(x.size)](x, boxes, fill)


@cuda_kernel(float32_4d, int64_2d, float32)
def _fill_boxes(x, boxes, fill):
    """Each thread owns a channel of a pixel."""
    n, h, w, c = owned_vector(x, 1)
    if n < len(x) and _inside(boxes, n, h, w):
        x[n, h, w, c] = fill


@launcher
def paste_boxes_in_place(y, x, boxes):
    """y[n] = x[n] in the boxes of ``fill_boxes_in_place`` (CutMix)."""
    _paste_boxes[over(y.size)](y, x, boxes)


@cuda_kernel(float32_4d, float32_4d, int64_2d)
def _paste_boxes(y, x, boxes):
    """Each thread owns a channel of a pixel."""
    n, h, w, c = owned_vector(y, 1)
    if n < len(y) and _inside(boxes, n, h, w):
        y[n, h, w, c] = x[n, h, w, c]


@device_function
def _inside(boxes, n, h, w):
    return boxes[n, 0] <= h < boxes[n, 2] and boxes[n, 1] <= w < boxes[n, 3]


@launcher
def mix_in_place(y, x, shares):
    """y[n] becomes y[n] + shares[n] · (x[n] − y[n]) (mixup)."""
    _mix([y], [y, x], [shares.reshape(-1, 1)])


@element_kernel(inputs=2, tables=1, widths=(1,))
def _mix(y, x, share):
    return y + share * (x - y)


@launcher
def add_noise_in_place(x, indices, random, purpose, deviations):
    """x[n] += deviations[n] · normal random numbers (Box and Muller 1958)."""
    rows = x.rows()
    _add_noise[over_rows(rows, 4)](rows, indices, random, purpose, deviations)


@cuda_kernel(float32_3d, int64_1d, uint64_1d, uint64, float32_1d)
def _add_noise(x, indices, random, purpose, deviations):
    """Each thread owns blocks of four numbers of a row (n, h), made from four words: two radii and two angles."""
    size = x.shape[2]
    blocks = (size + 3) // 4
    n, h, block, stride = row_loop(x.shape[1])
    if n < len(x) and deviations[n] != ZERO:
        while block < blocks:
            words = _words(h * blocks + block, indices[n], random, purpose)
            _add_pair(x, n, h, 4 * block, words[0], words[1], deviations[n])
            _add_pair(x, n, h, 4 * block + 2, words[2], words[3], deviations[n])
            block += stride


@device_function
def _add_pair(x, n, h, i, word_0, word_1, deviation):
    if i < x.shape[2]:
        radius = device_math.sqrt(-2 * device_math.log((np.float64(word_0) + 1) * WORD))
        turns = 2 * WORD * np.float64(word_1)  # of π
        x[n, h, i] += deviation * np.float32(radius * cospi(turns))
        if i + 1 < x.shape[2]:
            x[n, h, i + 1] += deviation * np.float32(radius * sinpi(turns))


@launcher
def jitter_colors_in_place(x, factors):
    """Scale brightness, then contrast about the mean luma of the image, then saturation about the luma of the pixel.

    factors: N × (brightness, contrast, saturation).
    """
    _jitter[len(x), THREADS](x, factors)


@cuda_kernel(float32_4d, float32_2d)
def _jitter(x, factors):
    """Each block owns an image, and each thread pixels of it."""
    shared = cuda.shared.array(THREADS, float64)
    n = cuda.blockIdx.x
    brightness, contrast, saturation = factors[n, 0], factors[n, 1], factors[n, 2]
    if brightness != ONE or contrast != ONE or saturation != ONE:  # the same for all threads
        pixels, total, i = x.shape[1] * x.shape[2], np.float64(0), cuda.threadIdx.x
        while i < pixels:
            total += np.float64(luma(x, n, i // x.shape[2], i % x.shape[2]))
            i += cuda.blockDim.x
        mean = np.float32(block_sum(shared, total) / pixels)
        middle, i = (ONE - contrast) * (brightness * mean), cuda.threadIdx.x
        while i < pixels:
            _jitter_pixel(x, (n, i // x.shape[2], i % x.shape[2]), (brightness, contrast, saturation), middle)
            i += cuda.blockDim.x


@device_function
def _jitter_pixel(x, pixel, factors, middle):
    (n, h, w), (brightness, contrast, saturation) = pixel, factors
    for c in range(x.shape[3]):
        x[n, h, w, c] = contrast * (brightness * x[n, h, w, c]) + middle
    gray = (ONE - saturation) * luma(x, n, h, w)
    for c in range(x.shape[3]):
        x[n, h, w, c] = saturation * x[n, h, w, c] + gray


@launcher
def round_to_bytes(y, x):
    """y = x rounded to the nearest byte; N·H × W·C."""
    rows = x.rows()
    _round[over_rows(rows)](y, rows)


@cuda_kernel(uint8_2d, float32_3d)
def _round(y, x):
    n, h, i, stride = row_loop(x.shape[1])
    if n < len(x):
        while i < x.shape[2]:
            value = x[n, h, i] + HALF_WAY
            y[n * x.shape[1] + h, i] = np.uint8(min(max(value, ZERO), BYTE))
            i += stride
