"""Convolution and its two gradients, by their definition (Goodfellow et al. 2016, "Deep Learning", equations 9.6 to
9.13). A textbook's Y[i,j,k] = Σ X[i+m, j+n, c] · W[m,n,c,k] + b[k] is ``conv2d_forward`` at stride 1 without padding.

All three visit the same taps: output (p, q) reads pixel (row, column) through weight (r, s). In the loops, arrays start
with an axis of groups, of length 1 in an ordinary convolution; ``@`` is one matrix product for each group, of images ×
channels and channels × filters. docs/stepping-through.md follows all three with a debugger.
"""

import numpy as np

from numbacnn.kernels.reference.arrays import PIXELS, by_group, float64, ungrouped
from numbacnn.kernels.reference.pool2d import max_pool_forward, max_pool_gradient
from numbacnn.kernels.reference.windows import taps
from numbacnn.kernels.registry import launcher


@launcher
def conv2d_forward(y, x, w, b, packed, g, relu=False, addend=None):
    """Y[n,p,q,k] = Σ_rsc X[n,row,column,c] · W[r,s,c,k] + b[k], plus the addend, then ReLU if asked.

    y, addend: N×P×Q×K, the addend may be None; x: N×H×W×C; w: R×S×C/groups×K; b: K or None; packed: not used.
    """
    pixels, weights = by_group(float64(x), g.groups), by_group(float64(w), g.groups)
    total = np.zeros((g.groups, len(y), g.p, g.q, g.k // g.groups))
    for p, q, r, s, row, column in taps(g):
        total[:, :, p, q] += pixels[:, :, row, column] @ weights[:, r, s]
    total = ungrouped(total)
    if b is not None:
        total += b
    if addend is not None:
        total += addend
    y[...] = np.maximum(total, 0) if relu else total


@launcher
def conv2d_input_gradient(dx, dy, w, packed, columns, g, mask=None):
    """dX[n,row,column,c] = Σ dY[n,p,q,k] · W[r,s,c,k] over the outputs that read the pixel, zero where ``mask``
    is not positive: there the ReLU that made x has no gradient.

    dx, mask: N×H×W×C, the mask may be None; dy: N×P×Q×K; w: R×S×C/groups×K; packed, columns: not used.
    """
    gradients, weights = by_group(float64(dy), g.groups), by_group(float64(w), g.groups)
    total = np.zeros((g.groups, len(dx), g.h, g.w, g.c // g.groups))
    for p, q, r, s, row, column in taps(g):
        total[:, :, row, column] += gradients[:, :, p, q] @ weights[:, r, s].transpose(0, 2, 1)
    total = ungrouped(total)
    dx[...] = total if mask is None else np.where(mask <= 0, 0, total)


@launcher
def conv2d_weight_gradient(dw, x, dy, partial, g):
    """dW[r,s,c,k] = Σ_npq X[n,row,column,c] · dY[n,p,q,k].

    dw: R×S×C/groups×K; x: N×H×W×C; dy: N×P×Q×K; partial: not used.
    """
    pixels, gradients = by_group(float64(x), g.groups), by_group(float64(dy), g.groups)
    total = np.zeros((g.groups, g.r, g.s, g.c // g.groups, g.k // g.groups))
    for p, q, r, s, row, column in taps(g):
        total[:, r, s] += pixels[:, :, row, column].transpose(0, 2, 1) @ gradients[:, :, p, q]
    dw[...] = ungrouped(total)


@launcher
def bias_gradient(db, dy, partial):
    """db[k] = Σ_npq dY[n,p,q,k]. partial: not used."""
    db[...] = float64(dy).sum(PIXELS)


@launcher
def add_bias_in_place(y, b, relu=False):
    """y[n,p,q,k] += b[k], then ReLU if asked. b: K or None."""
    total = float64(y) if b is None else float64(y) + b
    y[...] = np.maximum(total, 0) if relu else total


# -- fused with a max-pool, and by Winograd's algorithm: the same numbers ---------------------------------------------


@launcher
def conv2d_pool_forward(y, argmax, x, w, b, packed, g, pool, relu=False):
    """y, argmax = the max-pool ``pool`` of the convolution's output, ReLU between them if asked."""
    full = np.empty((len(x), g.p, g.q, g.k))
    conv2d_forward(full, x, w, b, None, g, relu)
    max_pool_forward(y, argmax, full, pool)


@launcher
def maxima_weight_gradient(dw, x, dy, argmax, partial, places, g, pool):
    """dW from the gradient dy of the output of a max-pool that follows the convolution."""
    conv2d_weight_gradient(dw, x, _before_pool(dy, argmax, g, pool), None, g)


@launcher
def maxima_input_gradient(dx, dy, argmax, w, packed, image, g, pool, mask=None):
    """dX from the gradient dy of the output of a max-pool that follows the convolution."""
    conv2d_input_gradient(dx, _before_pool(dy, argmax, g, pool), w, None, None, g, mask)


def _before_pool(dy, argmax, g, pool):
    full = np.empty((len(dy), g.p, g.q, g.k))
    max_pool_gradient(full, dy, argmax, pool)
    return full


@launcher
def winograd_forward(y, x, w, b, packed, weights, tiles, g, relu=False, addend=None):
    """``conv2d_forward``."""
    conv2d_forward(y, x, w, b, None, g, relu, addend)


@launcher
def winograd_input_gradient(dx, dy, w, packed, weights, tiles, g, mask=None):
    """``conv2d_input_gradient``."""
    conv2d_input_gradient(dx, dy, w, None, None, g, mask)


@launcher
def winograd_weight_gradient(dw, x, dy, x_tiles, dy_tiles, products, g):
    """``conv2d_weight_gradient``."""
    conv2d_weight_gradient(dw, x, dy, None, g)
