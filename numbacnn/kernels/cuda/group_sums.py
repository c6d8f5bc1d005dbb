"""Sums over flat arrays in SUM_GROUPS ranges. A block owns each range, and one block adds the partial sums in order."""

from numba import types

from numbacnn.kernels.cuda.reduce import block_sum
from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS, cuda_kernel, int64, numba_type
from numbacnn.kernels.step_scalars import SUM_GROUPS

float64 = types.float64
float64_1d, float64_2d = types.Array(float64, 1, "C"), types.Array(float64, 2, "C")
SUM_THREADS = min(512, 2 * THREADS)  # per block of a range, at most
ADDING_THREADS = min(SUM_GROUPS, THREADS)  # of the one block that adds the partial sums


def group_sums(*signature):
    """Make ``launch(partial, count, *arguments)`` from a function ``term(i, *arguments)`` of these types.

    partial[g] = Σ term over range g of ``count`` items. partial: SUM_GROUPS float64.
    """
    return lambda term: _launcher(term, _one_sum, float64_1d, signature)


def two_group_sums(*signature):
    """Make ``group_sums`` of two quantities: the term is a tuple, and partial 2×SUM_GROUPS."""
    return lambda term: _launcher(term, _two_sums, float64_2d, signature)


def _launcher(term, define, partial_type, signature):
    function = define(device_function(term))
    function.__name__ = term.__name__
    compiled = cuda_kernel(partial_type, int64, types.Tuple(tuple(map(numba_type, signature))))(function)

    def launch(partial, count, *arguments):
        compiled[over_groups(count)](partial, count, arguments)

    return launch


def _one_sum(term):
    def kernel(partial, count, arguments):
        shared = cuda.shared.array(SUM_THREADS, float64)
        i, end = range_of_block(count)
        total = 0.0
        while i < end:
            total += term(i, *arguments)
            i += cuda.blockDim.x
        total = block_sum(shared, total)
        if cuda.threadIdx.x == 0:
            partial[cuda.blockIdx.x] = total

    return kernel


def _two_sums(term):
    def kernel(partial, count, arguments):
        shared = cuda.shared.array(SUM_THREADS, float64)
        i, end = range_of_block(count)
        first, second = 0.0, 0.0
        while i < end:
            a, b = term(i, *arguments)
            first, second = first + a, second + b
            i += cuda.blockDim.x
        first, second = block_sum(shared, first), block_sum(shared, second)
        if cuda.threadIdx.x == 0:
            partial[0, cuda.blockIdx.x], partial[1, cuda.blockIdx.x] = first, second

    return kernel


def over_groups(count):
    """Return the grid for SUM_GROUPS ranges of ``count`` items: a block each, smaller if items are few."""
    threads = 1
    while threads < SUM_THREADS and threads * SUM_GROUPS < count:
        threads *= 2
    return SUM_GROUPS, threads


@device_function
def range_of_block(count):
    """The first item of this thread, and the end of its block's range, of ``count`` items."""
    group = cuda.blockIdx.x
    return count * group // SUM_GROUPS + cuda.threadIdx.x, count * (group + 1) // SUM_GROUPS


@device_function
def row_sum(shared, partial, row):
    """The sum of a row of SUM_GROUPS partial sums, for all threads of the block."""
    i, total = cuda.threadIdx.x, 0.0
    while i < SUM_GROUPS:
        total += partial[row, i]
        i += cuda.blockDim.x
    return block_sum(shared, total)
