"""Faults planted in kernels are found, in every order of threads; kernels without faults pass."""

import numpy as np
import pytest
from numba import types

from numbacnn.kernels.cuda.gemm.tensor_cores import TF32
from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.array import DeviceArray
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, load4
from numbacnn.kernels.cuda.runtime.jit import float32_1d
from ptx import device
from ptx.machine import needs_compilers

pytestmark = needs_compilers
float32, multiply = types.float32, TF32.mma
ARRAYS = float32_1d, float32_1d


def on_device(values):
    array = np.ascontiguousarray(values, np.float32)
    made = DeviceArray(device.Memory(array.nbytes), 0, array.shape, (4,), np.float32)
    made.write(array)
    return made


def run(kernel, y, x, blocks=1, threads=64, order="forward", signature=ARRAYS):
    """Run a kernel on copies of two arrays; return the first."""
    compiled = device.CompiledKernel(kernel, signature)
    arrays = [on_device(y), on_device(x)]
    compiled_setup, device.setup = device.setup, device.setup._replace(order=order)
    try:
        compiled.launcher((blocks, 1, 1), (threads, 1, 1), tuple(arrays))()
    finally:
        device.setup = compiled_setup
    return arrays[0].read()


def writes_past_the_end(y, x):
    y[cuda.grid(1) + 1] = x[0]


def reads_past_the_end(y, x):
    y[cuda.grid(1)] = x[cuda.grid(1) + 1]


def loads_a_misaligned_vector(y, x):
    i = cuda.grid(1)
    if i == 0:
        y[0] = load4(x, (i + 1,))[0]


def reads_before_a_barrier(y, x):
    shared, i = cuda.shared.array(64, float32), cuda.threadIdx.x
    shared[i] = x[i]
    y[i] = shared[63 - i]


def writes_before_a_barrier(y, x):
    shared, i = cuda.shared.array(64, float32), cuda.threadIdx.x
    shared[i] = x[i]
    cuda.syncthreads()
    y[i] = shared[63 - i]
    shared[i] = x[i] + x[0]


def reads_what_nobody_wrote(y, x):
    shared, i = cuda.shared.array(64, float32), cuda.threadIdx.x
    if i > 0:
        shared[i] = x[i]
    cuda.syncthreads()
    y[i] = shared[63 - i]


def reads_past_shared_memory(y, x):
    shared, i = cuda.shared.array(64, float32), cuda.threadIdx.x
    shared[i] = x[i]
    cuda.syncthreads()
    y[i] = shared[i + 1]


def writes_one_element_twice(y, x):
    y[cuda.threadIdx.x] = x[cuda.blockIdx.x]


def reads_what_another_block_writes(y, x):
    i = cuda.grid(1)
    y[i] = x[i] + y[(i + cuda.blockDim.x) % y.size]


def waits_in_some_threads(y, x):
    i = cuda.threadIdx.x
    if i < 32:
        cuda.syncthreads()
    y[i] = x[i]


def multiplies_in_half_a_warp(y, x):
    i = cuda.threadIdx.x
    if i < 16:
        words = x[i], x[i], x[i], x[i], x[i], x[i]
        y[i] = multiply((*words, x[i], x[i], x[i], x[i]))[0]


FAULTS = {
    writes_past_the_end: "global write out of bounds",
    reads_past_the_end: "global read out of bounds",
    loads_a_misaligned_vector: "misaligned access",
    reads_before_a_barrier: "shared race",
    writes_before_a_barrier: "shared race: write after read",
    reads_what_nobody_wrote: "shared read of uninitialized memory",
    reads_past_shared_memory: "shared read out of bounds",
    writes_one_element_twice: "global race: write after write",
    reads_what_another_block_writes: "global race",
    waits_in_some_threads: "barrier that some threads do not reach",
    multiplies_in_half_a_warp: "matrix product without the whole warp",
}


@pytest.mark.parametrize("order", device.ORDERS)
@pytest.mark.parametrize(("kernel", "error"), FAULTS.items(), ids=[kernel.__name__ for kernel in FAULTS])
def test_a_planted_fault_is_found(kernel, error, order):
    blocks = 2 if "element" in kernel.__name__ or "block_" in kernel.__name__ else 1
    size = 64 * (2 if kernel is reads_what_another_block_writes else 1)
    with pytest.raises(device.KernelError, match=rf"{kernel.__name__}: (.|\n)*\n{error}"):
        run(kernel, np.zeros(size), np.ones(size), blocks, order=order)


def sums_its_block(y, x):
    shared = cuda.shared.array(64, float32)
    total = block_sum(shared, x[cuda.grid(1)])
    if cuda.threadIdx.x == 0:
        y[cuda.blockIdx.x] = total


def test_a_correct_kernel_has_the_same_bits_in_every_order():
    x = np.random.default_rng(0).standard_normal(192).astype(np.float32)
    first, *others = (run(sums_its_block, np.zeros(3), x, 3, order=order) for order in device.ORDERS)
    np.testing.assert_allclose(first, x.reshape(3, 64).sum(axis=1), rtol=1e-5)
    for other in others:
        np.testing.assert_array_equal(other, first)


def test_launches_that_a_gpu_would_reject():
    with pytest.raises(device.KernelError, match="a grid of"):
        run(sums_its_block, np.zeros(3), np.zeros(192), threads=2048)
    program = device.CompiledKernel(sums_its_block, ARRAYS).program
    with pytest.raises(device.KernelError, match="for a parameter of type"):
        program.pack([0.5] * len(program.offsets))
