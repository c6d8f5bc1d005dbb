"""Dense layers: 1×1 convolutions in which the images of the batch are the pixels of one row."""

from functools import lru_cache

import numpy as np

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv import direct
from numbacnn.kernels.registry import launcher

NO_SCRATCH = np.empty((0, 1, 1, 1), np.float32)  # of sums by groups of images, and of columns: for windows only


@launcher
def dense_forward(y, x, w, b, packed, relu=False):
    """y[n,k] = b[k] + Σ_c x[n,c] · w[c,k], then ReLU if asked.

    y: N×1×1×K; x: N×1×1×C; w: C×K; b: K or None; packed: scratch of ``dense_packed_weights_shape``
    or ``dense_packed_round_shape``.
    """
    direct.conv2d_forward(_as_row(y), _as_row(x), w[None, None], b, packed, _geometry(len(x), *w.shape), relu)


@launcher
def dense_weight_gradient(dw, x, dy):
    """dw[c,k] = Σ_n x[n,c] · dy[n,k]."""
    g = _geometry(len(x), *dw.shape)
    direct.conv2d_weight_gradient(dw[None, None], _as_row(x), _as_row(dy), NO_SCRATCH, g)


@launcher
def dense_input_gradient(dx, dy, w, packed, mask=None):
    """dx[n,c] = Σ_k dy[n,k] · w[c,k], zero where ``mask`` is given and not positive, as in convolution.

    packed: scratch of ``dense_packed_gradient_shape``.
    """
    g = _geometry(len(dx), *w.shape)
    mask = None if mask is None else _as_row(mask)
    direct.conv2d_input_gradient(_as_row(dx), _as_row(dy), w[None, None], packed, NO_SCRATCH, g, mask)


@lru_cache(maxsize=1024)
def _geometry(n, c, k):
    return ConvGeometry(h=1, w=n, c=c, p=1, q=n, k=k, r=1, s=1)


def _as_row(x):
    """N×1×1×C as 1×1×N×C, the same memory."""
    return x.transpose(1, 2, 0, 3)


def dense_packed_weights_shape(c, k):
    """Scratch of the forward pass, for weights that are kept packed."""
    return direct.packed_weights_shape(_geometry(1, c, k))


def dense_packed_round_shape(c, k):
    """Scratch of the forward pass, for weights that are packed every time."""
    return direct.packed_round_shape(_geometry(1, c, k))


def dense_packed_gradient_shape(c, k):
    """Scratch of the input gradient."""
    return direct.packed_gradient_shape(_geometry(1, c, k))
