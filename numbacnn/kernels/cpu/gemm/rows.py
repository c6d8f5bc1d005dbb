"""Rows of memory: contiguous floats at an address, cleared, copied, added, masked, and gathered from strided ones."""

import numpy as np

from numbacnn.kernels.cpu.simd.memory import floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, load, rectified, splat, store, where_greater
from numbacnn.kernels.jit import inlined

ZERO = np.float32(0)


@inlined
def clear_row(x, count):
    """x = 0."""
    for i in range(0, count, WIDTH):
        store(x + 4 * i, splat(ZERO), count - i)


@inlined
def copy_row(y, x, count):
    """y = x."""
    for i in range(0, count, WIDTH):
        store(y + 4 * i, load(x + 4 * i, count - i), count - i)


@inlined
def add_row(y, x, count, relu=False):
    """y += x, then ReLU if ``relu``."""
    for i in range(0, count, WIDTH):
        total = load(y + 4 * i, count - i) + load(x + 4 * i, count - i)
        if relu:
            total = rectified(total)
        store(y + 4 * i, total, count - i)


@inlined
def mask_row(y, x, mask, count):
    """y = x where the mask is positive or NaN, else 0."""
    for i in range(0, count, WIDTH):
        masked = where_greater(load(mask + 4 * i, count - i), splat(ZERO), load(x + 4 * i, count - i), splat(ZERO))
        store(y + 4 * i, masked, count - i)


@inlined
def gather_row(y, x, step, count):
    """y[i] = x[i], ``step`` bytes apart in x."""
    for i in range(count):
        floats(y + 4 * i, 1)[0] = floats(x + i * step, 1)[0]


@inlined
def spread_row(y, step, x, count):
    """y[i] = x[i], ``step`` bytes apart in y."""
    for i in range(count):
        floats(y + i * step, 1)[0] = floats(x + 4 * i, 1)[0]
