"""Enlarging images by whole factors: each axis by a matrix, whose transpose is the gradient."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


@launcher
def up_sample_nearest_forward(y, x, g):
    """Y[n,p,q,c] = X[n, p // factor_h, q // factor_w, c]."""
    y[...] = _forward(x, g, nearest)


@launcher
def up_sample_nearest_gradient(dx, dy, g):
    """dX[n,h,w,c] = Σ dY over the outputs that copy pixel (h, w)."""
    dx[...] = _gradient(dy, g, nearest)


@launcher
def up_sample_bilinear_forward(y, x, g):
    """Y[n,p,q,c] = the four pixels of X around the center of output (p, q), weighted by how near they are."""
    y[...] = _forward(x, g, bilinear)


@launcher
def up_sample_bilinear_gradient(dx, dy, g):
    """dX[n,h,w,c] = Σ dY[n,p,q,c] · the weight of pixel (h, w) in output (p, q)."""
    dx[...] = _gradient(dy, g, bilinear)


def nearest(size, factor):
    """The size·factor × size matrix that repeats each pixel."""
    return np.repeat(np.eye(size), factor, axis=0)


def bilinear(size, factor):
    """The size·factor × size matrix of linear interpolation. Pixels are squares: the center of output p is at
    (p + ½) / factor − ½ of the input; outside the first and the last center the image is constant."""
    matrix = np.zeros((size * factor, size))
    for p in range(size * factor):
        center = min(max((p + 0.5) / factor - 0.5, 0), size - 1)
        first = min(int(center), max(size - 2, 0))
        matrix[p, first] += 1 - (center - first)
        matrix[p, min(first + 1, size - 1)] += center - first
    return matrix


def _forward(x, g, weights):
    return np.einsum("ph,qw,nhwc->npqc", weights(g.h, g.factor_h), weights(g.w, g.factor_w), float64(x))


def _gradient(dy, g, weights):
    return np.einsum("ph,qw,npqc->nhwc", weights(g.h, g.factor_h), weights(g.w, g.factor_w), float64(dy))
