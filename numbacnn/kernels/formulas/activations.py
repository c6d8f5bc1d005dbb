"""Activations, and their gradients from the gradient dy and the output y, or the input x if y does not determine it.

``f`` defines the launcher ``f_forward(y, x)``, and ``f_gradient`` the launcher ``f_gradient_in_place(dy, y)``, which
turns dy into dx. NaN stays NaN, and infinities give the limits.
"""

import math

import numpy as np

from numbacnn.kernels.formulas.formula import elementwise
from numbacnn.kernels.scalar import HALF, ONE, ZERO

THREE, SIX = np.float32(3), np.float32(6)
SQRT_HALF = np.float32(math.sqrt(0.5))
NORMAL_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))  # at 0
GELU_SCALE, GELU_CUBE = np.float32(2 * math.sqrt(2 / math.pi)), np.float32(0.044715)
FAR = np.float32(128)  # the exponentials of float32 overflow or vanish long before


def activation(function):
    """Define ``name_forward(y, x)``."""
    return elementwise("y", name=f"{function.__name__}_forward")(function)


def gradient(function):
    """Define ``name_gradient_in_place(dy, y)``."""
    return elementwise("dy", name=f"{function.__name__}_in_place")(function)


@activation
def relu(x):
    """max(x, 0); NaN stays NaN."""
    return ZERO if x < ZERO else x


@gradient
def relu_gradient(dy, y):
    """dy where y > 0, else 0; where y is NaN, dy."""
    return ZERO if y <= ZERO else dy


@activation
def tanh(x):
    """Hyperbolic tangent."""
    return math.tanh(x)


@gradient
def tanh_gradient(dy, y):
    """dy · (1 − y²)."""
    return dy * (ONE - y * y)


@activation
def sigmoid(x):
    """1 / (1 + e⁻ˣ), without overflow: with e = e^−|x|, that is y − y·e/(1 + e) for y = 1 (x ≥ 0) or y = e (x < 0).

    The rounding error of 1 + e affects only the subtracted term.
    """
    e = math.exp(-abs(x))
    y = ONE if x >= ZERO else e
    return y - y * (e / (ONE + e))


@gradient
def sigmoid_gradient(dy, y):
    """dy · y · (1 − y)."""
    return dy * y * (ONE - y)


@activation
def leaky_relu(x, slope: np.float32):
    """x, or slope · x where x < 0."""
    return x * slope if x < ZERO else x


@gradient
def leaky_relu_gradient(dy, y, slope: np.float32):
    """dy where y > 0, else slope · dy."""
    return dy * slope if y <= ZERO else dy


@activation
def elu(x, alpha: np.float32):
    """x where x > 0, else α · (eˣ − 1) (Clevert et al. 2016, equation 15)."""
    return x if x > ZERO else alpha * math.expm1(x)


@gradient
def elu_gradient(dy, x, alpha: np.float32):
    """dy where x > 0, else dy · α · eˣ. In y + α, which is the same, the rounding error of y would be large."""
    return dy if x > ZERO else dy * (alpha * math.exp(x))


@activation
def relu6(x):
    """min(max(x, 0), 6)."""
    return ZERO if x < ZERO else (SIX if x > SIX else x)


@gradient
def relu6_gradient(dy, y):
    """dy where 0 < y < 6, else 0."""
    return ZERO if y <= ZERO or y >= SIX else dy


@activation
def hardsigmoid(x):
    """min(max(x + 3, 0), 6) / 6."""
    return relu6(x + THREE) / SIX


@gradient
def hardsigmoid_gradient(dy, y):
    """dy / 6 where 0 < y < 1, else 0."""
    return ZERO if y <= ZERO or y >= ONE else dy / SIX


@activation
def hardswish(x):
    """x · hardsigmoid(x) (Howard et al. 2019, section 5.2)."""
    return ZERO if x <= -THREE else (x if x >= THREE else x * (x + THREE) / SIX)


@gradient
def hardswish_gradient(dy, x):
    """dy · (x / 3 + ½) between −3 and 3, 0 below and dy above."""
    return ZERO if x <= -THREE else (dy if x >= THREE else dy * (x / THREE + HALF))


def above_far(x):
    """max(x, −FAR): below that the following functions have reached 0, and −∞ · 0 would be NaN."""
    return -FAR if x < -FAR else x


def near(x):
    """x clipped to ±FAR, where the following gradients have reached their limits."""
    return FAR if x > FAR else above_far(x)


@activation
def silu(x):
    """x · σ(x) = x / (1 + e⁻ˣ)."""
    x = above_far(x)
    return x / (ONE + math.exp(-x))


@gradient
def silu_gradient(dy, x):
    """dy · σ(x) · (1 + x · (1 − σ(x)))."""
    x = near(x)
    s = ONE / (ONE + math.exp(-x))
    return dy * s * (ONE + x * (ONE - s))


@activation
def gelu(x):
    """x · Φ(x), with Φ the normal distribution (Hendrycks and Gimpel 2016); erfc keeps the far left exact."""
    x = above_far(x)
    return x * HALF * math.erfc(-x * SQRT_HALF)


@gradient
def gelu_gradient(dy, x):
    """dy · (Φ(x) + x · φ(x))."""
    x = near(x)
    return dy * (HALF * math.erfc(-x * SQRT_HALF) + x * NORMAL_DENSITY * math.exp(-HALF * x * x))


@activation
def gelu_tanh(x):
    """½x · (1 + tanh(√(2/π) · (x + 0.044715x³))) (ibid., section 2), as ½(1 + tanh u) = σ(2u)."""
    x = above_far(x)
    return x / (ONE + math.exp(-GELU_SCALE * (x + GELU_CUBE * x * x * x)))


@gradient
def gelu_tanh_gradient(dy, x):
    """dy · (σ + x · σ · (1 − σ) · u'), with u' = 2√(2/π) · (1 + 3 · 0.044715x²)."""
    x = near(x)
    s = ONE / (ONE + math.exp(-GELU_SCALE * (x + GELU_CUBE * x * x * x)))
    return dy * (s + x * s * (ONE - s) * GELU_SCALE * (ONE + THREE * GELU_CUBE * x * x))
