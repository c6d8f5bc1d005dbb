"""Pooling into a given number of bins, which overlap where they do not divide the image. As in PyTorch."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.reference.windows import bins
from numbacnn.kernels.registry import launcher


@launcher
def adaptive_max_pool_forward(y, argmax, x, g):
    """Y[n,p,q,c] = the maximum of X over bin (p, q); NaN wins.

    argmax: N×P×Q×C, for N images or more, the position h·W + w of the maximum in the image, the first if several are
    equal; without images if no gradient will be asked for.
    """
    for p, q, rows, columns in bins(g):
        pixels = x[:, rows, columns]
        y[:, p, q] = pixels.max((1, 2))
        if len(argmax):
            h, w = np.divmod(pixels.reshape(len(x), -1, g.c).argmax(1), pixels.shape[2])
            argmax[: len(x), p, q] = (h + rows.start) * g.w + w + columns.start


@launcher
def adaptive_max_pool_gradient(dx, dy, argmax, g):
    """dX[n,h,w,c] = Σ dY[n,p,q,c] over the bins whose maximum is at (h, w)."""
    total = np.zeros(dx.shape)
    n, c = np.ogrid[: len(dx), : g.c]
    for p, q, _, _ in bins(g):
        h, w = np.divmod(argmax[: len(dx), p, q].astype(int), g.w)
        total[n, h, w, c] += dy[:, p, q]
    dx[...] = total


@launcher
def adaptive_average_pool_forward(y, x, g):
    """Y[n,p,q,c] = the mean of X over bin (p, q)."""
    for p, q, rows, columns in bins(g):
        y[:, p, q] = float64(x[:, rows, columns]).mean((1, 2))


@launcher
def adaptive_average_pool_gradient(dx, dy, g):
    """dX[n,h,w,c] = Σ dY[n,p,q,c] / pixels of the bin, over the bins that hold (h, w)."""
    total = np.zeros(dx.shape)
    for p, q, rows, columns in bins(g):
        part = total[:, rows, columns]
        part += float64(dy[:, p, q])[:, None, None] / (part.shape[1] * part.shape[2])
    dx[...] = total
