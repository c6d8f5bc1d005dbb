"""The register tile: a small matrix product whose accumulators never leave the vector registers.

    C[i, j] = Σ_t A[i, t] · B[t, j]      i < rows,  j < columns ≤ vectors · lanes

Everything that convolves or multiplies runs on it, because its operands may lie anywhere:

- row i of A and of C starts at an offset looked up in a table, so that rows are output pixels of any stride, or the
  taps of a window, without im2col;
- t walks a nest of three loops (counts, and steps of A and of B), so that a sum runs over the rows, columns and
  channels of a window (forward, input gradient), or over images, rows and columns of pixels (weight gradient).

Numba has no vector type, so the tile is written in LLVM IR, once, for every number of rows, vectors and lanes.
Registers for 8 rows of two AVX-512 vectors: 16 accumulators, 2 of B, 1 broadcast of A. Measured on one Zen 4 core,
8×2×16 runs at 117 of 118 GFLOP/s for sums of 300 terms, and at 105 for sums of 25.
"""

from functools import cache
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT64
from numbacnn.kernels.target import Target, host_target

LINE = 16  # floats of a line of the cache
FLOAT_POINTER, INT64_POINTER = FLOAT.as_pointer(), INT64.as_pointer()

ACCUMULATE = 1  # mode bit: add to C instead of to the bias or zero
RELU = 2  # mode bit: store max(C, 0); NaN stays NaN
WHOLE = 4  # mode bit: C has room for whole vectors, so that masked tiles may store all lanes, which can be read at once


class Sum(NamedTuple):
    """The nest of loops that a tile sums over; steps in elements."""

    count_0: int
    count_1: int
    count_2: int
    a_0: int
    a_1: int
    a_2: int
    b_0: int
    b_1: int
    b_2: int


@cache
def register_tile(rows: int, vectors: int, lanes: int, masked: bool, target: Target | None = None):
    """A function ``tile(c, c_rows, a, a_rows, b, bias, columns, mode, sum)`` for Numba code.

    ``c a b bias`` are addresses of float32 (bias may be 0: none), ``c_rows a_rows`` of int64 offsets in elements. Only
    ``masked`` tiles heed ``columns``: they touch no element of B, bias or C beyond it.
    """
    fma = (target or host_target()).fma

    @intrinsic
    def tile(typing, c, c_rows, a, a_rows, b, bias, columns, mode, nest):
        address = types.intp
        signature = types.void(*[address] * 8, nest)

        def emit(context, builder, signature, arguments):
            *scalars, nest = arguments
            _Emitter(builder, rows, vectors, lanes, masked, fma).emit(
                *scalars, cgutils.unpack_tuple(builder, nest, len(Sum._fields))
            )
            return context.get_dummy_value()

        return signature, emit

    return tile


class _Emitter:
    """Writes one tile's IR at the builder's place."""

    def __init__(self, builder, rows, vectors, lanes, masked, fma):
        self.builder, self.rows, self.vectors, self.lanes, self.masked = builder, rows, vectors, lanes, masked
        self.fma = fma
        self.vector = ir.VectorType(FLOAT, lanes)
        self.zero = llvm.zeros(self.vector)

    def emit(self, c, c_rows, a, a_rows, b, bias, columns, mode, nest):
        builder = self.builder
        if self.masked:
            ends = [builder.sub(columns, INT64(j * self.lanes)) for j in range(self.vectors)]
            self.masks = [llvm.mask(builder, end, self.lanes) for end in ends]
        a_pointers = self._row_pointers(a, a_rows)
        b = builder.inttoptr(b, FLOAT_POINTER)
        sums = [[cgutils.alloca_once(builder, self.vector) for _ in range(self.vectors)] for _ in range(self.rows)]
        for place in (place for row in sums for place in row):
            builder.store(self.zero, place)
        if self.vectors > 1:  # what is stored is there by then
            self._prefetch(self._row_pointers(c, c_rows), INT64(0), write=True)
        self._accumulate(sums, a_pointers, b, nest)
        c_pointers = self._row_pointers(c, c_rows)
        self._add_what_was(sums, c_pointers, bias, mode)
        self._finish(sums, c_pointers, mode)

    def _add_what_was(self, sums, c_pointers, bias, mode):
        """C, or the bias: last, since small terms added one by one to a large number lose their last bits."""
        builder = self.builder
        accumulate = builder.icmp_unsigned("!=", builder.and_(mode, INT64(ACCUMULATE)), INT64(0))
        with builder.if_else(accumulate) as (from_c, from_bias):
            with from_c:
                for row, pointer in zip(sums, c_pointers, strict=True):
                    for j, place in enumerate(row):
                        self._add(place, self._load(pointer, j))
            with from_bias, builder.if_then(builder.icmp_unsigned("!=", bias, INT64(0))):
                pointer = builder.inttoptr(bias, FLOAT_POINTER)
                for j in range(self.vectors):
                    part = self._load(pointer, j)
                    for row in sums:
                        self._add(row[j], part)

    def _add(self, place, value):
        self.builder.store(self.builder.fadd(self.builder.load(place), value), place)

    def _accumulate(self, sums, a_pointers, b, nest):
        builder = self.builder
        counts, a_steps, b_steps = nest[:3], nest[3:6], nest[6:]

        def level(depth, a_offset, b_offset):
            if depth == 2 and self.vectors > 1:
                innermost(a_offset, b_offset, a_steps[2])
                return
            if depth == 2:  # one vector leaves time for little but multiplying: addresses that need no registers
                contiguous = builder.icmp_signed("==", a_steps[2], INT64(1))
                with builder.if_else(contiguous) as (one, any_step):
                    with one:
                        innermost(a_offset, b_offset, INT64(1))
                    with any_step:
                        innermost(a_offset, b_offset, a_steps[2])
                return
            with cgutils.for_range(builder, counts[depth], intp=INT64) as loop:
                a_here = builder.add(a_offset, builder.mul(loop.index, a_steps[depth]))
                b_here = builder.add(b_offset, builder.mul(loop.index, b_steps[depth]))
                if depth == 1 and self.vectors > 1:
                    with builder.if_then(builder.icmp_signed("!=", a_steps[1], INT64(0))):
                        # of A: its runs are too short for the processor to foresee, and sums over 512 channels, which
                        # come from the third-level cache, are twice as fast
                        self._prefetch(a_pointers, builder.add(a_here, a_steps[1]))
                level(depth + 1, a_here, b_here)

        def innermost(a_offset, b_offset, a_step):
            with cgutils.for_range(builder, counts[2], intp=INT64) as loop:
                a_here = builder.add(a_offset, builder.mul(loop.index, a_step))
                b_here = builder.add(b_offset, builder.mul(loop.index, b_steps[2]))
                self._multiply(sums, [builder.gep(p, [a_here]) for p in a_pointers], builder.gep(b, [b_here]))

        level(0, INT64(0), INT64(0))

    def _prefetch(self, pointers, offset, write=False):
        """Asks for as many floats of each row as the tile is wide."""
        for pointer in pointers:
            for line in range(0, self.vectors * self.lanes, LINE):
                place = self.builder.gep(pointer, [self.builder.add(offset, INT64(line))])
                llvm.prefetch(self.builder, place, write)

    def _multiply(self, sums, a_pointers, b):
        builder = self.builder
        b_vectors = [self._load(b, j) for j in range(self.vectors)]
        for row, pointer in zip(sums, a_pointers, strict=True):
            broadcast = llvm.splat(builder, builder.load(pointer, align=4), self.vector)
            for place, b_vector in zip(row, b_vectors, strict=True):
                builder.store(llvm.fma(builder, broadcast, b_vector, builder.load(place), self.fma), place)

    def _finish(self, sums, c_pointers, mode):
        builder = self.builder
        with builder.if_then(builder.icmp_unsigned("!=", builder.and_(mode, INT64(RELU)), INT64(0))):
            for place in (place for row in sums for place in row):
                value = builder.load(place)
                builder.store(builder.select(builder.fcmp_ordered("<", value, self.zero), self.zero, value), place)
        if not self.masked:
            self._store(sums, c_pointers)
            return
        whole = builder.icmp_unsigned("!=", builder.and_(mode, INT64(WHOLE)), INT64(0))
        with builder.if_else(whole) as (all_lanes, some):
            with all_lanes:
                self._store(sums, c_pointers)
            with some:
                self._store(sums, c_pointers, self.masks)

    def _row_pointers(self, base, table):
        builder = self.builder
        base, table = builder.inttoptr(base, FLOAT_POINTER), builder.inttoptr(table, INT64_POINTER)
        offsets = [builder.load(builder.gep(table, [INT64(i)])) for i in range(self.rows)]
        return [builder.gep(base, [offset]) for offset in offsets]

    def _load(self, pointer, j):
        pointer = self.builder.gep(pointer, [INT64(j * self.lanes)])
        if self.masked:
            return llvm.load_masked(self.builder, pointer, self.masks[j], self.vector)
        return llvm.load(self.builder, pointer, self.vector)

    def _store(self, sums, c_pointers, masks=None):
        for row, pointer in zip(sums, c_pointers, strict=True):
            for j, place in enumerate(row):
                value, target = self.builder.load(place), self.builder.gep(pointer, [INT64(j * self.lanes)])
                if masks is None:
                    llvm.store(self.builder, value, target)
                else:
                    llvm.store_masked(self.builder, value, target, masks[j])
