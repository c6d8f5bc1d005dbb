"""Max and average pooling, channel by channel. Windows are clipped to the input: padding counts as −∞ for maxima."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.reference.windows import corners, inside
from numbacnn.kernels.registry import launcher


@launcher
def max_pool_forward(y, argmax, x, g):
    """Y[n,p,q,c] = the maximum of X over the window; NaN wins.

    argmax: N×P×Q×C, for N images or more, the position r·S + s of the maximum in its window, the first if several are
    equal; without images if no gradient will be asked for.
    """
    for p, q, top, left in corners(g):
        rows, columns = inside(top, left, g)
        window = x[:, rows, columns]
        y[:, p, q] = window.max((1, 2))
        if len(argmax):
            r, s = np.divmod(window.reshape(len(x), -1, g.c).argmax(1), window.shape[2])
            argmax[: len(x), p, q] = (r + rows.start - top) * g.s + s + columns.start - left


@launcher
def max_pool_gradient(dx, dy, argmax, g):
    """dX[n,h,w,c] = Σ dY[n,p,q,c] over the windows whose maximum is at (h, w)."""
    total = np.zeros(dx.shape)
    n, c = np.ogrid[: len(dx), : g.c]
    for p, q, top, left in corners(g):
        r, s = np.divmod(argmax[: len(dx), p, q].astype(int), g.s)
        total[n, top + r, left + s, c] += dy[:, p, q]
    dx[...] = total


@launcher
def average_pool_forward(y, x, g):
    """Y[n,p,q,c] = Σ X over the window / its pixels."""
    for p, q, top, left in corners(g):
        rows, columns = inside(top, left, g)
        y[:, p, q] = float64(x[:, rows, columns]).sum((1, 2)) / _pixels(top, left, g)


@launcher
def average_pool_gradient(dx, dy, g):
    """dX[n,h,w,c] = Σ dY[n,p,q,c] / pixels of the window, over the windows that cover (h, w)."""
    total = np.zeros(dx.shape)
    for p, q, top, left in corners(g):
        rows, columns = inside(top, left, g)
        total[:, rows, columns] += float64(dy[:, p, q])[:, None, None] / _pixels(top, left, g)
    dx[...] = total


def _pixels(top, left, g):
    """The pixels that the mean of the window starting at (top, left) is over: with ``count_include_pad`` those of the
    declared padding too."""
    if g.count_include_pad:
        return (min(top + g.r, g.h + g.pad_bottom) - top) * (min(left + g.s, g.w + g.pad_right) - left)
    rows, columns = inside(top, left, g)
    return (rows.stop - rows.start) * (columns.stop - columns.start)
