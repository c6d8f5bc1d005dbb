"""Scalar maths that both devices share: each activation, and its gradient from the gradient dy and the output y.

Where y does not tell the gradient, it comes from dy and the input x. NaN stays NaN, and infinities give the limits.
Then random numbers, and losses of one element with their derivatives. What calls ``math`` is called by kernels alone:
on the CPU, which has maths of its own, it is compiled with that in the place of ``math``.
"""

import math

import numpy as np
from numba.extending import register_jitable

ZERO, ONE, THREE, SIX, HALF = (np.float32(number) for number in (0, 1, 3, 6, 0.5))
SQRT_HALF = np.float32(math.sqrt(0.5))
NORMAL_DENSITY = np.float32(1 / math.sqrt(2 * math.pi))  # at 0
GELU_SCALE, GELU_CUBE = np.float32(2 * math.sqrt(2 / math.pi)), np.float32(0.044715)
FAR = np.float32(128)  # the exponentials of float32 end long before


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
    """1 / (1 + e⁻ˣ), from the side where the exponential cannot overflow: in e = e^−|x|, 1 − e / (1 + e) or
    e times that; written so that the rounding error of 1 + e comes in multiplied with what is taken off."""
    e = math.exp(-abs(x))
    y = ONE if x >= ZERO else e
    return y - y * (e / (ONE + e))


def sigmoid_gradient(dy, y):
    """dy · y · (1 − y)."""
    return dy * y * (ONE - y)


LOW = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
FACTOR_0, FACTOR_2 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
WEYL_0, WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)


def philox(c_0, c_1, c_2, c_3, k_0, k_1):
    """Four random words of 32 bits that depend on the counter c and the key k alone: Philox 4×32-10 (Salmon et al.
    2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3). All are uint64 that hold 32 bits.
    """
    for _ in range(10):
        a, b = FACTOR_0 * c_0, FACTOR_2 * c_2
        c_0, c_1, c_2, c_3 = (b >> SHIFT) ^ c_1 ^ k_0, b & LOW, (a >> SHIFT) ^ c_3 ^ k_1, a & LOW
        k_0, k_1 = (k_0 + WEYL_0) & LOW, (k_1 + WEYL_1) & LOW
    return c_0, c_1, c_2, c_3


def leaky_relu(x, slope):
    """x, or slope · x where x < 0."""
    return x * slope if x < ZERO else x


def leaky_relu_gradient(dy, y, slope):
    """dy where y > 0, else slope · dy."""
    return dy * slope if y <= ZERO else dy


def elu(x, alpha):
    """x where x > 0, else α · (eˣ − 1) (Clevert et al. 2016, equation 15)."""
    return x if x > ZERO else alpha * math.expm1(x)


def elu_gradient(dy, y, alpha):
    """dy where y > 0, else dy · (y + α)."""
    return dy if y > ZERO else dy * (y + alpha)


@register_jitable
def relu6(x):
    """min(max(x, 0), 6)."""
    return ZERO if x < ZERO else (SIX if x > SIX else x)


def relu6_gradient(dy, y):
    """dy where 0 < y < 6, else 0."""
    return ZERO if y <= ZERO or y >= SIX else dy


def hardsigmoid(x):
    """min(max(x + 3, 0), 6) / 6."""
    return relu6(x + THREE) / SIX


def hardsigmoid_gradient(dy, y):
    """dy / 6 where 0 < y < 1, else 0."""
    return ZERO if y <= ZERO or y >= ONE else dy / SIX


def hardswish(x):
    """x · hardsigmoid(x) (Howard et al. 2019, section 5.2)."""
    return ZERO if x <= -THREE else (x if x >= THREE else x * (x + THREE) / SIX)


def hardswish_gradient(dy, x):
    """dy · (x / 3 + ½) between −3 and 3, 0 below and dy above."""
    return ZERO if x <= -THREE else (dy if x >= THREE else dy * (x / THREE + HALF))


@register_jitable
def above_far(x):
    """x, or −FAR below that, where the functions that follow have reached 0: −∞ · 0 would be NaN."""
    return -FAR if x < -FAR else x


@register_jitable
def near(x):
    """x within ±FAR, where the gradients that follow have reached their limits."""
    return FAR if x > FAR else above_far(x)


def silu(x):
    """x · σ(x) = x / (1 + e⁻ˣ)."""
    x = above_far(x)
    return x / (ONE + math.exp(-x))


def silu_gradient(dy, x):
    """dy · σ(x) · (1 + x · (1 − σ(x)))."""
    x = near(x)
    s = ONE / (ONE + math.exp(-x))
    return dy * s * (ONE + x * (ONE - s))


def gelu(x):
    """x · Φ(x), with Φ the normal distribution (Hendrycks and Gimpel 2016); erfc keeps the far left exact."""
    x = above_far(x)
    return x * HALF * math.erfc(-x * SQRT_HALF)


def gelu_gradient(dy, x):
    """dy · (Φ(x) + x · φ(x))."""
    x = near(x)
    return dy * (HALF * math.erfc(-x * SQRT_HALF) + x * NORMAL_DENSITY * math.exp(-HALF * x * x))


def gelu_tanh(x):
    """½x · (1 + tanh(√(2/π) · (x + 0.044715x³))) (ibid., section 2), as ½(1 + tanh u) = σ(2u)."""
    x = above_far(x)
    return x / (ONE + math.exp(-GELU_SCALE * (x + GELU_CUBE * x * x * x)))


def gelu_tanh_gradient(dy, x):
    """dy · (σ + x · σ · (1 − σ) · u'), with u' = 2√(2/π) · (1 + 3 · 0.044715x²)."""
    x = near(x)
    s = ONE / (ONE + math.exp(-GELU_SCALE * (x + GELU_CUBE * x * x * x)))
    return dy * (s + x * s * (ONE - s) * GELU_SCALE * (ONE + THREE * GELU_CUBE * x * x))


# -- losses of one element --------------------------------------------------------------------------------------------
#
# Each gives the loss and its derivative by x. ``options`` are the loss's own constants, c is the element's channel.


@register_jitable
def times(weight, loss):
    """weight · loss, where 0 · ∞ counts as 0."""
    return weight * loss if weight != ZERO else ZERO


def squared(x, target, options, c):
    """(x − target)²."""
    d = x - target
    return d * d, d + d


def absolute(x, target, options, c):
    """|x − target|, whose slope at 0 is 0; NaN stays NaN."""
    d = x - target
    return abs(d), ONE if d > ZERO else (-ONE if d < ZERO else d)


def huber(x, target, options, c):
    """d² / 2 where |d| ≤ δ, else δ · (|d| − δ / 2), with d = x − target and δ = options[0]."""
    d, delta = x - target, options[0]
    slope = delta if d > delta else (-delta if d < -delta else d)
    size = abs(slope)
    return size * (abs(d) - HALF * size), slope


def smooth_l1(d, beta):
    """d² / 2β where |d| ≤ β, else |d| − β / 2 (Girshick 2015, equation 3)."""
    size = abs(d)
    if size <= beta:
        return HALF * d * d / beta, d / beta
    return size - HALF * beta, ONE if d > ZERO else (-ONE if d < ZERO else d)


def binary_cross_entropy(x, target, options, c):
    """−options[c] · target · log σ(x) − (1 − target) · log σ(−x), with −log σ(x) = max(−x, 0) + log(1 + e^−|x|)."""
    e = math.exp(-abs(x))
    larger, smaller = ONE / (ONE + e), e / (ONE + e)
    yes, no = (larger, smaller) if x >= ZERO else (smaller, larger)  # σ(x), σ(−x)
    for_yes, for_no = options[c] * target, ONE - target
    rest = math.log1p(e)
    loss = times(for_yes, max(-x, ZERO) + rest) + times(for_no, max(x, ZERO) + rest)
    return loss, for_no * yes - for_yes * no


def sigmoid_focal(x, target, options, c):
    """−a · (1 − p)^γ · log p, with p = σ(x) and a = α where the target is 1, else p = σ(−x) and a = 1 − α; options:
    (γ, α). With z = ±x, p = σ(z) and q = 1 − p, q^γ is exp(γ · log q), and −log q = max(z, 0) + log(1 + e^−|z|)."""
    gamma, alpha = options[0], options[1]
    sign, weight = (ONE, alpha) if target > HALF else (-ONE, ONE - alpha)
    z = sign * x
    e = math.exp(-abs(z))
    larger, smaller = ONE / (ONE + e), e / (ONE + e)
    p, q = (larger, smaller) if z >= ZERO else (smaller, larger)
    rest = math.log1p(e)
    nll, modulating_factor = max(-z, ZERO) + rest, weight * math.exp(-times(gamma, max(z, ZERO) + rest))
    return times(modulating_factor, nll), -sign * modulating_factor * (q + gamma * times(p, nll))
