"""Optimiser updates over flat arenas, in place, in one pass; and the sums that clipping and averaging need.

Unless said otherwise arguments are flat arrays of equal size, and each thread owns a range of blocks of 4,096 elements.
The hyperparameters of a step come as a NamedTuple of Python's floats, which the kernels bring to float32.

A block is an array of its own, indexed from 0: an index that might be negative would keep LLVM from using vectors, and
the update would take five times as long.
"""

import math

import numpy as np
from numba import prange, types

from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.jit import cpu_kernel, float32_1d, inlined
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS, AdamStep, RmspropStep

BLOCK = 4096
float32 = types.float32
float64_1d = types.Array(types.float64, 1, "C")
float64_2d = types.Array(types.float64, 2, "C")
ZERO = np.float32(0)


@inlined
def blocks(x):
    """How many blocks a flat array has."""
    return -(-x.size // BLOCK)


@inlined
def block(x, item):
    """Block ``item`` of a flat array; of an empty one, nothing."""
    first = np.intp(item) * BLOCK
    return floats(address(x) + 4 * first, max(min(x.size - first, BLOCK), 0))


@inlined
def part(x, item):
    """Range ``item`` of the SUM_GROUPS ranges of a flat array."""
    group = np.intp(item)
    first, last = x.size * group // SUM_GROUPS, x.size * (group + 1) // SUM_GROUPS
    return floats(address(x) + 4 * first, last - first)


# -- SGD --------------------------------------------------------------------------------------------------------------


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, float32, float32, float32, types.boolean)
def sgd_update(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    """g = dw + weight_decay·w;  velocity = momentum·velocity + g;  w −= learning_rate · velocity.

    With ``nesterov`` the step is learning_rate · (g + momentum·velocity) (Sutskever et al. 2013, in PyTorch's form).
    """
    for item in prange(blocks(w)):
        _sgd_block(
            block(w, item), block(velocity, item), block(dw, item), learning_rate, momentum, weight_decay, nesterov
        )


@inlined
def _sgd_block(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    for i in range(len(w)):
        gradient = dw[i] + weight_decay * w[i]
        v = momentum * velocity[i] + gradient
        velocity[i] = v
        w[i] -= learning_rate * (gradient + momentum * v if nesterov else v)


# -- Adam and its kin -------------------------------------------------------------------------------------------------


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, float32_1d, AdamStep)
def adam_update(w, mean, square, dw, o):
    """Adam (Kingma and Ba 2015, algorithm 1): g = dw + weight_decay·w, moments of g and g², then
    w = keep·w − step_size · mean / (√square · correction + eps).
    """
    for item in prange(blocks(w)):
        _adam_block(block(w, item), block(mean, item), block(square, item), block(dw, item), o)


@inlined
def _adam_block(w, mean, square, dw, o):
    _moments(w, mean, square, dw, o, o.weight_decay)
    step_size, correction, eps = np.float32(o.step_size), np.float32(o.correction), np.float32(o.eps)
    keep = np.float32(o.keep)
    for i in range(len(w)):
        w[i] = keep * w[i] - step_size * mean[i] / (math.sqrt(square[i]) * correction + eps)


@inlined
def _moments(w, mean, square, dw, o, decay):
    """The running means of g and g², g = dw + decay·w. 1 − β is taken in float64: in float32 it would lose digits."""
    beta_1, beta_2 = np.float32(o.beta_1), np.float32(o.beta_2)
    share_1, share_2 = np.float32(1 - o.beta_1), np.float32(1 - o.beta_2)
    weight_decay = np.float32(decay)
    for i in range(len(w)):
        gradient = dw[i] + weight_decay * w[i]
        mean[i] = beta_1 * mean[i] + share_1 * gradient
        square[i] = beta_2 * square[i] + share_2 * gradient * gradient


@launcher
@cpu_kernel(float64_2d, float32_1d, float32_1d, float32_1d, float32_1d, AdamStep)
def lamb_moments(partial, w, mean, square, dw, o):
    """The moments of one tensor, and partial sums of w² in partial[0] and of its direction r² in partial[1] (LAMB, You
    et al. 2020, algorithm 2): r = step_size · mean / (√square · correction + eps) + weight_decay · w.

    partial: 2 × SUM_GROUPS. Each thread owns a range of the groups, and each group a range of elements.
    """
    for item in prange(SUM_GROUPS):
        w_part, mean_part, square_part = part(w, item), part(mean, item), part(square, item)
        _moments(w_part, mean_part, square_part, part(dw, item), o, 0.0)
        partial[0, item], partial[1, item] = _lamb_norms(w_part, mean_part, square_part, o)


@inlined
def _lamb_direction(w, mean, square, step_size, correction, eps, weight_decay):
    return step_size * mean / (math.sqrt(square) * correction + eps) + weight_decay * w


@inlined
def _lamb_norms(w, mean, square, o):
    step_size, correction = np.float32(o.step_size), np.float32(o.correction)
    eps, weight_decay = np.float32(o.eps), np.float32(o.weight_decay)
    weights, directions = 0.0, 0.0
    for i in range(len(w)):
        r = np.float64(_lamb_direction(w[i], mean[i], square[i], step_size, correction, eps, weight_decay))
        weights += np.float64(w[i]) * np.float64(w[i])
        directions += r * r
    return weights, directions


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, AdamStep, float32)
def lamb_update(w, mean, square, o, rate):
    """w −= rate · r, with the direction r of ``lamb_moments``; rate: the learning rate times the trust ratio."""
    for item in prange(blocks(w)):
        _lamb_block(block(w, item), block(mean, item), block(square, item), o, rate)


@inlined
def _lamb_block(w, mean, square, o, rate):
    step_size, correction = np.float32(o.step_size), np.float32(o.correction)
    eps, weight_decay = np.float32(o.eps), np.float32(o.weight_decay)
    for i in range(len(w)):
        w[i] -= rate * _lamb_direction(w[i], mean[i], square[i], step_size, correction, eps, weight_decay)


# -- RMSprop and Adagrad ----------------------------------------------------------------------------------------------


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, float32_1d, float32_1d, RmspropStep)
def rmsprop_update(w, square, mean, velocity, dw, o):
    """RMSprop (Hinton 2012, lecture 6e): g = dw + weight_decay·w, running mean of g², step g / (√square + eps).

    mean: the running mean of g, whose square is taken off (Graves 2013), or empty; velocity: momentum's sum of steps,
    or empty.
    """
    for item in prange(blocks(w)):
        _rmsprop_block(
            block(w, item), block(square, item), block(mean, item), block(velocity, item), block(dw, item), o
        )


@inlined
def _rmsprop_block(w, square, mean, velocity, dw, o):
    centered, moving = mean.size > 0, velocity.size > 0
    learning_rate, momentum = np.float32(o.learning_rate), np.float32(o.momentum)
    eps, weight_decay = np.float32(o.eps), np.float32(o.weight_decay)
    alpha, share = np.float32(o.alpha), np.float32(1 - o.alpha)
    for i in range(len(w)):
        gradient = dw[i] + weight_decay * w[i]
        variance = alpha * square[i] + share * gradient * gradient
        square[i] = variance
        if centered:
            m = alpha * mean[i] + share * gradient
            mean[i] = m
            variance = max(variance - m * m, ZERO)  # rounding may leave a square below the mean's
        step = gradient / (math.sqrt(variance) + eps)
        if moving:
            step += momentum * velocity[i]
            velocity[i] = step
        w[i] -= learning_rate * step


@launcher
@cpu_kernel(float32_1d, float32_1d, float32_1d, float32, float32, float32)
def adagrad_update(w, square, dw, learning_rate, eps, weight_decay):
    """Adagrad (Duchi et al. 2011): square += g², w −= learning_rate · g / (√square + eps), with g as in RMSprop."""
    for item in prange(blocks(w)):
        _adagrad_block(block(w, item), block(square, item), block(dw, item), learning_rate, eps, weight_decay)


@inlined
def _adagrad_block(w, square, dw, learning_rate, eps, weight_decay):
    for i in range(len(w)):
        gradient = dw[i] + weight_decay * w[i]
        square[i] += gradient * gradient
        w[i] -= learning_rate * gradient / (math.sqrt(square[i]) + eps)


# -- sums, averages, clipping -----------------------------------------------------------------------------------------


@launcher
@cpu_kernel(float64_1d, float32_1d)
def sum_squares(partial, x):
    """partial[g] = Σ x² over group g of SUM_GROUPS ranges of x. Each thread owns a range of groups."""
    for item in prange(SUM_GROUPS):
        partial[item] = _squares(part(x, item))


@inlined
def _squares(x):
    total = 0.0
    for i in range(len(x)):
        total += np.float64(x[i]) * np.float64(x[i])
    return total
