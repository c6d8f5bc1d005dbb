"""Copies, sums and products, of images and of the flat arrays of optimizers and averages."""

import numpy as np

from numbacnn.kernels.formulas.activations import relu as rectify
from numbacnn.kernels.formulas.formula import elementwise


@elementwise("y")
def copy(x):
    """y = x."""
    return x


@elementwise("y")
def add(a, b, relu: bool):
    """y = a + b, then ReLU if asked."""
    return rectify(a + b) if relu else a + b


@elementwise("y")
def add_in_place(y, x):
    """y += x."""
    return y + x


@elementwise("y")
def add_relu_in_place(y, x):
    """y = ReLU(y + x)."""
    return rectify(y + x)


@elementwise("y")
def multiply(a, b):
    """y = a · b."""
    return a * b


@elementwise("y", flat=True)
def blend_in_place(y, x, a: np.float32, b: np.float32):
    """y = a·y + b·x."""
    return a * y + b * x


@elementwise("x", flat=True)
def scale_in_place(x, a: np.float32):
    """x = a·x."""
    return a * x


@elementwise("x y", flat=True)
def swap(x, y):
    """Exchange x and y."""
    return y, x


@elementwise("x", flat=True)
def clip_in_place(x, bound: np.float32):
    """Clip x to [−bound, bound]; NaN stays NaN."""
    below = bound if x > bound else x
    return -bound if below < -bound else below


@elementwise("a", flat=True)
def triad(b, c, scale: np.float32):
    """a = b + scale · c, which measures the memory bandwidth (McCalpin 1995, "STREAM")."""
    return b + scale * c
