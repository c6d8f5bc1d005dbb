"""Softmax and its logarithm over the channels of each pixel or image."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


def softmax(x):
    """exp(x) / Σ exp(x) over the last axis. The maximum is subtracted first, so that nothing overflows."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def log_softmax(x):
    """log softmax(x) = x − log Σ exp(x) over the last axis."""
    shifted = x - x.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def through_softmax(dp, p):
    """The gradient by x, given the gradient dp by p = softmax(x): p · (dp − Σ dp·p)."""
    return p * (dp - (dp * p).sum(-1, keepdims=True))


@launcher
def softmax_forward(y, x):
    """Y[…,c] = exp(X[…,c]) / Σ_d exp(X[…,d])."""
    y[...] = softmax(float64(x))


@launcher
def softmax_gradient(dx, dy, y):
    """dX[…,c] = Y[…,c] · (dY[…,c] − Σ_d dY[…,d] · Y[…,d])."""
    dx[...] = through_softmax(float64(dy), float64(y))


@launcher
def log_softmax_forward(y, x):
    """Y[…,c] = X[…,c] − log Σ_d exp(X[…,d])."""
    y[...] = log_softmax(float64(x))


@launcher
def log_softmax_gradient(dx, dy, y):
    """dX[…,c] = dY[…,c] − exp(Y[…,c]) · Σ_d dY[…,d]."""
    dx[...] = float64(dy) - np.exp(float64(y)) * float64(dy).sum(-1, keepdims=True)
