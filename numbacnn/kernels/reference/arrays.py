"""Arrays as the reference kernels take them."""

import numpy as np

PIXELS = (0, 1, 2)  # the axes n, h, w: all but the channels


def float64(x):
    """``x`` in float64; the array itself if it is that already."""
    return np.asarray(x, np.float64)


def by_group(x, groups):
    """(…, channels) as (groups, …, channels / groups)."""
    return np.moveaxis(x.reshape(*x.shape[:-1], groups, -1), -2, 0)


def ungrouped(x):
    """(groups, …, channels / groups) as (…, channels)."""
    last = np.moveaxis(x, 0, -2)
    return last.reshape(*last.shape[:-2], -1)
