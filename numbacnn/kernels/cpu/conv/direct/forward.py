"""The forward pass: rows of A and C are output pixels, columns are filters, and k runs over the window.

y[n,p,q,k] = b[k] + Σ_rsc x[n, p·stride + r·dilation, q·stride + s·dilation, c] · w[r,s,c,k]
"""

from functools import lru_cache
from typing import NamedTuple

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.direct.loops import (
    channel_rounds,
    channels_per_round,
    elements,
    group_slices,
    images_per_span,
    loop_nest,
    one_group,
    packed_strides,
    strides_of,
    window_loops,
)
from numbacnn.kernels.cpu.gemm.gemm import (
    NO_AUX,
    NO_EPILOGUE,
    NR,
    WHOLE_K,
    Epilogue,
    Gemm,
    Operand,
    blocking_of,
    multiply,
    row_table,
    rows,
)
from numbacnn.kernels.cpu.gemm.packing import Packing, pack
from numbacnn.kernels.recording import launch, prepare

PACK_ABOVE = 4 * NR  # filters; rows of wider weights are too far apart for the cache


class Strides(NamedTuple):
    """Strides in bytes of the arrays of a forward pass; aux: None for no residual."""

    y: tuple[int, ...]
    x: tuple[int, ...]
    w: tuple[int, ...]
    aux: tuple[int, ...] | None = None


def direct_forward(y, x, w, bias, packed, g, activation=0, residual=None):
    """Write y, plus the residual if there is one (for a single group only), then the activation, a bit or 0.

    bias: K or empty; packed: scratch of ``packed_shape`` or ``packed_round_shape``.
    """
    if g.groups == 1:
        _forward(y, x, w, bias, packed, g, activation, residual, prepare)
        return
    one = one_group(g)
    for x_part, y_part, k in group_slices(x, y, g):  # every group packs into the same scratch
        _forward(y_part, x_part, w[..., k], bias[k], packed, one, activation, None, launch)


def _forward(y, x, w, bias, packed, g, activation, residual, run):
    """One group, in rounds of channels if ``packed`` holds only some; ``run`` launches the packing."""
    channels = packed.shape[2] // (g.r * g.s)
    if not packed.size or channels >= g.c:
        _add_channels(y, x, w, bias, packed, g, Epilogue(activation), residual, run)
        return
    for c in channel_rounds(g.c, channels):
        one, last = g._replace(c=c.stop - c.start), c.stop == g.c
        epilogue = Epilogue(activation if last else 0, accumulate=c.start > 0)
        _add_channels(y, x[..., c], w[:, :, c], bias, packed, one, epilogue, residual if last else None, launch)


def _add_channels(y, x, w, bias, packed, g, epilogue, residual, run):
    strides = Strides(y.strides, x.strides, w.strides, strides_of(residual))
    span = images_per_span(len(x), g.p * g.q)
    descriptor = forward_gemm(g, len(x), strides, packed.size > 0, span, epilogue)
    if packed.size:
        run(pack, packed, w, weights_packing(g, w.strides))
    multiply(y, x, packed if packed.size else w, descriptor, bias, NO_AUX if residual is None else residual)


@lru_cache(maxsize=1024)
def forward_gemm(g, images, strides, packed, span=1, epilogue=NO_EPILOGUE):
    """Return the GEMM of a forward pass over ``images`` images, ``span`` of which share an indirection buffer."""
    y, x, aux = elements(strides.y), elements(strides.x), elements(strides.aux or strides.y)
    w_row, _, w_channel = elements(strides.w)
    counts, a_strides = window_loops(g.r, g.s, g.c, g.dilation_h * x.row, g.dilation_w * x.pixel)
    b_strides = packed_strides(counts) if packed else (w_row, counts[2] * w_channel, w_channel)
    return Gemm(
        groups=images // span,
        m=rows(
            c=row_table((span, y.image), (g.p, y.row), (g.q, y.pixel)),
            a=row_table((span, x.image), (g.p, g.stride_h * x.row), (g.q, g.stride_w * x.pixel)),
            aux=row_table((span, aux.image), (g.p, aux.row), (g.q, aux.pixel)),
        ),
        n=g.k,
        k=loop_nest(counts, a_strides, b_strides),
        k_end=WHOLE_K,
        a=Operand(-g.pad_top * x.row - g.pad_left * x.pixel, span * x.image),
        b=Operand(panel=NR * (g.r * g.s * g.c if packed else 1)),
        c=Operand(group=span * y.image, panel=NR),
        epilogue=epilogue._replace(adds_aux=strides.aux is not None, aux_group=span * aux.image),
        blocking=blocking_of(span * g.p * g.q, g.k, images // span, span * g.h * g.w * g.c, g.r * g.s * g.c * g.k),
    )


def weights_packing(g, w_strides):
    """Return how w is packed for a forward pass."""
    return Packing(g.k, 1, 0, g.r, g.s, g.c, *elements(w_strides))


def packed_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch for the packed weights of one group: panels × 1 × R·S·C × NR, empty if w is read unpacked."""
    one = one_group(g)
    if one.k <= PACK_ABOVE:
        return (0, 1, 1, NR)
    return (-(-one.k // NR), 1, one.r * one.s * one.c, NR)


def packed_round_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """``packed_shape`` for weights that are packed in every step: only as many channels as stay in cache."""
    panels, _, terms, _ = packed_shape(g)
    if panels:
        terms = g.r * g.s * channels_per_round(g.c, g.r * g.s * panels * NR)
    return (panels, 1, terms, NR)
