"""The mapping of convolutions to GEMMs: strides in elements, loops over a window, groups, and rounds of channels."""

from typing import NamedTuple

from numbacnn.kernels.cpu.gemm.gemm import MR, NR
from numbacnn.kernels.cpu.gemm.microkernel import LoopNest

SPAN_PIXELS = 1 << 11  # of small images that share an indirection buffer
ROUND_BYTES = 1 << 22  # of packed weights that are multiplied while they are in cache


class Steps(NamedTuple):
    """Elements from one image, row and pixel of an N×H×W×C array to the next."""

    image: int
    row: int
    pixel: int


def elements(strides):
    """The strides of an array's first three axes, in elements."""
    return Steps(strides[0] // 4, strides[1] // 4, strides[2] // 4)


def strides_of(array):
    """Strides in bytes, None for no array."""
    return None if array is None else array.strides


def images_per_span(images, pixels):
    """The number of images that share one indirection buffer: the divisor of ``images`` that pads the fewest rows."""
    limit = max(1, SPAN_PIXELS // max(1, pixels))
    divisors = [n for n in range(1, min(images, limit) + 1) if images % n == 0]
    return min(divisors, key=lambda n: (-(-n * pixels // MR) * MR / n, n))


def window_loops(r, s, c, row_step, column_step):
    """The counts of the loops over a window, and A's strides. Contiguous columns and channels make one loop."""
    if column_step == c:
        if c % NR == 0:  # the microkernel prefetches the next step of the middle loop while it multiplies
            return (r, s * c // NR, NR), (row_step, NR, 1)
        return (r, 1, s * c), (row_step, 0, 1)
    return (r, s, c), (row_step, column_step, 1)


def packed_strides(counts):
    """B's strides in packed micro-panels."""
    return counts[1] * counts[2] * NR, counts[2] * NR, NR


def loop_nest(counts, a_strides, b_strides):
    """Make a ``LoopNest`` from triples of counts and strides."""
    return LoopNest(*counts, *a_strides, *b_strides)


def one_group(g):
    """The geometry of one of g's groups."""
    return g._replace(c=g.c // g.groups, k=g.k // g.groups, groups=1)


def group_slices(x, y, g):
    """Yield each group's views of input and output channels, and the slice of the latter."""
    c, k = g.c // g.groups, g.k // g.groups
    for group in range(g.groups):
        outputs = slice(group * k, (group + 1) * k)
        yield x[..., group * c : (group + 1) * c], y[..., outputs], outputs


def channel_rounds(channels, step):
    """Slices of ``step`` channels."""
    return [slice(first, min(first + step, channels)) for first in range(0, channels, step)]


def channels_per_round(channels, floats):
    """The number of channels, of ``floats`` packed weights each, to pack at a time: all, or whole micro-panels."""
    return min(channels, max(1, ROUND_BYTES // (4 * floats * NR)) * NR)
