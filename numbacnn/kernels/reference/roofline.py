"""The kernels that measure the peaks of a device; here only their results matter."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher

CHAINS = 12  # as on the other devices


@launcher
def multiply_adds(y, steps):
    """y = Σ over chains of v after ``steps`` steps v = v / 2 + 1, v = y + 0, 1, … CHAINS − 1 at first."""
    chains = float64(y)[:, None] + np.arange(CHAINS)
    for _ in range(steps):
        chains = chains / 2 + 1
    y[...] = chains.sum(1)


@launcher
def triad(a, b, c, scale):
    """a = b + scale · c."""
    a[...] = b + scale * float64(c)
