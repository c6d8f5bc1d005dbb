"""Addresses of rows and pixels of images, and the division of images and flat arrays among threads.

The rows (n, h) of a view N×H×W×C are contiguous; its images, inside a halo, are not. Functions that return arrays make
new ones, indexed from 0: LLVM does not vectorize indices that might be negative, and an update would take five times as
long.
"""

from functools import partial

import numpy as np

from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.jit import inlined
from numbacnn.kernels.step_scalars import SUM_GROUPS

BLOCK = 4096  # elements of a flat array


@partial(inlined, always=True)
def at(x, n, h, w):
    """The address of pixel (n, h, w) of a view N×H×W×C."""
    return address(x) + n * x.strides[0] + h * x.strides[1] + w * x.strides[2]


@inlined
def rows(x):
    """The number of rows (n, h)."""
    return x.shape[0] * x.shape[1]


@inlined
def row_address(x, item):
    """The address of row ``item`` of the rows (n, h)."""
    return at(x, np.intp(item) // x.shape[1], np.intp(item) % x.shape[1], 0)


@inlined
def row(x, item):
    """Row ``item``, W·C floats."""
    return floats(row_address(x, item), x.shape[2] * x.shape[3])


@inlined
def pixel(x, item, w):
    """The channels of pixel ``w`` of row ``item``."""
    return floats(row_address(x, item) + w * x.strides[2], x.shape[3])


@inlined
def blocks(x):
    """The number of blocks of a flat array."""
    return -(-x.size // BLOCK)


@inlined
def block(x, item):
    """Block ``item`` of a flat array."""
    first = np.intp(item) * BLOCK
    return floats(address(x) + 4 * first, min(x.size - first, BLOCK))


@inlined
def group(x, item):
    """Range ``item`` of the SUM_GROUPS ranges of a flat array."""
    g = np.intp(item)
    first, last = x.size * g // SUM_GROUPS, x.size * (g + 1) // SUM_GROUPS
    return floats(address(x) + 4 * first, last - first)
