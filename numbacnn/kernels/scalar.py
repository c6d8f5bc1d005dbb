"""Scalar maths that both devices share: each activation, and its gradient from the gradient dy and the output y."""

import math

import numpy as np

ZERO, ONE = np.float32(0), np.float32(1)


def relu(x):
    """max(x, 0); NaN stays NaN."""
    return ZERO if x < ZERO else x


def relu_gradient(dy, y):
    """dy where y > 0, else 0; where y is NaN, dy."""
    return ZERO if y <= ZERO else dy


def tanh(x):
    """Hyperbolic tangent."""
    return math.tanh(x)


def tanh_gradient(dy, y):
    """dy · (1 − y²)."""
    return dy * (ONE - y * y)


def sigmoid(x):
    """1 / (1 + e⁻ˣ), from the side where the exponential cannot overflow."""
    e = math.exp(-abs(x))
    return (ONE if x >= ZERO else e) / (ONE + e)


def sigmoid_gradient(dy, y):
    """dy · y · (1 − y)."""
    return dy * y * (ONE - y)
