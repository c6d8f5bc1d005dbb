"""Dropout (Srivastava et al. 2014), scaled in training: each element survives with probability 1 − rate, and is divided
by it.

Masks are not stored but drawn again for the gradient: element i of row h of image n gets word i mod 4 of Philox at the
counter (block of four elements in the image, n, step, stream), keyed by the seed. ``random`` is (seed, step), and each
layer has its own ``stream``. NaN stays NaN, dropped or not.
"""

from typing import NamedTuple

import numpy as np
from numba import prange, types

from numbacnn.kernels import scalar
from numbacnn.kernels.cpu.merging import scale_channels
from numbacnn.kernels.cpu.views import row
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.scalar import LOW, SHIFT, ZERO

uint64 = types.uint64
uint64_1d = types.Array(uint64, 1, "C")
philox = inlined(scalar.philox)


@launcher
def dropout_forward(y, x, rate, random, stream):
    """y = x · mask / (1 − rate)."""
    _drop(y, x, random, stream, *_threshold_and_scale(rate))


@launcher
def dropout_gradient_in_place(dy, rate, random, stream):
    """dy becomes dx = dy · mask / (1 − rate)."""
    _drop_in_place(dy, random, stream, *_threshold_and_scale(rate))


@launcher
def spatial_dropout_forward(y, x, factors, rate, random, stream):
    """y = x · mask / (1 − rate), with one mask for all pixels of a channel. factors: scratch N×1×1×C."""
    _draw_factors(factors[: len(x)], random, stream, *_threshold_and_scale(rate))
    scale_channels(y, x, factors)


@launcher
def spatial_dropout_gradient_in_place(dy, factors, rate, random, stream):
    """dy becomes dx = dy · mask / (1 − rate), with the mask of ``spatial_dropout_forward``."""
    _draw_factors(factors[: len(dy)], random, stream, *_threshold_and_scale(rate))
    _scale_channels_in_place(dy, factors)


def _threshold_and_scale(rate):
    """The threshold below which an element's word drops it, and the scale of the other elements."""
    return np.uint64(round(rate * 2**32)), np.float32(1 / (1 - rate))


class _Draw(NamedTuple):
    """The Philox counter and key of a row of elements."""

    first_block: int
    image: int
    step: int
    stream: int
    seed_low: int
    seed_high: int


@inlined
def _draw_of(item, height, size, random, stream):
    """The draw of row ``item`` of the rows (n, h), which have ``size`` elements."""
    n, h = np.intp(item) // height, np.intp(item) % height
    seed, step = random[0], random[1]
    return _Draw(h * -(-size // 4), np.uint64(n), step & LOW, stream & LOW, seed & LOW, seed >> SHIFT)


@cpu_kernel(float32_4d, float32_4d, uint64_1d, uint64, uint64, types.float32)
def _drop(y, x, random, stream, threshold, scale):
    """Each thread owns a range of rows (n, h)."""
    for item in prange(x.shape[0] * x.shape[1]):
        draw = _draw_of(item, x.shape[1], x.shape[2] * x.shape[3], random, stream)
        _drop_row(row(y, item), row(x, item), draw, threshold, scale)


@cpu_kernel(float32_4d, uint64_1d, uint64, uint64, types.float32)
def _drop_in_place(dy, random, stream, threshold, scale):
    """Each thread owns a range of rows (n, h)."""
    for item in prange(dy.shape[0] * dy.shape[1]):
        dx = row(dy, item)
        _drop_row(dx, dx, _draw_of(item, dy.shape[1], len(dx), random, stream), threshold, scale)


@cpu_kernel(float32_4d, uint64_1d, uint64, uint64, types.float32)
def _draw_factors(factors, random, stream, threshold, scale):
    """factors[n,0,0,c] = 0 or scale. Each thread owns a range of images."""
    for n in prange(len(factors)):
        factor = row(factors, n)
        for c in range(len(factor)):
            factor[c] = 1
        _drop_row(factor, factor, _draw_of(n, 1, len(factor), random, stream), threshold, scale)


@inlined
def _words(draw, block):
    return philox(
        np.uint64(draw.first_block + block), draw.image, draw.step, draw.stream, draw.seed_low, draw.seed_high
    )


@inlined
def _drop_row(y, x, draw, threshold, scale):
    whole = len(x) // 4
    for block in range(whole):
        a, b, c, d = _words(draw, block)
        i = 4 * block
        y[i] = x[i] * (scale if a >= threshold else ZERO)
        y[i + 1] = x[i + 1] * (scale if b >= threshold else ZERO)
        y[i + 2] = x[i + 2] * (scale if c >= threshold else ZERO)
        y[i + 3] = x[i + 3] * (scale if d >= threshold else ZERO)
    if 4 * whole < len(x):
        words = _words(draw, whole)
        for i in range(4 * whole, len(x)):
            y[i] = x[i] * (scale if words[i - 4 * whole] >= threshold else ZERO)


@cpu_kernel(float32_4d, float32_4d)
def _scale_channels_in_place(dy, factors):
    """dy[n,h,w,c] *= factors[n,0,0,c]. Each thread owns a range of rows (n, h)."""
    for item in prange(dy.shape[0] * dy.shape[1]):
        _scale_row(row(dy, item), row(factors, np.intp(item) // dy.shape[1]))


@inlined
def _scale_row(dy, factors):
    for start in range(0, len(dy), len(factors)):
        for c in range(len(factors)):
            dy[start + c] *= factors[c]
