"""Bias and ReLU for every pixel, after algorithms whose epilogue adds no bias."""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d, float32_4d, over_channels, owned_element
from numbacnn.kernels.registry import launcher

ZERO = np.float32(0)


@launcher
def add_bias_in_place(y, b, relu=False):
    """y[n,p,q,k] += b[k], then ReLU if asked. y: N×P×Q×K; b: K or None."""
    if b is not None or relu:
        _add_bias[over_channels(y)](y, y.flat()[:0] if b is None else b, relu)


@cuda_kernel(float32_4d, float32_1d, types.boolean)
def _add_bias(y, b, relu):
    """Each thread owns a channel of a pixel."""
    n, p, q, k = owned_element(y.shape[1], y.shape[2])
    if n < y.shape[0] and k < y.shape[3]:
        value = y[n, p, q, k]
        if b.size > 0:
            value += b[k]
        y[n, p, q, k] = ZERO if relu and value < ZERO else value
