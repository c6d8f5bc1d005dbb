"""Channels of several inputs side by side, and gates.

Arguments are N×H×W×C; a gate is N×1×1×C and holds one factor for each channel of each image.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.lanes import in_lanes, multiply_add, pixel_part, width_of
from numbacnn.kernels.cuda.norm.channels import block_threads, sum_down
from numbacnn.kernels.cuda.runtime.intrinsics import cuda
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d, over
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
def copy_channels(y, x):
    """y = x, where either may be some of the channels of a wider view."""
    width = width_of(y, x)
    _copy_channels[width][over(x.size // width)](y, x)


@in_lanes(float32_4d, float32_4d)
def _copy_channels(lanes):
    """Each thread owns some channels of a pixel."""
    width, load, store = lanes.width, lanes.load, lanes.store

    def kernel(y, x):
        images, height, across, channels = x.shape
        n, h, w, part = pixel_part(height, across, channels // width)
        if n < images:
            store(y, (n, h, w, part * width), load(x, (n, h, w, part * width)))

    return kernel


@launcher
def scale_channels(y, x, gate):
    """y[n,h,w,c] = x[n,h,w,c] · gate[n,0,0,c]."""
    _scale_channels([y], [x], [gate[:, 0, 0]])


@element_kernel(tables=1)
def _scale_channels(x, factor):
    return x * factor


@launcher
def channel_dots(dgate, dy, x):
    """dgate[n,0,0,c] = Σ_hw dy[n,h,w,c] · x[n,h,w,c]."""
    width, channels = width_of(dgate, dy, x), x.shape[3]
    columns, rows = block_threads(channels, width)
    _channel_dots[width][(len(x), -(-channels // (columns * width))), (columns, rows)](dgate, dy, x)


@in_lanes(float32_4d, float32_4d, float32_4d)
def _channel_dots(lanes):
    """Each block owns some channels of an image, each thread a vector of them in every so many pixels."""
    width, load, store, splat = lanes[:4]
    multiply_add_, down = lanes.lift(multiply_add, 3), lanes.join(sum_down, 1)

    def kernel(dgate, dy, x):
        shared = cuda.shared.array(THREADS, types.float32)
        height, across, channels = x.shape[1:]
        n, c = cuda.blockIdx.x, (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        total, i = splat(ZERO), cuda.threadIdx.y
        while c < channels and i < height * across:
            at = n, i // across, i % across, c
            total = multiply_add_(load(dy, at), load(x, at), total)
            i += cuda.blockDim.y
        total = down((total,), (shared,))
        if c < channels and cuda.threadIdx.y == 0:
            store(dgate, (n, 0, 0, c), total)

    return kernel
