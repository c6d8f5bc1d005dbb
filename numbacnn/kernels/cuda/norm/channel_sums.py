"""Sums over images and pixels for each channel, in an order that the shape alone decides.

A block owns up to ``THREADS`` channels. Its threads, lane by lane, own pixels of a channel each: neighbouring threads
read neighbouring floats, however few channels there are. The lanes' sums are added in order.
"""

from numbacnn.kernels.cuda.runtime.intrinsics import cuda, device_function
from numbacnn.kernels.cuda.runtime.jit import THREADS

LEAST_PIXELS = 512  # of a part
ENOUGH_BLOCKS = 264  # two for each multiprocessor of a large GPU


def part_count(pixels: int, channels: int, products: int = 1) -> int:
    """Into how many parts the pixels are cut, for so many sums of all channels."""
    blocks = channel_blocks(channels) * products
    return max(1, min(-(-ENOUGH_BLOCKS // blocks), -(-pixels * min(channels, THREADS) // (LEAST_PIXELS * THREADS))))


def channel_blocks(channels: int) -> int:
    """Blocks that own all channels together."""
    return -(-channels // THREADS)


@device_function
def my_channel(channels):
    """(channel, lane, width): this thread's, and how many channels the block owns."""
    start = cuda.blockIdx.x * cuda.blockDim.x
    width = min(channels - start, cuda.blockDim.x)
    lane = cuda.threadIdx.x // width
    return start + cuda.threadIdx.x - lane * width, lane, width


@device_function
def my_pixels(pixels, part, parts, lane, width):
    """(first, last, step): the pixels of a part that this thread owns; none where its lane is not whole."""
    span = (pixels + parts - 1) // parts
    lanes = cuda.blockDim.x // width
    last = min((part + 1) * span, pixels)
    return part * span + lane if lane < lanes else last, last, lanes


@device_function
def sum_lanes(shared, value, width):
    """The sum of the values of a channel, lane after lane, for the threads of lane 0.

    shared: an array of the block with an element for each thread. Every thread of the block must call this.
    """
    i = cuda.threadIdx.x
    cuda.syncthreads()  # what an earlier call left may still be read
    shared[i] = value
    cuda.syncthreads()
    if i < width:
        for lane in range(1, cuda.blockDim.x // width):
            value += shared[lane * width + i]
    return value
