"""Reductions over the threads of a block, in a fixed tree that depends only on the number of threads.

``shared`` is an array of the block with an element for each thread. Every thread of the block must call a reduction.
"""

from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function


@device_function
def larger(a, b):
    """The larger number; NaN if one is NaN."""
    return a if a >= b or a != a else b


@device_function
def _plus(a, b):
    return a + b


def _tree(combine):
    """Make the reduction of ``size`` threads, a power of two, that are ``stride`` apart; all of them get the result.

    i: the index of this thread in ``shared``; rank: its number among the ``size`` threads.
    """

    @device_function
    def reduce(shared, value, i, rank, size, stride):
        step = size // 2
        cuda.syncthreads()  # an earlier call's result may still be read
        shared[i] = value
        while step > 0:
            cuda.syncthreads()
            if rank < step:
                shared[i] = combine(shared[i], shared[i + step * stride])
            step //= 2
        cuda.syncthreads()
        return shared[i - rank * stride]

    return reduce


_sum, _max = _tree(_plus), _tree(larger)


@device_function
def block_sum(shared, value):
    """The sum over a one-dimensional block."""
    return _sum(shared, value, cuda.threadIdx.x, cuda.threadIdx.x, cuda.blockDim.x, 1)


@device_function
def column_sum(value, shared):
    """The sum over threadIdx.y of a two-dimensional block."""
    i = cuda.threadIdx.y * cuda.blockDim.x + cuda.threadIdx.x
    return _sum(shared, value, i, cuda.threadIdx.y, cuda.blockDim.y, cuda.blockDim.x)


@device_function
def team_sum(shared, value, team):
    """The sum over a team: ``team`` neighboring threads of a one-dimensional block."""
    i = cuda.threadIdx.x
    return _sum(shared, value, i, i % team, team, 1) if team > 1 else value


@device_function
def team_max(shared, value, team):
    """The maximum over a team; NaN if a value is NaN."""
    i = cuda.threadIdx.x
    return _max(shared, value, i, i % team, team, 1) if team > 1 else value
