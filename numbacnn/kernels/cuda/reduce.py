"""Sums over the threads of a block, in an order that the number of threads alone decides."""

from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function


@device_function
def block_sum(shared, value):
    """The sum of ``value`` over the threads of a block of one axis, for all of them; their number is a power of two.

    shared: an array of the block with an element for each thread. Every thread of the block must call this.
    """
    i = cuda.threadIdx.x
    cuda.syncthreads()  # what an earlier call left may still be read
    shared[i] = value
    step = cuda.blockDim.x // 2
    while step > 0:
        cuda.syncthreads()
        if i < step:
            shared[i] += shared[i + step]
        step //= 2
    cuda.syncthreads()
    return shared[0]
