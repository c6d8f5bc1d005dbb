"""Optimiser updates over flat arenas: one pass, in place. Each thread owns a range of blocks of 4,096 elements.

A block is an array of its own, indexed from 0: an index that might be negative would keep LLVM from using vectors, and
the update would take five times as long.
"""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined

BLOCK = 4096
float32 = types.float32


@cpu_kernel(float32_1d, float32_1d, float32_1d, float32, float32, float32, types.boolean)
def sgd_update(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    """g = dw + weight_decay·w;  velocity = momentum·velocity + g;  w −= learning_rate · velocity.

    With ``nesterov`` the step is learning_rate · (g + momentum·velocity) (Sutskever et al. 2013, in PyTorch's form).
    """
    p_w, p_velocity, p_dw = address(w), address(velocity), address(dw)
    for item in prange(-(-w.size // BLOCK)):
        first = np.intp(item) * BLOCK
        size, at = min(w.size - first, BLOCK), 4 * first
        _sgd_block(
            floats(p_w + at, size),
            floats(p_velocity + at, size),
            floats(p_dw + at, size),
            learning_rate,
            momentum,
            weight_decay,
            nesterov,
        )


@inlined
def _sgd_block(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    for i in range(len(w)):
        gradient = dw[i] + weight_decay * w[i]
        v = momentum * velocity[i] + gradient
        velocity[i] = v
        w[i] -= learning_rate * (gradient + momentum * v if nesterov else v)


@cpu_kernel(float32_1d, float32_1d, float32_1d, float32_1d, *[float32] * 6)
def adam_update(w, mean, square, dw, step_size, beta_1, beta_2, correction, epsilon, weight_decay):
    """Adam (Kingma and Ba 2015, algorithm 1): g = dw + weight_decay·w, moments of g and g², then
    w −= step_size · mean / (√square · correction + epsilon), with the bias corrections of the step in
    step_size = learning_rate / (1 − β₁ᵗ) and correction = 1 / √(1 − β₂ᵗ).
    """
    p_w, p_mean, p_square, p_dw = address(w), address(mean), address(square), address(dw)
    for item in prange(-(-w.size // BLOCK)):
        first = np.intp(item) * BLOCK
        size, at = min(w.size - first, BLOCK), 4 * first
        _adam_block(
            floats(p_w + at, size),
            floats(p_mean + at, size),
            floats(p_square + at, size),
            floats(p_dw + at, size),
            step_size,
            beta_1,
            beta_2,
            correction,
            epsilon,
            weight_decay,
        )


@inlined
def _adam_block(w, mean, square, dw, step_size, beta_1, beta_2, correction, epsilon, weight_decay):
    for i in range(len(w)):
        gradient = dw[i] + weight_decay * w[i]
        mean[i] = beta_1 * mean[i] + (1 - beta_1) * gradient
        square[i] = beta_2 * square[i] + (1 - beta_2) * gradient * gradient
        w[i] -= step_size * mean[i] / (math.sqrt(square[i]) * correction + epsilon)
