"""Sparse register tiles: blocks of memory, each times its weight, summed in vector registers.

    C[r, j] += Σ_e weight[e] · A[place[e] + r·a_step + j]      r < rows,  j < columns ≤ vectors · lanes

Where ``register_tile`` reads every pixel, these read those that count: the maxima behind a max-pool.
"""

from contextlib import contextmanager
from functools import cache

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT32, INT64
from numbacnn.kernels.target import host_target


@cache
def listed_sum(rows: int, vectors: int, lanes: int):
    """A function ``tile(c, c_step, a, a_step, places, weights, step, count, columns)`` for Numba code.

    ``c a weights`` are addresses of float32, ``places`` of int32 offsets in elements. Entry e of the list is at
    ``e·step``; rows of C and A are ``c_step`` and ``a_step`` apart, both in elements. Nothing beyond ``columns`` is
    touched.
    """

    @intrinsic
    def tile(typing, c, c_step, a, a_step, places, weights, step, count, columns):
        def emit(context, builder, signature, arguments):
            c, c_step, a, a_step, places, weights, step, count, columns = arguments
            sums = _Sums(builder, rows, vectors, lanes, columns)
            a_rows = sums.rows_at(a, a_step)
            places, weights = (
                builder.inttoptr(places, INT32.as_pointer()),
                builder.inttoptr(weights, FLOAT.as_pointer()),
            )
            with cgutils.for_range(builder, count, intp=INT64) as loop:
                entry = builder.mul(loop.index, step)
                place = builder.sext(builder.load(builder.gep(places, [entry])), INT64)
                sums.add(a_rows, place, builder.load(builder.gep(weights, [entry])))
            sums.add_to(sums.rows_at(c, c_step))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9), emit

    return tile


@cache
def chosen_sum(rows: int, vectors: int, lanes: int):
    """A function ``tile(c, c_step, a, a_step, a_size, weights, choices, choice, count, columns)`` for Numba code.

    Entry e < ``count`` is in the sum where ``choices[e]`` is ``choice``, a float32, and its weight is not 0; its place
    is ``e·a_size``. The rest is as in ``listed_sum``.
    """
    strip = host_target().lanes
    vector, bits_type = ir.VectorType(FLOAT, strip), ir.IntType(strip)

    @intrinsic
    def tile(typing, c, c_step, a, a_step, a_size, weights, choices, choice, count, columns):
        def emit(context, builder, signature, arguments):
            c, c_step, a, a_step, a_size, weights, choices, choice, count, columns = arguments
            sums = _Sums(builder, rows, vectors, lanes, columns)
            a_rows = sums.rows_at(a, a_step)
            weights, choices = (builder.inttoptr(x, FLOAT.as_pointer()) for x in (weights, choices))
            choice = llvm.splat(builder, choice, vector)
            bits, found = cgutils.alloca_once(builder, bits_type), cgutils.alloca_once(builder, bits_type)
            builder.store(bits_type(0), found)
            with cgutils.for_range_slice(builder, INT64(0), count, INT64(strip), intp=INT64) as (first, _):
                inside = llvm.mask(builder, builder.sub(count, first), strip)
                weight = llvm.load_masked(builder, builder.gep(weights, [first]), inside, vector)
                chosen = llvm.load_masked(builder, builder.gep(choices, [first]), inside, vector)
                counts = builder.fcmp_unordered("!=", weight, llvm.zeros(vector))
                here = builder.and_(builder.fcmp_ordered("==", chosen, choice), counts)
                builder.store(builder.bitcast(here, bits_type), bits)
                builder.store(builder.or_(builder.load(found), builder.load(bits)), found)
                with _each_bit(builder, bits) as lane:
                    entry = builder.add(first, lane)
                    sums.add(a_rows, builder.mul(entry, a_size), builder.load(builder.gep(weights, [entry])))
            with builder.if_then(builder.icmp_unsigned("!=", builder.load(found), bits_type(0))):
                sums.add_to(sums.rows_at(c, c_step))
            return context.get_dummy_value()

        return types.void(*[types.intp] * 7, types.float32, *[types.intp] * 2), emit

    return tile


class _Sums:
    """The accumulators of a tile, at the builder's place."""

    def __init__(self, builder, rows, vectors, lanes, columns):
        self.builder, self.rows, self.lanes, self.fma = builder, rows, lanes, host_target().fma
        self.vector = ir.VectorType(FLOAT, lanes)
        self.masks = [llvm.mask(builder, builder.sub(columns, INT64(j * lanes)), lanes) for j in range(vectors)]
        self.sums = [[cgutils.alloca_once(builder, self.vector) for _ in range(vectors)] for _ in range(rows)]
        for total in (total for row in self.sums for total in row):
            builder.store(llvm.zeros(self.vector), total)

    def rows_at(self, base, step):
        """Pointers to the first element of each row."""
        base = self.builder.inttoptr(base, FLOAT.as_pointer())
        return [self.builder.gep(base, [self.builder.mul(step, INT64(r))]) for r in range(self.rows)]

    def add(self, rows, place, weight):
        """Adds ``weight`` times the block of memory at ``place`` from ``rows``."""
        weight = llvm.splat(self.builder, weight, self.vector)
        for row, pointer in zip(self.sums, rows, strict=True):
            here = self.builder.gep(pointer, [place])
            for j, total in enumerate(row):
                block, so_far = self._load(here, j), self.builder.load(total)
                self.builder.store(llvm.fma(self.builder, weight, block, so_far, self.fma), total)

    def add_to(self, rows):
        """Adds the sums to the memory at ``rows``."""
        for row, pointer in zip(self.sums, rows, strict=True):
            for j, total in enumerate(row):
                value = self.builder.fadd(self._load(pointer, j), self.builder.load(total))
                target = self.builder.gep(pointer, [INT64(j * self.lanes)])
                llvm.store_masked(self.builder, value, target, self.masks[j])

    def _load(self, pointer, j):
        place = self.builder.gep(pointer, [INT64(j * self.lanes)])
        return llvm.load_masked(self.builder, place, self.masks[j], self.vector)


@contextmanager
def _each_bit(builder, bits):
    """A loop over the places of the bits that are set in what ``bits`` points at, from the lowest; clears them."""
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
