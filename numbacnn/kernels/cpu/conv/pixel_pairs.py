"""Narrow convolutions, two pixels at a time.

K filters fill K of a register's lanes. Two neighbouring output pixels are 2·K contiguous floats, the output of one
wider convolution: of twice the stride, with a window S + stride wide, in which each pixel's filters have zeros where
the other one reads. That fills the lanes; adding zeros leaves finite outputs as they were, bit for bit, while an
infinite input makes NaN of its neighbour's output too. Measured on LeNet-5's first layer (1→6, 5×5) at batch 64: the
forward pass and the weight gradient take 0.6 of the time.
"""

from functools import lru_cache

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.gemm.gemm import LANES
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, int64
from numbacnn.kernels.recording import prepare


def applies(g: ConvGeometry) -> bool:
    """Whether pixels go in pairs: two fit a register, no row ends with half a pair, and the windows of two overlap."""
    return g.groups == 1 and g.dilation_w == 1 and 2 * g.k <= LANES and g.q % 2 == 0 and g.s > g.stride_w


@lru_cache(maxsize=1024)
def pair_geometry(g: ConvGeometry) -> ConvGeometry:
    """The wider convolution that computes pairs of g's pixels."""
    return g._replace(q=g.q // 2, k=2 * g.k, s=g.s + g.stride_w, stride_w=2 * g.stride_w)


def pair_strides(strides):
    """Strides of N×P×Q×K as N×P×(Q/2)×2K."""
    return strides[0], strides[1], 2 * strides[2], strides[3]


def weights_of_pairs(scratch, w, b, g):
    """w and b of the wider convolution, in ``scratch`` of 1 × 1 × (terms + 1) × 2K: the last row is the bias."""
    pairs = pair_geometry(g)
    wide, bias = scratch[0, 0, :-1].reshape(pairs.r, pairs.s, pairs.c, pairs.k), scratch[0, 0, -1]
    prepare(_spread, wide, bias, w, b, g.stride_w)
    return wide, bias if b.size else b


@cpu_kernel(float32_4d, float32_1d, float32_4d, float32_1d, int64, parallel=False)
def _spread(wide, bias, w, b, stride):
    """wide[r, s + j·stride, c, j·K + k] = w[r,s,c,k] for both pixels j; zeros elsewhere."""
    rows, window, channels, k = w.shape
    for r in range(rows):
        for s in range(wide.shape[1]):
            for c in range(channels):
                for i in range(k):
                    wide[r, s, c, i] = w[r, s, c, i] if s < window else 0
                    wide[r, s, c, k + i] = w[r, s - stride, c, i] if s >= stride else 0
    for i in range(b.size):
        bias[i] = bias[k + i] = b[i]


@cpu_kernel(float32_4d, float32_4d, int64, parallel=False)
def fold_pairs(dw, wide, stride):
    """dw[r,s,c,k] = Σ_j wide[r, s + j·stride, c, j·K + k]: what ``_spread`` spread, added."""
    rows, window, channels, k = dw.shape
    for r in range(rows):
        for s in range(window):
            for c in range(channels):
                for i in range(k):
                    dw[r, s, c, i] = wide[r, s, c, i] + wide[r, s + stride, c, k + i]


def scratch_shape(g: ConvGeometry, groups: int) -> tuple[int, int, int, int]:
    """Of ``groups`` arrays of the wider convolution's weights."""
    pairs = pair_geometry(g)
    return groups, 1, pairs.r * pairs.s * pairs.c, pairs.k
