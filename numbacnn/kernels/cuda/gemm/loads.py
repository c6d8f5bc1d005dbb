"""Loads of operands: the threads of a block copy a slice of A or B from global memory to registers.

A slice has ``extent`` rows of A or columns of B, and some steps of k. Stores to shared memory depend on the precision:
see ``gemm`` and ``tensor_core_gemm``.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import types

from numbacnn.kernels.cuda.gemm.descriptor import Access, offset_of
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load, load4

ZERO = np.float32(0)
float32 = types.float32


class ThreadMap(NamedTuple):
    """The items of a slice that a thread copies: one in each of ``iterations``, ``threads`` items apart.

    An item is ``pack`` vectors of four floats that are neighbors in memory. ``contiguous`` items fill the contiguous
    dimension. If ``exact``, every thread has the same number of items. ``registers``: floats of all its items.
    """

    threads: int
    iterations: int
    contiguous: int
    items: int
    exact: bool
    pack: int
    registers: int


def thread_map(extent: int, depth: int, threads: int, k_major: bool, pack: int = 1) -> ThreadMap:
    """Return the map of a slice of ``depth`` steps of k.

    The vectors of an item follow each other along k: 4·pack steps if ``k_major``, else ``pack`` steps of four neighbors
    along m or n.
    """
    items = extent * depth // (4 * pack)
    iterations, contiguous = -(-items // threads), depth // (4 * pack) if k_major else extent // 4
    return ThreadMap(threads, iterations, contiguous, items, items % threads == 0, pack, 4 * pack * iterations)


class OperandLoader(NamedTuple):
    """The path of an operand to shared memory: device functions, and the floats that they need.

    ``fetch(registers, memory, g, start, first, k, k_end)`` loads the items of this thread, with zeros outside of the
    operand: ``start`` is the offset of the group, ``first`` the first row or column, and [k, k_end) the steps.
    ``put(shared, start, registers)`` stores them in a slice of shared memory.
    """

    fetch: Any
    put: Any
    registers: int
    shared: int


def fetcher(thread_map: ThreadMap, is_a: bool, access: Access) -> Any:
    """Return ``fetch`` of ``OperandLoader`` for A or for B."""
    threads, iterations, contiguous, items, exact, pack, _ = thread_map
    operand_of, extent_of, offset_in = (_a, _rows, _row_offset) if is_a else (_b, _columns, _column_offset)
    fetch_vector = (_k_vector if access.k_major else _mn_vector)(access.vector, extent_of, offset_in)
    k_major = access.k_major

    @device_function
    def fetch(registers, memory, g, start, first, k, k_end):
        operand = operand_of(g)
        for v in range(iterations * pack):
            item, part = cuda.threadIdx.x + v // pack * threads, v % pack
            for j in range(4):
                registers[4 * v + j] = ZERO
            if exact or item < items:
                along, line = item % contiguous, item // contiguous
                if k_major:
                    at = first + line, k + (along * pack + part) * 4
                else:
                    at = first + along * 4, k + line * pack + part
                fetch_vector(registers, 4 * v, memory, (start, at[0], at[1], k_end), operand, g)

    return fetch


def _k_vector(vector: bool, extent_of: Any, offset_in: Any) -> Any:
    """Return a device function that loads four steps of k of one row or column."""

    @device_function
    def fetch_vector(registers, i, memory, at, operand, g):
        start, line, k, k_end = at
        if line < extent_of(g):
            start += offset_in(line, operand, g)
            if vector:
                if k < k_end:
                    put4(registers, i, load4(memory, (start + offset_of(k, g.k, operand.k),)))
            else:
                for j in range(4):
                    if k + j < k_end:
                        registers[i + j] = load(memory, start + offset_of(k + j, g.k, operand.k))

    return fetch_vector


def _mn_vector(vector: bool, extent_of: Any, offset_in: Any) -> Any:
    """Return a device function that loads four rows or columns at one step of k."""

    @device_function
    def fetch_vector(registers, i, memory, at, operand, g):
        start, line, k, k_end = at
        if k < k_end:
            start += offset_of(k, g.k, operand.k)
            if vector:
                if line < extent_of(g):
                    put4(registers, i, load4(memory, (start + offset_in(line, operand, g),)))
            else:
                for j in range(4):
                    if line + j < extent_of(g):
                        registers[i + j] = load(memory, start + offset_in(line + j, operand, g))

    return fetch_vector


@device_function
def get4(registers, i):
    """Four registers."""
    return registers[i], registers[i + 1], registers[i + 2], registers[i + 3]


@device_function
def put4(registers, i, values):
    """Write four registers."""
    registers[i], registers[i + 1], registers[i + 2], registers[i + 3] = values


@device_function
def _a(g):
    return g.a


@device_function
def _b(g):
    return g.b


@device_function
def _rows(g):
    return g.m.size


@device_function
def _columns(g):
    return g.n


@device_function
def _row_offset(row, operand, g):
    return offset_of(row, g.m, operand.mn)


@device_function
def _column_offset(column, operand, g):
    return column * operand.mn.inner
