"""Dropout (Srivastava et al. 2014): each number survives with probability 1 − rate, and is then divided by it.

``random`` is (seed, step), ``stream`` a number of the layer's own. The gradient draws the mask again.
"""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.reference.random import LOW, halves, philox
from numbacnn.kernels.registry import launcher


@launcher
def dropout_forward(y, x, rate, random, stream):
    """y = x · mask / (1 − rate)."""
    y[...] = float64(x) * factors_of(x.shape, rate, random, stream)


@launcher
def dropout_gradient_in_place(dy, rate, random, stream):
    """dy becomes dx = dy · mask / (1 − rate)."""
    dropout_forward(dy, dy, rate, random, stream)


@launcher
def spatial_dropout_forward(y, x, factors, rate, random, stream):
    """y = x · mask / (1 − rate), with one mask for all pixels of a channel. factors: not used."""
    n, _, _, c = x.shape
    y[...] = float64(x) * factors_of((n, 1, 1, c), rate, random, stream)


@launcher
def spatial_dropout_gradient_in_place(dy, factors, rate, random, stream):
    """dy becomes dx = dy · mask / (1 − rate). factors: not used."""
    spatial_dropout_forward(dy, dy, factors, rate, random, stream)


def factors_of(shape, rate, random, stream):
    """0 or 1 / (1 − rate) for each element of N×H×W×C.

    Element i of row h of image n has word i mod 4 of Philox at the counter (block of four elements in the image, n,
    step, stream); words below rate · 2³² drop their element.
    """
    (seed, step), (n, h, w, c) = random, shape
    blocks = -(-w * c // 4)  # of a row
    counter = np.arange(h * blocks), np.arange(n)[:, None], np.uint64(step) & LOW, np.uint64(stream) & LOW
    words = np.moveaxis(philox(counter, halves(seed)), 0, -1).reshape(n, h, 4 * blocks)[:, :, : w * c]
    return np.where(words < round(rate * 2**32), 0, 1 / (1 - rate)).reshape(shape)
