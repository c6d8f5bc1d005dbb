"""Convolution with few filters, two output pixels at a time, on the GEMM of a wider convolution.

K filters fill only K lanes of a register. Two neighboring output pixels are 2·K contiguous floats: the output of a
wider convolution of twice the stride, whose window is S + stride wide and has zeros at the taps of the other pixel.
Adding zeros leaves finite outputs the same bit for bit, but an infinite input makes NaN of the neighbor's output too.
Measured on LeNet-5's first layer (1→6, 5×5) at batch 64: the forward pass and the weight gradient take 0.6 of the time.
"""

from functools import lru_cache

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.convolution import FORWARD, WEIGHT_GRADIENT, ConvAlgorithm, Cost, Scratch
from numbacnn.kernels.cpu.conv.direct import forward
from numbacnn.kernels.cpu.conv.direct.weight_gradient import direct_weight_gradient, partial_sums
from numbacnn.kernels.cpu.conv.epilogues import (
    FUSED_ACTIVATIONS,
    activation_before_residual,
    add_residual,
    bias_or_none,
)
from numbacnn.kernels.cpu.gemm.gemm import LANES, Epilogue, multiply
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, int64
from numbacnn.kernels.recording import prepare


class PixelPairs(ConvAlgorithm):
    """The algorithm for few filters, with the outputs of two pixels in a register."""

    name = "pixel pairs"
    activations = FUSED_ACTIVATIONS
    directions = FORWARD, WEIGHT_GRADIENT

    def applies(self, direction, g, pool):
        """Whether two pixels fit a register, rows have whole pairs, and the windows of a pair overlap."""
        return pool is None and takes_pairs(g)

    def spreads(self, g):
        """To the other pixel of the pair."""
        return True

    def scratch(self, direction, g, batch, pool=None):
        """The wider convolution's weights, or its gradients."""
        if direction == FORWARD:
            return {"weights": Scratch(forward_scratch_shape(g), prepared=True)}
        return {"partial": Scratch(partial_pairs_shape(g, batch))}

    def cost(self, direction, g, batch, pool=None):
        """The cost of the wider convolution."""
        pairs = pair_geometry(g)
        return Cost(batch * pairs.flops, super().cost(direction, pairs, batch).bytes)

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """The GEMM of the wider convolution."""
        pairs_forward(y, x, w, bias_or_none(b), scratch["weights"], g, activation_before_residual(epilogue))
        add_residual(y, epilogue)

    def weight_gradient(self, dw, x, dy, scratch, g, epilogue):
        """The gradient of the wider convolution, folded."""
        pairs_weight_gradient(dw, x, dy, scratch["partial"], g)


def takes_pairs(g: ConvGeometry) -> bool:
    """Whether two pixels fit a register, rows have whole pairs, and the windows of a pair overlap."""
    return g.groups == 1 and g.dilation_w == 1 and 2 * g.k <= LANES and g.q % 2 == 0 and g.s > g.stride_w


@lru_cache(maxsize=1024)
def pair_geometry(g: ConvGeometry) -> ConvGeometry:
    """The wider convolution that computes pairs of g's pixels."""
    return g._replace(q=g.q // 2, k=2 * g.k, s=g.s + g.stride_w, stride_w=2 * g.stride_w)


def pair_strides(strides):
    """Strides of N×P×Q×K as N×P×(Q/2)×2K."""
    return strides[0], strides[1], 2 * strides[2], strides[3]


# -- forward ----------------------------------------------------------------------------------------------------------


def pairs_forward(y, x, w, bias, scratch, g, activation):
    """Write y. An empty bias means none; scratch of ``forward_scratch_shape``."""
    wide, bias = weights_of_pairs(scratch, w, bias, g)
    strides = forward.Strides(pair_strides(y.strides), x.strides, wide.strides)
    gemm = forward.forward_gemm(pair_geometry(g), len(x), strides, False, epilogue=Epilogue(activation))
    multiply(y, x, wide, gemm, bias)


def weights_of_pairs(scratch, w, bias, g):
    """Write w and bias of the wider convolution into scratch of ``forward_scratch_shape``, and return them."""
    pairs = pair_geometry(g)
    wide, wide_bias = scratch[0, 0, :-1].reshape(pairs.r, pairs.s, pairs.c, pairs.k), scratch[0, 0, -1]
    prepare(_spread, wide, wide_bias, w, bias, g.stride_w)
    return wide, wide_bias if bias.size else bias


def forward_scratch_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch for the wider convolution's weights, and its bias as their last row."""
    pairs = pair_geometry(g)
    return 1, 1, pairs.r * pairs.s * pairs.c + 1, pairs.k


@cpu_kernel(float32_4d, float32_1d, float32_4d, float32_1d, int64, parallel=False)
def _spread(wide, wide_bias, w, bias, stride):
    """wide[r, s + j·stride, c, j·K + k] = w[r,s,c,k] for both pixels j; zeros elsewhere."""
    rows, window, channels, k = w.shape
    for r in range(rows):
        for s in range(wide.shape[1]):
            for c in range(channels):
                for i in range(k):
                    wide[r, s, c, i] = w[r, s, c, i] if s < window else 0
                    wide[r, s, c, k + i] = w[r, s - stride, c, i] if s >= stride else 0
    for i in range(bias.size):
        wide_bias[i] = wide_bias[k + i] = bias[i]


# -- weight gradient --------------------------------------------------------------------------------------------------


def pairs_weight_gradient(dw, x, dy, partial, g):
    """Write dw; partial: scratch of ``partial_pairs_shape``."""
    pairs = pair_geometry(g)
    wide = partial[-1].reshape(pairs.r, pairs.s, pairs.c, pairs.k)
    direct_weight_gradient(wide, x, dy, partial, pairs, pair_strides(dy.strides))
    _fold(dw, wide, g.stride_w)


def partial_pairs_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch for the wider convolution's partial sums and their total."""
    pairs = pair_geometry(g)
    return 1 + partial_sums(pairs, images), 1, pairs.r * pairs.s * pairs.c, pairs.k


@cpu_kernel(float32_4d, float32_4d, int64, parallel=False)
def _fold(dw, wide, stride):
    """dw[r,s,c,k] = Σ_j wide[r, s + j·stride, c, j·K + k]: the transpose of ``_spread``."""
    rows, window, channels, k = dw.shape
    for r in range(rows):
        for s in range(window):
            for c in range(channels):
                for i in range(k):
                    dw[r, s, c, i] = wide[r, s, c, i] + wide[r, s + stride, c, k + i]
