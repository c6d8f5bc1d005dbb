"""Optimiser updates over flat arenas, in place, in one pass; and the sums that clipping and averaging need.

Unless said otherwise arguments are flat arrays of equal size, and each thread owns elements of them; see ``elements``.
The hyperparameters of a step come as a NamedTuple of Python's floats, which the kernels bring to float32.
"""

import numpy as np
from numba import types

from numbacnn.kernels.cuda.elements import element_kernel
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, float32_1d, numba_type
from numbacnn.kernels.cuda.runtime.shim import MATHS, cuda, device_function
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS, AdamStep, RmspropStep

float32, float64 = types.float32, types.float64
float64_1d = types.Array(float64, 1, "C")
float64_2d = types.Array(float64, 2, "C")
ADAM, RMSPROP = numba_type(AdamStep), numba_type(RmspropStep)
SUM_THREADS = min(512, 2 * THREADS)  # of a block of a sum, of which there are SUM_GROUPS
ZERO = np.float32(0)


# -- SGD --------------------------------------------------------------------------------------------------------------


@launcher
def sgd_update(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    """g = dw + weight_decay·w;  velocity = momentum·velocity + g;  w −= learning_rate · velocity.

    With ``nesterov`` the step is learning_rate · (g + momentum·velocity) (Sutskever et al. 2013, in PyTorch's form).
    """
    _sgd([w, velocity], [w, velocity, dw], constants=[learning_rate, momentum, weight_decay, nesterov])


@device_function
def sgd(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    """The new w and velocity of ``sgd_update``."""
    gradient = dw + weight_decay * w
    v = momentum * velocity + gradient
    return w - learning_rate * (gradient + momentum * v if nesterov else v), v


_sgd = element_kernel(2, 3, constants=[float32, float32, float32, types.boolean], name="_sgd")(sgd)


# -- Adam and its kin -------------------------------------------------------------------------------------------------


@launcher
def adam_update(w, mean, square, dw, o):
    """Adam (Kingma and Ba 2015, algorithm 1): g = dw + weight_decay·w, moments of g and g², then
    w = keep·w − step_size · mean / (√square · correction + eps).
    """
    _adam([w, mean, square], [w, mean, square, dw], constants=[o])


@element_kernel(outputs=3, inputs=4, constants=[ADAM])
def _adam(w, mean, square, dw, o):
    return adam(w, mean, square, dw, np.float32(o.step_size), np.float32(o.correction), np.float32(o.keep), o)


@device_function
def adam(w, mean, square, dw, step_size, correction, keep, o):
    """The new w, mean and square of ``adam_update``; of ``o`` the numbers count that are the same in every step."""
    mean, square = moments(w, mean, square, dw, o, o.weight_decay)
    step = step_size * mean / (MATHS.sqrt(square) * correction + np.float32(o.eps))
    return keep * w - step, mean, square


@device_function
def moments(w, mean, square, dw, o, decay):
    """The running means of g and g², g = dw + decay·w. 1 − β is taken in float64: in float32 it would lose digits."""
    gradient = dw + np.float32(decay) * w
    mean = np.float32(o.beta_1) * mean + np.float32(1 - o.beta_1) * gradient
    return mean, np.float32(o.beta_2) * square + np.float32(1 - o.beta_2) * gradient * gradient


@launcher
def lamb_moments(partial, w, mean, square, dw, o):
    """The moments of one tensor, and partial sums of w² in partial[0] and of its direction r² in partial[1] (LAMB, You
    et al. 2020, algorithm 2): r = step_size · mean / (√square · correction + eps) + weight_decay · w.

    partial: 2 × SUM_GROUPS.
    """
    _lamb_moments([mean, square], [w, mean, square, dw], constants=[o])
    _lamb_norms[over_groups(w.size)](partial, w, mean, square, o)


@element_kernel(outputs=2, inputs=4, constants=[ADAM])
def _lamb_moments(w, mean, square, dw, o):
    return moments(w, mean, square, dw, o, 0.0)


@device_function
def lamb_direction(w, mean, square, step_size, correction, o):
    """r of ``lamb_moments``; of ``o`` the numbers count that are the same in every step."""
    scale = MATHS.sqrt(square) * correction + np.float32(o.eps)
    return step_size * mean / scale + np.float32(o.weight_decay) * w


@cuda_kernel(float64_2d, float32_1d, float32_1d, float32_1d, ADAM)
def _lamb_norms(partial, w, mean, square, o):
    lamb_norms(partial, w, mean, square, np.float32(o.step_size), np.float32(o.correction), o)


@device_function
def lamb_norms(partial, w, mean, square, step_size, correction, o):
    """The sums of ``lamb_moments``. Each block owns one of the groups, and each group a range of elements."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    i, last = range_of(w)
    weights, directions = 0.0, 0.0
    while i < last:
        r = np.float64(lamb_direction(w[i], mean[i], square[i], step_size, correction, o))
        weights += np.float64(w[i]) * np.float64(w[i])
        directions += r * r
        i += cuda.blockDim.x
    weights, directions = block_sum(shared, weights), block_sum(shared, directions)
    if cuda.threadIdx.x == 0:
        partial[0, cuda.blockIdx.x], partial[1, cuda.blockIdx.x] = weights, directions


@launcher
def lamb_update(w, mean, square, o, rate):
    """w −= rate · r, with the direction r of ``lamb_moments``; rate: the learning rate times the trust ratio."""
    _lamb([w], [w, mean, square], constants=[o, rate])


@element_kernel(inputs=3, constants=[ADAM, float32])
def _lamb(w, mean, square, o, rate):
    return w - rate * lamb_direction(w, mean, square, np.float32(o.step_size), np.float32(o.correction), o)


# -- RMSprop and Adagrad ----------------------------------------------------------------------------------------------


@launcher
def rmsprop_update(w, square, mean, velocity, dw, o):
    """RMSprop (Hinton 2012, lecture 6e): g = dw + weight_decay·w, running mean of g², step g / (√square + eps).

    mean: the running mean of g, whose square is taken off (Graves 2013), or empty; velocity: momentum's sum of steps,
    or empty.
    """
    if mean.size and velocity.size:
        _rmsprop_centered_moving([w, square, mean, velocity], [w, square, mean, velocity, dw], constants=[o])
    elif mean.size:
        _rmsprop_centered([w, square, mean], [w, square, mean, dw], constants=[o])
    elif velocity.size:
        _rmsprop_moving([w, square, velocity], [w, square, velocity, dw], constants=[o])
    else:
        _rmsprop([w, square], [w, square, dw], constants=[o])


@element_kernel(outputs=2, inputs=3, constants=[RMSPROP])
def _rmsprop(w, square, dw, o):
    return rmsprop(w, square, dw, np.float32(o.learning_rate), o)


@element_kernel(outputs=3, inputs=4, constants=[RMSPROP])
def _rmsprop_moving(w, square, velocity, dw, o):
    return rmsprop_moving(w, square, velocity, dw, np.float32(o.learning_rate), o)


@element_kernel(outputs=3, inputs=4, constants=[RMSPROP])
def _rmsprop_centered(w, square, mean, dw, o):
    return rmsprop_centered(w, square, mean, dw, np.float32(o.learning_rate), o)


@element_kernel(outputs=4, inputs=5, constants=[RMSPROP])
def _rmsprop_centered_moving(w, square, mean, velocity, dw, o):
    return rmsprop_centered_moving(w, square, mean, velocity, dw, np.float32(o.learning_rate), o)


@device_function
def rmsprop(w, square, dw, rate, o):
    """The new w and square of ``rmsprop_update``."""
    gradient = _decayed(w, dw, o)
    square = _approached(square, gradient * gradient, o)
    return w - rate * _rmsprop_step(gradient, square, o), square


@device_function
def rmsprop_moving(w, square, velocity, dw, rate, o):
    """As ``rmsprop``, with the velocity."""
    gradient = _decayed(w, dw, o)
    square = _approached(square, gradient * gradient, o)
    velocity = _rmsprop_step(gradient, square, o) + np.float32(o.momentum) * velocity
    return w - rate * velocity, square, velocity


@device_function
def rmsprop_centered(w, square, mean, dw, rate, o):
    """As ``rmsprop``, with the mean."""
    gradient = _decayed(w, dw, o)
    square, mean = _approached(square, gradient * gradient, o), _approached(mean, gradient, o)
    return w - rate * _rmsprop_step(gradient, _centered(square, mean), o), square, mean


@device_function
def rmsprop_centered_moving(w, square, mean, velocity, dw, rate, o):
    """As ``rmsprop``, with both."""
    gradient = _decayed(w, dw, o)
    square, mean = _approached(square, gradient * gradient, o), _approached(mean, gradient, o)
    velocity = _rmsprop_step(gradient, _centered(square, mean), o) + np.float32(o.momentum) * velocity
    return w - rate * velocity, square, mean, velocity


@device_function
def _decayed(w, dw, o):
    return dw + np.float32(o.weight_decay) * w


@device_function
def _approached(mean, value, o):
    return np.float32(o.alpha) * mean + np.float32(1 - o.alpha) * value


@device_function
def _centered(square, mean):
    return max(square - mean * mean, ZERO)  # rounding may leave a square below the mean's


@device_function
def _rmsprop_step(gradient, variance, o):
    return gradient / (MATHS.sqrt(variance) + np.float32(o.eps))


@launcher
def adagrad_update(w, square, dw, learning_rate, eps, weight_decay):
    """Adagrad (Duchi et al. 2011): square += g², w −= learning_rate · g / (√square + eps), with g as in RMSprop."""
    _adagrad([w, square], [w, square, dw], constants=[learning_rate, eps, weight_decay])


@device_function
def adagrad(w, square, dw, learning_rate, eps, weight_decay):
    """The new w and square of ``adagrad_update``."""
    gradient = dw + weight_decay * w
    square = square + gradient * gradient
    return w - learning_rate * gradient / (MATHS.sqrt(square) + eps), square


_adagrad = element_kernel(2, 3, constants=[float32] * 3, name="_adagrad")(adagrad)


# -- sums, averages, clipping -----------------------------------------------------------------------------------------


@launcher
def sum_squares(partial, x):
    """partial[g] = Σ x² over group g of SUM_GROUPS ranges of x."""
    _sum_squares[over_groups(x.size)](partial, x)


def over_groups(count):
    """The grid for the sums of SUM_GROUPS ranges of ``count`` items, a block each, with threads as many as help."""
    threads = 1
    while threads < SUM_THREADS and threads * SUM_GROUPS < count:
        threads *= 2
    return SUM_GROUPS, threads


@cuda_kernel(float64_1d, float32_1d)
def _sum_squares(partial, x):
    """Each block owns a group; of its threads each has four sums, so that four reads are on their way at a time."""
    shared = cuda.shared.array(SUM_THREADS, float64)
    i, last = range_of(x)
    step = cuda.blockDim.x
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    while i + 3 * step < last:
        e, f, g, h = x[i], x[i + step], x[i + 2 * step], x[i + 3 * step]
        a, b, c, d = a + _square(e), b + _square(f), c + _square(g), d + _square(h)
        i += 4 * step
    while i < last:
        a += _square(x[i])
        i += step
    total = block_sum(shared, (a + b) + (c + d))
    if cuda.threadIdx.x == 0:
        partial[cuda.blockIdx.x] = total


@device_function
def _square(x):
    return np.float64(x) * np.float64(x)


@device_function
def range_of(x):
    """The first element of this thread, and the first behind the block's, of SUM_GROUPS ranges of a flat array."""
    return range_among(x.size)


@device_function
def range_among(count):
    """As ``range_of``, among so many items."""
    group = cuda.blockIdx.x
    return count * group // SUM_GROUPS + cuda.threadIdx.x, count * (group + 1) // SUM_GROUPS
