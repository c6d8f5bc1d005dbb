"""Packing: weights copied into micro-panels of NR columns, for products whose B would be strided or out of cache."""

from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.gemm.gemm import NR
from numbacnn.kernels.cpu.simd.memory import address, floats
from numbacnn.kernels.cpu.simd.vector import WIDTH, transpose
from numbacnn.kernels.jit import cpu_kernel, float32_4d, inlined


class Packing(NamedTuple):
    """The layout of B in the weights: column j at step (k_0, k_1, k_2) is element offset + j·n_stride + Σ k·stride.

    ``n`` columns; strides are in elements.
    """

    n: int
    n_stride: int
    offset: int
    count_0: int
    count_1: int
    count_2: int
    stride_0: int
    stride_1: int
    stride_2: int


@cpu_kernel(float32_4d, float32_4d, Packing)
def pack(packed, w, g):
    """Copy B into micro-panels of k×NR, with zeros after the last column.

    Each thread owns a range of (k_0, k_1, panel): the weights of neighboring panels often share a page of memory.
    """
    p_packed, p_w = address(packed), address(w)
    for item in prange(-(-g.n // NR) * g.count_0 * g.count_1):
        _pack_item(np.intp(item), p_packed, p_w, g)


@inlined
def _pack_item(item, packed, w, g):
    """All k_2 of one micro-panel, k_0 and k_1."""
    panels = -(-g.n // NR)
    k, panel = item // panels, item % panels
    columns = min(NR, g.n - panel * NR)
    p_target = packed + 4 * (panel * g.count_0 * g.count_1 + k) * g.count_2 * NR
    target = floats(p_target, g.count_2 * NR)
    source = g.offset + k // g.count_1 * g.stride_0 + k % g.count_1 * g.stride_1 + panel * NR * g.n_stride
    if columns < NR:
        target[:] = 0
    if g.n_stride == 1:
        for k_2 in range(g.count_2):
            row = floats(w + 4 * (source + k_2 * g.stride_2), columns)
            for j in range(columns):
                target[k_2 * NR + j] = row[j]
    else:
        for j in range(0, columns, WIDTH):  # stride_2 is 1
            for k_2 in range(0, g.count_2, WIDTH):
                transpose(
                    p_target + 4 * (k_2 * NR + j),
                    4 * NR,
                    w + 4 * (source + j * g.n_stride + k_2),
                    4 * g.n_stride,
                    columns - j,
                    g.count_2 - k_2,
                )
