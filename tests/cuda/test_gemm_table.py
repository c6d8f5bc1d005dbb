"""Every kernel of matrix products, of all tiles and accesses, on plain matrices; not in the simulator: it is slow."""

import numpy as np
import pytest
from compile_table import GEMMS
from engine import assert_close

from numbacnn.kernels.cuda.gemm import tensor_cores as cores
from numbacnn.kernels.cuda.gemm.descriptor import Epilogue, Gemm, Operand, Output, Strides, aligned_output, loop_nest
from numbacnn.kernels.cuda.runtime import backend
from numbacnn.kernels.cuda.runtime.array import to_device

pytestmark = pytest.mark.skipif(backend.SIMULATED, reason="the simulator takes too long")
ROUND = {"fp32": np.asarray, "tf32": cores.round_to_tf32, "bf16": cores.round_to_bf16}


def stored(matrix, access):
    """Store a matrix, whose second axis is k, as ``access`` says; return the memory and the strides of both axes."""
    array = matrix if access.k_major else matrix.T
    pitch = array.shape[1] + (4 if access.vector else 3)
    memory = np.full((array.shape[0], pitch), np.nan, np.float32)
    memory[:, : array.shape[1]] = array
    strides = Strides(0, 0, pitch), Strides(0, 0, 1)
    return memory.reshape(-1), strides if access.k_major else strides[::-1]


def sizes(precision, tile, a, b):
    """Return m, n and k, a tile and some more; those along which a vector is loaded are multiples of four."""
    depth = tile.depth if precision == "fp32" else tile.words * cores.WORDS_OF[precision].elements
    m = tile.rows + (4 if a.vector and not a.k_major else 3)
    n = tile.columns + (4 if b.vector and not b.k_major else 5)
    k_is_whole = (a.vector and a.k_major) or (b.vector and b.k_major)
    return m, n, 2 * depth + (4 if k_is_whole else 5)


@pytest.mark.parametrize(("case", "kernel"), GEMMS.items(), ids=[kernel.name for kernel in GEMMS.values()])
def test_products(case, kernel):
    precision, tile, a, b = case
    (m, n, k), draw = sizes(*case), np.random.default_rng(0)
    left, right = draw.standard_normal((m, k)).astype(np.float32), draw.standard_normal((n, k)).astype(np.float32)
    bias, splits = draw.standard_normal(n).astype(np.float32), 2
    expected = ROUND[precision](left).astype(np.float64) @ ROUND[precision](right).astype(np.float64).T
    (a_memory, (a_mn, a_k)), (b_memory, (b_mn, b_k)) = stored(left, a), stored(right, b)
    a_array, b_array, bias_array = map(to_device, (a_memory, b_memory, bias))
    for parts in (1, splits):
        c = to_device(np.full(parts * m * n, np.nan, np.float32))
        epilogue = Epilogue(bias=0) if parts == 1 else Epilogue()
        operands, output = (Operand(0, 0, a_mn, a_k), Operand(0, 0, b_mn, b_k)), Output(0, 0, m * n, Strides(0, 0, n))
        g = Gemm(1, parts, loop_nest(1, 1, m), n, loop_nest(1, 1, k), *operands, output, epilogue)
        grid = -(-m // tile.rows) * -(-n // tile.columns), parts
        kernel[grid, tile.threads](c, a_array, b_array, bias_array, c, g._replace(aligned=aligned_output(g)))
        found = c.read().reshape(parts, m, n).sum(axis=0)
        assert_close(found, expected + bias if parts == 1 else expected, f"{kernel.name}, {parts} parts", 1e-5)
