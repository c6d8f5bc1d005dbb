"""Copies, sums and products, element by element. Arrays are N×H×W×C, by default of equal shape."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


@launcher
def copy(y, x):
    """y = x."""
    y[...] = x


@launcher
def copy_reshaped(y, x):
    """y = x, whose images have the same number of elements in another shape."""
    y[...] = x.reshape(y.shape)


@launcher
def copy_channels(y, x):
    """y = x; either may be a slice of the channels of a wider array."""
    y[...] = x


@launcher
def add(y, a, b, relu):
    """y = a + b, then ReLU if asked."""
    total = float64(a) + b
    y[...] = np.maximum(total, 0) if relu else total


@launcher
def add_in_place(y, x):
    """y += x."""
    add(y, y, x, False)


@launcher
def add_relu_in_place(y, x):
    """y = ReLU(y + x)."""
    add(y, y, x, True)


@launcher
def multiply(y, a, b):
    """y = a · b."""
    y[...] = float64(a) * b


@launcher
def scale_channels(y, x, gate):
    """Y[n,h,w,c] = X[n,h,w,c] · gate[n,0,0,c]."""
    y[...] = float64(x) * gate


@launcher
def channel_dots(dgate, dy, x):
    """dgate[n,0,0,c] = Σ_hw dY[n,h,w,c] · X[n,h,w,c]."""
    dgate[...] = (float64(dy) * x).sum((1, 2), keepdims=True)


@launcher
def clear_halo(x, halo):
    """Zeros in the halo of whole images N×(H + halo)×(W + halo)×C."""
    top, bottom, left, right = halo
    height, width = x.shape[1:3]
    x[:, :top] = x[:, height - bottom :] = x[:, :, :left] = x[:, :, width - right :] = 0


@launcher
def normalize_bytes(y, x, scale, shift):
    """y = x · scale + shift for 8-bit images; x: N·H × W·C; scale, shift: W·C."""
    y[...] = (float64(x) * scale + shift).reshape(y.shape)


@launcher
def normalize_floats(y, x, scale, shift):
    """y = x · scale + shift for float images; x: N·H × W·C; scale, shift: W·C."""
    y[...] = (float64(x) * scale + shift).reshape(y.shape)
