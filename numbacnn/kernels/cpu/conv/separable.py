"""A depthwise separable convolution in one pass: a depthwise convolution and the 1×1 convolution after it.

A thread computes a few rows of the depthwise convolution into a buffer on its stack, and multiplies them by the weights
of the 1×1 convolution while they are in cache. If a convolution before these expands the channels, as in an inverted
residual (Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks", section 3), its rows are
computed into the same buffer just before they are read: the images with the most channels of the network never reach
memory. Sums have the order and the bits of separate convolutions, which are the oracle.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import ceil
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.geometry import ConvGeometry
from numbacnn.kernels.convolution import FORWARD, ConvAlgorithm, Cost, Scratch
from numbacnn.kernels.cpu.conv.depthwise.microkernel import Store, Window
from numbacnn.kernels.cpu.conv.depthwise.windows import ROWS, Pixel, RowSteps, sum_rows
from numbacnn.kernels.cpu.conv.direct.forward import weights_packing
from numbacnn.kernels.cpu.conv.direct.loops import elements, packed_strides, window_loops
from numbacnn.kernels.cpu.conv.epilogues import FUSED_ACTIVATIONS, aux_or_none, bias_or_none
from numbacnn.kernels.cpu.gemm.gemm import MR, NO_ADDRESS, NO_BIAS, NR, gemm_rows, row_table, shift
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest, Tile
from numbacnn.kernels.cpu.gemm.packing import pack
from numbacnn.kernels.cpu.gemm.rows import add_row, clear_row, copy_row
from numbacnn.kernels.cpu.simd.activations import BITS, RELU
from numbacnn.kernels.cpu.simd.memory import address, stack_floats
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d
from numbacnn.kernels.recording import prepare

BUFFER = 1 << 16  # floats of a thread's rows: 256 KB, half of a small second-level cache
WEIGHTS_BYTES = 1 << 18  # of one convolution, which each thread reads again for every few rows
EXPANDED_BYTES = 1 << 19  # of the smallest image that is not stored: smaller ones stay in cache
REPEATED = 8  # rows that an item computes for each that its neighbor computes too
ITEMS, MIN_ITEMS = 64, 8  # work items: enough for any number of threads, and the fewest to save repeated rows

buffer_memory = stack_floats(BUFFER)


class Rows(NamedTuple):
    """The division of an image into rows. ``item``: those of outputs of a work item; ``step``: those at a time.

    ``buffer``: rows of the expanded image for which there is room, of ``floats`` each; 0 without expansion.
    """

    item: int
    step: int
    buffer: int
    floats: int


class Shape(NamedTuple):
    """Sizes of the convolutions: h×w×c the image that the depthwise one reads, p×q×k the output.

    The expansion reads its rows ``expansion_stride`` apart from ``expansion_top`` rows above the image, and from
    ``expansion_left`` elements before each row. Activations are bits of ``simd.activations``, or 0.
    """

    h: int
    w: int
    c: int
    p: int
    q: int
    k: int
    r: int
    s: int
    stride_h: int
    stride_w: int
    dilation_h: int
    dilation_w: int
    pad_top: int
    pad_left: int
    expansion_stride: int
    expansion_top: int
    expansion_left: int
    expansion_terms: int
    expansion_activation: int
    depthwise_activation: int
    pointwise_activation: int


class Weights(NamedTuple):
    """Weights and biases; those of the expansion and of the 1×1 convolution are packed. Empty for none."""

    expansion: float32_1d
    expansion_bias: float32_1d
    depthwise: float32_1d
    depthwise_bias: float32_1d
    pointwise: float32_1d
    pointwise_bias: float32_1d


class Tables(NamedTuple):
    """Indirection buffers: of a row of the expansion; of ``step`` rows of outputs, and then of the image's last."""

    expansion_c: int64_1d
    expansion_a: int64_1d
    pointwise_c: int64_1d
    pointwise_a: int64_1d


class Addresses(NamedTuple):
    """Addresses of ``Weights``, with 0 for no bias, and of ``Tables``."""

    expansion: int
    expansion_bias: int
    depthwise: int
    depthwise_bias: int
    pointwise: int
    pointwise_bias: int
    expansion_c: int
    expansion_a: int
    expansion_rows: int
    pointwise_c: int
    pointwise_a: int


# -- the choice -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def separable(convolutions: tuple[ConvGeometry, ...]) -> "Separable | None":
    """Return the algorithm for a depthwise and a 1×1 convolution, or three with an expansion before them.

    None if they are no such convolutions, do not fit the buffer, or are faster one by one: where weights are too large
    to be read for every few rows, and where the expanded image stays in cache.
    """
    *before, depthwise, pointwise = convolutions
    is_depthwise = depthwise.groups == depthwise.c == depthwise.k > 1
    is_pointwise = pointwise == ConvGeometry(*pointwise[:3], *pointwise[:2], pointwise.k, 1, 1)
    if not (is_depthwise and is_pointwise) or _weights_bytes(pointwise) > WEIGHTS_BYTES:
        return None
    step = _step(depthwise)
    if not step:
        return None
    for expansion in before:
        wide = 4 * depthwise.h * depthwise.w * depthwise.c >= EXPANDED_BYTES
        few_padded = 8 * _padded(depthwise.w) <= 9 * depthwise.w
        if expansion.groups > 1 or _weights_bytes(expansion) > WEIGHTS_BYTES or not (wide and few_padded):
            return None
        if _buffer_rows(depthwise, step) < _rows_read(depthwise, step):
            return None
    return Separable(convolutions)


def _weights_bytes(g):
    return 4 * g.r * g.s * g.c * g.k


def _padded(rows):
    """Rows that the GEMM microkernel computes."""
    return -(-rows // MR) * MR


def _step(g):
    """Rows of outputs at a time: as few as fill the tiles of both microkernels best; 0 if none fit."""
    fitting = [rows for rows in (2, 4, 1) if 2 * rows * g.q * g.c <= BUFFER]
    return min(fitting, key=lambda rows: _padded(rows * g.q) / (rows * g.q), default=0)


def _rows_read(g, outputs):
    """Rows of inputs that this many rows of outputs read, from the first to the last."""
    return (outputs - 1) * g.stride_h + (g.r - 1) * g.dilation_h + 1


def _row_floats(g):
    """Floats of a row of the expanded image with the zeros that its windows reach."""
    return (g.w + g.input_halo.left + g.input_halo.right) * g.c


def _buffer_rows(g, step):
    """Rows of the expanded image that fit into the buffer with the outputs of the depthwise convolution."""
    return (BUFFER - step * g.q * g.c) // _row_floats(g)


def _item_rows(g, step, images, expands):
    """Rows of outputs of a work item: few for many items, but many for each that two items compute."""
    repeated = max(0, _rows_read(g, 1) - g.stride_h) if expands else 0
    minimum = min(ceil(REPEATED * repeated / g.stride_h), ceil(images * g.p / MIN_ITEMS))
    minimum = max(step, minimum, ceil(images * g.p / ITEMS))
    rows = ceil(g.p / ceil(g.p / minimum))  # the items of an image are equally large
    return ceil(rows / step) * step


@dataclass(frozen=True)
class Separable(ConvAlgorithm):
    """Computes these convolutions: a depthwise one and a 1×1 one, or three with an expansion before them."""

    convolutions: tuple[ConvGeometry, ...]
    name = "separable"
    directions = (FORWARD,)
    activations = FUSED_ACTIVATIONS

    def scratch(self, direction, g, batch, pool=None):
        """Packed weights of the expansion, if there is one, and of the 1×1 convolution."""
        packed = {"pointwise": self.convolutions[-1]}
        if len(self.convolutions) > 2:
            packed["expansion"] = self.convolutions[0]
        return {name: Scratch(_packed_shape(one), prepared=True) for name, one in packed.items()}

    def cost(self, direction, g, batch, pool=None):
        """Return the operations of all, and the bytes of the first input, the last output and all weights."""
        first, last = self.convolutions[0], self.convolutions[-1]
        images = batch * (first.h * first.w * first.c + last.p * last.q * last.k)
        weights = sum(one.r * one.s * (one.c // one.groups) * one.k for one in self.convolutions)
        return Cost(batch * sum(one.flops for one in self.convolutions), 4 * (images + weights))

    def forward(self, y, x, w, b, scratch, g, epilogue):
        """Write y, the output of the last of the convolutions that ``epilogue.then`` adds to this one."""
        first = w, b, g, epilogue.activation, None
        ws, bs, gs, activations, residuals = zip(first, *epilogue.then, strict=True)
        for name, packed in scratch.items():
            one = 0 if name == "expansion" else -1
            prepare(pack, packed, ws[one], weights_packing(gs[one], ws[one].strides))
        biases = [bias_or_none(one) for one in (*[None] * (3 - len(bs)), *bs)]
        arrays = scratch.get("expansion", NO_BIAS), ws[-2], scratch["pointwise"]
        weights = Weights(*[one for pair in zip(arrays, biases, strict=True) for one in (pair[0].reshape(-1), pair[1])])
        bits = tuple(0 if op is None else BITS[op] for op in activations)
        layout = _layout(self.convolutions, bits, len(x), y.strides, x.strides)
        separable_forward(y, x, aux_or_none(residuals[-1]), weights, *layout)


def _packed_shape(g):
    return (-(-g.k // NR), 1, g.r * g.s * g.c, NR)


@lru_cache(maxsize=1024)
def _layout(convolutions, activations, images, y_strides, x_strides):
    """Return the indirection buffers, the loops over the expansion's window, ``Rows`` and ``Shape``."""
    *before, depthwise, pointwise = convolutions
    g, step = depthwise, _step(depthwise)
    y, x = elements(y_strides), elements(x_strides)
    buffer = (_buffer_rows(g, step), _row_floats(g)) if before else (0, 0)
    rows = Rows(_item_rows(g, step, images, bool(before)), step, *buffer)
    pixels = [count for count in (step, g.p % step) if count]
    pointwise_c = np.concatenate([row_table((count, y.row), (g.q, y.pixel)) for count in pixels])
    pointwise_a = np.concatenate([row_table((count * g.q, g.c)) for count in pixels])
    tables, loops, window = Tables(*[np.empty(0, np.int64)] * 2, pointwise_c, pointwise_a), LoopNest(*[0] * 9), [0] * 4
    for e in before:
        counts, strides = window_loops(e.r, e.s, e.c, e.dilation_h * x.row, e.dilation_w * x.pixel)
        loops = LoopNest(*counts, *strides, *packed_strides(counts))
        window = [e.stride_h, e.pad_top, e.pad_left * x.pixel, e.r * e.s * e.c]
        tables = tables._replace(expansion_c=row_table((g.w, g.c)), expansion_a=row_table((g.w, e.stride_w * x.pixel)))
    activations = [0] * (1 - len(before)) + list(activations)
    shape = Shape(*g[:5], pointwise.k, *g[6:14], *window, *activations)
    return tables, loops, rows, shape


# -- the kernel -------------------------------------------------------------------------------------------------------


@cpu_kernel(float32_4d, float32_4d, float32_4d, Weights, Tables, LoopNest, Rows, Shape)
def separable_forward(y, x, residual, weights, tables, loops, rows, g):
    """y = pointwise(depthwise(expansion(x))) + residual, with activations; an empty residual means none.

    Each thread owns a range of (image, ``rows.item`` rows of outputs).
    """
    at = Addresses(
        address(weights.expansion),
        _address_or_none(weights.expansion_bias),
        address(weights.depthwise),
        _address_or_none(weights.depthwise_bias),
        address(weights.pointwise),
        _address_or_none(weights.pointwise_bias),
        address(tables.expansion_c),
        address(tables.expansion_a),
        len(tables.expansion_a),
        address(tables.pointwise_c),
        address(tables.pointwise_a),
    )
    p_y, p_x, p_residual = address(y), address(x), address(residual)
    items = -(-g.p // rows.item)
    for item in prange(len(y) * items):
        n, first = np.intp(item) // items, np.intp(item) % items * rows.item
        image, output = p_x + n * x.strides[0], p_y + n * y.strides[0]
        added = p_residual + n * residual.strides[0] if residual.size else NO_ADDRESS
        strides = Strides(
            y.strides[1], y.strides[2], x.strides[1], x.strides[2], residual.strides[1], residual.strides[2]
        )
        _item(first, min(first + rows.item, g.p), Images(output, image, added), strides, at, loops, rows, g)


class Images(NamedTuple):
    """Addresses of an image of y, x and the residual, or 0 for none."""

    y: int
    x: int
    residual: int


class Strides(NamedTuple):
    """Bytes from row to row, and from pixel to pixel."""

    y_row: int
    y_pixel: int
    x_row: int
    x_pixel: int
    residual_row: int
    residual_pixel: int


@inlined
def _address_or_none(bias):
    return address(bias) if bias.size else NO_ADDRESS


@inlined
def _item(first, last, images, strides, at, loops, rows, g):
    """Rows [first, last) of outputs. The buffer begins with row ``top`` of the expanded image."""
    buffer, row_bytes = buffer_memory(), 4 * rows.floats
    outputs, top = buffer + rows.buffer * row_bytes, first * g.stride_h - g.pad_top
    done = top
    if rows.buffer:
        _clear_sides(buffer, rows, g)
    for row in range(first, last, rows.step):
        count, start = min(rows.step, last - row), row * g.stride_h - g.pad_top
        end = start + (count - 1) * g.stride_h + (g.r - 1) * g.dilation_h + 1
        if rows.buffer:
            if end - top > rows.buffer:  # move the rows that are read again to the front
                copy_row(buffer, buffer + (start - top) * row_bytes, max(0, done - start) * rows.floats)
                top, done = start, max(done, start)
            _expand_rows(buffer + (done - top) * row_bytes, done, end, images.x, strides.x_row, at, loops, rows, g)
            done = end
            _depthwise_rows(outputs, buffer + (start - top) * row_bytes, row_bytes, 4 * g.c, count, at, g)
        else:
            source = images.x + start * strides.x_row - g.pad_left * strides.x_pixel
            _depthwise_rows(outputs, source, strides.x_row, strides.x_pixel, count, at, g)
        _pointwise_rows(outputs, row, count, images, strides, at, rows, g)


@inlined
def _clear_sides(buffer, rows, g):
    """Zero the columns of the buffer's rows that are left and right of the image."""
    right = (g.pad_left + g.w) * g.c
    for i in range(rows.buffer):
        row = buffer + 4 * i * rows.floats
        clear_row(row, g.pad_left * g.c)
        clear_row(row + 4 * right, rows.floats - right)


@inlined
def _expand_rows(target, first, last, x, x_row, at, loops, rows, g):
    """Rows [first, last) of the expanded image, zeros above and below the image."""
    for i in range(first, last):
        if 0 <= i < g.h:
            source = x + (i * g.expansion_stride - g.expansion_top) * x_row - 4 * g.expansion_left
            for c in range(0, g.c, NR):
                b, bias = at.expansion + 4 * c * g.expansion_terms, shift(at.expansion_bias, c)
                tile = Tile(target + 4 * (g.pad_left * g.c + c), at.expansion_c, source, at.expansion_a, b, bias)
                gemm_rows(0, at.expansion_rows, tile, min(NR, g.c - c), g.expansion_activation, loops)
        else:
            clear_row(target, rows.floats)
        target += 4 * rows.floats


@inlined
def _depthwise_rows(target, source, x_row, x_pixel, count, at, g):
    """``count`` rows of the depthwise convolution, contiguous. ``source``: the first input of the first window."""
    window = Window(g.r, 1, g.s, g.dilation_h * x_row // 4, 0, g.dilation_w * x_pixel // 4, g.s * g.c, 0, g.c)
    y_row, y_pixel = 4 * g.q * g.c, 4 * g.c
    together = ROWS if g.stride_h == g.dilation_h else 1
    for i in range(0, count, together):
        steps = RowSteps(min(together, count - i), y_row, y_pixel, g.stride_h * x_row, g.stride_w * x_pixel, 0, 0)
        pixel = Pixel(target + i * y_row, source + i * g.stride_h * x_row, at.depthwise, at.depthwise_bias)
        sum_rows(pixel, g.q, g.c, steps, Store(g.depthwise_activation, False), window)


@inlined
def _pointwise_rows(source, row, count, images, strides, at, rows, g):
    """``count`` rows of outputs from ``row`` on."""
    table = 0 if count == rows.step else -(-rows.step * g.q // MR) * MR
    pixels, y = -(-count * g.q // MR) * MR, images.y + row * strides.y_row
    loops = LoopNest(1, 1, g.c, 0, 0, 1, 0, 0, NR)
    adds = images.residual != NO_ADDRESS
    mode = 0 if adds else g.pointwise_activation
    for column in range(0, g.k, NR):
        b, bias = at.pointwise + 4 * column * g.c, shift(at.pointwise_bias, column)
        tile = Tile(y + 4 * column, at.pointwise_c + 8 * table, source, at.pointwise_a + 8 * table, b, bias)
        gemm_rows(0, pixels, tile, min(NR, g.k - column), mode, loops)
    for i in range(count if adds else 0):
        for j in range(g.q):
            aux = images.residual + (row + i) * strides.residual_row + j * strides.residual_pixel
            add_row(y + i * strides.y_row + j * strides.y_pixel, aux, g.k, g.pointwise_activation == RELU)
