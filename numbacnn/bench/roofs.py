"""The two roofs of this machine on the threads in use: multiply-adds a second, and bytes a second from memory."""

from typing import NamedTuple

import numpy as np

from numbacnn.bench.timing import seconds
from numbacnn.device import ENGINE, get_num_threads

ARRAY_BYTES = 256 << 20  # of each of the triad's three: out of any cache
STEPS = 200_000  # of multiply-adds for each item: some milliseconds


class Roofs(NamedTuple):
    """``gflops``: 10⁹ operations a second, a multiply-add counted as two; ``bandwidth``: GB/s of a triad."""

    gflops: float
    bandwidth: float


def measure_roofs(turns: int = 15, array_bytes: int = ARRAY_BYTES) -> Roofs:
    """The best of ``turns`` turns of each, as a roof is what cannot be exceeded.

    A triad a = b + s·c counts 12 bytes an element, as STREAM does.
    """
    from numbacnn.kernels.cpu import roofline

    items, elements = np.zeros(4 * get_num_threads(), np.float32), array_bytes // 4
    a, b, c = (np.ones(elements, np.float32) for _ in range(3))
    with ENGINE:
        compute = [seconds(lambda: roofline.multiply_adds(items, STEPS)) for _ in range(1 + turns)]
        memory = [seconds(lambda: roofline.triad(a, b, c, 3.0)) for _ in range(1 + turns)]
    flops = len(items) * STEPS * roofline.STEP_FLOPS
    return Roofs(flops / min(compute[1:]) / 1e9, 12 * elements / min(memory[1:]) / 1e9)
