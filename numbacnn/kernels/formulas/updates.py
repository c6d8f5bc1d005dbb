"""Optimizer updates over flat arrays, in place. (Muon's matrix products are in ``optimizers.muon``.)

``scalars`` holds the numbers that differ from step to step: scalars[0] is 0 if the step makes no update, and the others
are those of ``Optimizer.step_scalars``. They and the options are float64, and are rounded to float32 here, after
differences such as 1 − β, which would lose precision in float32. Moments that become subnormal are flushed to zero.
"""

import math

import numpy as np

from numbacnn.kernels.formulas.formula import Entries, elementwise
from numbacnn.kernels.scalar import ZERO, at_least, flushed
from numbacnn.kernels.step_scalars import AdamOptions, RmspropOptions

scalars, trust = Entries("scalars"), Entries("trust")


def update(outputs):
    """Define a launcher that does nothing if scalars[0] is 0."""
    return elementwise(outputs, flat=True, condition=scalars[0])


@update("w velocity")
def sgd_update(w, velocity, dw, rate: scalars[1], momentum: np.float32, weight_decay: np.float32, nesterov: bool):
    """g = dw + weight_decay·w;  velocity = momentum·velocity + g;  w −= rate · velocity.

    With ``nesterov`` the step is rate · (g + momentum·velocity) (Sutskever et al. 2013, in PyTorch's form).
    """
    gradient = dw + weight_decay * w
    velocity = flushed(momentum * velocity + gradient)
    return w - np.float32(rate) * (gradient + momentum * velocity if nesterov else velocity), velocity


# -- Adam, AdamW and LAMB ---------------------------------------------------------------------------------------------


def moments(mean, square, gradient, o):
    """The running means of g and g²."""
    mean = math.fma(np.float32(1 - o.beta_1), gradient, np.float32(o.beta_1) * mean)
    square = math.fma(np.float32(o.beta_2), square, np.float32(1 - o.beta_2) * (gradient * gradient))
    return flushed(mean), flushed(square)


@update("w mean square")
def adam_update(w, mean, square, dw, step_size: scalars[1], correction: scalars[2], keep: scalars[3], o: AdamOptions):
    """Adam (Kingma and Ba 2015, algorithm 1): g = dw + weight_decay·w, moments of g and g², then
    w = keep·w − step_size · mean / (√square · correction + eps).

    step_size: learning rate / (1 − β₁ᵗ); correction: 1 / √(1 − β₂ᵗ); keep: 1 minus the decoupled weight decay.
    """
    mean, square = moments(mean, square, dw + np.float32(o.weight_decay) * w, o)
    step = np.float32(step_size) * mean / (math.sqrt(square) * np.float32(correction) + np.float32(o.eps))
    return np.float32(keep) * w - step, mean, square


@update("mean square")
def lamb_moments(mean, square, dw, o: AdamOptions):
    """The running means of dw and dw² (LAMB, You et al. 2020, algorithm 2)."""
    return moments(mean, square, dw, o)


def lamb_direction(w, mean, square, step_size, correction, o):
    """r = step_size · mean / (√square · correction + eps) + weight_decay·w, with step_size = 1 / (1 − β₁ᵗ)."""
    scale = math.sqrt(square) * np.float32(correction) + np.float32(o.eps)
    return np.float32(step_size) * mean / scale + np.float32(o.weight_decay) * w


@update("w")
def lamb_update(
    w, mean, square, step_size: scalars[1], correction: scalars[2], rate: scalars[3], ratio: trust[0], o: AdamOptions
):
    """w −= rate · trust[0] · r, with the direction r of ``lamb_trust``."""
    return w - np.float32(rate * ratio) * lamb_direction(w, mean, square, step_size, correction, o)


# -- RMSprop and Adagrad ----------------------------------------------------------------------------------------------


def decayed(w, dw, o):
    """dw + weight_decay·w."""
    return dw + np.float32(o.weight_decay) * w


def mean_square(square, gradient, o):
    """The running mean of g²."""
    return flushed(np.float32(o.alpha) * square + np.float32(1 - o.alpha) * gradient * gradient)


def centered(square, mean, gradient, o):
    """The running means of g² and g, and the variance E[g²] − E[g]², which rounding may bring below 0."""
    share = np.float32(1 - o.alpha) * gradient
    square = flushed(math.fma(share, gradient, np.float32(o.alpha) * square))
    mean = flushed(math.fma(np.float32(o.alpha), mean, share))
    return square, mean, at_least(ZERO, square - mean * mean)


def normalized(gradient, variance, o):
    """g / (√variance + eps)."""
    return gradient / (math.sqrt(variance) + np.float32(o.eps))


@update("w square")
def rmsprop_update(w, square, dw, rate: scalars[1], o: RmspropOptions):
    """RMSprop (Hinton 2012, lecture 6e): g = dw + weight_decay·w;  w −= rate · g / (√E[g²] + eps)."""
    gradient = decayed(w, dw, o)
    square = mean_square(square, gradient, o)
    return w - np.float32(rate) * normalized(gradient, square, o), square


@update("w square velocity")
def rmsprop_momentum_update(w, square, velocity, dw, rate: scalars[1], o: RmspropOptions):
    """``rmsprop_update`` with momentum: the steps are added up in ``velocity``."""
    gradient = decayed(w, dw, o)
    square = mean_square(square, gradient, o)
    velocity = flushed(normalized(gradient, square, o) + np.float32(o.momentum) * velocity)
    return w - np.float32(rate) * velocity, square, velocity


@update("w square mean")
def rmsprop_centered_update(w, square, mean, dw, rate: scalars[1], o: RmspropOptions):
    """``rmsprop_update`` divided by the standard deviation √(E[g²] − E[g]²) (Graves 2013)."""
    gradient = decayed(w, dw, o)
    square, mean, variance = centered(square, mean, gradient, o)
    return w - np.float32(rate) * normalized(gradient, variance, o), square, mean


@update("w square mean velocity")
def rmsprop_centered_momentum_update(w, square, mean, velocity, dw, rate: scalars[1], o: RmspropOptions):
    """``rmsprop_centered_update`` with momentum."""
    gradient = decayed(w, dw, o)
    square, mean, variance = centered(square, mean, gradient, o)
    velocity = flushed(normalized(gradient, variance, o) + np.float32(o.momentum) * velocity)
    return w - np.float32(rate) * velocity, square, mean, velocity


@update("w square")
def adagrad_update(w, square, dw, rate: scalars[1], eps: np.float32, weight_decay: np.float32):
    """Adagrad (Duchi et al. 2011): g = dw + weight_decay·w;  square += g²;  w −= rate · g / (√square + eps)."""
    gradient = dw + weight_decay * w
    square = flushed(square + gradient * gradient)
    return w - np.float32(rate) * gradient / (math.sqrt(square) + eps), square


# -- Muon -------------------------------------------------------------------------------------------------------------


@update("x mean")
def muon_momentum(mean, dw, momentum: np.float64, share: np.float64):
    """mean += (1 − momentum) · (dw − mean);  x = (1 − share)·dw + share·mean."""
    mean = flushed(mean + np.float32(1 - momentum) * (dw - mean))
    return np.float32(1 - share) * dw + np.float32(share) * mean, mean


@update("w")
def muon_update(w, direction, rate: scalars[4], weight_decay: np.float64, widening: np.float64):
    """w = (1 − rate·weight_decay)·w − rate·widening·direction. (scalars[1:4] are AdamW's.)"""
    return np.float32(1 - rate * weight_decay) * w + np.float32(-rate * widening) * direction
