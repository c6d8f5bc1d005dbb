"""Resizing images: each axis by a matrix, whose transpose is the gradient."""

import math

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


@launcher
def resize_nearest_forward(y, x, g):
    """Y[n,p,q,c] = the pixel of X that the position of (p, q) is rounded to."""
    rows = [_nearest(p, g.axes[0]) for p in range(g.p)]
    columns = [_nearest(q, g.axes[1]) for q in range(g.q)]
    y[...] = x[:, rows][:, :, columns]


@launcher
def resize_linear_forward(y, x, g):
    """Y[n,p,q,c] = the four pixels of X around the position of (p, q), weighted by how near they are."""
    y[...] = np.einsum("ph,qw,nhwc->npqc", matrix(g.axes[0]), matrix(g.axes[1]), float64(x))


@launcher
def resize_gradient(dx, dy, g):
    """dX[n,h,w,c] = Σ dY[n,p,q,c] · the weight of pixel (h, w) in output (p, q)."""
    dx[...] = np.einsum("ph,qw,npqc->nhwc", matrix(g.axes[0]), matrix(g.axes[1]), float64(dy))


def matrix(axis):
    """The outputs × size matrix that resizes an axis."""
    found = np.zeros((axis.outputs, axis.size))
    for i in range(axis.outputs):
        if axis.linear:
            position = min(max(_position(i, axis), 0), axis.size - 1)
            first = int(position)
            found[i, first] += 1 - (position - first)
            found[i, min(first + 1, axis.size - 1)] += position - first
        else:
            found[i, _nearest(i, axis)] = 1
    return found


def _position(i, axis):
    """Return the position of output i, in inputs."""
    return (i + axis.offset) * axis.numerator / axis.denominator + axis.shift


def _nearest(i, axis):
    rounded = math.ceil(_position(i, axis)) if axis.up else math.floor(_position(i, axis))
    return min(max(rounded, 0), axis.size - 1)
