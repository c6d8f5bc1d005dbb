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
    operand_of, line = (_a, _ROW) if is_a else (_b, _COLUMN)
    k_major, axes = access.k_major, (_K, line) if access.k_major else (line, _K)
    fetch_vector = _vector_fetcher(*axes, access.vector)

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
                    at = k + (along * pack + part) * 4, first + line
                else:
                    at = first + along * 4, k + line * pack + part
                fetch_vector(registers, 4 * v, memory, (start, at[0], at[1], k_end), operand, g)

    return fetch


class Axis(NamedTuple):
    """An axis of an operand: device functions for whether an index is inside, and for its offset."""

    inside: Any
    offset: Any


def _vector_fetcher(contiguous: Axis, other: Axis, vector: bool) -> Any:
    """Return a device function that loads four neighbors along the contiguous axis, at an index of the other one."""
    inside, offset = contiguous
    other_inside, other_offset = other

    @device_function
    def fetch_vector(registers, v, memory, at, operand, g):
        start, i, j, k_end = at
        if other_inside(j, g, k_end):
            start += other_offset(j, operand, g)
            if vector:
                if inside(i, g, k_end):
                    put4(registers, v, load4(memory, (start + offset(i, operand, g),)))
            else:
                for n in range(4):
                    if inside(i + n, g, k_end):
                        registers[v + n] = load(memory, start + offset(i + n, operand, g))

    return fetch_vector


_K = Axis(
    device_function(lambda k, g, k_end: k < k_end),
    device_function(lambda k, operand, g: offset_of(k, g.k, operand.k)),
)
_ROW = Axis(
    device_function(lambda row, g, k_end: row < g.m.size),
    device_function(lambda row, operand, g: offset_of(row, g.m, operand.mn)),
)
_COLUMN = Axis(
    device_function(lambda column, g, k_end: column < g.n),
    device_function(lambda column, operand, g: column * operand.mn.inner),
)
_a, _b = device_function(lambda g: g.a), device_function(lambda g: g.b)


@device_function
def get4(registers, i):
    """Four registers."""
    return registers[i], registers[i + 1], registers[i + 2], registers[i + 3]


@device_function
def put4(registers, i, values):
    """Write four registers."""
    registers[i], registers[i + 1], registers[i + 2], registers[i + 3] = values
