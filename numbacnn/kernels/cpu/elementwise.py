"""Copies into another shape, zeros in halos, and images normalized to floats.

Each thread owns a range of rows (n, h) of the N×H×W×C array that is written.
"""

import numpy as np
from numba import prange, types

from numbacnn.geometry import Halo
from numbacnn.kernels.cpu.views import row
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_2d, float32_4d, inlined
from numbacnn.kernels.registry import launcher

uint8_2d = types.Array(types.uint8, 2, "C")


@launcher
@cpu_kernel(float32_4d, float32_4d)
def copy_reshaped(y, x):
    """y = x, whose images have the same number of elements in another shape. Each thread owns a range of rows of y."""
    for item in prange(y.shape[0] * y.shape[1]):
        n, h = np.intp(item) // y.shape[1], np.intp(item) % y.shape[1]
        _copy_from(row(y, item), x, n, h * y.shape[2] * y.shape[3])


@inlined
def _copy_from(y, x, n, start):
    """y = the elements of image n of x from ``start`` on, row after row."""
    size, done = x.shape[2] * x.shape[3], 0
    while done < len(y):
        h, first = (start + done) // size, (start + done) % size
        source, count = row(x, n * x.shape[1] + h), min(len(y) - done, size - first)
        for i in range(count):
            y[done + i] = source[first + i]
        done += count


@launcher
@cpu_kernel(float32_4d, Halo)
def clear_halo(x, halo):
    """Zeros in the halo of whole images N×(H + halo)×(W + halo)×C. Each thread owns a range of rows."""
    height, width, channels = x.shape[1], x.shape[2], x.shape[3]
    for item in prange(x.shape[0] * height):
        h = np.intp(item) % height
        outside = h < halo.top or h >= height - halo.bottom
        _clear(row(x, item), 0, (width if outside else halo.left) * channels)
        _clear(row(x, item), (width - halo.right) * channels, width * channels)


@inlined
def _clear(x, first, last):
    for i in range(first, last):
        x[i] = 0


@inlined
def _scale_row(y, x, scale, shift):
    for i in range(len(y)):
        y[i] = np.float32(x[i]) * scale[i] + shift[i]


@launcher
@cpu_kernel(float32_4d, uint8_2d, float32_1d, float32_1d)
def normalize_bytes(y, x, scale, shift):
    """y = x · scale + shift for 8-bit images; x: N·H × W·C; scale, shift: W·C."""
    for item in prange(x.shape[0]):
        _scale_row(row(y, item), x[item], scale, shift)


@launcher
@cpu_kernel(float32_4d, float32_2d, float32_1d, float32_1d)
def normalize_floats(y, x, scale, shift):
    """y = x · scale + shift for float images; x: N·H × W·C; scale, shift: W·C."""
    for item in prange(x.shape[0]):
        _scale_row(row(y, item), x[item], scale, shift)
