"""GEMM on the microkernel, in parallel: the compiled kernel of most convolutions, dense layers and gradients.

A ``Gemm`` describes where A, B and C are and how the work is blocked. The loops are BLIS's (Van Zee and van de Geijn
2015, "BLIS: A framework for rapidly instantiating BLAS functionality"): work items of mc×nc of C, chunks of k that keep
A and B in cache, micro-panels of NR columns, and the microkernel's MR rows.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange
from numpy.typing import NDArray

from numbacnn.kernels.cpu.gemm.microkernel import ACCUMULATE, LINE, LoopNest, Tile, gemm_microkernel
from numbacnn.kernels.cpu.gemm.rows import add_row, mask_row
from numbacnn.kernels.cpu.simd.activations import RELU
from numbacnn.kernels.cpu.simd.memory import address, offset, prefetch
from numbacnn.kernels.jit import cpu_kernel, float32_1d, float32_4d, inlined
from numbacnn.kernels.target import host_target

TARGET = host_target()
LANES, MR, NR = TARGET.lanes, TARGET.mr, TARGET.nr
HALF_LANES = max(LANES // 2, 4)
MAX_MC = 8 * MR
CACHED = 3 << 16  # floats of an operand that stay in a second-level cache of 1 MB next to the other one
STREAMS_B = 32  # mode bit that microkernels ignore: B may come from memory
WHOLE_K = 1 << 60  # more steps than any sum has
NO_ADDRESS = np.intp(0)
NO_BIAS = np.empty(0, np.float32)
NO_AUX = np.empty((0, 1, 1, 1), np.float32)

microkernel = gemm_microkernel(MR, 2, LANES, masked=False)
streaming_microkernel = gemm_microkernel(MR, 2, LANES, masked=False, streams_b=True)
narrow_microkernel = gemm_microkernel(MR, 1, LANES, masked=True)
half_microkernel = gemm_microkernel(MR, 1, HALF_LANES, masked=True)
row_microkernel = gemm_microkernel(1, 2, LANES, masked=True)
short_microkernel = gemm_microkernel(MR // 2, 2, LANES, masked=False)


class Rows(NamedTuple):
    """The indirection buffers: offsets in elements of each row of C, A and aux, padded to a multiple of MR.

    Inside the parallel loop the fields hold the addresses of the buffers. ``count`` includes the padding.
    """

    count: int
    c: NDArray[np.int64]
    a: NDArray[np.int64]
    aux: NDArray[np.int64]


class Operand(NamedTuple):
    """Strides in elements: from the start of an array to group 0, between groups, and between micro-panels."""

    offset: int = 0
    group: int = 0
    panel: int = 0


class Epilogue(NamedTuple):
    """The operations on C after the sum over k.

    ``activation``: a bit of ``simd.activations``, or 0. ``accumulate``: add the old C instead of the bias. ``aux``
    (cuBLASLt's term) is an array like C: with ``adds_aux`` it is a residual, added before ReLU; otherwise C becomes 0
    where aux ≤ 0, which is the gradient of a ReLU whose output is aux.
    """

    activation: int = 0
    accumulate: bool = False
    adds_aux: bool = False
    aux_offset: int = 0
    aux_group: int = 0


NO_EPILOGUE = Epilogue()


class Blocking(NamedTuple):
    """A work item computes ``mc`` rows (a multiple of MR) and ``nc`` columns (a multiple of NR) of C.

    One pass over the item sums ``kc_0`` and ``kc_1`` steps of the two outer loops over k. ``prefetch_a`` and
    ``prefetch_b`` floats of every step of the next chunk are prefetched, where steps are too far apart for the hardware
    prefetcher. An item with an aux has one micro-panel. Consecutive items, which a thread takes, are along n; with
    ``rows_first`` along m, so that a thread reads its columns of B once; it prefetches them.
    """

    mc: int
    nc: int = NR
    kc_0: int = WHOLE_K
    kc_1: int = WHOLE_K
    prefetch_a: int = 0
    prefetch_b: int = 0
    rows_first: bool = False


class Gemm(NamedTuple):
    """``groups`` products C = A·B of m×k and k×n that share their indirection buffers.

    Group g sums the steps of k's outermost loop from g·count_0 up to ``k_end``, at most count_0 of them: all of k, or
    the group's share of the images or of their rows. Offsets and strides are in float32 elements.
    """

    groups: int
    m: Rows
    n: int
    k: LoopNest
    k_end: int
    a: Operand
    b: Operand
    c: Operand
    epilogue: Epilogue
    blocking: Blocking


class Pointers(NamedTuple):
    """Addresses of the arrays; 0 for no bias and no aux."""

    c: int
    a: int
    b: int
    bias: int
    aux: int


class Block(NamedTuple):
    """A block of C: rows [first_row, last_row) and columns [first_column, last_column)."""

    first_row: int
    last_row: int
    first_column: int
    last_column: int


def multiply(c, a, b, g, bias=NO_BIAS, aux=NO_AUX):
    """Launch ``gemm``. Numba's parallel loops do not capture nested tuples, so the descriptor is passed by field."""
    gemm(c, a, b, bias, aux, *g)


@cpu_kernel(float32_4d, float32_4d, float32_4d, float32_1d, float32_4d, *Gemm.__annotations__.values())
def gemm(c, a, b, bias, aux, groups, m, n, k, k_end, a_operand, b_operand, c_operand, epilogue, blocking):
    """C = A·B for every group. Each thread owns a range of (group, block of rows, block of columns).

    An empty bias or aux means none.
    """
    p_bias, p_aux = address(bias) if bias.size else NO_ADDRESS, address(aux) if aux.size else NO_ADDRESS
    p = Pointers(address(c), address(a), address(b), p_bias, p_aux)
    rows = Rows(m.count, address(m.c), address(m.a), address(m.aux))
    for item in prange(groups * -(-m.count // blocking.mc) * -(-n // blocking.nc)):
        g = Gemm(groups, rows, n, k, k_end, a_operand, b_operand, c_operand, epilogue, blocking)
        gemm_item(np.intp(item), p, g)


@inlined
def gemm_item(item, p, g):
    """One block of one group's C, summed in chunks of k."""
    k, blocking = g.k, g.blocking
    blocks, row_blocks = -(-g.n // blocking.nc), -(-g.m.count // blocking.mc)
    if blocking.rows_first:
        row, column = item % row_blocks * blocking.mc, item // row_blocks % blocks * blocking.nc
    else:
        column, row = item % blocks * blocking.nc, item // blocks % row_blocks * blocking.mc
    group = item // (blocks * row_blocks)
    block = Block(row, min(row + blocking.mc, g.m.count), column, min(column + blocking.nc, g.n))
    c = p.c + 4 * (g.c.offset + group * g.c.group)
    a = p.a + 4 * (g.a.offset + group * g.a.group)
    b = p.b + 4 * (g.b.offset + group * g.b.group)
    count_0 = min(k.count_0, g.k_end - group * k.count_0)
    for k_0 in range(0, max(count_0, 1), blocking.kc_0):
        for k_1 in range(0, max(k.count_1, 1), blocking.kc_1):
            last = k_0 + blocking.kc_0 >= count_0 and k_1 + blocking.kc_1 >= k.count_1
            activates = last and not g.epilogue.adds_aux  # otherwise after the addition
            mode = ACCUMULATE if g.epilogue.accumulate or k_0 + k_1 > 0 else 0
            mode |= g.epilogue.activation if activates else 0
            mode |= STREAMS_B if blocking.rows_first else 0
            counts = min(blocking.kc_0, count_0 - k_0), min(blocking.kc_1, k.count_1 - k_1)
            chunk = LoopNest(counts[0], counts[1], k.count_2, k.a_0, k.a_1, k.a_2, k.b_0, k.b_1, k.b_2)
            a_here, b_here = a + 4 * (k_0 * k.a_0 + k_1 * k.a_1), b + 4 * (k_0 * k.b_0 + k_1 * k.b_1)
            here = Pointers(c, a_here, b_here, p.bias, p.aux)
            prefetches = blocking.prefetch_a + blocking.prefetch_b > 0 and not last
            gemm_chunk(block, here, mode, prefetches, k_1 + blocking.kc_1 < k.count_1, chunk, g)
    if p.aux != NO_ADDRESS:
        _apply_aux(block, c, p.aux + 4 * (g.epilogue.aux_offset + group * g.epilogue.aux_group), g)


@inlined
def gemm_chunk(block, p, mode, prefetches, next_is_inner, chunk, g):
    """One chunk's share of a block.

    ``prefetches``: each tile prefetches an equal part of the next chunk, along the inner or the outer loop over k.
    """
    step = MR if prefetches else g.blocking.mc
    tiles = -(-(block.last_row - block.first_row) // MR) * -(-(block.last_column - block.first_column) // NR)
    steps, done = chunk.count_0 * chunk.count_1 * chunk.count_2, 0
    k, kc_0, kc_1 = g.k, g.blocking.kc_0, g.blocking.kc_1
    a_next, b_next = kc_1 * k.a_1, kc_1 * k.b_1
    if not next_is_inner:
        last_1 = (k.count_1 - 1) // kc_1 * kc_1
        a_next, b_next = kc_0 * k.a_0 - last_1 * k.a_1, kc_0 * k.b_0 - last_1 * k.b_1
    a_next = p.a + 4 * (a_next + offset(g.m.a, block.first_row))
    b_next = p.b + 4 * (b_next + block.first_column // NR * g.b.panel)
    for column in range(block.first_column, block.last_column, NR):
        panel, n = column // NR, min(NR, block.last_column - column)
        c, b, bias = p.c + 4 * panel * g.c.panel, p.b + 4 * panel * g.b.panel, shift(p.bias, column)
        tile = Tile(c, g.m.c, p.a, g.m.a, b, bias)
        for row in range(block.first_row, block.last_row, step):
            gemm_rows(row, min(row + step, block.last_row), tile, n, mode, chunk)
            if prefetches:
                _prefetch_steps(steps * done // tiles, steps * (done + 1) // tiles, a_next, b_next, chunk, g.blocking)
                done += 1


@inlined
def _prefetch_steps(first, last, a, b, k, blocking):
    """Prefetch A and B of steps [first, last) of a chunk, one run of the innermost loop after another."""
    while first < last:
        k_0, k_1, k_2 = first // k.count_2 // k.count_1, first // k.count_2 % k.count_1, first % k.count_2
        a_step = a + 4 * (k_0 * k.a_0 + k_1 * k.a_1 + k_2 * k.a_2)
        b_step = b + 4 * (k_0 * k.b_0 + k_1 * k.b_1 + k_2 * k.b_2)
        end = min(last, first + k.count_2 - k_2)
        _prefetch_rows(a_step, 4 * k.a_2, end - first, blocking.prefetch_a)
        _prefetch_rows(b_step, 4 * k.b_2, end - first, blocking.prefetch_b)
        first = end


@inlined
def _prefetch_rows(row, step, rows, floats):
    """Prefetch ``floats`` of each of several rows, ``step`` bytes apart."""
    for _ in range(rows):
        for line in range(0, floats, LINE):
            prefetch(row + 4 * line)
        row += step


@inlined
def _apply_aux(block, c, aux, g):
    """Add the aux to a block of one micro-panel that is still in cache, or zero C where it is 0 or less; NaN passes."""
    column = block.first_column
    c, aux, columns = c + 4 * (column // NR * g.c.panel), aux + 4 * column, block.last_column - column
    for i in range(block.first_row, block.last_row):
        row, aux_row = c + 4 * offset(g.m.c, i), aux + 4 * offset(g.m.aux, i)
        if not g.epilogue.adds_aux:
            mask_row(row, row, aux_row, columns)
        elif i == block.first_row or offset(g.m.c, i) != offset(g.m.c, i - 1):  # the padding repeats the last row
            add_row(row, aux_row, columns, g.epilogue.activation == RELU)


@inlined
def gemm_rows(first, last, tile, n, mode, k):
    """Rows [first, last) of one micro-panel of C; ``first`` is a multiple of MR."""
    if last - first >= MR and offset(tile.c_rows, last - MR) == offset(tile.c_rows, last - 1):
        last -= MR  # one row and its padding, as in a batch of one
        row_microkernel(tile, last, n, mode, k)
    done = 0
    if n == NR:
        is_short = last - first >= MR and offset(tile.c_rows, last - MR // 2 - 1) == offset(tile.c_rows, last - 1)
        whole = last - MR if is_short else last
        for i in range(first, whole, MR):
            if mode & STREAMS_B:
                streaming_microkernel(tile, i, n, mode, k)
            else:
                microkernel(tile, i, n, mode, k)
        if is_short:  # at least half of the last rows are padding
            short_microkernel(tile, whole, n, mode, k)
        done = n
    while n > done:
        left = n - done
        strip = Tile(tile.c + 4 * done, tile.c_rows, tile.a, tile.a_rows, tile.b + 4 * done, shift(tile.bias, done))
        if left > HALF_LANES:
            for i in range(first, last, MR):
                narrow_microkernel(strip, i, left, mode, k)
        else:
            for i in range(first, last, MR):
                half_microkernel(strip, i, left, mode, k)
        done += LANES


@inlined
def shift(address, count):
    """Advance an address by ``count`` floats; NO_ADDRESS stays NO_ADDRESS."""
    return address + 4 * count if address != NO_ADDRESS else NO_ADDRESS


def rows(c, a, aux=None):
    """Make ``Rows`` from indirection buffers; C's is also that of aux if none is given."""
    return Rows(c.size, c, a, c if aux is None else aux)


@lru_cache(maxsize=4096)
def row_table(*axes):
    """An indirection buffer: the sums over ``axes`` of (count, stride), the last axis fastest, as int64.

    The last row is repeated up to a multiple of MR: a microkernel then computes it again and stores the same bits.
    """
    table = np.zeros(1, np.int64)
    for count, stride in axes:
        table = (table[:, None] + np.arange(count, dtype=np.int64) * stride).ravel()
    return pad_rows(table)


def pad_rows(table):
    """An indirection buffer padded to a multiple of MR by its last row."""
    return np.pad(table, (0, -table.size % MR), mode="edge")


def blocking_of(rows, columns, groups, a_size, b_size):
    """Return the blocking of ``groups`` products that each read all of B, one micro-panel an item.

    ``a_size``, ``b_size``: floats of A, as stored, of one product, and of B. The items are along m if that reads much
    less: along n, every block of rows reads B again, along m every panel A, unless they stay in cache.
    """
    panels = -(-columns // NR)
    mc = choose_mc(rows, groups * panels)
    along_n = a_size + (-(-rows // mc) if b_size > CACHED else 1) * b_size
    along_m = b_size + (panels if a_size > CACHED else 1) * a_size
    return Blocking(mc, rows_first=4 * along_m < 3 * along_n)


def choose_mc(rows, items):
    """Rows of a work item: up to MAX_MC, fewer if that leaves under 64 items. ``items``: those per block of rows."""
    tiles = -(-rows // MR)
    return MR * max(1, min(MAX_MC // MR, tiles * items // 64))
