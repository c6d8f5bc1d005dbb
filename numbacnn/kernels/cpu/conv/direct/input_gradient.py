"""The input gradient: rows of A and C are pixels of dx, columns are channels, and k runs over the flipped window.

    dx[n,h,w,c] = Σ_rsk dy[n,p,q,k] · w[r,s,c,k] over p·stride + r·dilation = h + pad, and likewise q

Pixels of dx with the same remainder modulo the stride read the same taps. Each of these phases is a convolution of
stride 1 over dy with some taps of the flipped window.
"""

from functools import lru_cache
from math import gcd
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
from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.gemm.gemm import (
    NO_AUX,
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
from numbacnn.kernels.phases import Taps, axis_phases


def direct_input_gradient(dx, dy, w, packed, g, mask=None):
    """Write dx, zero wherever ``mask`` is given and 0 or less; packed: scratch of ``packed_gradient_shape``."""
    if g.groups == 1:
        _input_gradient(dx, dy, w, packed, g, mask)
        return
    for dx_part, dy_part, k in group_slices(dx, dy, g):
        _input_gradient(dx_part, dy_part, w[..., k], packed, one_group(g), None)
    if mask is not None:
        LAUNCHERS["relu_gradient_in_place"](dx, mask)


def _input_gradient(dx, dy, w, packed, g, mask):
    if len(packed) * NR < g.c:
        for c in channel_rounds(g.c, len(packed) * NR):
            part = None if mask is None else mask[..., c]
            _input_gradient(dx[..., c], dy, w[:, :, c], packed, g._replace(c=c.stop - c.start), part)
        return
    for phase in _phases(g, len(dx), Strides(dx.strides, dy.strides, w.strides, strides_of(mask))):
        pack(packed, w, phase.packing)
        multiply(dx, dy, packed, phase.gemm, aux=NO_AUX if mask is None else mask)


class Strides(NamedTuple):
    """Strides in bytes of the arrays of an input gradient; aux: None for no mask."""

    dx: tuple[int, ...]
    dy: tuple[int, ...]
    w: tuple[int, ...]
    aux: tuple[int, ...] | None = None


class Phase(NamedTuple):
    """The GEMM of one phase, and how its taps are packed."""

    gemm: Gemm
    packing: Packing


@lru_cache(maxsize=1024)
def _phases(g, images, strides):
    down = axis_phases(g.h, g.r, g.stride_h, g.dilation_h, g.pad_top)
    across = axis_phases(g.w, g.s, g.stride_w, g.dilation_w, g.pad_left)
    return [
        Phase(_phase_gemm(g, images, row, column, strides), _phase_packing(g, row, column, strides.w))
        for row in down
        for column in across
    ]


def _phase_gemm(g: ConvGeometry, images: int, row: Taps, column: Taps, strides: Strides) -> Gemm:
    dx, dy, aux = elements(strides.dx), elements(strides.dy), elements(strides.aux or strides.dx)
    counts, a_strides = window_loops(
        row.taps, column.taps, g.k, row.output_step * dy.row, column.output_step * dy.pixel
    )
    pixels, terms = row.pixels * column.pixels, row.taps * column.taps * g.k
    span = images_per_span(images, pixels)

    def table(image, row_step, pixel_step):
        return row_table((span, image), (row.pixels, row_step), (column.pixels, pixel_step))

    return Gemm(
        groups=images // span,
        m=rows(
            c=table(dx.image, g.stride_h * dx.row, g.stride_w * dx.pixel),
            a=table(*dy),
            aux=table(aux.image, g.stride_h * aux.row, g.stride_w * aux.pixel),
        ),
        n=g.c,
        k=loop_nest(counts, a_strides, packed_strides(counts)),
        k_end=WHOLE_K,
        a=Operand(row.first_output * dy.row + column.first_output * dy.pixel, span * dy.image),
        b=Operand(panel=NR * terms),
        c=Operand(row.phase * dx.row + column.phase * dx.pixel, span * dx.image, NR),
        epilogue=Epilogue(
            aux_offset=row.phase * aux.row + column.phase * aux.pixel,
            aux_group=span * aux.image,
        ),
        blocking=blocking_of(span * pixels, g.c, images // span, span * g.p * g.q * g.k, terms * g.c),
    )


def _phase_packing(g: ConvGeometry, row: Taps, column: Taps, w_strides: tuple[int, ...]) -> Packing:
    w_row, w_column, w_channel = elements(w_strides)
    return Packing(
        n=g.c,
        n_stride=w_channel,
        offset=row.first_tap * w_row + column.first_tap * w_column,
        count_0=row.taps,
        count_1=column.taps,
        count_2=g.k,
        stride_0=row.tap_step * w_row,
        stride_1=column.tap_step * w_column,
        stride_2=1,
    )


def packed_gradient_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch for the packed weights of one group: panels × 1 × taps·K × NR, for the phase with the most taps.

    If that is fewer panels than dx has, the channels are processed in rounds.
    """
    one = one_group(g)
    rows = -(-g.r // (g.stride_h // gcd(g.stride_h, g.dilation_h)))
    taps = rows * -(-g.s // (g.stride_w // gcd(g.stride_w, g.dilation_w)))
    return (-(-channels_per_round(one.c, taps * one.k) // NR), 1, taps * one.k, NR)
