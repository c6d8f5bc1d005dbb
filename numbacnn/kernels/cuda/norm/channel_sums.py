"""Sums over images and pixels for each channel, in an order that depends only on the shape.

A block owns up to ``THREADS`` channels. Its threads form rows as wide as these channels, and each row owns pixels:
loads are coalesced even if there are few channels. The sums of the rows are added in order.
"""

from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS

MIN_PIXELS = 512  # of a part
ENOUGH_BLOCKS = 264  # two for each multiprocessor of a large GPU


def part_count(pixels: int, channels: int, sums: int = 1) -> int:
    """Return the number of parts to cut the pixels into; ``sums`` is the number of sums for each channel."""
    blocks = channel_blocks(channels) * sums
    return max(1, min(-(-ENOUGH_BLOCKS // blocks), -(-pixels * min(channels, THREADS) // (MIN_PIXELS * THREADS))))


def channel_blocks(channels: int) -> int:
    """Return the number of blocks that own all channels."""
    return -(-channels // THREADS)


@device_function
def owned_channel(channels):
    """(channel, row, width): this thread's channel and row, and the number of channels of the block."""
    start = cuda.blockIdx.x * cuda.blockDim.x
    width = min(channels - start, cuda.blockDim.x)
    row = cuda.threadIdx.x // width
    return start + cuda.threadIdx.x - row * width, row, width


@device_function
def owned_pixels(pixels, part, parts, row, width):
    """(first, end, step): the pixels of a part that this thread owns; none if its row is incomplete."""
    span = (pixels + parts - 1) // parts
    rows = cuda.blockDim.x // width
    end = min((part + 1) * span, pixels)
    return part * span + row if row < rows else end, end, rows


@device_function
def sum_rows(shared, value, width):
    """The sum of the values of a channel, row after row, for the threads of row 0.

    shared: an array of the block with an element for each thread. Every thread of the block must call this.
    """
    i = cuda.threadIdx.x
    cuda.syncthreads()  # an earlier call's result may still be read
    shared[i] = value
    cuda.syncthreads()
    if i < width:
        for row in range(1, cuda.blockDim.x // width):
            value += shared[row * width + i]
    return value
