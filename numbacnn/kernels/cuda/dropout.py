"""Inverted dropout (Srivastava et al. 2014): each element is kept with probability 1 − rate, and divided by it.

Masks are not stored: the gradient draws them again. As on the CPU, element i of row h of image n gets word i mod 4 of
Philox at the counter (block of four elements in the image, n, step, stream), keyed by the seed. ``random`` is (seed,
step), and ``stream`` the number of the layer. NaN stays NaN, dropped or not.
"""

import numpy as np
from numba import types

from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.merging import scale_channels
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_3d, over_rows, row_loop
from numbacnn.kernels.cuda.vectors import VECTOR, multiply, vector_width, vectorized
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import LOW, SHIFT, ZERO

uint64 = types.uint64
uint64_1d = types.Array(uint64, 1, "C")
philox = scalar_function(scalar.philox)


@launcher
def dropout_forward(y, x, rate, random, stream):
    """y = x · mask / (1 − rate)."""
    y, x = y.rows(), x.rows()
    _drop[vector_width(y, x)][over_rows(y, VECTOR)](y, x, random, stream, *_threshold_and_scale(rate))


@launcher
def dropout_gradient_in_place(dy, rate, random, stream):
    """dy becomes dx = dy · mask / (1 − rate)."""
    dropout_forward(dy, dy, rate, random, stream)


@launcher
def spatial_dropout_forward(y, x, factors, rate, random, stream):
    """y = x · mask / (1 − rate), with one mask for all pixels of a channel. factors: scratch N×1×1×C."""
    factors = factors[: len(x)]
    rows = factors.rows()
    _draw_factors[over_rows(rows, VECTOR)](rows, random, stream, *_threshold_and_scale(rate))
    scale_channels(y, x, factors)


@launcher
def spatial_dropout_gradient_in_place(dy, factors, rate, random, stream):
    """dy becomes dx = dy · mask / (1 − rate), as ``spatial_dropout_forward`` has them."""
    spatial_dropout_forward(dy, dy, factors, rate, random, stream)


def _threshold_and_scale(rate):
    """Return the threshold of random words below which an element is dropped, and the scale of the others."""
    return np.uint64(round(rate * 2**32)), np.float32(1 / (1 - rate))


@vectorized(float32_3d, float32_3d, uint64_1d, uint64, uint64, types.float32)
def _drop(vector):
    """Each thread owns blocks of four elements of a row (n, h)."""
    load, store, whole = vector.load, vector.store, vector.width == VECTOR
    multiply_ = vector.lift(multiply)

    def kernel(y, x, random, stream, threshold, scale):
        height, size = x.shape[1], x.shape[2]
        blocks = (size + VECTOR - 1) // VECTOR
        n, h, block, step = row_loop(height)
        if n < x.shape[0]:
            while block < blocks:
                factors = _factors(h * blocks + block, n, random, stream, threshold, scale)
                first = VECTOR * block
                if whole:
                    store(y, (n, h, first), multiply_(load(x, (n, h, first)), factors))
                else:
                    for i in range(min(VECTOR, size - first)):
                        y[n, h, first + i] = x[n, h, first + i] * factors[i]
                block += step

    return kernel


@cuda_kernel(float32_3d, uint64_1d, uint64, uint64, types.float32)
def _draw_factors(factors, random, stream, threshold, scale):
    """factors[n,0,c] = 0 or scale. Each thread owns blocks of four channels of an image."""
    channels = factors.shape[2]
    n, _, block, step = row_loop(1)
    if n < factors.shape[0]:
        while VECTOR * block < channels:
            drawn = _factors(block, n, random, stream, threshold, scale)
            for i in range(min(VECTOR, channels - VECTOR * block)):
                factors[n, 0, VECTOR * block + i] = drawn[i]
            block += step


@device_function
def _factors(block, n, random, stream, threshold, scale):
    """The factors of the four elements of a block of image n: 0 or ``scale``."""
    seed, step = random[0], random[1]
    words = philox(np.uint64(block), np.uint64(n), step & LOW, stream & LOW, seed & LOW, seed >> SHIFT)
    return (
        scale if words[0] >= threshold else ZERO,
        scale if words[1] >= threshold else ZERO,
        scale if words[2] >= threshold else ZERO,
        scale if words[3] >= threshold else ZERO,
    )
