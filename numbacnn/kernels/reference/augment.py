"""Augmentation: random numbers for each image, resampling, and pixel operations. Images are N×H×W×C, of any units.

Every random number is a word of Philox at the counter (block, number of the image in its data set, epoch, purpose),
keyed by the seed. ``random`` is (seed, epoch); ``purpose`` is 0 for the numbers that the whole chain shares, else a
transform's position in the chain.
"""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.reference.random import LOW, halves, philox
from numbacnn.kernels.registry import launcher

PURPOSE = 0xA4630000  # far from the streams of dropout layers, which share seeds with augmentation
LUMA = np.array([0.299, 0.587, 0.114])  # of red, green and blue (ITU-R BT.601)
NO_FIELD = np.zeros((2, 1, 1))


def words(blocks, index, random, purpose):
    """The words of ``blocks`` blocks of four, one after the other."""
    seed, epoch = random
    counter = np.arange(blocks), np.uint64(index) & LOW, np.uint64(epoch) & LOW, PURPOSE + int(purpose)
    return philox(counter, halves(seed)).T.reshape(-1)


@launcher
def draw_uniforms(u, indices, random):
    """u: N × a multiple of 4, uniform in [0, 1): the upper 24 of 32 bits, which float32 holds exactly."""
    for n, index in enumerate(indices):
        u[n] = (words(u.shape[1] // 4, index, random, 0) >> np.uint64(8)) / 2**24


@launcher
def draw_field(field, scratch, indices, random, purpose, strengths, weights, width):
    """field[2n], field[2n + 1]: displacements along x and y of image n's pixels, planes of H·W numbers (Simard et al.
    2003, section 2).

    Uniform numbers in [−1, 1), drawn column by column and smoothed by ``weights`` along both axes with zeros outside,
    times strengths[n]. scratch: not used.
    """
    size = field.shape[1]
    blocks = -(-size // 4)
    for n, index in enumerate(indices):
        drawn = words(2 * blocks, index, random, purpose).reshape(2, 4 * blocks)[:, :size] >> np.uint64(8)
        for axis, plane in enumerate(drawn / 2**23 - 1):
            smooth = _smoothed(_smoothed(plane.reshape(width, -1).T, weights).T, weights).T
            field[2 * n + axis] = (strengths[n] * smooth).reshape(-1)


def _smoothed(plane, weights):
    """Every column convolved with ``weights``."""
    radius = len(weights) // 2
    padded = np.pad(plane, [(radius, radius), (0, 0)])
    return sum(weight * padded[k : k + len(plane)] for k, weight in enumerate(float64(weights)))


# -- resampling -------------------------------------------------------------------------------------------------------


def sources(shape, n, matrices, field):
    """The rows and the columns of the input from which the pixels of image n come."""
    _, height, width, _ = shape
    h, w = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    dx, dy = float64(field[2 * n : 2 * n + 2]).reshape(2, height, width) if len(field) else NO_FIELD
    a, b, t, c, d, u = map(float, matrices[n])
    return c * (w + dx) + d * (h + dy) + u, a * (w + dx) + b * (h + dy) + t


@launcher
def warp_bilinear(y, x, matrices, field, fill):
    """Y[n,h,w] = X between the four pixels around column a·w + b·h + t, row c·w + d·h + u, with ``fill`` outside.

    matrices: N×6, (a, b, t, c, d, u) of each image; field: 2N × H·W, added to (w, h) first, or 0×0 for none.
    """
    _, height, width, _ = x.shape
    padded = np.pad(float64(x), ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    for n, image in enumerate(padded):
        i, j = sources(y.shape, n, matrices, field)
        i, j = np.clip(i, -1, height) + 1, np.clip(j, -1, width) + 1  # one pixel of ``fill`` is as good as many
        top, left = np.minimum(i.astype(int), height), np.minimum(j.astype(int), width)
        down, across = (i - top)[..., None], (j - left)[..., None]
        above = (1 - across) * image[top, left] + across * image[top, left + 1]
        below = (1 - across) * image[top + 1, left] + across * image[top + 1, left + 1]
        y[n] = (1 - down) * above + down * below


@launcher
def warp_nearest(y, x, matrices, field, fill):
    """``warp_bilinear`` with the nearest pixel, unchanged: for masks, whose numbers are classes."""
    _, height, width, _ = x.shape
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=fill)
    for n, image in enumerate(padded):
        i, j = sources(y.shape, n, matrices, field)
        i, j = (np.clip(np.floor(index + 0.5), -1, size) for index, size in ((i, height), (j, width)))
        y[n] = image[i.astype(int) + 1, j.astype(int) + 1]


# -- pixel operations -------------------------------------------------------------------------------------------------


@launcher
def fill_boxes_in_place(x, boxes, fill):
    """X[n,h,w] = fill where top ≤ h < bottom, left ≤ w < right. boxes: N × (top, left, bottom, right)."""
    for image, (top, left, bottom, right) in zip(x, boxes, strict=True):
        image[top:bottom, left:right] = fill


@launcher
def paste_boxes_in_place(y, x, boxes):
    """Y[n] = X[n] in the boxes of ``fill_boxes_in_place`` (CutMix, Yun et al. 2019)."""
    for target, source, (top, left, bottom, right) in zip(y, x, boxes, strict=True):
        target[top:bottom, left:right] = source[top:bottom, left:right]


@launcher
def mix_in_place(y, x, shares):
    """Y[n] += shares[n] · (X[n] − Y[n]) (mixup, Zhang et al. 2018)."""
    y[...] = y + float64(shares)[:, None, None, None] * (float64(x) - y)


@launcher
def add_noise_in_place(x, indices, random, purpose, deviations):
    """X[n] += deviations[n] · standard normal numbers (Box and Muller 1958): each block of four words gives two points
    in the plane, by radius and angle."""
    _, height, width, channels = x.shape
    blocks = -(-width * channels // 4)  # of a row
    for n, index in enumerate(indices):
        radius, angle = words(height * blocks, index, random, purpose).reshape(height, 2 * blocks, 2).transpose(2, 0, 1)
        radius, angle = np.sqrt(-2 * np.log((radius + 1.0) / 2**32)), 2 * np.pi * angle / 2**32
        normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(height, -1)
        x[n] = x[n] + deviations[n] * normals[:, : width * channels].reshape(height, width, channels)


@launcher
def jitter_colors_in_place(x, factors):
    """Scale the pixels by the brightness, then their distance from the image's mean gray by the contrast, then their
    distance from their own gray by the saturation. factors: N × (brightness, contrast, saturation)."""
    for n, (brightness, contrast, saturation) in enumerate(float64(factors)):
        image = brightness * float64(x[n])
        image = contrast * image + (1 - contrast) * _gray(image).mean()
        x[n] = saturation * image + (1 - saturation) * _gray(image)


def _gray(image):
    """The luma of three channels, else the first one: H×W×1."""
    return (image * LUMA).sum(-1, keepdims=True) if image.shape[-1] == 3 else image[..., :1]


@launcher
def round_to_bytes(y, x):
    """y = x rounded to the nearest byte; y: N·H × W·C."""
    y[...] = np.clip(float64(x) + 0.5, 0, 255).astype(np.uint8).reshape(y.shape)
