"""Direct convolution and its two gradients, each a list of register-tile products. Oracle: ``tests/reference.py``.

With a halo of zeros around each image, the inputs of one output pixel are, for each window row, S·C contiguous floats
(NHWC), so a convolution is a matrix product whose rows overlap in memory: no im2col, no bounds check.
"""

from functools import lru_cache
from math import gcd
from typing import NamedTuple

import numpy as np

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.cpu.conv import blocked, col2im, depthwise, grouped, pixel_pairs
from numbacnn.kernels.cpu.formulas import LAUNCHERS
from numbacnn.kernels.cpu.gemm.gemm import NO_MASK, PANEL, ROWS, Product, row_block, row_table, tile_products
from numbacnn.kernels.cpu.gemm.packing import Pack, pack_panels
from numbacnn.kernels.cpu.sums import sum_groups
from numbacnn.kernels.phases import axis_phases
from numbacnn.kernels.recording import launch, prepare
from numbacnn.kernels.registry import launcher

NO_BIAS = np.empty(0, np.float32)
PACK_ABOVE = 4 * PANEL  # columns; the rows of wider weights lie too far apart for the cache, so they are packed
TOGETHER_PIXELS = 1 << 11  # of small images, whose rows are in one table
ITEMS = 32  # work items of a weight gradient, at least: groups of pixels, each with a partial sum, then blocks of dw
ROUND_BYTES = 1 << 22  # of packed weights: each round is multiplied while they are in a cache
PARTIAL_FLOATS = 1 << 20  # of all partial sums together


class _Pass(NamedTuple):
    """What of a weight gradient's sum is done at a time."""

    pixels: int  # of dy, whose part of x and dy stays in the second-level cache
    block: int  # rows, and columns, of dw that one work item sums over them, at most
    ahead: bool  # whether to ask for the next pixels meanwhile: needless where each is read for many taps


POINTS = _Pass(256, 256, ahead=True)  # windows of one pixel
WINDOWS = _Pass(1024, 64, ahead=False)


# -- forward ----------------------------------------------------------------------------------------------------------


@launcher
def conv2d_forward(y, x, w, b, packed, g, relu=False, addend=None):
    """y[n,p,q,k] = b[k] + Σ_rsc x[n, p·stride + r·dilation, q·stride + s·dilation, c] · w[r,s,c,k], plus the addend,
    then ReLU if asked.

    y, addend: N×P×Q×K, or addend None; x: N×H×W×C inside a halo of zeros (``g.input_halo``); w: R×S×C/groups×K; b: K
    or None; packed: scratch of ``packed_weights_shape(g)``.
    """
    bias = NO_BIAS if b is None else b
    if addend is not None and not _in_one_product(g):
        conv2d_forward(y, x, w, b, packed, g)
        LAUNCHERS["add_relu_in_place" if relu else "add_in_place"](y, addend)
        return
    if depthwise.applies(g):
        depthwise.depthwise_forward(y, x, w, bias, g, relu)
        return
    if grouped.applies(g):
        grouped.grouped_forward(y, x, w, bias, packed, g, relu)
        return
    if pixel_pairs.applies(g):
        _forward_pairs(y, x, w, bias, packed, g, relu)
        return
    if g.groups == 1:
        _forward(y, x, w, bias, packed, g, relu, prepare, addend)
        return
    one = _one_group(g)
    for x_part, y_part, k in _group_slices(x, y, g):  # each packs into the same scratch
        _forward(y_part, x_part, w[..., k], bias[k] if b is not None else NO_BIAS, packed, one, relu, launch)


def _in_one_product(g):
    """Whether the forward pass is one product whose rows are y's own."""
    return g.groups == 1 and not pixel_pairs.applies(g)


def _forward(y, x, w, bias, packed, g, relu, pack, addend=None):
    channels = packed.shape[2] // (g.r * g.s)
    if not packed.size or channels >= g.c:
        _add_channels(y, x, w, bias, packed, g, relu, pack, addend)
        return
    for c in _parts(g.c, channels):
        one, last = g._replace(c=c.stop - c.start), c.stop == g.c
        beside = addend if last else None
        _add_channels(y, x[..., c], w[:, :, c], bias, packed, one, relu and last, launch, beside, c.start > 0)


def _add_channels(y, x, w, bias, packed, g, relu, pack, addend, accumulate=False):
    """y of these channels, behind them bias or, to ``accumulate``, what y was."""
    span = _images_together(len(x), g.p * g.q)
    strides = y.strides, x.strides, w.strides
    plan = forward_plan(g, len(x), *strides, packed.size > 0, relu, span, _strides(addend), accumulate)
    if packed.size:
        pack(pack_panels, packed, w, plan.pack)
    b, beside = packed if packed.size else w, NO_MASK if addend is None else addend
    tile_products(y, plan.c_rows, x, plan.a_rows, b, bias, beside, plan.mask_rows, plan.product)


def _forward_pairs(y, x, w, bias, scratch, g, relu):
    wide, bias = pixel_pairs.weights_of_pairs(scratch, w, bias, g)
    strides = pixel_pairs.pair_strides(y.strides)
    plan = forward_plan(pixel_pairs.pair_geometry(g), len(x), strides, x.strides, wide.strides, False, relu)
    tile_products(y, plan.c_rows, x, plan.a_rows, wide, bias, NO_MASK, plan.c_rows, plan.product)


class _DirectPlan(NamedTuple):
    product: Product
    c_rows: np.ndarray
    a_rows: np.ndarray
    pack: Pack | None = None
    mask_rows: np.ndarray | None = None


@lru_cache(maxsize=1024)
def forward_plan(
    g, images, y_strides, x_strides, w_strides, packed, relu, span=1, addend_strides=None, accumulate=False
):
    """The product of a forward pass over ``images`` images with these strides, and how its weights are packed.

    ``span`` images share a table of rows. Without ``addend_strides`` nothing is added behind the sums; to
    ``accumulate``, what y was is.
    """
    y_image, y_row, y_pixel = _elements(y_strides)
    x_image, x_row, x_pixel = _elements(x_strides)
    addend_image, addend_row, addend_pixel = _elements(addend_strides or y_strides)
    w_row, _, w_channel = _elements(w_strides)
    counts, a_steps = _window_loops(g.r, g.s, g.c, g.dilation_h * x_row, g.dilation_w * x_pixel)
    b_steps = (w_row, counts[2] * w_channel, w_channel)
    pack = Pack(g.k, 1, 0, *counts, *b_steps) if packed else None
    if packed:
        b_steps = _packed_steps(counts)
    product = Product(
        groups=images // span,
        columns=g.k,
        c_offset=0,
        c_group=span * y_image,
        a_offset=-g.pad_top * x_row - g.pad_left * x_pixel,
        a_group=span * x_image,
        b_group=0,
        b_panel=PANEL * (g.r * g.s * g.c if packed else 1),
        total_0=counts[0] * images,  # so that every image sums over the whole window
        **_loops(counts, a_steps, b_steps),
        row_block=row_block(span * g.p * g.q, images // span * -(-g.k // PANEL)),
        relu=int(relu),
        mask_group=span * addend_image,
        adds=int(addend_strides is not None),
        accumulate=int(accumulate),
    )
    c_rows = row_table((span, y_image), (g.p, y_row), (g.q, y_pixel))
    a_rows = row_table((span, x_image), (g.p, g.stride_h * x_row), (g.q, g.stride_w * x_pixel))
    addend_rows = row_table((span, addend_image), (g.p, addend_row), (g.q, addend_pixel))
    return _DirectPlan(product, c_rows, a_rows, pack, addend_rows)


def packed_weights_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the forward pass: panels of weights, those of pairs, or bands of narrow groups; empty where w serves
    as it lies."""
    if grouped.applies(g):
        return grouped.forward_scratch_shape(g)
    if pixel_pairs.applies(g):
        _, _, terms, columns = pixel_pairs.scratch_shape(g, 1)
        return (1, 1, terms + 1, columns)
    columns = g.k // g.groups
    if columns <= PACK_ABOVE:
        return (0, 1, 1, PANEL)
    return (-(-columns // PANEL), 1, g.r * g.s * (g.c // g.groups), PANEL)


def packed_round_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """As ``packed_weights_shape``, of one group, for weights that are packed every time: a part of the channels at a
    time, multiplied while it is in a cache."""
    panels, _, terms, _ = packed_weights_shape(g)
    if panels:
        terms = g.r * g.s * _part(g.c, g.r * g.s * panels * PANEL)
    return (panels, 1, terms, PANEL)


# -- weight gradient --------------------------------------------------------------------------------------------------


@launcher
def conv2d_weight_gradient(dw, x, dy, partial, g):
    """dw[r,s,c,k] = Σ_npq x[n, p·stride + r·dilation, q·stride + s·dilation, c] · dy[n,p,q,k].

    dw: R×S×C/groups×K; x and dy as in the forward pass; partial: scratch of ``partial_weights_shape(g, N)``.
    """
    if depthwise.applies(g):
        depthwise.depthwise_weight_gradient(dw, x, dy, partial, g)
        return
    if grouped.applies(g):
        grouped.grouped_weight_gradient(dw, x, dy, partial, g)
        return
    if pixel_pairs.applies(g):
        pairs = pixel_pairs.pair_geometry(g)
        wide = partial[-1].reshape(pairs.r, pairs.s, pairs.c, pairs.k)
        _weight_gradient(wide, x, dy, partial, pairs, pixel_pairs.pair_strides(dy.strides))
        pixel_pairs.fold_pairs(dw, wide, g.stride_w)
        return
    if g.groups == 1:
        _group_weight_gradient(dw, x, dy, partial, g)
        return
    one = _one_group(g)
    for x_part, dy_part, k in _group_slices(x, dy, g):
        _group_weight_gradient(dw[..., k], x_part, dy_part, partial, one)


def _group_weight_gradient(dw, x, dy, partial, g):
    if partial.size and blocked.applies(g):
        blocked.weight_gradient_by_panels(dw, x, dy, partial, g)
    else:
        _weight_gradient(dw, x, dy, partial, g, dy.strides)


def _weight_gradient(dw, x, dy, partial, g, dy_strides):
    groups = _pixel_groups(g, len(x)).groups if partial.size else 1
    target = partial if groups > 1 else dw
    plan = _weight_gradient_plan(g, len(x), groups > 1, target.strides, x.strides, dy_strides)
    tile_products(target, plan.c_rows, x, plan.a_rows, dy, NO_BIAS, NO_MASK, plan.c_rows, plan.product)
    if groups > 1:
        sum_groups(dw, partial[:groups])


@lru_cache(maxsize=1024)
def _weight_gradient_plan(g, images, grouped, target_strides, x_strides, dy_strides):
    do = POINTS if g.r * g.s == 1 else WINDOWS
    groups, span, by_rows = _pixel_groups(g, images) if grouped else (1, images, False)
    x_image, x_row, x_pixel = _elements(x_strides)
    dy_image, dy_row, dy_pixel = _elements(dy_strides)
    c_group, c_row = (target_strides[0] // 4 if groups > 1 else 0), target_strides[2] // 4
    terms = g.r * g.s * g.c
    p, q, x_step, dy_step = g.p, g.q, g.stride_h * x_row, dy_row
    if x_step == q * g.stride_w * x_pixel and dy_row == q * dy_pixel:  # rows of pixels that lie one behind the other
        most = max(1, do.pixels // q)
        together = max(n for n in range(1, most + 1) if p % n == 0 and (not by_rows or span % n == 0))
        span = span // together if by_rows else span
        p, q, x_step, dy_step = p // together, q * together, x_step * together, dy_step * together
    axis_0 = images, x_image, dy_image
    axis_1 = p, x_step, dy_step
    if by_rows:
        axis_0, axis_1 = axis_1, axis_0
    counts, a_steps, b_steps = zip((span, *axis_0[1:]), axis_1, (q, g.stride_w * x_pixel, dy_pixel), strict=True)
    chunk_1 = _chunk(counts[1], do.pixels // q)
    chunk_0 = _chunk(counts[0], do.pixels // (q * chunk_1))
    row_block, panel_block = _weight_blocks(terms, g.k, groups, do.block)
    product = Product(
        groups=groups,
        columns=g.k,
        c_offset=0,
        c_group=c_group,
        a_offset=-g.pad_top * x_row - g.pad_left * x_pixel,
        a_group=span * a_steps[0],
        b_group=span * b_steps[0],
        b_panel=PANEL,
        total_0=axis_0[0],
        **_loops(counts, a_steps, b_steps, (chunk_0, chunk_1)),
        row_block=row_block,
        panel_block=panel_block,
        a_ahead=min(g.c, row_block) * do.ahead,
        b_ahead=min(g.k, panel_block * PANEL) * do.ahead,
    )
    a_rows = row_table((g.r, g.dilation_h * x_row), (g.s, g.dilation_w * x_pixel), (g.c, 1))
    return _DirectPlan(product, row_table((terms, c_row)), a_rows)


class _Groups(NamedTuple):
    """Pixels go in ``groups``, each with a partial sum, of ``span`` images, or where those are few, of ``span`` rows
    of all images: by the shape alone, so that sums keep their order on any machine."""

    groups: int
    span: int
    by_rows: bool


def _pixel_groups(g, images):
    by_rows = images < _group_limit(g) and g.p > images
    count = g.p if by_rows else images
    span = -(-count // min(count, _group_limit(g)))
    return _Groups(-(-count // span), span, by_rows)


def _group_limit(g):
    return max(1, min(ITEMS, PARTIAL_FLOATS // (g.r * g.s * g.c * g.k)))


def _chunk(count, most):
    """A part of ``count`` steps, ``most`` of them or fewer, but one; all parts alike."""
    return -(-count // -(-count // max(1, most)))


def _weight_blocks(terms, columns, groups, most):
    """Rows and panels of a work item: ``most`` rows and columns, fewer where that leaves under ITEMS of them."""
    tiles, panels = -(-terms // ROWS), -(-columns // PANEL)
    panel_block = min(_chunk(panels, most // PANEL), _chunk(panels, panels * groups // ITEMS))
    items = groups * -(-panels // panel_block)
    row_block = min(_chunk(tiles, most // ROWS), _chunk(tiles, tiles * items // ITEMS))
    return ROWS * row_block, panel_block


def partial_weights_shape(g: ConvGeometry, images: int) -> tuple[int, int, int, int]:
    """Scratch of the weight gradient: groups × 1 × terms × columns, empty where one group suffices."""
    if depthwise.applies(g):
        return depthwise.partial_depthwise_shape(g, images)
    if grouped.applies(g):
        return grouped.partial_grouped_shape(g, images)
    if pixel_pairs.applies(g):
        return pixel_pairs.scratch_shape(g, 1 + _partial_sums(pixel_pairs.pair_geometry(g), images))
    one = _one_group(g)
    if blocked.applies(one):
        return blocked.scratch_shape(one, images)
    return (_partial_sums(one, images), 1, one.r * one.s * one.c, one.k)


def _partial_sums(g, images):
    """Of as many groups as there may be, for as many images or fewer; 0 where one group suffices."""
    groups = min(_group_limit(g), max(images, g.p))
    return groups if groups > 1 else 0


# -- input gradient ---------------------------------------------------------------------------------------------------


@launcher
def conv2d_input_gradient(dx, dy, w, packed, columns, g, mask=None):
    """dx[n,h,w,c] = Σ_rsk dy[n,p,q,k] · w[r,s,c,k] over p·stride + r·dilation = h + pad, and likewise q.

    dx: N×H×W×C; dy: N×P×Q×K inside a halo of zeros (``g.gradient_halo``); packed, columns: scratch of
    ``packed_gradient_shape(g)`` and ``columns_shape(g, N)``. Pixels of dx with the same remainder by the stride see
    the same taps: each such phase is a convolution of stride 1 with the flipped window. Where ``mask``, N×H×W×C, is
    given, dx is zero wherever it is 0 or less: the gradient of a ReLU whose output it is.
    """
    if g.groups == 1 and not columns.size:
        _input_gradient(dx, dy, w, packed, g, mask)
        return
    if depthwise.applies(g):
        depthwise.depthwise_input_gradient(dx, dy, w, g, mask)
        return
    if grouped.applies(g):
        grouped.grouped_input_gradient(dx, dy, w, packed, columns, g, mask)
        return
    if columns.size:
        col2im.input_gradient_by_columns(dx, dy, w, packed, columns, g)
    else:
        one = _one_group(g)
        for dx_part, dy_part, k in _group_slices(dx, dy, g):
            _input_gradient(dx_part, dy_part, w[..., k], packed, one, None)
    if mask is not None:
        LAUNCHERS["relu_gradient_in_place"](dx, mask)


def _input_gradient(dx, dy, w, packed, g, mask):
    if len(packed) * PANEL < g.c:
        for c in _parts(g.c, len(packed) * PANEL):
            part = None if mask is None else mask[..., c]
            _input_gradient(dx[..., c], dy, w[:, :, c], packed, g._replace(c=c.stop - c.start), part)
        return
    for phase in _input_gradient_plans(g, len(dx), dx.strides, dy.strides, w.strides, _strides(mask)):
        pack_panels(packed, w, phase.pack)
        tile_products(
            dx,
            phase.c_rows,
            dy,
            phase.a_rows,
            packed,
            NO_BIAS,
            NO_MASK if mask is None else mask,
            phase.mask_rows,
            phase.product,
        )


@lru_cache(maxsize=1024)
def _input_gradient_plans(g, images, dx_strides, dy_strides, w_strides, mask_strides):
    rows = axis_phases(g.h, g.r, g.stride_h, g.dilation_h, g.pad_top)
    columns = axis_phases(g.w, g.s, g.stride_w, g.dilation_w, g.pad_left)
    strides = dx_strides, dy_strides, w_strides, mask_strides or dx_strides
    return [_phase_plan(g, images, row, column, *strides) for row in rows for column in columns]


def _phase_plan(g, images, row, column, dx_strides, dy_strides, w_strides, mask_strides):
    dx_image, dx_row, dx_pixel = _elements(dx_strides)
    dy_image, dy_row, dy_pixel = _elements(dy_strides)
    w_row, w_column, w_channel = _elements(w_strides)
    mask_image, mask_row, mask_pixel = _elements(mask_strides)
    counts, a_steps = _window_loops(row.taps, column.taps, g.k, row.output_step * dy_row, column.output_step * dy_pixel)
    pack = Pack(
        columns=g.c,
        column_step=w_channel,
        offset=row.first_tap * w_row + column.first_tap * w_column,
        count_0=row.taps,
        count_1=column.taps,
        count_2=g.k,
        step_0=row.tap_step * w_row,
        step_1=column.tap_step * w_column,
        step_2=1,
    )
    terms = row.taps * column.taps * g.k
    pixels = row.pixels * column.pixels
    span = _images_together(images, pixels)
    product = Product(
        groups=images // span,
        columns=g.c,
        c_offset=row.phase * dx_row + column.phase * dx_pixel,
        c_group=span * dx_image,
        a_offset=row.first_output * dy_row + column.first_output * dy_pixel,
        a_group=span * dy_image,
        b_group=0,
        b_panel=PANEL * terms,
        total_0=counts[0] * images,
        **_loops(counts, a_steps, _packed_steps(counts)),
        row_block=row_block(span * pixels, images // span * -(-g.c // PANEL)),
        mask_offset=row.phase * mask_row + column.phase * mask_pixel,
        mask_group=span * mask_image,
    )
    c_rows, a_rows, mask_rows = (
        row_table((span, image), (row.pixels, row_step), (column.pixels, pixel_step))
        for image, row_step, pixel_step in (
            (dx_image, g.stride_h * dx_row, g.stride_w * dx_pixel),
            (dy_image, dy_row, dy_pixel),
            (mask_image, g.stride_h * mask_row, g.stride_w * mask_pixel),
        )
    )
    return _DirectPlan(product, c_rows, a_rows, pack, mask_rows)


def packed_gradient_shape(g: ConvGeometry) -> tuple[int, int, int, int]:
    """Scratch of the input gradient: panels × 1 × terms × PANEL, for the phase with the most taps."""
    if depthwise.applies(g):
        return (0, 1, 1, PANEL)
    if grouped.applies(g):
        return grouped.transposed_shape(g)
    if col2im.applies(g):
        return col2im.packed_columns_shape(g)
    columns, channels = g.k // g.groups, g.c // g.groups
    rows = -(-g.r // (g.stride_h // gcd(g.stride_h, g.dilation_h)))
    taps = rows * -(-g.s // (g.stride_w // gcd(g.stride_w, g.dilation_w)))
    return (-(-_part(channels, taps * columns) // PANEL), 1, taps * columns, PANEL)


# -- shared -----------------------------------------------------------------------------------------------------------


def _parts(count, step):
    """Slices of ``step`` each, of ``count``."""
    return [slice(first, min(first + step, count)) for first in range(0, count, step)]


def _part(channels, floats):
    """How many of the channels, with so many weights each, are packed at a time: all, or whole panels."""
    return min(channels, max(1, ROUND_BYTES // (4 * floats * PANEL)) * PANEL)


def _strides(array):
    return None if array is None else array.strides


def _images_together(images, pixels):
    """How many images share their tiles of rows: a divisor of all that leaves few rows of the last tile empty."""
    limit = max(1, TOGETHER_PIXELS // max(1, pixels))
    divisors = [n for n in range(1, min(images, limit) + 1) if images % n == 0]
    return min(divisors, key=lambda n: (-(-n * pixels // ROWS) * ROWS / n, n))


def _window_loops(r, s, c, row_step, column_step):
    """Counts and steps of A over a window; columns and channels are one loop where they are contiguous."""
    if column_step == c:
        if c % PANEL == 0:  # the tile asks for the next step of the middle loop while it multiplies
            return (r, s * c // PANEL, PANEL), (row_step, PANEL, 1)
        return (r, 1, s * c), (row_step, 0, 1)
    return (r, s, c), (row_step, column_step, 1)


def _packed_steps(counts):
    return counts[1] * counts[2] * PANEL, counts[2] * PANEL, PANEL


def _loops(counts, a_steps, b_steps, chunks=None):
    """The loop fields of a Product; without ``chunks`` all is summed in one pass."""
    names = [f"{name}_{level}" for name in ("count", "a", "b") for level in range(3)]
    chunk_0, chunk_1 = chunks or (max(1, counts[0]), max(1, counts[1]))
    return dict(zip(names, (*counts, *a_steps, *b_steps), strict=True), chunk_0=chunk_0, chunk_1=chunk_1)


def _elements(strides):
    """Strides of the first three axes in float32 elements."""
    return strides[0] // 4, strides[1] // 4, strides[2] // 4


def _one_group(g):
    return g._replace(c=g.c // g.groups, k=g.k // g.groups, groups=1)


def _group_slices(x, y, g):
    """For each group, the views of its input channels and its output channels, and the slice of the latter."""
    c, k = g.c // g.groups, g.k // g.groups
    for group in range(g.groups):
        out = slice(group * k, (group + 1) * k)
        yield x[..., group * c : (group + 1) * c], y[..., out], out
