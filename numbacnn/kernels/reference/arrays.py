"""Conversions of arrays for the reference kernels."""

import numpy as np

PIXELS = (0, 1, 2)  # the axes n, h, w: all but the channels


def float64(x):
    """Convert ``x`` to float64; an array of that type is not copied."""
    return np.asarray(x, np.float64)


def by_group(x, groups):
    """Reshape (…, channels) to (groups, …, channels / groups)."""
    return np.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


def ungrouped(x):
    """Reshape (groups, …, channels / groups) to (…, channels)."""
    last = np.moveaxis(x, 0, -2)
    return last.reshape(*last.shape[:-2], -1)
