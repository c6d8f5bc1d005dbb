"""The GEMM microkernel: an MR×NR block of C whose accumulators stay in vector registers for the whole sum.

    C[i, j] = Σ_k A[i, k] · B[k, j]      i < MR,  j < n ≤ NR = vectors · lanes

Convolutions, dense layers and all their gradients run on it, because its operands can be anywhere in memory:

- Each row of A and of C starts at an offset from an indirection buffer (Dukhan 2019, "The Indirect Convolution
  Algorithm"). Rows may therefore be output pixels of any stride, or the taps of a window, without im2col.
- k runs over three nested loops with independent strides: the rows, columns and channels of a window (forward, input
  gradient), or the images, rows and columns of the output gradient (weight gradient).

Numba has no vector type, so the microkernel is written in LLVM IR, once for every MR, number of vectors and lanes.
Eight rows of two AVX-512 vectors use 19 registers: 16 accumulators, two vectors of B, one broadcast element of A. On
one Zen 4 core, that 8×32 microkernel reaches 117 of 118 GFLOP/s for sums of 300 terms, and 105 for sums of 25.
"""

from functools import cache
from typing import NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu.simd import llvm
from numbacnn.kernels.cpu.simd.activations import apply_activation
from numbacnn.kernels.cpu.simd.llvm import FLOAT, INT64
from numbacnn.kernels.target import Target, host_target

LINE = 16  # floats of a cache line
# Floats from a row of B to what is prefetched; in packed B, the row of a later step. The hardware prefetcher stops at
# the end of each page; where weights come from memory, as on one image, ResNet-18 takes a fifth less time (Zen 5).
AHEAD = 1280
FLOAT_POINTER, INT64_POINTER = FLOAT.as_pointer(), INT64.as_pointer()

ACCUMULATE = 1  # mode bit: add C instead of the bias
WHOLE = 4  # mode bit: rows of C have room for whole vectors, so masked microkernels may store all lanes


class LoopNest(NamedTuple):
    """The three nested loops over k: their counts, and the strides of A and of B in elements."""

    count_0: int
    count_1: int
    count_2: int
    a_0: int
    a_1: int
    a_2: int
    b_0: int
    b_1: int
    b_2: int


class Tile(NamedTuple):
    """The addresses that a microkernel works on: float32 arrays, and the indirection buffers of C and A.

    An indirection buffer holds an int64 offset in elements for each row. ``bias`` is 0 if there is none.
    """

    c: int
    c_rows: int
    a: int
    a_rows: int
    b: int
    bias: int


@cache
def gemm_microkernel(
    mr: int, vectors: int, lanes: int, masked: bool, target: Target | None = None, streams_b: bool = False
):
    """Return the Numba intrinsic ``microkernel(tile, row, n, mode, k)``.

    ``tile`` is a Tile, ``row`` the first row of C and of A, and ``n`` the number of columns. ``mode`` is the sum of any
    of ACCUMULATE, WHOLE and the bits of ``simd.activations``, and ``k`` is a LoopNest.

    With ``streams_b``, B is prefetched, for weights that come from memory; in cache, that takes up to 5 % longer.
    Only ``masked`` microkernels accept n < NR columns. They never read or write B, bias or C past these.
    """
    fma = (target or host_target()).fma

    @intrinsic
    def microkernel(typing, tile, row, n, mode, k):
        def emit(context, builder, signature, arguments):
            tile, row, n, mode, k = arguments
            tile = Tile(*cgutils.unpack_tuple(builder, tile, len(Tile._fields)))
            skip = builder.mul(row, INT64(8))
            tile = tile._replace(c_rows=builder.add(tile.c_rows, skip), a_rows=builder.add(tile.a_rows, skip))
            k = LoopNest(*cgutils.unpack_tuple(builder, k, len(LoopNest._fields)))
            _Emitter(builder, mr, vectors, lanes, masked, fma, streams_b).emit(tile, n, mode, k)
            return context.get_dummy_value()

        return types.void(tile, types.intp, types.intp, types.intp, k), emit

    return microkernel


class _Emitter:
    """Emits one microkernel at the builder's position."""

    def __init__(self, builder, mr, vectors, lanes, masked, fma, streams_b=False):
        self.builder, self.mr, self.vectors, self.lanes, self.masked = builder, mr, vectors, lanes, masked
        self.fma, self.streams_b = fma, streams_b
        self.vector = ir.VectorType(FLOAT, lanes)
        self.zero = llvm.zeros(self.vector)

    def emit(self, tile, n, mode, k):
        builder = self.builder
        if self.masked:
            ends = [builder.sub(n, INT64(j * self.lanes)) for j in range(self.vectors)]
            self.masks = [llvm.mask(builder, end, self.lanes) for end in ends]
        a_pointers = self._row_pointers(tile.a, tile.a_rows)
        b = builder.inttoptr(tile.b, FLOAT_POINTER)
        sums = [[cgutils.alloca_once(builder, self.vector) for _ in range(self.vectors)] for _ in range(self.mr)]
        for accumulator in (accumulator for row in sums for accumulator in row):
            builder.store(self.zero, accumulator)
        if self.vectors > 1:  # C arrives in cache while the sum runs
            self._prefetch(self._row_pointers(tile.c, tile.c_rows), INT64(0), write=True)
        self._sum_over_k(sums, a_pointers, b, k)
        c_pointers = self._row_pointers(tile.c, tile.c_rows)
        self._add_bias_or_c(sums, c_pointers, tile.bias, mode)
        self._finish(sums, c_pointers, mode)

    def _add_bias_or_c(self, sums, c_pointers, bias, mode):
        """Add the bias or the old C last: small terms added one by one to a large number would lose precision."""
        builder = self.builder
        accumulate = builder.icmp_unsigned("!=", builder.and_(mode, INT64(ACCUMULATE)), INT64(0))
        with builder.if_else(accumulate) as (from_c, from_bias):
            with from_c:
                for row, pointer in zip(sums, c_pointers, strict=True):
                    for j, accumulator in enumerate(row):
                        self._add(accumulator, self._load(pointer, j))
            with from_bias, builder.if_then(builder.icmp_unsigned("!=", bias, INT64(0))):
                pointer = builder.inttoptr(bias, FLOAT_POINTER)
                for j in range(self.vectors):
                    part = self._load(pointer, j)
                    for row in sums:
                        self._add(row[j], part)

    def _add(self, accumulator, value):
        self.builder.store(self.builder.fadd(self.builder.load(accumulator), value), accumulator)

    def _sum_over_k(self, sums, a_pointers, b, k):
        builder = self.builder
        counts, a_strides, b_strides = k[:3], k[3:6], k[6:]

        def loop(depth, a_offset, b_offset):
            if depth == 2 and self.vectors > 1:
                innermost(a_offset, b_offset, a_strides[2])
                return
            if depth == 2:  # with one vector, address arithmetic is the bottleneck: a constant stride needs no register
                contiguous = builder.icmp_signed("==", a_strides[2], INT64(1))
                with builder.if_else(contiguous) as (unit_stride, any_stride):
                    with unit_stride:
                        innermost(a_offset, b_offset, INT64(1))
                    with any_stride:
                        innermost(a_offset, b_offset, a_strides[2])
                return
            with cgutils.for_range(builder, counts[depth], intp=INT64) as step:
                a_here = builder.add(a_offset, builder.mul(step.index, a_strides[depth]))
                b_here = builder.add(b_offset, builder.mul(step.index, b_strides[depth]))
                if depth == 1 and self.vectors > 1:
                    with builder.if_then(builder.icmp_signed("!=", a_strides[1], INT64(0))):
                        # Runs of A are too short for the hardware prefetcher; prefetching doubles the speed of sums
                        # over 512 channels streamed from L3.
                        self._prefetch(a_pointers, builder.add(a_here, a_strides[1]))
                loop(depth + 1, a_here, b_here)

        def innermost(a_offset, b_offset, a_stride):
            with cgutils.for_range(builder, counts[2], intp=INT64) as step:
                a_here = builder.add(a_offset, builder.mul(step.index, a_stride))
                b_here = builder.add(b_offset, builder.mul(step.index, b_strides[2]))
                if self.streams_b:
                    self._prefetch([b], builder.add(b_here, INT64(AHEAD)))
                self._multiply(sums, [builder.gep(p, [a_here]) for p in a_pointers], builder.gep(b, [b_here]))

        loop(0, INT64(0), INT64(0))

    def _prefetch(self, pointers, offset, write=False):
        """Prefetch NR floats of each row."""
        for pointer in pointers:
            for line in range(0, self.vectors * self.lanes, LINE):
                target = self.builder.gep(pointer, [self.builder.add(offset, INT64(line))])
                llvm.prefetch(self.builder, target, write)

    def _multiply(self, sums, a_pointers, b):
        """Rank-1 update: one column of A times one row of B."""
        builder = self.builder
        b_vectors = [self._load(b, j) for j in range(self.vectors)]
        for row, pointer in zip(sums, a_pointers, strict=True):
            broadcast = llvm.splat(builder, builder.load(pointer, align=4), self.vector)
            for accumulator, b_vector in zip(row, b_vectors, strict=True):
                value = llvm.fma(builder, broadcast, b_vector, builder.load(accumulator), self.fma)
                builder.store(value, accumulator)

    def _finish(self, sums, c_pointers, mode):
        builder = self.builder
        apply_activation(builder, mode, [accumulator for row in sums for accumulator in row])
        if not self.masked:
            self._store(sums, c_pointers)
            return
        whole = builder.icmp_unsigned("!=", builder.and_(mode, INT64(WHOLE)), INT64(0))
        with builder.if_else(whole) as (all_lanes, some_lanes):
            with all_lanes:
                self._store(sums, c_pointers)
            with some_lanes:
                self._store(sums, c_pointers, self.masks)

    def _row_pointers(self, base, table):
        builder = self.builder
        base, table = builder.inttoptr(base, FLOAT_POINTER), builder.inttoptr(table, INT64_POINTER)
        offsets = [builder.load(builder.gep(table, [INT64(i)])) for i in range(self.mr)]
        return [builder.gep(base, [offset]) for offset in offsets]

    def _load(self, pointer, j):
        pointer = self.builder.gep(pointer, [INT64(j * self.lanes)])
        if self.masked:
            return llvm.load_masked(self.builder, pointer, self.masks[j], self.vector)
        return llvm.load(self.builder, pointer, self.vector)

    def _store(self, sums, c_pointers, masks=None):
        for row, pointer in zip(sums, c_pointers, strict=True):
            for j, accumulator in enumerate(row):
                value, target = self.builder.load(accumulator), self.builder.gep(pointer, [INT64(j * self.lanes)])
                if masks is None:
                    llvm.store(self.builder, value, target)
                else:
                    llvm.store_masked(self.builder, value, target, masks[j])
