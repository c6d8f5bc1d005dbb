"""Copies into another shape, zeros in halos, and images normalized to floats."""

import numpy as np
from numba import types

from numbacnn.geometry import Halo
from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.formulas import LAUNCHERS
from numbacnn.kernels.cuda.runtime.intrinsics import cuda
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_3d, over, over_rows, row_loop
from numbacnn.kernels.registry import launcher

uint8_2d = types.Array(types.uint8, 2, "C")


@launcher
def copy_reshaped(y, x):
    """y = x, with images of equal size in another shape."""
    if y.contiguous and x.contiguous:
        LAUNCHERS["copy"](y, x.reshape(y.shape))
    else:
        _copy_reshaped[over(y.size)](y.rows(), x.rows())


@cuda_kernel(float32_3d, float32_3d)
def _copy_reshaped(y, x):
    """Each thread owns an element of y."""
    item = cuda.grid(1)
    image, size, x_size = y.shape[1] * y.shape[2], y.shape[2], x.shape[2]
    n, i = item // image, item % image
    if n < y.shape[0]:
        y[n, i // size, i % size] = x[n, i // x_size, i % x_size]


@launcher
def clear_halo(x, halo):
    """Clear the halo of whole images N×(H + halo)×(W + halo)×C."""
    channels = x.shape[3]
    edges = Halo(halo.top, halo.bottom, halo.left * channels, halo.right * channels)
    _clear[over_rows(x.rows())](x.rows(), edges)


@cuda_kernel(float32_3d, Halo)
def _clear(x, halo):
    """x: rows; halo.left and halo.right count elements."""
    height, size = x.shape[1], x.shape[2]
    n, h, i, step = row_loop(height)
    if n < x.shape[0]:
        outside = h < halo.top or h >= height - halo.bottom
        while i < size:
            if outside or i < halo.left or i >= size - halo.right:
                x[n, h, i] = 0
            i += step


@launcher
def normalize_bytes(y, x, scale, shift):
    """y = x · scale + shift for 8-bit images; x: N·H × W·C; scale, shift: W·C."""
    rows = y.rows()
    _normalize_bytes[over_rows(rows)](rows, x, scale, shift)


@cuda_kernel(float32_3d, uint8_2d, float32_1d, float32_1d)
def _normalize_bytes(y, x, scale, shift):
    n, h, i, step = row_loop(y.shape[1])
    if n < y.shape[0]:
        row = n * y.shape[1] + h
        while i < y.shape[2]:
            y[n, h, i] = np.float32(x[row, i]) * scale[i] + shift[i]
            i += step


@launcher
def normalize_floats(y, x, scale, shift):
    """y = x · scale + shift for float images; x: N·H × W·C; scale, shift: W·C."""
    _normalize_floats([y], [x.reshape(y.shape)], [scale.reshape(1, -1), shift.reshape(1, -1)])


@element_kernel(tables=2)
def _normalize_floats(x, scale, shift):
    return x * scale + shift
