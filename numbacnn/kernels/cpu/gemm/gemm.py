"""Many register tiles in parallel: the compiled kernel under convolution, dense layers and all their gradients."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from numbacnn.kernels.cpu.gemm.microkernel import ACCUMULATE, LINE, RELU, Sum, register_tile
from numbacnn.kernels.cpu.gemm.rows import add_row, mask_row
from numbacnn.kernels.cpu.simd.memory import address, offset, prefetch
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined, int64_1d
from numbacnn.kernels.target import host_target

TARGET = host_target()
LANES, PANEL, ROWS = TARGET.lanes, TARGET.panel, TARGET.tile_rows
HALF = max(LANES // 2, 4)
BLOCK_ROWS = 8 * ROWS  # of one work item, at most
NO_ADDRESS = np.intp(0)
NO_MASK = np.empty((0, 1, 1, 1), np.float32)

wide_tile = register_tile(ROWS, 2, LANES, masked=False)
narrow_tile = register_tile(ROWS, 1, LANES, masked=True)
half_tile = register_tile(ROWS, 1, HALF, masked=True)
row_tile = register_tile(1, 2, LANES, masked=True)


class Product(NamedTuple):
    """``groups`` products C = A·B (+ bias) that share their row tables; offsets and steps in float32 elements.

    Group g has its C, A and B at ``g`` steps of ``c_group``, ``a_group``, ``b_group``, and sums over the outer steps
    from ``g·count_0`` up to ``total_0``, ``count_0`` at most: all of the window, or its share of the images or
    of their rows.
    """

    groups: int
    columns: int
    c_offset: int
    c_group: int
    a_offset: int
    a_group: int
    b_group: int
    b_panel: int  # from one panel of PANEL columns of B to the next
    total_0: int
    count_0: int
    count_1: int
    count_2: int
    a_0: int
    a_1: int
    a_2: int
    b_0: int
    b_1: int
    b_2: int
    row_block: int  # rows of one work item, a multiple of ROWS
    chunk_0: int  # steps of the two outer loops summed in one pass over the rows
    chunk_1: int
    relu: int = 0
    accumulate: int = 0  # add to C
    c_panel: int = PANEL  # from one panel of columns of C to the next
    mask_offset: int = 0
    mask_group: int = 0
    panel_block: int = 1  # panels of one work item; 1 where there is a mask, or something to add
    a_ahead: int = 0  # floats at each step of A, and of B, that are asked for a chunk ahead: too far apart for the
    b_ahead: int = 0  # processor to foresee
    adds: int = 0  # the mask, before ReLU


@cpu_kernel(float32_4d, int64_1d, float32_4d, int64_1d, float32_4d, float32_1d, float32_4d, int64_1d, Product)
def tile_products(c, c_rows, a, a_rows, b, bias, mask, mask_rows, g):
    """All groups' C, plus the mask where g.adds, else zero where the mask is not positive. Each thread owns a range of
    (group, block of rows, panel of columns). An empty bias or mask: none.
    """
    rows = c_rows.size
    items = g.groups * -(-rows // g.row_block) * -(-g.columns // (g.panel_block * PANEL))
    p_c, p_c_rows, p_a, p_a_rows, p_b = address(c), address(c_rows), address(a), address(a_rows), address(b)
    p_bias = address(bias) if bias.size else NO_ADDRESS
    p_mask, p_mask_rows = address(mask), address(mask_rows)
    for item in prange(items):
        product_item(np.intp(item), p_c, p_c_rows, rows, p_a, p_a_rows, p_b, p_bias, g)
        if mask.size:
            mask_item(np.intp(item), p_c, p_c_rows, rows, p_mask, p_mask_rows, g)


@inlined
def product_item(item, c, c_rows, rows, a, a_rows, b, bias, g):
    """Some panels of one block of rows of one group, summed chunk by chunk so that A and B stay in the cache."""
    panels, row_blocks = -(-g.columns // (g.panel_block * PANEL)), -(-rows // g.row_block)
    first_column = item % panels * g.panel_block * PANEL
    first_row = item // panels % row_blocks * g.row_block
    group = item // (panels * row_blocks)
    c += 4 * (g.c_offset + group * g.c_group)
    a += 4 * (g.a_offset + group * g.a_group)
    b += 4 * group * g.b_group
    last_row, last_column = min(first_row + g.row_block, rows), min(first_column + g.panel_block * PANEL, g.columns)
    count_0 = min(g.count_0, g.total_0 - group * g.count_0)
    for t_0 in range(0, max(count_0, 1), g.chunk_0):
        for t_1 in range(0, max(g.count_1, 1), g.chunk_1):
            last = t_0 + g.chunk_0 >= count_0 and t_1 + g.chunk_1 >= g.count_1
            rectifies = g.relu and last and not g.adds  # else behind the sum
            mode = (ACCUMULATE if g.accumulate or t_0 + t_1 > 0 else 0) | (RELU if rectifies else 0)
            terms = min(g.chunk_0, count_0 - t_0), min(g.chunk_1, g.count_1 - t_1), g.count_2
            product_chunk(
                first_row,
                last_row,
                first_column,
                last_column,
                c,
                c_rows,
                a + 4 * (t_0 * g.a_0 + t_1 * g.a_1),
                a_rows,
                b + 4 * (t_0 * g.b_0 + t_1 * g.b_1),
                bias,
                mode,
                g.a_ahead + g.b_ahead > 0 and not last,
                t_1 + g.chunk_1 < g.count_1,
                Sum(terms[0], terms[1], terms[2], g.a_0, g.a_1, g.a_2, g.b_0, g.b_1, g.b_2),
                g,
            )


@inlined
def product_chunk(
    first_row, last_row, first_column, last_column, c, c_rows, a, a_rows, b, bias, mode, ahead, inner, nest, g
):
    """One chunk's share of the sums. ``ahead``: behind each tile, asks for as large a part of the next chunk, which is
    that of the ``inner`` loop, or of the outer one.
    """
    rows = ROWS if ahead else g.row_block
    tiles = -(-(last_row - first_row) // ROWS) * -(-(last_column - first_column) // PANEL)
    steps = nest.count_0 * nest.count_1 * nest.count_2
    a_next, b_next = g.chunk_1 * g.a_1, g.chunk_1 * g.b_1
    if not inner:
        done = (g.count_1 - 1) // g.chunk_1 * g.chunk_1
        a_next, b_next = g.chunk_0 * g.a_0 - done * g.a_1, g.chunk_0 * g.b_0 - done * g.b_1
    a_next = a + 4 * (a_next + offset(a_rows, first_row))
    b_next = b + 4 * (b_next + first_column // PANEL * g.b_panel)
    tile = 0
    for column in range(first_column, last_column, PANEL):
        panel = column // PANEL
        for row in range(first_row, last_row, rows):
            product_rows(
                row,
                min(row + rows, last_row),
                c + 4 * panel * g.c_panel,
                c_rows,
                a,
                a_rows,
                b + 4 * panel * g.b_panel,
                shift(bias, column),
                min(PANEL, last_column - column),
                mode,
                nest,
            )
            if ahead:
                for step in range(steps * tile // tiles, steps * (tile + 1) // tiles):
                    ask_ahead(step, a_next, b_next, nest, g)
                tile += 1


@inlined
def ask_ahead(step, a, b, nest, g):
    """Has the floats of one step of A and of B fetched."""
    t_0, t_1, t_2 = step // nest.count_2 // nest.count_1, step // nest.count_2 % nest.count_1, step % nest.count_2
    a += 4 * (t_0 * g.a_0 + t_1 * g.a_1 + t_2 * g.a_2)
    b += 4 * (t_0 * g.b_0 + t_1 * g.b_1 + t_2 * g.b_2)
    for line in range(0, g.a_ahead, LINE):
        prefetch(a + 4 * line)
    for line in range(0, g.b_ahead, LINE):
        prefetch(b + 4 * line)


@inlined
def mask_item(item, c, c_rows, rows, mask, mask_rows, g):
    """The same part of C, still in the cache: plus the mask, or zero where that is 0 or less; NaN lets pass."""
    panels = -(-g.columns // PANEL)
    blocks = -(-rows // g.row_block)
    panel, first, group = item % panels, item // panels % blocks * g.row_block, item // (panels * blocks)
    c += 4 * (g.c_offset + group * g.c_group + panel * g.c_panel)
    mask += 4 * (g.mask_offset + group * g.mask_group + panel * PANEL)
    columns = min(PANEL, g.columns - panel * PANEL)
    for i in range(first, min(first + g.row_block, rows)):
        row, beside = c + 4 * offset(c_rows, i), mask + 4 * offset(mask_rows, i)
        if not g.adds:
            mask_row(row, row, beside, columns)
        elif i == first or offset(c_rows, i) != offset(c_rows, i - 1):  # the last row fills the last tile
            add_row(row, beside, columns, g.relu != 0)


@inlined
def product_rows(first, last, c, c_rows, a, a_rows, b, bias, columns, mode, nest):
    """Rows [first, last) of one panel of C; tables have them in whole tiles, from ``first`` on."""
    if last - first >= ROWS and offset(c_rows, last - ROWS) == offset(c_rows, last - 1):
        last -= ROWS  # one row, repeated: of a batch of one, say
        row_tile(c, c_rows + 8 * last, a, a_rows + 8 * last, b, bias, columns, mode, nest)
    done = 0
    if columns == PANEL:
        for i in range(first, last, ROWS):
            wide_tile(c, c_rows + 8 * i, a, a_rows + 8 * i, b, bias, columns, mode, nest)
        done = columns
    while columns > done:
        c_strip, b_strip, bias_strip, left = c + 4 * done, b + 4 * done, shift(bias, done), columns - done
        if left > HALF:
            for i in range(first, last, ROWS):
                narrow_tile(c_strip, c_rows + 8 * i, a, a_rows + 8 * i, b_strip, bias_strip, left, mode, nest)
        else:
            for i in range(first, last, ROWS):
                half_tile(c_strip, c_rows + 8 * i, a, a_rows + 8 * i, b_strip, bias_strip, left, mode, nest)
        done += LANES


@inlined
def shift(address, count):
    """The address ``count`` floats on; of nothing, nothing."""
    return address + 4 * count if address != NO_ADDRESS else NO_ADDRESS


@lru_cache(maxsize=4096)
def row_table(*axes):
    """Offsets of the rows of A or C: the sums over ``axes`` of (count, step), the last fastest, as int64.

    Padded to whole tiles by repeating the last row: a tile then computes and stores that row again, the same bits.
    """
    table = np.zeros(1, np.int64)
    for count, step in axes:
        table = (table[:, None] + np.arange(count, dtype=np.int64) * step).ravel()
    return np.pad(table, (0, -table.size % ROWS), mode="edge")


def row_block(rows, others):
    """Rows of one work item: up to BLOCK_ROWS, fewer where that leaves under 64; ``others``: items a row block."""
    tiles = -(-rows // ROWS)
    return ROWS * max(1, min(BLOCK_ROWS // ROWS, tiles * others // 64))
