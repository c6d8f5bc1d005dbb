"""GEMM of all convolutions and dense layers: choice of tile and kernel, and the kernels for float32.

In float32, each thread of a block multiplies its own block of C, 8×8 in the largest tile. ``in_precision`` selects
tensor cores instead: see ``tensor_core_gemm``.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple

from numbacnn.kernels.cuda.gemm import tensor_core_gemm
from numbacnn.kernels.cuda.gemm.descriptor import Access, Gemm, access, aligned_output
from numbacnn.kernels.cuda.gemm.loads import OperandLoader, ThreadMap, fetcher, float32, get4, put4, thread_map
from numbacnn.kernels.cuda.gemm.mainloop import (
    TileMath,
    TileShape,
    gemm_kernel,
    relu_gradient,
    row_offsets,
    store_element,
)
from numbacnn.kernels.cuda.runtime import backend
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load4, store, store4
from numbacnn.kernels.cuda.runtime.jit import CudaKernel


class Tile(NamedTuple):
    """Rows and columns of C that a block owns, and that a thread owns; steps of k of a slice in shared memory."""

    rows: int
    columns: int
    thread_rows: int
    thread_columns: int
    depth: int

    @property
    def threads(self) -> int:
        """Threads per block."""
        return self.rows // self.thread_rows * (self.columns // self.thread_columns)


class Tiles(NamedTuple):
    """The tiles to choose from."""

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
PARTIAL_FLOATS = 1 << 24  # of the partial sums of all splits


def choose_tile(m: int, n: int, groups: int = 1, tiles: Tiles = FP32) -> Any:
    """Return a tile that depends only on the shape, since sums are split by it."""
    large, small, narrow = tiles
    if n <= narrow.columns:
        return narrow
    return large if n > small.columns and _blocks(large, m, n, groups) >= ENOUGH_BLOCKS else small


def _blocks(tile: Any, m: int, n: int, groups: int) -> int:
    return -(-m // tile.rows) * -(-n // tile.columns) * groups


def split_count(m: int, n: int, groups: int, k: int) -> int:
    """Return the number of partial sums to cut k into, for a C of few tiles (split-K)."""
    tile = LARGE if min(m, n) > SMALL.columns else choose_tile(m, n)
    needed = -(-ENOUGH_BLOCKS // _blocks(tile, m, n, groups))
    room = PARTIAL_FLOATS // (m * n * groups)
    return max(1, min(needed, -(-k // MIN_K), room, MAX_SPLITS))


_precision: ContextVar[str] = ContextVar("precision", default="fp32")


@contextmanager
def in_precision(name: str) -> Iterator[None]:
    """Within this context, GEMMs round their operands to "tf32" or "bf16", for tensor cores; or not, with "fp32"."""
    token = _precision.set(name)
    try:
        yield
    finally:
        _precision.reset(token)


def multiply(c, a, b, g: Gemm, bias=None, mask=None) -> None:
    """Launch a GEMM. Its offsets count from the start of each array's memory."""
    a_access = access(g.a, g.m.inner.divisor, g.k.inner.divisor)
    b_access = access(g.b, g.n, g.k.inner.divisor)
    shape, precision = (g.m.size, g.n, g.groups * g.splits), _precision.get()
    if precision == "fp32":
        tile = choose_tile(*shape)
        kernel = fp32_kernel(tile, a_access, b_access)
    else:
        tile = choose_tile(*shape, Tiles(*tensor_core_gemm.TILES))
        kernel = tensor_core_gemm.tensor_core_kernel(precision, tile, a_access, b_access)
    arrays = (array.flat() for array in (c, a, b, c if bias is None else bias, c if mask is None else mask))
    grid = -(-g.m.size // tile.rows) * -(-g.n // tile.columns), g.groups * g.splits
    kernel[grid, tile.threads](*arrays, g._replace(aligned=aligned_output(g)))


# -- float32 ----------------------------------------------------------------------------------------------------------


@cache
def fp32_kernel(tile: Tile, a: Access, b: Access) -> CudaKernel:
    """Return the kernel of a tile, with operands loaded as ``a`` and ``b`` say."""
    shape = TileShape(tile.rows, tile.columns, tile.depth)
    flags = "".join(str(int(flag)) for flag in (*a, *b))
    name = f"gemm_{tile.rows}x{tile.columns}_{flags}"
    return gemm_kernel(name, shape, _loader(tile, a, True), _loader(tile, b, False), _math(tile))


def _pitch(extent: int) -> int:
    """Return the distance of steps of k in shared memory: four more than the extent avoids bank conflicts."""
    return extent + 4


def _loader(tile: Tile, access: Access, is_a: bool) -> OperandLoader:
    extent = tile.rows if is_a else tile.columns
    items = thread_map(extent, tile.depth, tile.threads, access.k_major)
    put = _putter(items, access.k_major, _pitch(extent))
    return OperandLoader(fetcher(items, is_a, access), put, items.registers, tile.depth * _pitch(extent))


def _putter(thread_map: ThreadMap, k_major: bool, pitch: int) -> Any:
    """Return ``put`` of ``OperandLoader``: in shared memory, the rows or columns of a step of k are contiguous."""
    threads, iterations, contiguous, items, exact, *_ = thread_map

    @device_function
    def put(shared, start, registers):
        for v in range(iterations):
            item = cuda.threadIdx.x + v * threads
            if exact or item < items:
                along, line = item % contiguous, item // contiguous
                if k_major:
                    for j in range(4):
                        store(shared, start + along * 4 * pitch + line + j * pitch, registers[4 * v + j])
                else:
                    store4(shared, (start + line * pitch + along * 4,), get4(registers, 4 * v))

    return put


def _math(tile: Tile) -> TileMath:
    """Return the multiplication of two slices by a thread, whose rows and columns are in runs of four."""
    rows, columns = tile.thread_rows, tile.thread_columns
    threads_across, depth = tile.columns // columns, tile.depth
    a_pitch, b_pitch = _pitch(tile.rows), _pitch(tile.columns)
    row_run, column_run = tile.rows * 4 // rows, tile.columns * 4 // columns  # from a thread's run to its next one

    @device_function
    def multiply_step(accumulators, a_shared, b_shared, a_at, b_at):
        """Add the outer product of one step of k."""
        a_fragment = cuda.local.array(rows, float32)
        b_fragment = cuda.local.array(columns, float32)
        for v in range(rows // 4):
            put4(a_fragment, 4 * v, load4(a_shared, (a_at + v * row_run,)))
        for v in range(columns // 4):
            put4(b_fragment, 4 * v, load4(b_shared, (b_at + v * column_run,)))
        for i in range(rows):
            for j in range(columns):
                accumulators[i * columns + j] += a_fragment[i] * b_fragment[j]

    @device_function
    def multiply(accumulators, a_shared, b_shared, a_start, b_start):
        a_at = a_start + cuda.threadIdx.x // threads_across * 4
        b_at = b_start + cuda.threadIdx.x % threads_across * 4
        for _ in range(depth // 4):  # unrolled by hand: the compiler does not unroll a loop of this size
            multiply_step(accumulators, a_shared, b_shared, a_at, b_at)
            multiply_step(accumulators, a_shared, b_shared, a_at + a_pitch, b_at + b_pitch)
            multiply_step(accumulators, a_shared, b_shared, a_at + 2 * a_pitch, b_at + 2 * b_pitch)
            multiply_step(accumulators, a_shared, b_shared, a_at + 3 * a_pitch, b_at + 3 * b_pitch)
            a_at += 4 * a_pitch
            b_at += 4 * b_pitch

    return TileMath(rows * columns, multiply, _storer(tile, row_run, column_run))


def _storer(tile: Tile, row_run: int, column_run: int) -> Any:
    """Return ``store`` of ``TileMath``."""
    rows, columns, threads_across = tile.thread_rows, tile.thread_columns, tile.columns // tile.thread_columns

    @device_function
    def store_row(i, accumulators, arrays, tile, g):
        row = tile.row + cuda.threadIdx.x // threads_across * 4 + i // 4 * row_run + i % 4
        if row < g.m.size:
            offsets = row_offsets(row, tile, g)
            for v in range(columns // 4):
                column = tile.column + cuda.threadIdx.x % threads_across * 4 + v * column_run
                first = i * columns + 4 * v
                if g.aligned:
                    if column < g.n:
                        _store_vector(get4(accumulators, first), arrays, offsets, column, tile, g)
                else:
                    for j in range(4):
                        if column + j < g.n:
                            store_element(accumulators[first + j], arrays, offsets, column + j, tile, g)

    @device_function
    def store_tile(accumulators, arrays, tile, g):
        """Unrolled by hand: accumulators indexed by a variable would be in local memory."""
        store_row(0, accumulators, arrays, tile, g)
        store_row(1, accumulators, arrays, tile, g)
        store_row(2, accumulators, arrays, tile, g)
        store_row(3, accumulators, arrays, tile, g)
        if rows == 8:
            store_row(4, accumulators, arrays, tile, g)
            store_row(5, accumulators, arrays, tile, g)
            store_row(6, accumulators, arrays, tile, g)
            store_row(7, accumulators, arrays, tile, g)

    return store_tile


@device_function
def _store_vector(values, arrays, offsets, column, tile, g):
    """``store_element`` of four elements."""
    c, bias, mask = arrays
    if g.epilogue.bias >= 0:
        values = _add4(values, load4(bias, (tile.bias + column,)))
    if g.epilogue.relu:
        values = _mask4(values, values)
    if g.epilogue.mask >= 0:
        values = _mask4(values, load4(mask, (offsets[1] + column,)))
    store4(c, (offsets[0] + column,), values)


@device_function
def _add4(x, y):
    return x[0] + y[0], x[1] + y[1], x[2] + y[2], x[3] + y[3]


@device_function
def _mask4(x, y):
    return relu_gradient(x[0], y[0]), relu_gradient(x[1], y[1]), relu_gradient(x[2], y[2]), relu_gradient(x[3], y[3])
