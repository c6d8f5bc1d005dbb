"""GEMM on tensor cores: operands rounded to tf32 or bf16, accumulators in float32.

Threads round operands when they store them in shared memory, in words of ``tensor_cores``. Each warp multiplies its
part of the block's tile, 64×32 in the largest, 16×8 in an instruction.

In shared memory an operand keeps the order of global memory: words of consecutive k, or rows of A and columns of B, are
contiguous. Padding keeps 16-byte stores and the fragments of a warp free of bank conflicts.
"""

from functools import cache
from typing import Any, NamedTuple

from numbacnn.kernels.cuda.gemm.descriptor import Access
from numbacnn.kernels.cuda.gemm.loads import OperandLoader, ThreadMap, fetcher, float32, get4, put4, thread_map
from numbacnn.kernels.cuda.gemm.mainloop import TileMath, TileShape, gemm_kernel, row_offsets, store_element
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
from numbacnn.kernels.cuda.runtime.jit import CudaKernel


class WarpTile(NamedTuple):
    """Rows and columns of C that a block owns, and that a warp owns; words of k of a slice in shared memory."""

    rows: int
    columns: int
    warp_rows: int
    warp_columns: int
    words: int

    @property
    def threads(self) -> int:
        """Threads per block."""
        return WARP * (self.rows // self.warp_rows) * (self.columns // self.warp_columns)


TILES = WarpTile(128, 128, 64, 32, 16), WarpTile(64, 64, 32, 32, 16), WarpTile(128, 16, 32, 16, 16)
if backend.SIMULATED:  # whose threads are Python's
    TILES = WarpTile(32, 16, 16, 16, 8), WarpTile(16, 8, 16, 8, 8), WarpTile(16, 8, 16, 8, 8)


class SharedLayout(NamedTuple):
    """The stride of rows of A or columns of B in shared memory, the stride of words along k, and the size."""

    mn: int
    word: int
    size: int


def shared_layout(extent: int, words: int, k_major: bool) -> SharedLayout:
    """Return the layout of ``extent`` rows of A or columns of B.

    The strides are 20 or 8 modulo the 32 banks in the largest tiles, so that the 8×4 words in one register of a
    fragment are in different banks.
    """
    if k_major:
        return SharedLayout(words + 4, 1, extent * (words + 4))
    return SharedLayout(1, extent + 8, words * (extent + 8))


@cache
def tensor_core_kernel(precision: str, tile: WarpTile, a: Access, b: Access) -> CudaKernel:
    """Return the kernel of a tile for "tf32" or "bf16", with operands loaded as ``a`` and ``b`` say."""
    form = WORDS_OF[precision]
    layouts = shared_layout(tile.rows, tile.words, a.k_major), shared_layout(tile.columns, tile.words, b.k_major)
    loaders = _loader(tile, form, a, True, layouts[0]), _loader(tile, form, b, False, layouts[1])
    shape = TileShape(tile.rows, tile.columns, tile.words * form.elements)
    flags = "".join(str(int(flag)) for flag in (*a, *b))
    name = f"gemm_{precision}_{tile.rows}x{tile.columns}_{flags}"
    return gemm_kernel(name, shape, *loaders, _math(tile, form.mma, *layouts), min_capability=MIN_CAPABILITY)


def _loader(tile: WarpTile, form: Words, access: Access, is_a: bool, layout: SharedLayout) -> OperandLoader:
    extent, depth = tile.rows if is_a else tile.columns, tile.words * form.elements
    items = thread_map(extent, depth, tile.threads, access.k_major, form.elements)
    put = _putter(items, access.k_major, form, layout.mn if access.k_major else layout.word)
    return OperandLoader(fetcher(items, is_a, access), put, items.registers, layout.size)


def _putter(thread_map: ThreadMap, k_major: bool, form: Words, pitch: int) -> Any:
    """Return ``put`` of ``OperandLoader``: it rounds items to four words each. ``pitch`` is the larger stride."""
    threads, iterations, contiguous, items, exact, elements, _ = thread_map
    pack = form.pack

    @device_function
    def word(registers, i, j):
        """Word j of the item in registers i …: its elements are neighbors in memory if ``k_major``, else four apart."""
        if elements == 1:
            return pack((registers[i + j],))
        if k_major:
            return pack((registers[i + 2 * j], registers[i + 2 * j + 1]))
        return pack((registers[i + j], registers[i + 4 + j]))

    @device_function
    def put(shared, start, registers):
        for v in range(iterations):
            item, i = cuda.threadIdx.x + v * threads, 4 * elements * v
            if exact or item < items:
                at = start + item // contiguous * pitch + item % contiguous * 4
                values = word(registers, i, 0), word(registers, i, 1), word(registers, i, 2), word(registers, i, 3)
                store4(shared, (at,), values)

    return put


def _math(tile: WarpTile, mma: Any, a_layout: SharedLayout, b_layout: SharedLayout) -> TileMath:
    """Return the multiplication of two slices by a warp."""
    a_row, a_word, _ = a_layout
    b_column, b_word, _ = b_layout
    parts, column_parts = tile.warp_rows // ROWS, tile.warp_columns // COLUMNS
    warps_across, warp_rows, warp_columns = tile.columns // tile.warp_columns, tile.warp_rows, tile.warp_columns
    words, b_registers = tile.words, column_parts * B_REGISTERS

    @device_function
    def load_a(shared, start, register):
        row, word = a_fragment(cuda.threadIdx.x % WARP, register)
        return load(shared, start + row * a_row + word * a_word)

    @device_function
    def load_b(shared, start, register):
        word, column = b_fragment(cuda.threadIdx.x % WARP, register)
        return load(shared, start + word * b_word + column * b_column)

    @device_function
    def multiply_words(accumulators, a_shared, b_shared, a_at, b_at):
        """Add the product of the eight words of k of one instruction."""
        b = cuda.local.array(b_registers, float32)
        for j in range(column_parts):
            b[2 * j] = load_b(b_shared, b_at + j * COLUMNS * b_column, 0)
            b[2 * j + 1] = load_b(b_shared, b_at + j * COLUMNS * b_column, 1)
        for i in range(parts):
            at = a_at + i * ROWS * a_row
            a_0, a_1 = load_a(a_shared, at, 0), load_a(a_shared, at, 1)
            a_2, a_3 = load_a(a_shared, at, 2), load_a(a_shared, at, 3)
            for j in range(column_parts):
                s = (i * column_parts + j) * 4
                c = get4(accumulators, s)
                put4(accumulators, s, mma((a_0, a_1, a_2, a_3, b[2 * j], b[2 * j + 1], c[0], c[1], c[2], c[3])))

    @device_function
    def multiply(accumulators, a_shared, b_shared, a_start, b_start):
        warp = cuda.threadIdx.x // WARP
        a_at = a_start + warp // warps_across * warp_rows * a_row
        b_at = b_start + warp % warps_across * warp_columns * b_column
        for _ in range(words // WORDS):
            multiply_words(accumulators, a_shared, b_shared, a_at, b_at)
            a_at += WORDS * a_word
            b_at += WORDS * b_word

    return TileMath(parts * column_parts * C_REGISTERS, multiply, _storer(tile, parts, column_parts))


def _storer(tile: WarpTile, parts: int, column_parts: int) -> Any:
    """Return ``store`` of ``TileMath``."""
    warps_across, warp_rows, warp_columns = tile.columns // tile.warp_columns, tile.warp_rows, tile.warp_columns

    @device_function
    def store_row(i, half, accumulators, arrays, tile, g):
        """Store the lane's elements in a row of part i: registers 0 and 1 of C, or in the lower half 2 and 3."""
        warp, lane = cuda.threadIdx.x // WARP, cuda.threadIdx.x % WARP
        row = tile.row + warp // warps_across * warp_rows + i * ROWS + c_fragment(lane, 2 * half)[0]
        if row < g.m.size:
            offsets = row_offsets(row, tile, g)
            for j in range(column_parts):
                for register in range(2):
                    column = tile.column + warp % warps_across * warp_columns + j * COLUMNS
                    column += c_fragment(lane, register)[1]
                    if column < g.n:
                        value = accumulators[(i * column_parts + j) * 4 + 2 * half + register]
                        store_element(value, arrays, offsets, column, tile, g)

    @device_function
    def store_tile(accumulators, arrays, tile, g):
        """Unrolled by hand: accumulators indexed by a variable would be in local memory."""
        store_row(0, 0, accumulators, arrays, tile, g)
        store_row(0, 1, accumulators, arrays, tile, g)
        if parts > 1:
            store_row(1, 0, accumulators, arrays, tile, g)
            store_row(1, 1, accumulators, arrays, tile, g)
        if parts > 2:
            store_row(2, 0, accumulators, arrays, tile, g)
            store_row(2, 1, accumulators, arrays, tile, g)
            store_row(3, 0, accumulators, arrays, tile, g)
            store_row(3, 1, accumulators, arrays, tile, g)

    return store_tile
