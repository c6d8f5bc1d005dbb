"""Matrix products over memory as it lies, which all convolutions and dense layers are: implicit GEMM.

c[i,j] = Σ_t a[row(i) + step(t)] · b[step(t) + j], where row(i) and step(t) are the offsets of a place in three axes:
the image, row and column of a pixel, or the row, column and channel of a window. So nothing is copied into columns: in
NHWC inside a halo of zeros, what a pixel's window sees lies at the same distances from it for every pixel.

A block computes a tile of c. Its threads bring a slice of a and of b, some terms deep, to shared memory, in accesses of
16 bytes where four neighbours lie aligned, while each computes its own block of c, 8×8 in the largest tile, from the
slice before (double buffering). Volkov and Demmel 2008, "Benchmarking GPUs to tune dense linear algebra".
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import types

from numbacnn.kernels import scalar
from numbacnn.kernels.cuda import shim
from numbacnn.kernels.cuda.jit import cuda_kernel, float32_1d
from numbacnn.kernels.cuda.shim import cuda, device_function, load, load4, scalar_function, store, store4

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


class Tile(NamedTuple):
    """A block's share of c, each thread's share of that, and how many terms lie in shared memory at a time."""

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    depth: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)


LARGE, SMALL, NARROW = Tile(128, 128, 8, 8, 8), Tile(64, 64, 4, 4, 16), Tile(128, 16, 4, 4, 8)
if shim.SIMULATED:  # whose threads are Python's
    LARGE, SMALL, NARROW = Tile(16, 16, 8, 8, 4), Tile(8, 8, 4, 4, 4), Tile(16, 4, 4, 4, 4)
ENOUGH_BLOCKS = 264  # two for each multiprocessor of a large GPU: with fewer, a smaller tile or more splits
LEAST_TERMS = 256  # of a split
MOST_SPLITS = 4096
PARTIAL_FLOATS = 1 << 24  # of all splits' sums together


def choose_tile(rows: int, columns: int, groups: int = 1) -> Tile:
    """By the shape alone, since sums are cut as tiles are."""
    if columns <= NARROW.columns:
        return NARROW
    return LARGE if columns > SMALL.columns and _blocks(LARGE, rows, columns, groups) >= ENOUGH_BLOCKS else SMALL


def _blocks(tile: Tile, rows: int, columns: int, groups: int) -> int:
    return -(-rows // tile.rows) * -(-columns // tile.columns) * groups


def split_count(rows: int, columns: int, groups: int, terms: int) -> int:
    """Into how many parts the terms of a product of few tiles are cut."""
    tile = LARGE if min(rows, columns) > SMALL.columns else choose_tile(rows, columns)
    wanted = -(-ENOUGH_BLOCKS // _blocks(tile, rows, columns, groups))
    room = PARTIAL_FLOATS // (rows * columns * groups)
    return max(1, min(wanted, -(-terms // LEAST_TERMS), room, MOST_SPLITS))


def launch_product(c, a, b, bias, mask, rows: Axes, terms: Axes, p: Product) -> None:
    """Launches a product. c, a, b, bias, mask: flat memory; those not used may be any."""
    tile = choose_tile(rows.size, p.columns, p.groups * p.splits)
    by_rows = p.a_row_2 == 1 and p.a_step_2 != 1
    a_vector = _aligned(p.a_offset, p.a_group, p.a_row_0, p.a_row_1, p.a_step_0, p.a_step_1) and _aligned(
        *((rows.inner, p.a_step_2) if by_rows else (terms.inner, p.a_row_2))
    )
    by_terms = p.b_column != 1
    b_vector = _aligned(p.b_offset, p.b_group, p.b_step_0, p.b_step_1) and _aligned(
        *((terms.inner, p.b_column) if by_terms else (p.columns, p.b_step_2))
    )
    c_aligned = _aligned(p.c_offset, p.c_group, p.c_split, p.c_row_0, p.c_row_1, p.c_row_2, p.columns)
    if p.bias_offset >= 0:
        c_aligned = c_aligned and _aligned(p.bias_offset)
    if p.mask_offset >= 0:
        c_aligned = c_aligned and _aligned(p.mask_offset, p.mask_row_0, p.mask_row_1, p.mask_row_2)
    tiles = -(-rows.size // tile.rows) * -(-p.columns // tile.columns)
    kernel = product_kernel(tile, by_rows, a_vector, by_terms, b_vector)
    kernel[(tiles, p.groups * p.splits), tile.threads](
        c, a, b, bias, mask, rows, terms, p._replace(c_aligned=int(c_aligned))
    )


def _aligned(*counts: int) -> bool:
    """Whether floats that lie so many apart all start on 16 bytes."""
    return all(count % 4 == 0 for count in counts)


@cache
def product_kernel(tile: Tile, a_by_rows: bool, a_vector: bool, b_by_terms: bool, b_vector: bool):
    """The kernel of one tile. In a, neighbours in memory are neighbouring rows, or else terms; in b terms, or else
    columns. Vectors of four neighbours are read where ``…_vector`` says that they are aligned."""
    tile_rows, tile_columns, thread_rows, thread_columns, depth = tile
    threads = tile.threads
    threads_across = tile_columns // thread_columns
    a_step, b_step = tile_rows + 4, tile_columns + 4  # of a term in shared memory; 4 more: other banks
    a_slice, b_slice = depth * a_step, depth * b_step
    a_floats, b_floats = 2 * a_slice, 2 * b_slice
    a_fetch, a_put, a_count = _loader(tile_rows, depth, threads, True, a_by_rows, a_vector, a_step)
    b_fetch, b_put, b_count = _loader(tile_columns, depth, threads, False, not b_by_terms, b_vector, b_step)
    across_rows = tile_rows * 4 // thread_rows  # between the fours of rows that a thread owns
    across_columns = tile_columns * 4 // thread_columns
    row_fours, column_fours = thread_rows // 4, thread_columns // 4

    @device_function
    def multiply(sums, a_shared, b_shared, a_at, b_at):
        """Adds the products of one term to a thread's block of c."""
        rows = cuda.local.array(thread_rows, float32)
        columns = cuda.local.array(thread_columns, float32)
        for v in range(row_fours):
            rows[4 * v], rows[4 * v + 1], rows[4 * v + 2], rows[4 * v + 3] = load4(a_shared, (a_at + v * across_rows,))
        for v in range(column_fours):
            columns[4 * v], columns[4 * v + 1], columns[4 * v + 2], columns[4 * v + 3] = load4(
                b_shared, (b_at + v * across_columns,)
            )
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] += rows[i] * columns[j]

    @device_function
    def put_row(i, sums, c, bias, mask, row, column, at, bias_at, rows, p):
        """Stores row i of a thread's block. (No loop: one of this size would not be unrolled, and sums with an index
        that is no constant lie in memory.)"""
        if row < rows.size:
            i_0, i_1, i_2 = place_of(row, rows)
            c_at = at[0] + i_0 * p.c_row_0 + i_1 * p.c_row_1 + i_2 * p.c_row_2
            mask_at = at[1] + i_0 * p.mask_row_0 + i_1 * p.mask_row_1 + i_2 * p.mask_row_2
            for v in range(column_fours):
                k = column + v * across_columns
                values = sums[i, 4 * v], sums[i, 4 * v + 1], sums[i, 4 * v + 2], sums[i, 4 * v + 3]
                if p.c_aligned == 1:
                    if k < p.columns:
                        if p.bias_offset >= 0:
                            values = _plus(values, load4(bias, (bias_at + k,)))
                        if p.relu == 1:
                            values = _masked(values, values)
                        if p.mask_offset >= 0:
                            values = _masked(values, load4(mask, (mask_at + k,)))
                        store4(c, (c_at + k,), values)
                else:
                    for j in range(4):
                        if k + j < p.columns:
                            value = sums[i, 4 * v + j]
                            if p.bias_offset >= 0:
                                value += load(bias, bias_at + k + j)
                            if p.relu == 1:
                                value = relu_gradient(value, value)
                            if p.mask_offset >= 0:
                                value = relu_gradient(value, load(mask, mask_at + k + j))
                            store(c, c_at + k + j, value)

    def product(c, a, b, bias, mask, rows, terms, p):
        """Each block owns a tile of c, for one group and one part of the terms; each thread a block of the tile."""
        a_shared = cuda.shared.array(a_floats, float32, alignment=16)
        b_shared = cuda.shared.array(b_floats, float32, alignment=16)
        sums = cuda.local.array((thread_rows, thread_columns), float32)
        a_next = cuda.local.array(a_count, float32)
        b_next = cuda.local.array(b_count, float32)
        for i in range(thread_rows):
            for j in range(thread_columns):
                sums[i, j] = ZERO

        thread = cuda.threadIdx.x
        column_tiles = (p.columns + tile_columns - 1) // tile_columns
        row_tile = cuda.blockIdx.x // column_tiles
        first_row, first_column = row_tile * tile_rows, (cuda.blockIdx.x - row_tile * column_tiles) * tile_columns
        group = cuda.blockIdx.y // p.splits
        split = cuda.blockIdx.y - group * p.splits
        span = ((terms.size + p.splits - 1) // p.splits + depth - 1) // depth * depth
        term, last_term = split * span, min(terms.size, (split + 1) * span)

        a_rows = (rows, p.a_row_0, p.a_row_1, p.a_row_2)
        a_steps = (terms, p.a_step_0, p.a_step_1, p.a_step_2)
        b_columns = (p.columns, p.b_column)
        b_steps = (terms, p.b_step_0, p.b_step_1, p.b_step_2)
        a_start, b_start = p.a_offset + group * p.a_group, p.b_offset + group * p.b_group
        a_at, b_at = thread // threads_across * 4, thread % threads_across * 4

        a_fetch(a_next, a, a_start, thread, first_row, a_rows, term, last_term, a_steps)
        b_fetch(b_next, b, b_start, thread, first_column, b_columns, term, last_term, b_steps)
        buffer = 0
        while term < last_term:
            a_put(a_shared, buffer * a_slice, thread, a_next)
            b_put(b_shared, buffer * b_slice, thread, b_next)
            cuda.syncthreads()
            term += depth
            if term < last_term:
                a_fetch(a_next, a, a_start, thread, first_row, a_rows, term, last_term, a_steps)
                b_fetch(b_next, b, b_start, thread, first_column, b_columns, term, last_term, b_steps)
            a_term, b_term = buffer * a_slice + a_at, buffer * b_slice + b_at
            for _ in range(depth // 4):  # by fours, since the compiler does not unroll a loop of this size
                multiply(sums, a_shared, b_shared, a_term, b_term)
                multiply(sums, a_shared, b_shared, a_term + a_step, b_term + b_step)
                multiply(sums, a_shared, b_shared, a_term + 2 * a_step, b_term + 2 * b_step)
                multiply(sums, a_shared, b_shared, a_term + 3 * a_step, b_term + 3 * b_step)
                a_term += 4 * a_step
                b_term += 4 * b_step
            buffer = 1 - buffer

        at = p.c_offset + group * p.c_group + split * p.c_split, p.mask_offset + group * p.c_group
        first_row += a_at
        first_column += b_at
        bias_at = p.bias_offset + group * p.columns
        put_row(0, sums, c, bias, mask, first_row, first_column, at, bias_at, rows, p)
        put_row(1, sums, c, bias, mask, first_row + 1, first_column, at, bias_at, rows, p)
        put_row(2, sums, c, bias, mask, first_row + 2, first_column, at, bias_at, rows, p)
        put_row(3, sums, c, bias, mask, first_row + 3, first_column, at, bias_at, rows, p)
        if thread_rows == 8:
            first_row += across_rows
            put_row(4, sums, c, bias, mask, first_row, first_column, at, bias_at, rows, p)
            put_row(5, sums, c, bias, mask, first_row + 1, first_column, at, bias_at, rows, p)
            put_row(6, sums, c, bias, mask, first_row + 2, first_column, at, bias_at, rows, p)
            put_row(7, sums, c, bias, mask, first_row + 3, first_column, at, bias_at, rows, p)

    product.__name__ = product.__qualname__ = _name(tile, a_by_rows, a_vector, b_by_terms, b_vector)
    return cuda_kernel(*[float32_1d] * 5, Axes, Axes, Product)(product)


def _name(tile: Tile, *flags: bool) -> str:
    return f"product_{tile.rows}x{tile.columns}_" + "".join(str(int(flag)) for flag in flags)


def _loader(extent, depth, threads, rows, across, vector, step):
    """How threads bring a slice of one operand, ``extent`` lines × ``depth`` terms, to shared memory, where the lines
    of each term lie side by side, ``step`` from term to term.

    Lines are ``rows``, places in three axes, or else columns. ``across``: neighbours in memory are lines, else terms.
    Returns a device function that fetches a thread's fours of neighbours into registers, with zeros where they lie
    outside, one that puts those into shared memory, and how many registers that takes.
    """
    total = extent * depth // 4
    rounds = -(-total // threads)
    fours = extent // 4 if across else depth // 4  # side by side
    whole = total % threads == 0
    offset_of, count_of = (_row_offset, _row_count) if rows else (_column_offset, _column_count)

    @device_function
    def fetch(target, memory, start, thread, first, lines, term, last, steps):
        terms, step_0, step_1, step_2 = steps
        count = count_of(lines)
        for v in range(rounds):
            item = thread + v * threads
            for j in range(4):
                target[4 * v + j] = ZERO
            if whole or item < total:
                if across:
                    k, line = term + item // fours, first + item % fours * 4
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
                    k, line = term + item % fours * 4, first + item // fours
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

    @device_function
    def put(shared, start, thread, source):
        for v in range(rounds):
            item = thread + v * threads
            if whole or item < total:
                if across:
                    at = start + item // fours * step + item % fours * 4
                    store4(shared, (at,), (source[4 * v], source[4 * v + 1], source[4 * v + 2], source[4 * v + 3]))
                else:
                    at = start + item % fours * 4 * step + item // fours
                    for j in range(4):
                        store(shared, at + j * step, source[4 * v + j])

    return fetch, put, 4 * rounds


relu_gradient = scalar_function(scalar.relu_gradient)


@device_function
def _plus(x, y):
    return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]


@device_function
def _masked(x, y):
    """x where y > 0, else 0; where y is NaN, x."""
    return relu_gradient(x[0], y[0]), relu_gradient(x[1], y[1]), relu_gradient(x[2], y[2]), relu_gradient(x[3], y[3])


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
