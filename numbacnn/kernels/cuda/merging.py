"""Concatenation of channels, and gates.

Arguments are N×H×W×C; a gate is N×1×1×C, one factor for each channel of each image.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.norm.channels import block_threads
from numbacnn.kernels.cuda.reduce import column_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda
from numbacnn.kernels.cuda.runtime.jit import THREADS, float32_4d
from numbacnn.kernels.cuda.vectors import multiply_add, owned_vector, pixel_kernel, vector_width, vectorized
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
@pixel_kernel(float32_4d, float32_4d)
def copy_channels(vector):
    """y = x; either may be a slice of the channels of a wider view."""
    width, load, store = vector[:3]

    def kernel(y, x):
        at = owned_vector(y, width)
        if at[0] < len(y):
            store(y, at, load(x, at))

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
    width, channels = vector_width(dgate, dy, x), x.shape[3]
    columns, rows = block_threads(channels, width)
    _channel_dots[width][(len(x), -(-channels // (columns * width))), (columns, rows)](dgate, dy, x)


@vectorized(float32_4d, float32_4d, float32_4d)
def _channel_dots(vector):
    """Each block owns channels of an image, and each thread a vector of them in every blockDim.y-th pixel."""
    width, load, store, splat = vector[:4]
    multiply_add_, column_sum_ = vector.lift(multiply_add, 3), vector.join(column_sum, 1)

    def kernel(dgate, dy, x):
        shared = cuda.shared.array(THREADS, types.float32)
        height, across, channels = x.shape[1:]
        n, c = cuda.blockIdx.x, (cuda.blockIdx.y * cuda.blockDim.x + cuda.threadIdx.x) * width
        total, i = splat(ZERO), cuda.threadIdx.y
        while c < channels and i < height * across:
            at = n, i // across, i % across, c
            total = multiply_add_(load(dy, at), load(x, at), total)
            i += cuda.blockDim.y
        total = column_sum_((total,), (shared,))
        if c < channels and cuda.threadIdx.y == 0:
            store(dgate, (n, 0, 0, c), total)

    return kernel
