"""Convolution and its two gradients, by their definition (Goodfellow et al. 2016, "Deep Learning", equations 9.6 to
9.13). A textbook's Y[i,j,k] = Σ X[i+m, j+n, c] · W[m,n,c,k] + b[k] is ``Direct.forward`` at stride 1 without padding.

All three visit the same taps: output (p, q) reads pixel (row, column) through weight (r, s). In the loops, arrays start
with an axis of groups, of length 1 in an ordinary convolution; ``@`` is one matrix product for each group, of images ×
channels and channels × filters. docs/stepping-through.md follows all three with a debugger.
"""

import numpy as np

from numbacnn.kernels.convolution import ConvAlgorithm
from numbacnn.kernels.reference.arrays import PIXELS, by_group, float64, ungrouped
from numbacnn.kernels.reference.windows import taps
from numbacnn.kernels.registry import launcher


class Direct(ConvAlgorithm):
    """Applies to every convolution."""

    name = "direct"

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Y[n,p,q,k] = Σ_rsc X[n,row,column,c] · W[r,s,c,k] + b[k], plus the residual, then ReLU if asked."""
        pixels, weights = by_group(float64(x), g.groups), by_group(float64(w), g.groups)
        total = np.zeros((g.groups, len(y), g.p, g.q, g.k // g.groups))
        for p, q, r, s, row, column in taps(g):
            total[:, :, p, q] += pixels[:, :, row, column] @ weights[:, r, s]
        total = ungrouped(total)
        if b is not None:
            total += b
        if epilogue.residual is not None:
            total += epilogue.residual
        y[...] = np.maximum(total, 0) if epilogue.relu else total

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """dW[r,s,c,k] = Σ_npq X[n,row,column,c] · dY[n,p,q,k]."""
        pixels, gradients = by_group(float64(x), g.groups), by_group(float64(dy), g.groups)
        total = np.zeros((g.groups, g.r, g.s, g.c // g.groups, g.k // g.groups))
        for p, q, r, s, row, column in taps(g):
            total[:, r, s] += pixels[:, :, row, column].transpose(0, 2, 1) @ gradients[:, :, p, q]
        dw[...] = ungrouped(total)

    def input_gradient(self, dx, dy, w, scratch, g, epilogue):
        """dX[n,row,column,c] = Σ dY[n,p,q,k] · W[r,s,c,k] over the outputs that read the pixel, zero where the
        mask is not positive: there the ReLU that made x has no gradient.
        """
        gradients, weights = by_group(float64(dy), g.groups), by_group(float64(w), g.groups)
        total = np.zeros((g.groups, len(dx), g.h, g.w, g.c // g.groups))
        for p, q, r, s, row, column in taps(g):
            total[:, :, row, column] += gradients[:, :, p, q] @ weights[:, r, s].transpose(0, 2, 1)
        total = ungrouped(total)
        dx[...] = total if epilogue.mask is None else np.where(epilogue.mask <= 0, 0, total)


CONV_ALGORITHMS = (Direct(),)


@launcher
def bias_gradient(db, dy, partial, shards=()):
    """db[k] = Σ_npq dY[n,p,q,k]. partial: not used."""
    db[...] = float64(dy).sum(PIXELS)


@launcher
def add_bias_in_place(y, b, relu=False):
    """y[n,p,q,k] += b[k], then ReLU if asked. b: K or None."""
    total = float64(y) if b is None else float64(y) + b
    y[...] = np.maximum(total, 0) if relu else total
