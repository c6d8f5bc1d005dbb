"""Matrix products on tensor cores: ``product.py``'s, of operands rounded to tf32 or bf16, with sums in float32.

A block computes a tile of c as there. Its threads round what they fetched when they put it into shared memory, in
words of ``tensor_cores``; each warp multiplies its part of the tile, 64×32 in the largest, 16×8 in an instruction.

In shared memory an operand lies as it does in the device's: the lines of a word side by side, or the words of a line,
with so many between one and the next that neither the 16 bytes of threads that put, nor the fragments of a warp meet
in a bank.
"""

from functools import cache
from typing import Any, NamedTuple

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
    share_of,
    tile_of_block,
)
from numbacnn.kernels.cuda.gemm.tensor_cores import (
    B_REGISTERS,
    C_REGISTERS,
    COLUMNS,
    MIN_CAPABILITY,
    ROWS,
    WARP,
    WORDS,
    WORDS_OF,
    Words,
    a_fragment,
    b_fragment,
    c_fragment,
)
from numbacnn.kernels.cuda.runtime import backend
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load, store4
from numbacnn.kernels.cuda.runtime.jit import cuda_kernel, float32_1d


class WarpTile(NamedTuple):
    """A block's share of c, a warp's share of that, and how many words of each line lie in shared memory at a time."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    words: int

    @property
    def threads(self) -> int:
        """Of a block."""
        return WARP * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)


TILES = WarpTile(128, 128, 64, 32, 16), WarpTile(64, 64, 32, 32, 16), WarpTile(128, 16, 32, 16, 16)
if backend.SIMULATED:  # whose threads are Python's
    TILES = WarpTile(32, 16, 16, 16, 8), WarpTile(16, 8, 16, 8, 8), WarpTile(16, 8, 16, 8, 8)


class SharedLayout(NamedTuple):
    """Where words lie in shared memory: from line to line, from word to word, and in all."""

    line: int
    word: int
    size: int


def layout_of(extent: int, words: int, across: bool) -> SharedLayout:
    """Of ``extent`` lines, side by side where ``across``. The steps, 8 and 20 modulo the 32 banks in the largest tiles,
    have the 8×4 words of a fragment's register in 32 of them."""
    if across:
        return SharedLayout(1, extent + 8, words * (extent + 8))
    return SharedLayout(words + 4, 1, extent * (words + 4))


@cache
def product_kernel(
    precision: str, tile: WarpTile, a_by_rows: bool, a_vector: bool, b_by_terms: bool, b_vector: bool
) -> Any:
    """The kernel of one tile, for "tf32" or "bf16". The flags are those of ``product.product_kernel``."""
    form = WORDS_OF[precision]
    tile_rows, tile_columns, warp_rows, warp_columns, words = tile
    threads, depth, mma = tile.threads, words * form.elements, form.mma
    warps_across = tile_columns // warp_columns
    row_parts, column_parts = warp_rows // ROWS, warp_columns // COLUMNS
    a_line, a_word, a_slice = layout_of(tile_rows, words, a_by_rows)
    b_line, b_word, b_slice = layout_of(tile_columns, words, not b_by_terms)
    a_size, b_size = 2 * a_slice, 2 * b_slice
    a_share = share_of(tile_rows, depth, threads, a_by_rows, form.elements)
    b_share = share_of(tile_columns, depth, threads, not b_by_terms, form.elements)
    a_fetch = fetcher(a_share, threads, True, a_by_rows, a_vector, form.elements)
    b_fetch = fetcher(b_share, threads, False, not b_by_terms, b_vector, form.elements)
    a_put = _putter(a_share, threads, a_by_rows, form, a_word if a_by_rows else a_line)
    b_put = _putter(b_share, threads, not b_by_terms, form, b_line if b_by_terms else b_word)
    a_count, b_count = a_share.registers, b_share.registers
    accumulators, b_registers = row_parts * column_parts * C_REGISTERS, column_parts * B_REGISTERS
    step_rows, step_columns, step_a, step_b = ROWS * a_line, COLUMNS * b_line, WORDS * a_word, WORDS * b_word

    @device_function
    def a_at(lane, register):
        row, word = a_fragment(lane, register)
        return row * a_line + word * a_word

    @device_function
    def b_at(lane, register):
        word, column = b_fragment(lane, register)
        return word * b_word + column * b_line

    @device_function
    def multiply(sums, a_shared, b_shared, a_start, b_start, lane):
        """Adds the products of eight words to a warp's part of c."""
        columns = cuda.local.array(b_registers, float32)
        for j in range(column_parts):
            columns[2 * j] = load(b_shared, b_start + b_at(lane, 0) + j * step_columns)
            columns[2 * j + 1] = load(b_shared, b_start + b_at(lane, 1) + j * step_columns)
        for i in range(row_parts):
            at = a_start + i * step_rows
            a_0, a_1 = load(a_shared, at + a_at(lane, 0)), load(a_shared, at + a_at(lane, 1))
            a_2, a_3 = load(a_shared, at + a_at(lane, 2)), load(a_shared, at + a_at(lane, 3))
            for j in range(column_parts):
                s, b_0, b_1 = (i * column_parts + j) * 4, columns[2 * j], columns[2 * j + 1]
                sums[s], sums[s + 1], sums[s + 2], sums[s + 3] = mma(
                    (a_0, a_1, a_2, a_3, b_0, b_1, sums[s], sums[s + 1], sums[s + 2], sums[s + 3])
                )

    @device_function
    def put_row(i, half, sums, c, bias, mask, row, column, lane, at, bias_at, rows, p):
        """Stores what a lane has of a row of part i of its warp: c's registers 0 and 1, or in the other half 2 and 3.
        (No loop over rows, as in ``product``.)"""
        place, _ = c_fragment(lane, 2 * half)
        row += i * ROWS + place
        if row < rows.size:
            c_at, mask_at = places_of_row(row, rows, at, p)
            for j in range(column_parts):
                for register in range(2):
                    _, place = c_fragment(lane, register)
                    k = column + j * COLUMNS + place
                    if k < p.columns:
                        value = sums[(i * column_parts + j) * 4 + 2 * half + register]
                        put_value(value, c, bias, mask, c_at + k, bias_at + k, mask_at + k, p)

    def product(c, a, b, bias, mask, rows, terms, p):
        """Each block owns a tile of c, for one group and one part of the terms; each warp a part of the tile."""
        a_shared = cuda.shared.array(a_size, float32, alignment=16)
        b_shared = cuda.shared.array(b_size, float32, alignment=16)
        sums = cuda.local.array(accumulators, float32)
        a_next = cuda.local.array(a_count, float32)
        b_next = cuda.local.array(b_count, float32)
        for i in range(accumulators):
            sums[i] = ZERO

        thread = cuda.threadIdx.x
        warp, lane = thread // WARP, thread % WARP
        first_row, first_column = tile_of_block(cuda.blockIdx.x, tile_rows, tile_columns, p)
        group, split, term, last_term = part_of_block(cuda.blockIdx.y, depth, terms, p)
        a_rows = (rows, p.a_row_0, p.a_row_1, p.a_row_2)
        a_steps = (terms, p.a_step_0, p.a_step_1, p.a_step_2)
        b_columns = (p.columns, p.b_column)
        b_steps = (terms, p.b_step_0, p.b_step_1, p.b_step_2)
        a_start, b_start = p.a_offset + group * p.a_group, p.b_offset + group * p.b_group
        warp_row, warp_column = warp // warps_across * warp_rows, warp % warps_across * warp_columns

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
            a_part, b_part = buffer * a_slice + warp_row * a_line, buffer * b_slice + warp_column * b_line
            for _ in range(words // WORDS):
                multiply(sums, a_shared, b_shared, a_part, b_part, lane)
                a_part += step_a
                b_part += step_b
            buffer = 1 - buffer

        at = p.c_offset + group * p.c_group + split * p.c_split, p.mask_offset + group * p.c_group
        first_row += warp_row
        first_column += warp_column
        bias_at = p.bias_offset + group * p.columns
        put_row(0, 0, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
        put_row(0, 1, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
        if row_parts > 1:
            put_row(1, 0, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
            put_row(1, 1, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
        if row_parts > 2:
            put_row(2, 0, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
            put_row(2, 1, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
            put_row(3, 0, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)
            put_row(3, 1, sums, c, bias, mask, first_row, first_column, lane, at, bias_at, rows, p)

    flags = "".join(str(int(flag)) for flag in (a_by_rows, a_vector, b_by_terms, b_vector))
    product.__name__ = product.__qualname__ = f"product_{precision}_{tile_rows}x{tile_columns}_{flags}"
    return cuda_kernel(*[float32_1d] * 5, Axes, Axes, Product, min_capability=MIN_CAPABILITY)(product)


def _putter(share: Share, threads: int, across: bool, form: Words, step: int):
    """A device function that rounds a thread's items and puts them into shared memory, each as four words: ``step`` is
    from word to word where lines lie side by side (``across``), else from line to line."""
    rounds, fours, total, whole, _ = share
    pack, terms = form.pack, form.elements

    @device_function
    def word(source, at, j):
        """Of an item, of which a four is of one term, or else four terms."""
        if terms == 1:
            return pack((source[at + j],))
        if across:
            return pack((source[at + j], source[at + 4 + j]))
        return pack((source[at + 2 * j], source[at + 2 * j + 1]))

    @device_function
    def put(shared, start, thread, source):
        for v in range(rounds):
            item, at = thread + v * threads, 4 * terms * v
            if whole or item < total:
                place = start + item // fours * step + item % fours * 4
                values = word(source, at, 0), word(source, at, 1), word(source, at, 2), word(source, at, 3)
                store4(shared, (place,), values)

    return put
