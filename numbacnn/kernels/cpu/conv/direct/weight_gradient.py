"""The weight gradient: rows of A and C are weights (r, s, c), columns are filters, and k runs over output pixels.

    dw[r,s,c,k] = Σ_npq x[n, p·stride + r·dilation, q·stride + s·dilation, c] · dy[n,p,q,k]

The shape alone decides how pixels are split into groups, so sums have the same order on every machine. Each group has a
partial sum in scratch, and the partial sums are added in order.
"""

from functools import lru_cache
from itertools import groupby
from operator import sub
from typing import NamedTuple

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv.direct.loops import elements, loop_nest, one_group
from numbacnn.kernels.cpu.gemm.gemm import MR, NO_EPILOGUE, NR, Blocking, Gemm, Operand, multiply, row_table, rows
from numbacnn.kernels.cpu.sums import SHARDS_AT_ONCE, sum_groups, sum_shards

MIN_ITEMS = 32  # work items: groups of pixels first, then blocks of dw
MAX_PARTIAL_FLOATS = 1 << 20  # of all partial sums together


class Pass(NamedTuple):
    """One pass over a part of the sum: pixels whose x and dy stay in L2, for a block of dw."""

    pixels: int
    block: int  # maximum rows and columns of dw in a work item
    prefetch: bool  # whether to prefetch the next pixels


POINTWISE = Pass(256, 256, prefetch=True)
WINDOWED = Pass(1024, 64, prefetch=False)  # every pixel is read for many taps
FEW_TERMS = Pass(256, 64, prefetch=True)  # pixels are read for few taps, from memory

MAX_FEW_TERMS = 32  # channels times taps: so few multiply-adds for each pixel of dy that reading it takes longer
MIN_MEMORY_BYTES = 1 << 24  # of x and dy that leave the caches before they are read


def direct_weight_gradient(dw, x, dy, partial, g, dy_strides=None):
    """Write dw of one group; partial: scratch of ``partial_shape``, or empty to sum all pixels in one group.

    ``dy_strides`` replace dy's own.
    """
    split = pixel_groups(g, len(x)) if partial.size else PixelGroups(1, len(x), by_rows=False)
    target = partial[: split.groups] if split.groups > 1 else dw
    strides = Strides(target.strides, x.strides, dy_strides or dy.strides)
    multiply(target, x, dy, weight_gradient_gemm(g, len(x), choose_pass(g, len(x)), split, strides))
    if split.groups > 1:
        sum_groups(dw, target)


def sharded_weight_gradient(dw, x, dy, partial, g, shards):
    """Write dw of one group, the sums over ``shards`` (first images and the number of all) added in a binary tree.

    All pixels of a shard are one group. A GEMM computes several shards with the same number of images.
    """
    count, first = len(shards) - 1, 0
    for size, run in groupby(map(sub, shards[1:], shards)):
        last = first + len(list(run))
        images, target = slice(shards[first], shards[last]), partial[first:last] if count > 1 else dw
        split, strides = PixelGroups(last - first, size, by_rows=False), Strides(target.strides, x.strides, dy.strides)
        gemm = weight_gradient_gemm(g, (last - first) * size, choose_pass(g, size), split, strides)
        multiply(target, x[images], dy[images], gemm)
        first = last
    if count > 1:
        sum_shards(dw, partial[:count])


def shards_at_once(g, batch, images):
    """The shards with images whose sums fit the partial sums; 0 if each has the bits of a batch, which is one group."""
    room = partial_sums(one_group(g), batch)
    return min(room, SHARDS_AT_ONCE) if min(images) else min(room, 1)


class Strides(NamedTuple):
    """Strides in bytes of dw or its partial sums, and of x and dy."""

    dw: tuple[int, ...]
    x: tuple[int, ...]
    dy: tuple[int, ...]


@lru_cache(maxsize=1024)
def weight_gradient_gemm(g, images, chosen, split, strides):
    """Return the GEMM of a weight gradient over ``images`` images, with a partial sum for each of the pixel groups."""
    groups, span, by_rows = split
    x, dy = elements(strides.x), elements(strides.dy)
    terms = g.r * g.s * g.c
    p, q, x_row, dy_row = g.p, g.q, g.stride_h * x.row, dy.row
    if x_row == q * g.stride_w * x.pixel and dy_row == q * dy.pixel:  # contiguous rows: several make one longer row
        limit = max(1, chosen.pixels // q)
        joined = max(n for n in range(1, limit + 1) if p % n == 0 and (not by_rows or span % n == 0))
        span = span // joined if by_rows else span
        p, q, x_row, dy_row = p // joined, q * joined, x_row * joined, dy_row * joined
    outer, middle = (images, x.image, dy.image), (p, x_row, dy_row)
    if by_rows:
        outer, middle = middle, outer
    counts, a_strides, b_strides = zip((span, *outer[1:]), middle, (q, g.stride_w * x.pixel, dy.pixel), strict=True)
    kc_1 = _chunk(counts[1], chosen.pixels // q)
    mc, nc = _dw_block(terms, g.k, groups, chosen.block)
    return Gemm(
        groups=groups,
        m=rows(
            c=row_table((terms, strides.dw[2] // 4)),
            a=row_table((g.r, g.dilation_h * x.row), (g.s, g.dilation_w * x.pixel), (g.c, 1)),
        ),
        n=g.k,
        k=loop_nest(counts, a_strides, b_strides),
        k_end=outer[0],
        a=Operand(-g.pad_top * x.row - g.pad_left * x.pixel, span * a_strides[0]),
        b=Operand(group=span * b_strides[0], panel=NR),
        c=Operand(group=strides.dw[0] // 4 if groups > 1 else 0, panel=NR),
        epilogue=NO_EPILOGUE,
        blocking=Blocking(
            mc=mc,
            nc=nc,
            kc_0=_chunk(counts[0], chosen.pixels // (q * kc_1)),
            kc_1=kc_1,
            prefetch_a=min(g.c, mc) * chosen.prefetch,
            prefetch_b=min(g.k, nc) * chosen.prefetch,
        ),
    )


def choose_pass(g, images):
    """Return the pass for the images of one sum, by the shape alone: it decides the order of the sum."""
    if g.r * g.s == 1:
        return POINTWISE
    leaves_caches = 4 * images * (g.h * g.w * g.c + g.p * g.q * g.k) >= MIN_MEMORY_BYTES
    return FEW_TERMS if g.r * g.s * g.c <= MAX_FEW_TERMS and leaves_caches else WINDOWED


class PixelGroups(NamedTuple):
    """``groups`` of ``span`` images, or of ``span`` rows across all images if there are few images."""

    groups: int
    span: int
    by_rows: bool


def pixel_groups(g, images):
    """Split the pixels of a weight gradient into groups."""
    by_rows = images < _group_limit(g) and g.p > images
    count = g.p if by_rows else images
    span = -(-count // min(count, _group_limit(g)))
    return PixelGroups(-(-count // span), span, by_rows)


def _group_limit(g):
    return max(1, min(MIN_ITEMS, MAX_PARTIAL_FLOATS // (g.r * g.s * g.c * g.k)))


def _chunk(count, limit):
    """The chunk size, at most ``limit``, that divides ``count`` into equal chunks except for the last."""
    return -(-count // -(-count // max(1, limit)))


def _dw_block(terms, columns, groups, limit):
    """Rows and columns of a work item: ``limit`` of each, fewer if that leaves under MIN_ITEMS items."""
    tiles, panels = -(-terms // MR), -(-columns // NR)
    panel_block = min(_chunk(panels, limit // NR), _chunk(panels, panels * groups // MIN_ITEMS))
    items = groups * -(-panels // panel_block)
    row_block = min(_chunk(tiles, limit // MR), _chunk(tiles, tiles * items // MIN_ITEMS))
    return MR * row_block, NR * panel_block


def partial_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch for the partial sums of one group: groups × 1 × R·S·C × K, empty if one sum suffices."""
    one = one_group(g)
    return (partial_sums(one, images), 1, one.r * one.s * one.c, one.k)


def partial_sums(g: ConvGeometry, images: int) -> int:
    """The largest number of partial sums for ``images`` images or fewer; 0 if one sum suffices."""
    groups = min(_group_limit(g), max(images, g.p))
    return groups if groups > 1 else 0
