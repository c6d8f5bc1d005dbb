"""Activations and their gradients, element by element.

``NAME_forward(y, x)`` stores y = f(x). ``NAME_gradient_in_place(dy, y)`` turns dy into dx = dy · f'(x), from the output
y, or from the input x if y does not determine the derivative.
"""

import math

import numpy as np

from numbacnn.kernels.formulas.formula import with_math
from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


@launcher
def relu_forward(y, x):
    """max(x, 0); NaN stays NaN."""
    y[...] = np.maximum(x, 0)


@launcher
def relu_gradient_in_place(dy, y):
    """dy where y > 0, else 0; dy where y is NaN."""
    dy[...] = np.where(y <= 0, 0, dy)


@launcher
def relu6_forward(y, x):
    """min(max(x, 0), 6)."""
    y[...] = np.clip(x, 0, 6)


@launcher
def relu6_gradient_in_place(dy, y):
    """dy where 0 < y < 6, else 0."""
    dy[...] = np.where((y <= 0) | (y >= 6), 0, dy)


@launcher
def leaky_relu_forward(y, x, slope):
    """max(x, 0) + slope · min(x, 0)."""
    y[...] = np.maximum(x, 0) + slope * np.minimum(float64(x), 0)


@launcher
def leaky_relu_gradient_in_place(dy, y, slope):
    """dy where y > 0, else slope · dy."""
    dy[...] = np.where(y <= 0, slope * float64(dy), dy)


@launcher
def prelu_forward(y, x, w):
    """max(x, 0) + w[c] · min(x, 0) (He et al. 2015, section 2.1)."""
    y[...] = np.maximum(x, 0) + w * np.minimum(float64(x), 0)


@launcher
def prelu_gradient_in_place(dy, dw_parts, x, w):
    """dy becomes dx = w[c] · dy where x ≤ 0, else dy; dw_parts = dy · x where x ≤ 0, else 0: the terms of dw[c]."""
    dw_parts[...] = np.where(x <= 0, float64(dy) * x, 0)
    dy[...] = np.where(x <= 0, w * float64(dy), dy)


@launcher
def elu_forward(y, x, alpha):
    """x where x > 0, else alpha · (eˣ − 1) (Clevert et al. 2016, equation 15)."""
    y[...] = np.where(x > 0, x, alpha * np.expm1(np.minimum(float64(x), 0)))


@launcher
def elu_gradient_in_place(dy, x, alpha):
    """dy where x > 0, else dy · alpha · eˣ."""
    dy[...] = np.where(x > 0, dy, dy * alpha * np.exp(np.minimum(float64(x), 0)))


@launcher
def tanh_forward(y, x):
    """(eˣ − e⁻ˣ) / (eˣ + e⁻ˣ)."""
    y[...] = np.tanh(float64(x))


@launcher
def tanh_gradient_in_place(dy, y):
    """dy · (1 − y²)."""
    dy[...] = dy * (1 - float64(y) ** 2)


def sigmoid(x):
    """1 / (1 + e⁻ˣ), without overflow."""
    return np.exp(-np.logaddexp(0, -x))


@launcher
def sigmoid_forward(y, x):
    """1 / (1 + e⁻ˣ)."""
    y[...] = sigmoid(float64(x))


@launcher
def sigmoid_gradient_in_place(dy, y):
    """dy · y · (1 − y)."""
    dy[...] = dy * float64(y) * (1 - float64(y))


@launcher
def hardsigmoid_forward(y, x):
    """min(max(x + 3, 0), 6) / 6."""
    y[...] = np.clip(float64(x) + 3, 0, 6) / 6


@launcher
def hardsigmoid_gradient_in_place(dy, y):
    """dy / 6 where 0 < y < 1, else 0."""
    dy[...] = np.where((y <= 0) | (y >= 1), 0, float64(dy) / 6)


@launcher
def hardswish_forward(y, x):
    """x · hardsigmoid(x) (Howard et al. 2019, section 5.2); 0 at −∞."""
    x = np.maximum(float64(x), -3)
    y[...] = x * np.clip(x + 3, 0, 6) / 6


@launcher
def hardswish_gradient_in_place(dy, x):
    """dy · (x / 3 + ½) between −3 and 3, 0 below and dy above."""
    x = np.clip(float64(x), -3, 3)
    dy[...] = np.where(x <= -3, 0, np.where(x >= 3, dy, dy * (x / 3 + 0.5)))


FAR = 700  # e⁻⁷⁰⁰ is near the smallest float64: functions that end in an exponential have reached their limits


@launcher
def silu_forward(y, x):
    """x · σ(x), σ the sigmoid (Ramachandran et al. 2017)."""
    x = np.maximum(float64(x), -FAR)
    y[...] = x * sigmoid(x)


@launcher
def silu_gradient_in_place(dy, x):
    """dy · (σ(x) + x · σ(x) · σ(−x))."""
    x = np.clip(float64(x), -FAR, FAR)
    dy[...] = dy * (sigmoid(x) + x * sigmoid(x) * sigmoid(-x))


@launcher
def gelu_forward(y, x):
    """x · Φ(x), Φ the distribution function of the standard normal distribution (Hendrycks and Gimpel 2016)."""
    x = np.maximum(float64(x), -FAR)
    y[...] = x * normal_distribution(x)


@launcher
def gelu_gradient_in_place(dy, x):
    """dy · (Φ(x) + x · φ(x)), φ = Φ' the density."""
    x = np.clip(float64(x), -FAR, FAR)
    density = np.exp(-(x**2) / 2) / math.sqrt(2 * math.pi)
    dy[...] = dy * (normal_distribution(x) + x * density)


@np.vectorize(otypes=[np.float64])
def normal_distribution(x):
    """Φ(x) = ½ erfc(−x / √2)."""
    return math.erfc(-x / math.sqrt(2)) / 2


@launcher
def gelu_tanh_forward(y, x):
    """½x · (1 + tanh u), u = √(2/π) · (x + 0.044715x³) (Hendrycks and Gimpel 2016, section 2)."""
    x = np.maximum(float64(x), -FAR)
    y[...] = x * (1 + np.tanh(_inner(x))) / 2


@launcher
def gelu_tanh_gradient_in_place(dy, x):
    """dy · (½ (1 + tanh u) + ½x · (1 − tanh² u) · du/dx)."""
    x = np.clip(float64(x), -FAR, FAR)
    tanh, slope = np.tanh(_inner(x)), math.sqrt(2 / math.pi) * (1 + 3 * 0.044715 * x**2)
    dy[...] = dy * ((1 + tanh) / 2 + x * (1 - tanh**2) * slope / 2)


def _inner(x):
    return math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)


@launcher
def activation_kernels(name, function, gradient):
    """Make ``name_forward(y, x)`` and ``name_gradient_in_place(dy, x)`` of a custom activation, which call its two
    Python functions element by element."""
    forward_of, gradient_of = map(_element_by_element, (function, gradient))

    def forward(y, x):
        y[...] = forward_of(float64(x))

    def gradient_in_place(dy, x):
        dy[...] = gradient_of(float64(dy), float64(x))

    return forward, gradient_in_place


class _NumpyMath:
    """The functions of ``math`` by NumPy: they overflow to infinity, as compiled ones do, without an error."""

    def __getattr__(self, name):
        return getattr(np, name, None) or getattr(math, name)


def _element_by_element(function):
    python = getattr(function, "py_func", function)  # of one that Numba has compiled
    return np.vectorize(with_math(python, _NumpyMath(), lambda part: part), otypes=[np.float64])
