"""The GEMM kernel: each block owns a tile of C, and sums slices of k in shared memory, double-buffered.

While the block multiplies one slice, its threads already load the next one to registers (Volkov and Demmel 2008,
"Benchmarking GPUs to tune dense linear algebra"). Loads and the multiplication of a slice are given by the precision.
"""

from typing import Any, NamedTuple

from numbacnn.kernels.cuda.gemm.descriptor import Gemm, offset_of
from numbacnn.kernels.cuda.gemm.loads import ZERO, OperandLoader, float32
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function, load, scalar_function, store
from numbacnn.kernels.cuda.runtime.jit import CudaKernel, cuda_kernel, float32_1d
from numbacnn.kernels.formulas import activations

relu_gradient = scalar_function(activations.relu_gradient)


class TileShape(NamedTuple):
    """Rows and columns of C of a block, and steps of k in a slice."""

    rows: int
    columns: int
    depth: int


class TileMath(NamedTuple):
    """The device functions of a thread, which has ``accumulators`` floats of the tile.

    ``multiply(accumulators, a_shared, b_shared, a_start, b_start)`` adds the product of two slices. ``store(
    accumulators, arrays, tile, g)`` applies the epilogue and writes C.
    """

    accumulators: int
    multiply: Any
    store: Any


class OutputTile(NamedTuple):
    """The first row and column of a tile, and the offsets of its group in C, bias and mask."""

    row: int
    column: int
    c: int
    bias: int
    mask: int


def gemm_kernel(
    name: str, shape: TileShape, a_loader: OperandLoader, b_loader: OperandLoader, math: TileMath, **options: Any
) -> CudaKernel:
    """Return the kernel ``(c, a, b, bias, mask, g)`` of flat arrays and a ``Gemm``."""
    a_fetch, a_put, a_registers, a_slice = a_loader
    b_fetch, b_put, b_registers, b_slice = b_loader
    tile_rows, tile_columns, depth = shape
    count, multiply, store_tile = math
    a_floats, b_floats = 2 * a_slice, 2 * b_slice

    def kernel(c, a, b, bias, mask, g):
        a_shared = cuda.shared.array(a_floats, float32, alignment=16)
        b_shared = cuda.shared.array(b_floats, float32, alignment=16)
        accumulators = cuda.local.array(count, float32)
        a_next = cuda.local.array(a_registers, float32)
        b_next = cuda.local.array(b_registers, float32)
        for i in range(count):
            accumulators[i] = ZERO

        row, column = _tile_of_block(tile_rows, tile_columns, g)
        group, split, k, k_end = _range_of_block(depth, g)
        a_start, b_start = g.a.offset + group * g.a.group, g.b.offset + group * g.b.group
        a_fetch(a_next, a, g, a_start, row, k, k_end)
        b_fetch(b_next, b, g, b_start, column, k, k_end)
        buffer = 0
        while k < k_end:
            a_put(a_shared, buffer * a_slice, a_next)
            b_put(b_shared, buffer * b_slice, b_next)
            cuda.syncthreads()
            k += depth
            if k < k_end:
                a_fetch(a_next, a, g, a_start, row, k, k_end)
                b_fetch(b_next, b, g, b_start, column, k, k_end)
            multiply(accumulators, a_shared, b_shared, buffer * a_slice, buffer * b_slice)
            buffer = 1 - buffer

        c_start = g.c.offset + group * g.c.group + split * g.c.split
        tile = OutputTile(row, column, c_start, g.epilogue.bias + group * g.n, g.epilogue.mask + group * g.c.group)
        store_tile(accumulators, (c, bias, mask), tile, g)

    kernel.__name__ = kernel.__qualname__ = name
    return cuda_kernel(*[float32_1d] * 5, Gemm, **options)(kernel)


@device_function
def _tile_of_block(tile_rows, tile_columns, g):
    """The first row and column of the tile of this block."""
    column_tiles = (g.n + tile_columns - 1) // tile_columns
    row_tile = cuda.blockIdx.x // column_tiles
    return row_tile * tile_rows, (cuda.blockIdx.x - row_tile * column_tiles) * tile_columns


@device_function
def _range_of_block(depth, g):
    """(group, split, k, k_end) of this block. Splits are whole slices."""
    group = cuda.blockIdx.y // g.splits
    split = cuda.blockIdx.y - group * g.splits
    span = ((g.k.size + g.splits - 1) // g.splits + depth - 1) // depth * depth
    return group, split, split * span, min(g.k.size, (split + 1) * span)


# -- the epilogue -----------------------------------------------------------------------------------------------------


@device_function
def row_offsets(row, tile, g):
    """The offsets of a row in C and in the mask."""
    return tile.c + offset_of(row, g.m, g.c.m), tile.mask + offset_of(row, g.m, g.epilogue.mask_m)


@device_function
def store_element(value, arrays, offsets, column, tile, g):
    """Apply the epilogue to an element of C, and store it. ``offsets``: of its row."""
    c, bias, mask = arrays
    if g.epilogue.bias >= 0:
        value += load(bias, tile.bias + column)
    if g.epilogue.relu:
        value = relu_gradient(value, value)
    if g.epilogue.mask >= 0:
        value = relu_gradient(value, load(mask, offsets[1] + column))
    store(c, offsets[0] + column, value)
