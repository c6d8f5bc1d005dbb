"""Functions of one number, powers, and the larger or smaller of two numbers, element by element.

``elementwise_NAME_forward(y, x)`` stores y = f(x), and ``elementwise_NAME_gradient_in_place(dy, x)`` turns dy into
dx = dy · f'(x).
"""

import math

import numpy as np

from numbacnn.kernels.reference.activations import sigmoid
from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


def softplus(x):
    """log(1 + eˣ)."""
    return np.logaddexp(0, x)


def mish(x):
    """x · tanh(log(1 + eˣ)) (Misra 2020, equation 1); 0 at −∞."""
    x = np.maximum(x, -700)
    return x * np.tanh(softplus(x))


def mish_slope(x):
    """The derivative of ``mish``, which has reached its limits at ±700."""
    x = np.clip(x, -700, 700)
    t = np.tanh(softplus(x))
    return t + x * (1 - t**2) * sigmoid(x)


erf = np.vectorize(math.erf, otypes=[np.float64])

FUNCTIONS = {  # name → the function, and its derivative
    "sqrt": (np.sqrt, lambda x: 0.5 / np.sqrt(x)),
    "exp": (np.exp, np.exp),
    "log": (np.log, lambda x: 1 / x),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2),
    "erf": (erf, lambda x: 2 / math.sqrt(math.pi) * np.exp(-(x**2))),
    "floor": (np.floor, np.zeros_like),
    "ceil": (np.ceil, np.zeros_like),
    "sign": (np.sign, np.zeros_like),
    "softplus": (softplus, sigmoid),
    "mish": (mish, mish_slope),
}


def _launchers_of(name, function, derivative):
    def forward(y, x):
        y[...] = function(float64(x))

    def gradient_in_place(dy, x):
        dy[...] = dy * derivative(float64(x))

    for made, doc in ((forward, f"y = {name}(x)."), (gradient_in_place, f"dy · {name}'(x).")):
        made.__name__ = made.__qualname__ = f"elementwise_{name}_{made.__name__}"
        made.__doc__ = doc
        launcher(made)


for _name, _pair in FUNCTIONS.items():
    _launchers_of(_name, *_pair)


@launcher
def power_forward(y, x, exponent):
    """xᵖ."""
    y[...] = float64(x) ** exponent


@launcher
def power_gradient_in_place(dy, x, exponent):
    """dy · p · xᵖ⁻¹."""
    dy[...] = dy * exponent * float64(x) ** (exponent - 1)


@launcher
def clip_forward(y, x, low, high):
    """min(max(x, low), high)."""
    y[...] = np.clip(float64(x), low, high)


@launcher
def clip_gradient_in_place(dy, x, low, high):
    """dy where low ≤ x ≤ high, else 0."""
    dy[...] = np.where((x < low) | (x > high), 0, dy)


@launcher
def maximum(y, a, b):
    """The larger of a and b; NaN if one of them is."""
    y[...] = np.maximum(a, b)


@launcher
def minimum(y, a, b):
    """The smaller of a and b; NaN if one of them is."""
    y[...] = np.minimum(a, b)


@launcher
def where_not_less(dx, dy, a, b):
    """dx = dy where a ≥ b, else 0."""
    dx[...] = np.where(a >= b, dy, 0)


@launcher
def where_less(dx, dy, a, b):
    """dx = dy where a < b, else 0."""
    dx[...] = np.where(a < b, dy, 0)
