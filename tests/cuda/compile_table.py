"""The table of all CUDA kernels, with those of matrix products: one for each tile and kind of access."""

from itertools import product

from numbacnn.kernels.cuda import launchers as launchers  # all kernels are defined
from numbacnn.kernels.cuda.gemm import gemm, tensor_core_gemm
from numbacnn.kernels.cuda.gemm.descriptor import Access
from numbacnn.kernels.cuda.gemm.tensor_cores import PRECISIONS
from numbacnn.kernels.cuda.runtime.jit import KERNELS

# Whether A and B are k-major: forward, and the gradients of the input and the weights.
MAJORS = ((True, False), (True, True), (False, False))
ACCESSES = [
    (Access(a, a_vector), Access(b, b_vector))
    for (a, b), a_vector, b_vector in product(MAJORS, (True, False), (True, False))
]
# (precision, tile, access of A, access of B) → kernel
GEMMS = {("fp32", tile, *both): gemm.fp32_kernel(tile, *both) for tile in gemm.FP32 for both in ACCESSES}
# Fewer on tensor cores: vectors in the largest tile, where registers are scarce, and scalars in the others.
for precision in PRECISIONS:
    for i, (a, b) in enumerate(MAJORS):
        for tile, vector in ((tensor_core_gemm.TILES[0], True), (tensor_core_gemm.TILES[1 + i % 2], False)):
            both = Access(a, vector), Access(b, vector)
            GEMMS[precision, tile, *both] = tensor_core_gemm.tensor_core_kernel(precision, tile, *both)
TABLE = list(KERNELS)
# The others are run by ``test_gemm_table.py``, but their machine code is not in ``TABLE``.
for precision, tile, both in product(PRECISIONS, dict.fromkeys(tensor_core_gemm.TILES), ACCESSES):
    GEMMS[precision, tile, *both] = tensor_core_gemm.tensor_core_kernel(precision, tile, *both)
EVERY = list(dict.fromkeys([*TABLE, *GEMMS.values()]))
