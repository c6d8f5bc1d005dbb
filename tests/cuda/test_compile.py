"""Every CUDA kernel compiles to machine code, and keeps its numbers in registers. Needs no GPU."""

import ctypes
import gc
from types import SimpleNamespace

import numpy as np
import pytest
from assembly import assemble, assembler, capabilities, compiled, parameters
from numba import types

from numbacnn.kernels.cuda import roofline
from numbacnn.kernels.cuda.gemm import gemm, tensor_core_gemm
from numbacnn.kernels.cuda.runtime import launch
from numbacnn.kernels.cuda.runtime.jit import KERNELS

pytestmark = pytest.mark.compiles

for tile in (gemm.LARGE, gemm.SMALL, gemm.NARROW):  # forward, and the gradients of the input and the weights
    for by_rows, by_terms in ((False, False), (False, True), (True, False)):
        for vector in (True, False):
            gemm.product_kernel(tile, by_rows, vector, by_terms, vector)

# Fewer of tensor cores': vectors in the largest tile, where registers are short, and none in the others.
for precision in ("tf32", "bf16"):
    for i, (by_rows, by_terms) in enumerate(((False, False), (False, True), (True, False))):
        tensor_core_gemm.product_kernel(precision, tensor_core_gemm.TILES[0], by_rows, True, by_terms, True)
        tensor_core_gemm.product_kernel(precision, tensor_core_gemm.TILES[1 + i % 2], by_rows, False, by_terms, False)

KINDS = {ctypes.c_float: "f32", ctypes.c_double: "f64", ctypes.c_int64: "u64", ctypes.c_uint64: "u64", bool: "u8"}


def example(kind):
    """Some argument of a Numba type, of which only the layout counts."""
    if isinstance(kind, types.Array):
        axes, memory = (1,) * kind.ndim, SimpleNamespace(address=0)
        return SimpleNamespace(
            dtype=np.dtype(str(kind.dtype)), memory=memory, offset=0, size=1, shape=axes, strides=axes
        )
    if isinstance(kind, types.BaseTuple):
        return [example(part) for part in kind]
    return 1


def flattened(kernel):
    """The types of what a launch hands to the kernel: Python's integers are of 64 bits."""
    values = []
    for kind in kernel.signature:
        launch.append_argument(values, example(kind), kind)
    return [KINDS.get(type(value), "u64") for value in values]


@pytest.fixture(scope="module", autouse=True)
def _garbage_is_collected_seldom():
    """The compiler makes millions of objects; looking through them all the time takes a sixth of its own."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.skipif(assembler() is None, reason="ptxas is not installed: it comes with the extra cuda12")
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_every_kernel_is_assembled_without_spills_and_takes_what_a_launch_gives(kernel):
    texts = compiled(kernel)
    assert parameters(texts[0]) == flattened(kernel)
    for capability, text, found in zip(capabilities(kernel), texts, assemble(kernel, texts), strict=True):
        print("{:45} sm_{}{} {}".format(kernel.name, *capability, found))
        assert found.spill_stores == found.spill_loads == 0, found
        assert found.stack == 0, found
        assert (found.matrix > 0) == ("mma.sync" in text) == ("_tf32" in kernel.name or "_bf16" in kernel.name)


@pytest.mark.skipif(assembler() is None, reason="ptxas is not installed: it comes with the extra cuda12")
def test_the_peak_is_measured_by_a_loop_of_little_else_than_multiply_adds():
    """Whatever else the GPU issues is missing from the peak."""
    kernel = roofline._multiply_adds
    for found in assemble(kernel, compiled(kernel)):
        assert found.multiply_adds > 0.95, found
