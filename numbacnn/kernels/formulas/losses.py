"""Losses of single elements: their value and its derivative by the prediction x.

Each function defines a launcher ``name(losses, dx, x, target, options, scale)`` on every device: losses[i], for pixel
i = (n, h, w), is the mean over its channels, and dx is scale · the gradient of the sum of losses. ``options`` are the
loss's own constants, and c is the element's channel.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from numbacnn.kernels.scalar import HALF, ONE, ZERO, at_least, times


class ElementLoss(NamedTuple):
    """A function that returns the loss of an element, and its derivative divided by ``slope_factor``."""

    function: Callable[..., Any]
    slope_factor: np.float32


ELEMENT_LOSSES: dict[str, ElementLoss] = {}


def element_loss(function, slope_factor=ONE):
    """Define a launcher with the function's name."""
    ELEMENT_LOSSES[function.__name__] = ElementLoss(function, slope_factor)
    return function


def mean_squared_error(x, target, options, c):
    """(x − target)². Half of the derivative 2 · (x − target), which could overflow before it is scaled."""
    d = x - target
    return d * d, d


element_loss(mean_squared_error, np.float32(2))


@element_loss
def mean_absolute_error(x, target, options, c):
    """|x − target|, with slope 0 at 0; NaN stays NaN."""
    d = x - target
    return abs(d), ONE if d > ZERO else (-ONE if d < ZERO else d)


@element_loss
def huber(x, target, options, c):
    """d² / 2 where |d| ≤ δ, else δ · (|d| − δ / 2), with d = x − target and δ = options[0]."""
    d, delta = x - target, options[0]
    slope = delta if d > delta else (-delta if d < -delta else d)
    size = abs(slope)
    return size * (abs(d) - HALF * size), slope


@element_loss
def binary_cross_entropy(x, target, options, c):
    """−options[c] · target · log σ(x) − (1 − target) · log σ(−x), with −log σ(x) = max(−x, 0) + log(1 + e^−|x|)."""
    e = math.exp(-abs(x))
    larger, smaller = ONE / (ONE + e), e / (ONE + e)
    yes, no = (larger, smaller) if x >= ZERO else (smaller, larger)  # σ(x), σ(−x)
    for_yes, for_no = options[c] * target, ONE - target
    rest = math.log1p(e)
    loss = times(for_yes, at_least(ZERO, -x) + rest) + times(for_no, at_least(ZERO, x) + rest)
    return loss, for_no * yes - for_yes * no


@element_loss
def sigmoid_focal(x, target, options, c):
    """−a · (1 − p)^γ · log p, with p = σ(x) and a = α if the target is 1, else p = σ(−x) and a = 1 − α; options: (γ, α)
    (Lin et al. 2017, equation 5).

    With z = ±x, p = σ(z) and q = 1 − p, q^γ is exp(γ · log q), and −log q = max(z, 0) + log(1 + e^−|z|).
    """
    gamma, alpha = options[0], options[1]
    sign, weight = (ONE, alpha) if target > HALF else (-ONE, ONE - alpha)
    z = sign * x
    e = math.exp(-abs(z))
    larger, smaller = ONE / (ONE + e), e / (ONE + e)
    p, q = (larger, smaller) if z >= ZERO else (smaller, larger)
    rest = math.log1p(e)
    nll, modulating_factor = at_least(ZERO, -z) + rest, weight * math.exp(-times(gamma, at_least(ZERO, z) + rest))
    return times(modulating_factor, nll), -sign * modulating_factor * (q + gamma * times(p, nll))


def smooth_l1(d, beta):
    """d² / 2β where |d| ≤ β, else |d| − β / 2 (Girshick 2015, equation 3)."""
    size = abs(d)
    if size <= beta:
        return HALF * d * d / beta, d / beta
    return size - HALF * beta, ONE if d > ZERO else (-ONE if d < ZERO else d)
