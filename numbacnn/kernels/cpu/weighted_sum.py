"""A sparse register tile: blocks of memory at listed places, each times its weight, summed in vector registers.

    C[r, j] += Σ_e weight[e] · A[place[e] + r·a_step + j]      r < rows,  j < columns ≤ vectors · lanes

Where ``register_tile`` reads every pixel, this one reads those that count: the maxima behind a max-pool.
"""

from functools import cache

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from numbacnn.kernels.cpu import simd_ir
from numbacnn.kernels.cpu.simd_ir import FLOAT, INT32, INT64
from numbacnn.kernels.target import host_target


@cache
def weighted_sum(rows: int, vectors: int, lanes: int):
    """A function ``tile(c, c_step, a, a_step, places, weights, step, count, columns)`` for Numba code.

    ``c a weights`` are addresses of float32, ``places`` of int32 offsets in elements. Entry e of the list is at
    ``e·step``; rows of C and A are ``c_step`` and ``a_step`` apart, both in elements. Nothing beyond ``columns`` is
    touched.
    """
    vector = ir.VectorType(FLOAT, lanes)
    fma = host_target().fma

    @intrinsic
    def tile(typing, c, c_step, a, a_step, places, weights, step, count, columns):
        def emit(context, builder, signature, arguments):
            c, c_step, a, a_step, places, weights, step, count, columns = arguments
            masks = [simd_ir.mask(builder, builder.sub(columns, INT64(j * lanes)), lanes) for j in range(vectors)]
            a_rows, c_rows = _rows(builder, a, a_step, rows), _rows(builder, c, c_step, rows)
            places = builder.inttoptr(places, INT32.as_pointer())
            weights = builder.inttoptr(weights, FLOAT.as_pointer())
            sums = [[cgutils.alloca_once(builder, vector) for _ in range(vectors)] for _ in range(rows)]
            for total in (total for row in sums for total in row):
                builder.store(simd_ir.zeros(vector), total)

            def block(pointer, j):
                place = builder.gep(pointer, [INT64(j * lanes)])
                return simd_ir.load_masked(builder, place, masks[j], vector)

            with cgutils.for_range(builder, count, intp=INT64) as loop:
                entry = builder.mul(loop.index, step)
                place = builder.sext(builder.load(builder.gep(places, [entry])), INT64)
                weight = simd_ir.splat(builder, builder.load(builder.gep(weights, [entry])), vector)
                for row, pointer in zip(sums, a_rows, strict=True):
                    here = builder.gep(pointer, [place])
                    for j, total in enumerate(row):
                        builder.store(simd_ir.fma(builder, weight, block(here, j), builder.load(total), fma), total)
            for row, pointer in zip(sums, c_rows, strict=True):
                for j, total in enumerate(row):
                    value = builder.fadd(block(pointer, j), builder.load(total))
                    simd_ir.store_masked(builder, value, builder.gep(pointer, [INT64(j * lanes)]), masks[j])
            return context.get_dummy_value()

        return types.void(*[types.intp] * 9), emit

    return tile


def _rows(builder, base, step, rows):
    """Pointers to the first element of each row."""
    base = builder.inttoptr(base, FLOAT.as_pointer())
    return [builder.gep(base, [builder.mul(step, INT64(r))]) for r in range(rows)]
