"""Functions of one number that networks use between their layers, powers, and the larger or smaller of two numbers.

``f`` defines the launcher ``elementwise_f_forward(y, x)``, and ``f_gradient`` the launcher
``elementwise_f_gradient_in_place(dy, x)``, which turns dy into dx. NaN stays NaN.
"""

import math
from math import erf as plain_erf  # compiled as it is: it has no vectorized form

import numpy as np

from numbacnn.kernels.formulas.activations import above_far, near, sigmoid
from numbacnn.kernels.formulas.formula import elementwise
from numbacnn.kernels.scalar import HALF, ONE, ZERO

TWO_OVER_ROOT_PI = np.float32(2 / math.sqrt(math.pi))
WHOLE = np.float32(2**23)  # floats of this size have no fraction


def function(of):
    """Define ``elementwise_name_forward(y, x)``."""
    return elementwise("y", name=f"elementwise_{of.__name__}_forward")(of)


def gradient(of):
    """Define ``elementwise_name_in_place(dy, x)``."""
    return elementwise("dy", name=f"elementwise_{of.__name__}_in_place")(of)


@function
def sqrt(x):
    """√x; NaN below 0."""
    return math.sqrt(x)


@gradient
def sqrt_gradient(dy, x):
    """dy / 2√x."""
    return dy * HALF / math.sqrt(x)


@function
def exp(x):
    """eˣ."""
    return math.exp(x)


@gradient
def exp_gradient(dy, x):
    """dy · eˣ."""
    return dy * math.exp(x)


@function
def log(x):
    """Natural logarithm; NaN below 0."""
    return math.log(x)


@gradient
def log_gradient(dy, x):
    """dy / x."""
    return dy / x


@function
def reciprocal(x):
    """1 / x."""
    return ONE / x


@gradient
def reciprocal_gradient(dy, x):
    """−dy / x²."""
    return -dy / x / x


@function
def erf(x):
    """The error function."""
    return plain_erf(x)


@gradient
def erf_gradient(dy, x):
    """dy · 2/√π · e^−x²."""
    return dy * TWO_OVER_ROOT_PI * math.exp(-x * x)


@function
def floor(x):
    """The largest integer that is not above x."""
    whole = x if not abs(x) < WHOLE else np.float32(np.int32(x))
    return whole - ONE if whole > x else whole


@function
def ceil(x):
    """The smallest integer that is not below x."""
    whole = x if not abs(x) < WHOLE else np.float32(np.int32(x))
    return whole + ONE if whole < x else whole


@function
def sign(x):
    """−1, 0 or 1."""
    return ONE if x > ZERO else (-ONE if x < ZERO else x)


def no_slope(dy, x):
    """0."""
    return ZERO


for _name in ("floor", "ceil", "sign"):
    elementwise("dy", name=f"elementwise_{_name}_gradient_in_place")(no_slope)


@function
def softplus(x):
    """log(1 + eˣ), which is max(x, 0) + log(1 + e^−|x|)."""
    return (ZERO if x < ZERO else x) + math.log1p(math.exp(-abs(x)))


@gradient
def softplus_gradient(dy, x):
    """dy · σ(x)."""
    return dy * sigmoid(x)


@function
def mish(x):
    """x · tanh(log(1 + eˣ)) (Misra 2020, equation 1)."""
    x = above_far(x)
    return x * math.tanh(softplus(x))


@gradient
def mish_gradient(dy, x):
    """dy · (t + x · (1 − t²) · σ(x)), t = tanh(log(1 + eˣ))."""
    x = near(x)
    t = math.tanh(softplus(x))
    return dy * (t + x * (ONE - t * t) * sigmoid(x))


# -- powers -----------------------------------------------------------------------------------------------------------


@elementwise("y", name="power_forward")
def power(x, exponent: np.float32):
    """x to a constant power."""
    return x**exponent


@elementwise("dy", name="power_gradient_in_place")
def power_gradient(dy, x, exponent: np.float32):
    """dy · p · xᵖ⁻¹."""
    return dy * exponent * x ** (exponent - ONE)


@elementwise("y", name="clip_forward")
def clip(x, low: np.float32, high: np.float32):
    """x, but at least ``low`` and at most ``high``."""
    return low if x < low else (high if x > high else x)


@elementwise("dy", name="clip_gradient_in_place")
def clip_gradient(dy, x, low: np.float32, high: np.float32):
    """dy where x is between the bounds, else 0."""
    return ZERO if x < low or x > high else dy


# -- two numbers ------------------------------------------------------------------------------------------------------


@elementwise("y")
def maximum(a, b):
    """y = the larger of a and b; NaN if one of them is."""
    return a if a >= b or a != a else b


@elementwise("y")
def minimum(a, b):
    """y = the smaller of a and b; NaN if one of them is."""
    return a if a <= b or a != a else b


@elementwise("dx")
def where_not_less(dy, a, b):
    """dx = dy where a ≥ b, else 0."""
    return dy if a >= b else ZERO


@elementwise("dx")
def where_less(dy, a, b):
    """dx = dy where a < b, else 0."""
    return dy if a < b else ZERO
