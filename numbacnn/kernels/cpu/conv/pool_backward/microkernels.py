"""Sparse microkernels: weighted sums of blocks of A, accumulated in registers.

    C[r, j] += Σ_e weight[e] · A[position[e] + r·a_row + j]      r < rows,  j < columns ≤ vectors · lanes

The GEMM microkernel reads every pixel; these read only the pixels of maxima.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT32, INT64
from numbacnn.kernels.target import host_target


class Tile(NamedTuple):
    """Addresses of float32 C and A, and elements from one row to the next of each."""

    c: int
    c_row: int
    a: int
    a_row: int


class Indexed(NamedTuple):
    """``count`` entries, ``step`` elements apart: addresses of float32 weights and int32 positions in elements."""

    weights: int
    positions: int
    step: int
    count: int


class Candidates(NamedTuple):
    """``count`` contiguous entries: addresses of float32 weights and choices; entry e is at position e·size of A."""

    weights: int
    choices: int
    size: int
    count: int


@cache
def indexed_microkernel(rows: int, vectors: int, lanes: int):
    """Return the Numba intrinsic ``microkernel(tile, entries, columns)``: the sum of ``Indexed`` entries.

    Memory past ``columns`` is not accessed.
    """

    @intrinsic
    def microkernel(typing, tile, entries, columns):
        def emit(context, builder, signature, arguments):
            tile, entries, columns = arguments
            tile = Tile(*cgutils.unpack_tuple(builder, tile, len(Tile._fields)))
            entries = Indexed(*cgutils.unpack_tuple(builder, entries, len(Indexed._fields)))
            sums = _Sums(builder, rows, vectors, lanes, columns)
            a_rows = sums.rows_at(tile.a, tile.a_row)
            positions = builder.inttoptr(entries.positions, INT32.as_pointer())
            weights = builder.inttoptr(entries.weights, FLOAT.as_pointer())
            with cgutils.for_range(builder, entries.count, intp=INT64) as loop:
                entry = builder.mul(loop.index, entries.step)
                position = builder.sext(builder.load(builder.gep(positions, [entry])), INT64)
                sums.add(a_rows, position, builder.load(builder.gep(weights, [entry])))
            sums.add_to(sums.rows_at(tile.c, tile.c_row))
            return context.get_dummy_value()

        return types.void(tile, entries, types.intp), emit

    return microkernel


@cache
def chosen_microkernel(rows: int, vectors: int, lanes: int):
    """Return the Numba intrinsic ``microkernel(tile, entries, choice, columns)``: a sum over some ``Candidates``.

    The blocks of entries with this float32 ``choice``, an argmax, are added, unless their weight is 0.
    """
    strip = host_target().lanes
    vector, bits_type = ir.VectorType(FLOAT, strip), ir.IntType(strip)

    @intrinsic
    def microkernel(typing, tile, entries, choice, columns):
        def emit(context, builder, signature, arguments):
            tile, entries, choice, columns = arguments
            tile = Tile(*cgutils.unpack_tuple(builder, tile, len(Tile._fields)))
            entries = Candidates(*cgutils.unpack_tuple(builder, entries, len(Candidates._fields)))
            sums = _Sums(builder, rows, vectors, lanes, columns)
            a_rows = sums.rows_at(tile.a, tile.a_row)
            weights, choices = (builder.inttoptr(x, FLOAT.as_pointer()) for x in (entries.weights, entries.choices))
            choice = llvm.splat(builder, choice, vector)
            bits, found = cgutils.alloca_once(builder, bits_type), cgutils.alloca_once(builder, bits_type)
            builder.store(bits_type(0), found)
            with cgutils.for_range_slice(builder, INT64(0), entries.count, INT64(strip), intp=INT64) as (first, _):
                inside = llvm.mask(builder, builder.sub(entries.count, first), strip)
                weight = llvm.load_masked(builder, builder.gep(weights, [first]), inside, vector)
                chosen = llvm.load_masked(builder, builder.gep(choices, [first]), inside, vector)
                nonzero = builder.fcmp_unordered("!=", weight, llvm.zeros(vector))
                here = builder.and_(builder.fcmp_ordered("==", chosen, choice), nonzero)
                builder.store(builder.bitcast(here, bits_type), bits)
                builder.store(builder.or_(builder.load(found), builder.load(bits)), found)
                with _each_bit(builder, bits) as lane:
                    entry = builder.add(first, lane)
                    sums.add(a_rows, builder.mul(entry, entries.size), builder.load(builder.gep(weights, [entry])))
            with builder.if_then(builder.icmp_unsigned("!=", builder.load(found), bits_type(0))):
                sums.add_to(sums.rows_at(tile.c, tile.c_row))
            return context.get_dummy_value()

        return types.void(tile, entries, types.float32, types.intp), emit

    return microkernel


class _Sums:
    """The accumulators of a microkernel, at the builder's position."""

    def __init__(self, builder, rows, vectors, lanes, columns):
        self.builder, self.rows, self.lanes, self.fma = builder, rows, lanes, host_target().fma
        self.vector = ir.VectorType(FLOAT, lanes)
        self.masks = [llvm.mask(builder, builder.sub(columns, INT64(j * lanes)), lanes) for j in range(vectors)]
        self.sums = [[cgutils.alloca_once(builder, self.vector) for _ in range(vectors)] for _ in range(rows)]
        for total in (total for row in self.sums for total in row):
            builder.store(llvm.zeros(self.vector), total)

    def rows_at(self, base, step):
        """Return pointers to the first element of each row."""
        base = self.builder.inttoptr(base, FLOAT.as_pointer())
        return [self.builder.gep(base, [self.builder.mul(step, INT64(r))]) for r in range(self.rows)]

    def add(self, rows, position, weight):
        """Add ``weight`` times the block of memory at ``position`` from ``rows``."""
        weight = llvm.splat(self.builder, weight, self.vector)
        for row, pointer in zip(self.sums, rows, strict=True):
            here = self.builder.gep(pointer, [position])
            for j, total in enumerate(row):
                block, so_far = self._load(here, j), self.builder.load(total)
                self.builder.store(llvm.fma(self.builder, weight, block, so_far, self.fma), total)

    def add_to(self, rows):
        """Add the sums to the memory at ``rows``."""
        for row, pointer in zip(self.sums, rows, strict=True):
            for j, total in enumerate(row):
                value = self.builder.fadd(self._load(pointer, j), self.builder.load(total))
                target = self.builder.gep(pointer, [INT64(j * self.lanes)])
                llvm.store_masked(self.builder, value, target, self.masks[j])

    def _load(self, pointer, j):
        source = self.builder.gep(pointer, [INT64(j * self.lanes)])
        return llvm.load_masked(self.builder, source, self.masks[j], self.vector)


@contextmanager
def _each_bit(builder, bits) -> Iterator[ir.Value]:
    """Loop over the indices of the set bits of the integer that ``bits`` points to, lowest first; clears them."""
    check, body, end = (builder.append_basic_block(f"bits.{name}") for name in ("check", "body", "end"))
    builder.branch(check)
    builder.position_at_end(check)
    left = builder.load(bits)
    builder.cbranch(builder.icmp_unsigned("!=", left, left.type(0)), body, end)
    builder.position_at_end(body)
    builder.store(builder.and_(left, builder.sub(left, left.type(1))), bits)
    yield builder.zext(builder.cttz(left, ir.IntType(1)(1)), INT64)
    builder.branch(check)
    builder.position_at_end(end)
