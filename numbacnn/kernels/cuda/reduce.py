"""Block-wide reductions, in an order that depends only on the number of threads."""

from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function


@device_function
def block_sum(shared, value):
    """The sum of ``value`` over a one-dimensional block of 2ᵏ threads, returned to all of them.

    shared: an array of the block with an element for each thread. Every thread of the block must call this.
    """
    i = cuda.threadIdx.x
    cuda.syncthreads()  # an earlier call's result may still be read
    shared[i] = value
    step = cuda.blockDim.x // 2
    while step > 0:
        cuda.syncthreads()
        if i < step:
            shared[i] += shared[i + step]
        step //= 2
    cuda.syncthreads()
    return shared[0]
