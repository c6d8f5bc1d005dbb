"""Dense layers: 1×1 convolutions in which the images of the batch are the pixels of one row."""

from functools import lru_cache

import numpy as np

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.direct.forward import direct_forward, packed_round_shape, packed_shape
from numbacnn.kernels.cpu.conv.direct.weight_gradient import direct_weight_gradient
from numbacnn.kernels.cpu.gemm.gemm import NO_AUX, NO_BIAS, row_table
from numbacnn.kernels.cpu.gemm.sharded import BLOCK_ROWS, sharded_gradient
from numbacnn.kernels.cpu.gemm.transposed import packed_rows_shape, transposed_product
from numbacnn.kernels.cpu.simd.activations import RELU
from numbacnn.kernels.registry import launcher


@launcher
def dense_forward(y, x, w, b, packed, relu=False):
    """y[n,k] = b[k] + Σ_c x[n,c] · w[c,k], then ReLU if asked.

    y: N×1×1×K; x: N×1×1×C; w: C×K; b: K or None; packed: scratch of ``dense_packed_weights_shape``
    or ``dense_packed_round_shape``.
    """
    g, bias = _geometry(len(x), *w.shape), NO_BIAS if b is None else b
    direct_forward(_as_row(y), _as_row(x), w[None, None], bias, packed, g, RELU if relu else 0)


@launcher
def dense_weight_gradient(dw, x, dy, shards=()):
    """dw[c,k] = Σ_n x[n,c] · dy[n,k]; with ``shards``, first images and the number of all, added in a binary tree."""
    if shards:
        rows, starts = row_table((x.shape[3], 1)), np.array(shards, np.int64)
        sharded_gradient(dw[None, None], x, dy, rows, BLOCK_ROWS, starts)
        return
    direct_weight_gradient(dw[None, None], _as_row(x), _as_row(dy), NO_AUX, _geometry(len(x), *dw.shape))


@launcher
def dense_input_gradient(dx, dy, w, packed, mask=None):
    """dx[n,c] = Σ_k dy[n,k] · w[c,k], zero wherever ``mask``, N×1×1×C, is given and 0 or less.

    packed: scratch of ``dense_packed_gradient_shape``.
    """
    transposed_product(dx, dy, w[None, None], packed, NO_AUX if mask is None else mask)


@lru_cache(maxsize=1024)
def _geometry(n, c, k):
    return ConvGeometry(h=1, w=n, c=c, p=1, q=n, k=k, r=1, s=1)


def _as_row(x):
    """View N×1×1×C as 1×1×N×C."""
    return x.transpose(1, 2, 0, 3)


def dense_packed_weights_shape(c, k):
    """Scratch of the forward pass for weights that stay packed from step to step."""
    return packed_shape(_geometry(1, c, k))


def dense_packed_round_shape(c, k):
    """Scratch of the forward pass for weights that are packed in every step."""
    return packed_round_shape(_geometry(1, c, k))


def dense_packed_gradient_shape(n, k):
    """Scratch of the input gradient of up to ``n`` images."""
    return packed_rows_shape(n, k)
