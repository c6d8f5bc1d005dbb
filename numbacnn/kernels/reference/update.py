"""Updates of the optimizers over flat arrays, in place; and the sums that clipping, averages and penalties need."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher
from numbacnn.kernels.step_scalars import SUM_GROUPS


@launcher
def sgd_update(w, velocity, dw, learning_rate, momentum, weight_decay, nesterov):
    """g = dw + weight_decay · w;  v = momentum · v + g;  w −= learning_rate · v, or with ``nesterov`` learning_rate ·
    (g + momentum · v) (Sutskever et al. 2013, in PyTorch's form)."""
    gradient = dw + weight_decay * float64(w)
    v = momentum * float64(velocity) + gradient
    velocity[...] = v
    w[...] = w - learning_rate * (gradient + momentum * v if nesterov else v)


@launcher
def adam_update(w, mean, square, dw, o):
    """w = keep · w − step_size · mean / (√square · correction + eps), the moments those of g = dw + weight_decay · w
    (Kingma and Ba 2015, algorithm 1). o: AdamStep, which has the bias corrections."""
    m, s = _moments(mean, square, dw + o.weight_decay * float64(w), o)
    w[...] = o.keep * float64(w) - o.step_size * m / (np.sqrt(s) * o.correction + o.eps)


def _moments(mean, square, gradient, o):
    """The running means of g and g²."""
    m = o.beta_1 * float64(mean) + (1 - o.beta_1) * gradient
    s = o.beta_2 * float64(square) + (1 - o.beta_2) * gradient**2
    mean[...], square[...] = m, s
    return m, s


@launcher
def lamb_moments(partial, w, mean, square, dw, o):
    """The moments of one tensor, and in partial[0] Σ w², in partial[1] Σ r² of its direction r = step_size · mean /
    (√square · correction + eps) + weight_decay · w (LAMB, You et al. 2020, algorithm 2). partial: 2 × SUM_GROUPS, sums
    over ranges of the tensor."""
    _moments(mean, square, float64(dw), o)
    sum_squares(partial[0], w)
    sum_squares(partial[1], _lamb_direction(w, mean, square, o))


@launcher
def lamb_update(w, mean, square, o, rate):
    """w −= rate · r, with the direction r of ``lamb_moments``; rate: the learning rate times the trust ratio."""
    w[...] = w - rate * _lamb_direction(w, mean, square, o)


def _lamb_direction(w, mean, square, o):
    adam = o.step_size * float64(mean) / (np.sqrt(float64(square)) * o.correction + o.eps)
    return adam + o.weight_decay * float64(w)


@launcher
def rmsprop_update(w, square, mean, velocity, dw, o):
    """g = dw + weight_decay · w;  w −= learning_rate · g / (√E[g²] + eps), with the running mean E[g²] in ``square``
    (Hinton 2012, lecture 6e).

    Unless it is empty, ``mean`` is the running mean of g, whose square is subtracted from E[g²] (Graves 2013), and
    ``velocity`` momentum's sum of steps.
    """
    gradient = dw + o.weight_decay * float64(w)
    variance = o.alpha * float64(square) + (1 - o.alpha) * gradient**2
    square[...] = variance
    if mean.size:
        m = o.alpha * float64(mean) + (1 - o.alpha) * gradient
        mean[...] = m
        variance = np.maximum(variance - m**2, 0)
    step = gradient / (np.sqrt(variance) + o.eps)
    if velocity.size:
        step += o.momentum * float64(velocity)
        velocity[...] = step
    w[...] = w - o.learning_rate * step


@launcher
def adagrad_update(w, square, dw, learning_rate, eps, weight_decay):
    """g = dw + weight_decay · w;  square += g²;  w −= learning_rate · g / (√square + eps) (Duchi et al. 2011)."""
    gradient = dw + weight_decay * float64(w)
    total = square + gradient**2
    square[...] = total
    w[...] = w - learning_rate * gradient / (np.sqrt(total) + eps)


# -- sums, averages, clipping -----------------------------------------------------------------------------------------


@launcher
def blend(y, x, z, a, b):
    """y = a · x + b · z."""
    y[...] = a * float64(x) + b * float64(z)


@launcher
def blend_in_place(y, x, a, b):
    """y = a · y + b · x."""
    blend(y, y, x, a, b)


@launcher
def approach_in_place(y, x, share):
    """y += share · (x − y)."""
    y[...] = y + share * (float64(x) - y)


@launcher
def scale_in_place(x, a):
    """x = a · x."""
    x[...] = a * float64(x)


@launcher
def swap(x, y):
    """Exchange x and y."""
    x[...], y[...] = y.copy(), x.copy()


@launcher
def clip_in_place(x, bound):
    """x clipped to [−bound, bound]; NaN stays NaN."""
    x[...] = np.clip(x, -bound, bound)


@launcher
def sum_squares(partial, x):
    """partial[g] = Σ x² over range g of the SUM_GROUPS ranges of x."""
    for group in range(SUM_GROUPS):
        first, last = x.size * group // SUM_GROUPS, x.size * (group + 1) // SUM_GROUPS
        partial[group] = (float64(x[first:last]) ** 2).sum()


@launcher
def add_penalty_in_place(sums, dw, w, l1, l2):
    """dw += l1 · sign(w) + 2 · l2 · w; sums[0] = Σ l1 · |w| + l2 · w²."""
    sums[...] = 0
    sums[0] = (l1 * abs(float64(w)) + l2 * float64(w) ** 2).sum()
    dw[...] = dw + l1 * np.sign(w) + 2 * l2 * float64(w)
