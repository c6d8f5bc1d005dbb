"""Matrix products over memory as it lies, which all convolutions and dense layers are: implicit GEMM.

c[i,j] = Σ_t a[row(i) + step(t)] · b[step(t) + j], where row(i) and step(t) are the offsets of a place in three axes:
the image, row and column of a pixel, or the row, column and channel of a window. So nothing is copied into columns: in
NHWC inside a halo of zeros, what a pixel's window sees lies at the same distances from it for every pixel.

A block computes a tile of c. Its threads bring a slice of a and of b, some terms deep, to shared memory, in accesses of
16 bytes where four neighbours lie aligned, while each computes its own block of c, 8×8 in the largest tile, from the
slice before (double buffering). Volkov and Demmel 2008, "Benchmarking GPUs to tune dense linear algebra".

That is in float32. ``in_precision`` has the tensor cores do it, on operands of fewer bits: see ``tensor_core_gemm``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

from numbacnn.kernels.cuda.gemm import tensor_core_gemm
from numbacnn.kernels.cuda.gemm.operands import (
    ZERO,
    Axes,
    Product,
    Share,
    fetcher,
    float32,
    part_of_block,
    places_of_row,
    put_value,
    relu_gradient,
    share_of,
    tile_of_block,
)
from numbacnn.kernels.cuda.runtime import backend
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load4, store, store4
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d


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


class Tiles(NamedTuple):
    """Those to choose from."""

    large: Any
    small: Any
    narrow: Any


LARGE, SMALL, NARROW = Tile(128, 128, 8, 8, 8), Tile(64, 64, 4, 4, 16), Tile(128, 16, 4, 4, 8)
if backend.SIMULATED:  # whose threads are Python's
    LARGE, SMALL, NARROW = Tile(16, 16, 8, 8, 4), Tile(8, 8, 4, 4, 4), Tile(16, 4, 4, 4, 4)
FP32 = Tiles(LARGE, SMALL, NARROW)
ENOUGH_BLOCKS = 264  # two for each multiprocessor of a large GPU: with fewer, a smaller tile or more splits
MIN_K = 256  # of a split
MAX_SPLITS = 4096
PARTIAL_FLOATS = 1 << 24  # of all splits' sums together


def choose_tile(rows: int, columns: int, groups: int = 1, tiles: Tiles = FP32) -> Any:
    """By the shape alone, since sums are cut as tiles are."""
    large, small, narrow = tiles
    if columns <= narrow.columns:
        return narrow
    return large if columns > small.columns and _blocks(large, rows, columns, groups) >= ENOUGH_BLOCKS else small


def _blocks(tile: Any, rows: int, columns: int, groups: int) -> int:
    return -(-rows // tile.rows) * -(-columns // tile.columns) * groups


def split_count(rows: int, columns: int, groups: int, terms: int) -> int:
    """Into how many parts the terms of a product of few tiles are cut."""
    tile = LARGE if min(rows, columns) > SMALL.columns else choose_tile(rows, columns)
    wanted = -(-ENOUGH_BLOCKS // _blocks(tile, rows, columns, groups))
    room = PARTIAL_FLOATS // (rows * columns * groups)
    return max(1, min(wanted, -(-terms // MIN_K), room, MAX_SPLITS))


_precision: ContextVar[str] = ContextVar("precision", default="fp32")


@contextmanager
def in_precision(name: str) -> Iterator[None]:
    """Products that are launched meanwhile round their operands to "tf32" or "bf16", for the tensor cores; or not, with
    "fp32"."""
    token = _precision.set(name)
    try:
        yield
    finally:
        _precision.reset(token)


def launch_product(c, a, b, bias, mask, rows: Axes, terms: Axes, p: Product) -> None:
    """Launches a product. c, a, b, bias, mask: flat memory; those not used may be any."""
    by_rows = p.a_row_2 == 1 and p.a_step_2 != 1
    a_vector = _aligned(p.a_offset, p.a_group, p.a_row_0, p.a_row_1, p.a_step_0, p.a_step_1) and _aligned(
        *((rows.inner, p.a_step_2) if by_rows else (terms.inner, p.a_row_2))
    )
    by_terms = p.b_column != 1
    b_vector = _aligned(p.b_offset, p.b_group, p.b_step_0, p.b_step_1) and _aligned(
        *((terms.inner, p.b_column) if by_terms else (p.columns, p.b_step_2))
    )
    flags = by_rows, a_vector, by_terms, b_vector
    shape, precision = (rows.size, p.columns, p.groups * p.splits), _precision.get()
    if precision == "fp32":
        tile = choose_tile(*shape)
        kernel = product_kernel(tile, *flags)
    else:
        tile = choose_tile(*shape, Tiles(*tensor_core_gemm.TILES))
        kernel = tensor_core_gemm.product_kernel(precision, tile, *flags)
    tiles = -(-rows.size // tile.rows) * -(-p.columns // tile.columns)
    kernel[(tiles, p.groups * p.splits), tile.threads](
        c, a, b, bias, mask, rows, terms, p._replace(c_aligned=int(_whole_rows(p)))
    )


def _whole_rows(p: Product) -> bool:
    """Whether rows of c, bias and mask start on 16 bytes, and have whole fours."""
    aligned = _aligned(p.c_offset, p.c_group, p.c_split, p.c_row_0, p.c_row_1, p.c_row_2, p.columns)
    if p.bias_offset >= 0:
        aligned = aligned and _aligned(p.bias_offset)
    if p.mask_offset >= 0:
        aligned = aligned and _aligned(p.mask_offset, p.mask_row_0, p.mask_row_1, p.mask_row_2)
    return aligned


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
    a_share = share_of(tile_rows, depth, threads, a_by_rows)
    b_share = share_of(tile_columns, depth, threads, not b_by_terms)
    a_fetch = fetcher(a_share, threads, True, a_by_rows, a_vector)
    b_fetch = fetcher(b_share, threads, False, not b_by_terms, b_vector)
    a_put = _putter(a_share, threads, a_by_rows, a_step)
    b_put = _putter(b_share, threads, not b_by_terms, b_step)
    a_count, b_count = a_share.registers, b_share.registers
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
            c_at, mask_at = places_of_row(row, rows, at, p)
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
                            k_j = k + j
                            value = sums[i, 4 * v + j]
                            put_value(value, c, bias, mask, c_at + k_j, bias_at + k_j, mask_at + k_j, p)

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
        first_row, first_column = tile_of_block(cuda.blockIdx.x, tile_rows, tile_columns, p)
        group, split, term, last_term = part_of_block(cuda.blockIdx.y, depth, terms, p)
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


def _putter(share: Share, threads: int, across: bool, step: int):
    """A device function that puts a thread's items into shared memory, where the lines of each term lie side by side,
    ``step`` from term to term."""
    rounds, fours, total, whole, _ = share

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

    return put


@device_function
def _plus(x, y):
    return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]


@device_function
def _masked(x, y):
    """x where y > 0, else 0; where y is NaN, x."""
    return relu_gradient(x[0], y[0]), relu_gradient(x[1], y[1]), relu_gradient(x[2], y[2]), relu_gradient(x[3], y[3])
