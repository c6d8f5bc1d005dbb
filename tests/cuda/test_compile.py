"""Every CUDA kernel compiles to machine code without spills. Needs no GPU."""

import ctypes
import gc
from types import SimpleNamespace

import numpy as np
import pytest
from assembly import assemble, assembler, capabilities, compiled, parameters
from compile_table import TABLE
from numba import types

from numbacnn.kernels.cuda import roofline
from numbacnn.kernels.cuda.runtime import launch

pytestmark = pytest.mark.compiles

KINDS = {ctypes.c_float: "f32", ctypes.c_double: "f64", ctypes.c_int64: "u64", ctypes.c_uint64: "u64", bool: "u8"}


def example(kind):
    """Return an argument of a Numba type, of which only the layout matters."""
    if isinstance(kind, types.Array):
        axes, memory = (1,) * kind.ndim, SimpleNamespace(address=0)
        return SimpleNamespace(
            dtype=np.dtype(str(kind.dtype)), memory=memory, offset=0, size=1, shape=axes, strides=axes
        )
    if isinstance(kind, types.BaseTuple):
        return [example(part) for part in kind]
    return 1


def flattened(kernel):
    """Return the types of the arguments that a launch passes; Python integers have 64 bits."""
    values = []
    for kind in kernel.signature:
        launch.append_argument(values, example(kind), kind)
    return [KINDS.get(type(value), "u64") for value in values]


@pytest.fixture(scope="module", autouse=True)
def _rare_garbage_collection():
    """The compiler makes millions of objects, and scanning them takes a sixth of its time."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


@pytest.mark.skipif(assembler() is None, reason="ptxas is not installed: it comes with the extra cuda12")
@pytest.mark.parametrize("kernel", TABLE, ids=lambda kernel: kernel.name)
def test_every_kernel_is_assembled_without_spills_and_takes_what_a_launch_passes(kernel):
    texts = compiled(kernel)
    assert parameters(texts[0]) == flattened(kernel)
    for capability, text, found in zip(capabilities(kernel), texts, assemble(kernel, texts), strict=True):
        print("{:45} sm_{}{} {}".format(kernel.name, *capability, found))
        assert found.spill_stores == found.spill_loads == 0, found
        assert found.stack == 0, found
        assert (found.matrix > 0) == ("mma.sync" in text) == ("_tf32" in kernel.name or "_bf16" in kernel.name)


@pytest.mark.skipif(assembler() is None, reason="ptxas is not installed: it comes with the extra cuda12")
def test_the_loop_that_measures_the_peak_is_nearly_all_multiply_adds():
    """Every other instruction would lower the measured peak."""
    kernel = roofline._multiply_adds
    for found in assemble(kernel, compiled(kernel)):
        assert found.multiply_adds > 0.95, found
