"""Sums over images and pixels, in an order that the shape alone decides."""

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.memory import address
from numbacnn.kernels.cpu.vector import LANES, load, splat, store
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined

SMALL = 1 << 15  # elements; smaller sums are not worth a second pass
MINIMUM_GROUPS = 16
ZERO = np.float32(0)


@cpu_kernel(float32_4d, float32_4d)
def sum_groups(total, partial):
    """total[m,k] = Σ_g partial[g,0,m,k], groups in order; total's first three axes are m. Each thread owns rows m."""
    p_total, p_partial = address(total), address(partial)
    groups, _, rows, columns = partial.shape
    row_step = total.strides[2]
    for m in prange(rows):
        _sum_row(p_total + np.intp(m) * row_step, p_partial + 4 * np.intp(m) * columns, groups, 4 * rows * columns, columns)


@inlined
def _sum_row(total, row, count, step, columns):
    for k in range(0, columns, LANES):
        accumulator = load(row + 4 * k, columns - k)
        for i in range(1, count):
            accumulator += load(row + i * step + 4 * k, columns - k)
        store(total + 4 * k, accumulator, columns - k)


def bias_gradient(db, dy, partial):
    """db[k] = Σ_npq dy[n,p,q,k]. db: K; dy: N×P×Q×K; partial: scratch of ``partial_bias_shape``."""
    total = db.reshape(1, 1, 1, -1)
    groups = min(len(dy), len(partial))
    if groups > 1:
        _sum_pixels(partial[:groups], dy)
        sum_groups(total, partial[:groups])
    else:
        _sum_pixels(total, dy)


def partial_bias_shape(images, p, q, k):
    """Scratch of the bias gradient: groups of images × 1 × 1 × channels."""
    groups = MINIMUM_GROUPS if images * p * q * k > SMALL else 0
    return (groups, 1, 1, k)


@cpu_kernel(float32_4d, float32_4d)
def _sum_pixels(partial, dy):
    """partial[g,0,0,k] = Σ dy[n,p,q,k] over the group's images. Each thread owns a range of groups."""
    p_partial, p_dy = address(partial), address(dy)
    groups, images = len(partial), len(dy)
    image_step, row_step, pixel_step = dy.strides[0], dy.strides[1], dy.strides[2]
    group_step = partial.strides[0]
    _, p, q, k = dy.shape
    for group in prange(groups):
        i = np.intp(group)
        first, last = images * i // groups, images * (i + 1) // groups
        _sum_images(
            p_partial + i * group_step, p_dy + first * image_step, last - first, p, q, k, image_step, row_step, pixel_step
        )


@inlined
def _sum_images(total, dy, images, p, q, k, image_step, row_step, pixel_step):
    for first in range(0, k, LANES):
        accumulator = splat(ZERO)
        for n in range(images):
            for row in range(p):
                pixel = dy + n * image_step + row * row_step + 4 * first
                for _ in range(q):
                    accumulator += load(pixel, k - first)
                    pixel += pixel_step
        store(total + 4 * first, accumulator, k - first)
