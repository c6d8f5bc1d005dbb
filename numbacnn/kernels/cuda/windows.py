"""Pooling over any windows: the kernels that ``pool2d`` and ``adaptive_pool2d`` share.

A geometry is given by device functions: ``window(p, q, g)`` is the ``Box`` of input pixels of output (p, q),
``covering(h, w, g)`` the ``Box`` of outputs whose windows contain pixel (h, w), ``index(h, w, p, q, g)`` the number
that argmax stores for pixel (h, w) of window (p, q), and ``share(p, q, g)`` 1 / the number of pixels in the mean.

The gradients gather: each pixel of dx adds the contributions of the windows that contain it, and is written once.
"""

from typing import NamedTuple

import numpy as np

from numbacnn.kernels.cuda.runtime.intrinsics import device_function
from numbacnn.kernels.cuda.vectors import add, multiply, owned_vector

MINUS_INFINITY = np.float32(-np.inf)
ZERO, ONE = np.float32(0), np.float32(1)


class Box(NamedTuple):
    """Rows and columns, as ranges."""

    top: int
    bottom: int
    left: int
    right: int


@device_function
def _larger(value, best):
    """The larger one, and of equal ones ``best``; NaN wins."""
    return value if value > best or value != value else best


@device_function
def _index_of_larger(value, best, here, index):
    """``here`` if ``_larger`` returns value, else ``index``: of several NaN the last, as on the CPU and in PyTorch."""
    return here if value > best or value != value else index


@device_function
def _where_equal(chosen, here, value):
    return value if chosen == here else ZERO


@device_function
def _lost(total, term):
    """The part of total + term that rounding loses (Knuth 1997, volume 2, section 4.2.2, theorem B)."""
    rounded = total + term
    share = rounded - total
    return (total - (rounded - share)) + (term - share)


@device_function
def _corrected(total, error):
    """total + error; the total itself if it is not finite."""
    return total + error if error - error == ZERO else total


def max_forward(vector, window, index):
    """Define the kernel of the maximum and, if argmax has images, its index."""
    width, load, store, splat = vector[:4]
    larger, index_of_larger = vector.lift(_larger), vector.lift(_index_of_larger, 4)

    def kernel(y, argmax, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            box = window(p, q, g)
            best, chosen = splat(MINUS_INFINITY), splat(np.float32(index(box.top, box.left, p, q, g)))
            for h in range(box.top, box.bottom):
                for w in range(box.left, box.right):
                    value = load(x, (n, h, w, c))
                    chosen = index_of_larger(value, best, splat(np.float32(index(h, w, p, q, g))), chosen)
                    best = larger(value, best)
            store(y, (n, p, q, c), best)
            if len(argmax) > 0:
                store(argmax, (n, p, q, c), chosen)

    return kernel


def max_gradient(vector, covering, index):
    """Define the kernel that adds up the gradients of the windows whose argmax is the pixel."""
    width, load, store, splat = vector[:4]
    add_, where_equal = vector.lift(add), vector.lift(_where_equal, 3)

    def kernel(dx, dy, argmax, g):
        n, h, w, c = owned_vector(dx, width)
        if n < len(dx):
            box, total = covering(h, w, g), splat(ZERO)
            for p in range(box.top, box.bottom):
                for q in range(box.left, box.right):
                    here, chosen = splat(np.float32(index(h, w, p, q, g))), load(argmax, (n, p, q, c))
                    total = add_(total, where_equal(chosen, here, load(dy, (n, p, q, c))))
            store(dx, (n, h, w, c), total)

    return kernel


def average_forward(vector, window, share):
    """Define the kernel of the mean."""
    width, load, store, splat = vector[:4]
    add_, multiply_ = vector.lift(add), vector.lift(multiply)
    lost, corrected = vector.lift(_lost), vector.lift(_corrected)

    def kernel(y, x, g):
        n, p, q, c = owned_vector(y, width)
        if n < len(y):
            box, total, error = window(p, q, g), splat(ZERO), splat(ZERO)
            for h in range(box.top, box.bottom):
                for w in range(box.left, box.right):
                    value = load(x, (n, h, w, c))
                    error = add_(error, lost(total, value))
                    total = add_(total, value)
            store(y, (n, p, q, c), multiply_(corrected(total, error), splat(share(p, q, g))))

    return kernel


def average_gradient(vector, covering, share):
    """Define the kernel that adds up the shares of the windows that contain the pixel."""
    width, load, store, splat = vector[:4]
    add_, multiply_ = vector.lift(add), vector.lift(multiply)

    def kernel(dx, dy, g):
        n, h, w, c = owned_vector(dx, width)
        if n < len(dx):
            box, total = covering(h, w, g), splat(ZERO)
            for p in range(box.top, box.bottom):
                for q in range(box.left, box.right):
                    total = add_(total, multiply_(load(dy, (n, p, q, c)), splat(share(p, q, g))))
            store(dx, (n, h, w, c), total)

    return kernel
