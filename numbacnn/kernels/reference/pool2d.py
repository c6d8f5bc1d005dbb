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
    for p, q, i, j in corners(g):
        rows, columns = inside(i, j, g)
        window = x[:, rows, columns]
        y[:, p, q] = window.max((1, 2))
        if len(argmax):
            r, s = np.divmod(window.reshape(len(x), -1, g.c).argmax(1), window.shape[2])
            argmax[: len(x), p, q] = (r + rows.start - i) * g.s + s + columns.start - j


@launcher
def max_pool_gradient(dx, dy, argmax, g):
    """dX[n,i,j,c] = Σ dY[n,p,q,c] over the windows whose maximum is at (i, j)."""
    total = np.zeros(dx.shape)
    n, c = np.ogrid[: len(dx), : g.c]
    for p, q, i, j in corners(g):
        r, s = np.divmod(argmax[: len(dx), p, q].astype(int), g.s)
        total[n, i + r, j + s, c] += dy[:, p, q]
    dx[...] = total


@launcher
def average_pool_forward(y, x, g):
    """Y[n,p,q,c] = Σ X over the window / its pixels."""
    for p, q, i, j in corners(g):
        rows, columns = inside(i, j, g)
        y[:, p, q] = float64(x[:, rows, columns]).sum((1, 2)) / _pixels(i, j, g)


@launcher
def average_pool_gradient(dx, dy, g):
    """dX[n,i,j,c] = Σ dY[n,p,q,c] / pixels of the window, over the windows that cover (i, j)."""
    total = np.zeros(dx.shape)
    for p, q, i, j in corners(g):
        rows, columns = inside(i, j, g)
        total[:, rows, columns] += float64(dy[:, p, q])[:, None, None] / _pixels(i, j, g)
    dx[...] = total


def _pixels(i, j, g):
    """The pixels that the mean of the window starting at (i, j) is over: with ``count_include_pad`` those of the
    declared padding too."""
    if g.count_include_pad:
        return (min(i + g.r, g.h + g.pad_bottom) - i) * (min(j + g.s, g.w + g.pad_right) - j)
    rows, columns = inside(i, j, g)
    return (rows.stop - rows.start) * (columns.stop - columns.start)
