"""Dense layers: one matrix product forward, two backward. Features are N×1×1×C."""

import numpy as np

from numbacnn.kernels.reference.arrays import float64
from numbacnn.kernels.registry import launcher


@launcher
def dense_forward(y, x, w, b, packed, relu=False):
    """Y[n,k] = Σ_c X[n,c] · W[c,k] + b[k], then ReLU if asked. w: C×K; b: K or None; packed: not used."""
    total = _matrix(x) @ float64(w)
    if b is not None:
        total += b
    y[...] = (np.maximum(total, 0) if relu else total).reshape(y.shape)


@launcher
def dense_input_gradient(dx, dy, w, packed, mask=None):
    """dX[n,c] = Σ_k dY[n,k] · W[c,k], zero where ``mask`` is given and not positive. packed: not used."""
    total = (_matrix(dy) @ float64(w).T).reshape(dx.shape)
    dx[...] = total if mask is None else np.where(mask <= 0, 0, total)


@launcher
def dense_weight_gradient(dw, x, dy, shards=()):
    """dW[c,k] = Σ_n X[n,c] · dY[n,k]. shards: not used."""
    dw[...] = _matrix(x).T @ _matrix(dy)


def _matrix(x):
    """Reshape N×1×1×C to N×C."""
    return float64(x).reshape(len(x), -1)
