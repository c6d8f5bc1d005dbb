"""What the kernels of matrix products share: where operands and results lie, how threads fetch them, and what is done
to a result before it is stored. See ``product.py``.
"""

from typing import NamedTuple

import numpy as np
from numba import types

from numbacnn.kernels.cuda.runtime.intrinsics import device_function, load, load4, scalar_function, store
from numbacnn.kernels.formulas import activations

ZERO = np.float32(0)
float32 = types.float32


class Axes(NamedTuple):
    """A range of items that are places in three axes, the last one fastest: item = (i₀ · middle + i₁) · inner + i₂.

    Divisions by ``middle`` and ``inner`` are products with ``…_factor``, shifted (Granlund and Montgomery 1994,
    "Division by invariant integers using multiplication", theorem 4.2): right below 2³¹ items.
    """

    size: int
    middle: int
    middle_factor: int
    middle_shift: int
    inner: int
    inner_factor: int
    inner_shift: int


def axes(outer: int, middle: int, inner: int) -> Axes:
    """The places of three axes of these sizes."""
    return Axes(outer * middle * inner, middle, *_reciprocal(middle), inner, *_reciprocal(inner))


def _reciprocal(divisor: int) -> tuple[int, int]:
    shift = 31 + (max(1, divisor) - 1).bit_length()
    return (1 << shift) // max(1, divisor) + 1, shift


@device_function
def place_of(item, axes):
    """(i₀, i₁, i₂) of an item."""
    above = item * axes.inner_factor >> axes.inner_shift
    outer = above * axes.middle_factor >> axes.middle_shift
    return outer, above - outer * axes.middle, item - above * axes.inner


class Product(NamedTuple):
    """Where a product's arrays lie, in floats: strides by the axes of rows (``…_row_``) and of terms (``…_step_``).

    ``groups`` products lie ``…_group`` apart. The terms of each are cut into ``splits`` parts, whose sums lie
    ``c_split`` apart.
    """

    columns: int
    groups: int
    splits: int
    a_offset: int
    a_group: int
    a_row_0: int
    a_row_1: int
    a_row_2: int
    a_step_0: int
    a_step_1: int
    a_step_2: int
    b_offset: int
    b_group: int
    b_column: int
    b_step_0: int
    b_step_1: int
    b_step_2: int
    c_offset: int
    c_group: int
    c_split: int
    c_row_0: int
    c_row_1: int
    c_row_2: int
    bias_offset: int = -1  # −1: none
    mask_offset: int = -1  # −1: none
    mask_row_0: int = 0
    mask_row_1: int = 0
    mask_row_2: int = 0
    relu: int = 0
    c_aligned: int = 0  # whether rows of c, bias and mask start on 16 bytes, and have whole fours


@device_function
def tile_of_block(block, tile_rows, tile_columns, p):
    """First row and column of the tile of c that a block along the grid's first axis owns."""
    column_tiles = (p.columns + tile_columns - 1) // tile_columns
    row_tile = block // column_tiles
    return row_tile * tile_rows, (block - row_tile * column_tiles) * tile_columns


@device_function
def part_of_block(block, depth, terms, p):
    """(group, split, first term, last term) of a block along the second axis; parts are whole slices of ``depth``."""
    group = block // p.splits
    split = block - group * p.splits
    span = ((terms.size + p.splits - 1) // p.splits + depth - 1) // depth * depth
    return group, split, split * span, min(terms.size, (split + 1) * span)


# -- fetching ---------------------------------------------------------------------------------------------------------


class Share(NamedTuple):
    """What a thread fetches of a slice of an operand, ``extent`` lines × ``depth`` terms: ``rounds`` items,
    ``fours`` of them side by side; ``whole``: every thread has as many. ``registers``: floats of all its items."""

    rounds: int
    fours: int
    total: int
    whole: bool
    registers: int


def share_of(extent: int, depth: int, threads: int, across: bool, pack: int = 1) -> Share:
    """Items are ``pack`` fours of neighbours in memory, which are lines (``across``) or else terms: in the one case
    those of ``pack`` terms in a row, in the other of 4·``pack`` terms."""
    total = extent * depth // (4 * pack)
    rounds = -(-total // threads)
    fours = extent // 4 if across else depth // (4 * pack)
    return Share(rounds, fours, total, total % threads == 0, 4 * pack * rounds)


def fetcher(share: Share, threads: int, rows: bool, across: bool, vector: bool, pack: int = 1):
    """A device function that fetches a thread's items into registers, with zeros where they lie outside.

    Lines are ``rows``, places in three axes, or else columns. Fours are read at once where ``vector``.
    """
    rounds, fours, total, whole, _ = share
    offset_of, count_of = (_row_offset, _row_count) if rows else (_column_offset, _column_count)

    @device_function
    def fetch(target, memory, start, thread, first, lines, term, last, steps):
        terms, step_0, step_1, step_2 = steps
        count = count_of(lines)
        for v in range(rounds * pack):
            item, part = thread + v // pack * threads, v % pack
            for j in range(4):
                target[4 * v + j] = ZERO
            if whole or item < total:
                if across:
                    k, line = term + item // fours * pack + part, first + item % fours * 4
                    if k < last:
                        i_0, i_1, i_2 = place_of(k, terms)
                        at = start + i_0 * step_0 + i_1 * step_1 + i_2 * step_2
                        if vector:
                            if line < count:
                                _put_four(target, 4 * v, load4(memory, (at + offset_of(line, lines),)))
                        else:
                            for j in range(4):
                                if line + j < count:
                                    target[4 * v + j] = load(memory, at + offset_of(line + j, lines))
                else:
                    k, line = term + (item % fours * pack + part) * 4, first + item // fours
                    if line < count:
                        at = start + offset_of(line, lines)
                        if vector:
                            if k < last:
                                i_0, i_1, i_2 = place_of(k, terms)
                                at += i_0 * step_0 + i_1 * step_1 + i_2 * step_2
                                _put_four(target, 4 * v, load4(memory, (at,)))
                        else:
                            for j in range(4):
                                if k + j < last:
                                    i_0, i_1, i_2 = place_of(k + j, terms)
                                    target[4 * v + j] = load(memory, at + i_0 * step_0 + i_1 * step_1 + i_2 * step_2)

    return fetch


@device_function
def _put_four(target, at, values):
    target[at], target[at + 1], target[at + 2], target[at + 3] = values


@device_function
def _row_offset(row, lines):
    places, step_0, step_1, step_2 = lines
    i_0, i_1, i_2 = place_of(row, places)
    return i_0 * step_0 + i_1 * step_1 + i_2 * step_2


@device_function
def _row_count(lines):
    return lines[0].size


@device_function
def _column_offset(column, lines):
    return column * lines[1]


@device_function
def _column_count(lines):
    return lines[0]


# -- storing ----------------------------------------------------------------------------------------------------------

relu_gradient = scalar_function(activations.relu_gradient)


@device_function
def places_of_row(row, rows, at, p):
    """Where a row of c and of the mask starts; ``at``: where the group's do."""
    i_0, i_1, i_2 = place_of(row, rows)
    c_at = at[0] + i_0 * p.c_row_0 + i_1 * p.c_row_1 + i_2 * p.c_row_2
    return c_at, at[1] + i_0 * p.mask_row_0 + i_1 * p.mask_row_1 + i_2 * p.mask_row_2


@device_function
def put_value(value, c, bias, mask, c_at, bias_at, mask_at, p):
    """Stores an element of c, behind bias, ReLU and mask, which is x where y > 0, else 0; where y is NaN, x."""
    if p.bias_offset >= 0:
        value += load(bias, bias_at)
    if p.relu == 1:
        value = relu_gradient(value, value)
    if p.mask_offset >= 0:
        value = relu_gradient(value, load(mask, mask_at))
    store(c, c_at, value)
