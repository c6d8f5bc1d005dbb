"""Dropout (Srivastava et al. 2014), scaled in training as usual today: each number survives with probability 1 − rate,
and is divided by it. Masks are not kept but drawn again for the gradient, by the numbers that the CPU's kernels draw:
element i of row h of image n gets word i mod 4 of Philox at the counter (block of four elements in the image, n, step,
stream), keyed by the seed.

``random`` is (seed, step), ``stream`` a number of the layer's own. NaN stays NaN, dropped or not.
"""

import numpy as np
from numba import types

from numbacnn.kernels import scalar
from numbacnn.kernels.cuda.lanes import VECTOR, in_lanes, width_of
from numbacnn.kernels.cuda.merging import scale_channels
from numbacnn.kernels.cuda.runtime.intrinsics import device_function, scalar_function
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_3d, over_rows, place
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import LOW, SHIFT, ZERO

uint64 = types.uint64
uint64_1d = types.Array(uint64, 1, "C")
philox = scalar_function(scalar.philox)


@launcher
def dropout_forward(y, x, rate, random, stream):
    """y = x · mask / (1 − rate)."""
    y, x = y.rows(), x.rows()
    _drop[width_of(y, x)][over_rows(y, VECTOR)](y, x, random, stream, *_threshold_and_scale(rate))


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
    """Words below the threshold drop their element; the others' are scaled."""
    return np.uint64(round(rate * 2**32)), np.float32(1 / (1 - rate))


@in_lanes(float32_3d, float32_3d, uint64_1d, uint64, uint64, types.float32)
def _drop(lanes):
    """Each thread owns blocks of four elements of a row (n, h)."""
    load, store, whole = lanes.load, lanes.store, lanes.width == VECTOR
    times = lanes.lift(lambda x, factor: x * factor)

    def kernel(y, x, random, stream, threshold, scale):
        height, size = x.shape[1], x.shape[2]
        blocks = (size + VECTOR - 1) // VECTOR
        n, h, block, step = place(height)
        if n < x.shape[0]:
            while block < blocks:
                factors = _factors(h * blocks + block, n, random, stream, threshold, scale)
                first = VECTOR * block
                if whole:
                    store(y, (n, h, first), times(load(x, (n, h, first)), factors))
                else:
                    for lane in range(min(VECTOR, size - first)):
                        y[n, h, first + lane] = x[n, h, first + lane] * factors[lane]
                block += step

    return kernel


@cuda_kernel(float32_3d, uint64_1d, uint64, uint64, types.float32)
def _draw_factors(factors, random, stream, threshold, scale):
    """factors[n,0,c] = 0 or scale. Each thread owns blocks of four channels of an image."""
    channels = factors.shape[2]
    n, _, block, step = place(1)
    if n < factors.shape[0]:
        while VECTOR * block < channels:
            drawn = _factors(block, n, random, stream, threshold, scale)
            for lane in range(min(VECTOR, channels - VECTOR * block)):
                factors[n, 0, VECTOR * block + lane] = drawn[lane]
            block += step


@device_function
def _factors(block, n, random, stream, threshold, scale):
    """What the four elements of a block of image n are multiplied with."""
    seed, step = random[0], random[1]
    words = philox(np.uint64(block), np.uint64(n), step & LOW, stream & LOW, seed & LOW, seed >> SHIFT)
    return (
        scale if words[0] >= threshold else ZERO,
        scale if words[1] >= threshold else ZERO,
        scale if words[2] >= threshold else ZERO,
        scale if words[3] >= threshold else ZERO,
    )
