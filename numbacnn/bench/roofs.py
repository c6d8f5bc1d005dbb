"""The two roofs of this machine on the threads in use: multiply-adds a second, and bytes a second from memory."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from numbacnn.bench.timing import Launched, seconds
from numbacnn.device import ENGINE, Device, cuda_facts, get_device, get_num_threads
from numbacnn.kernels.recording import run

ARRAY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}  # of each of the triad's three: out of any cache
QUICK_BYTES = 1 << 22
STEPS = 200_000  # of multiply-adds for each item: some milliseconds
GPU_ITEMS, GPU_STEPS = 1 << 20, 1 << 14  # threads for four times the largest GPU
SIMULATED = 64  # of everything, where a simulator runs it


class Roofs(NamedTuple):
    """``gflops``: 10⁹ operations a second, a multiply-add counted as two; ``bandwidth``: GB/s of a triad.

    The peak is that of fp32; where ``precision`` has products run on tensor cores, nothing is a share of it.
    """

    gflops: float
    bandwidth: float
    precision: str = "fp32"


def measure_roofs(device: Device | None = None, quick: bool = False) -> Roofs:
    """The best of some turns of each, as a roof is what cannot be exceeded; of the CPU by default.

    A triad a = b + s·c counts 12 bytes an element, as STREAM does.
    """
    device = get_device("cpu") if device is None else device
    items, steps, elements = _sizes(device, quick)
    y, turns = device.zeros(items), 2 if quick else 15
    a, b, c = (device.zeros(elements) for _ in range(3))
    compute = _best(device, lambda: device.kernels.multiply_adds(y, steps), turns)
    memory = _best(device, lambda: device.kernels.triad(a, b, c, 3.0), turns)
    gflops, bandwidth = items * steps * _step_flops(device) / compute / 1e9, 12 * elements / memory / 1e9
    return Roofs(gflops, bandwidth, device.precision)


def _sizes(device: Device, quick: bool) -> tuple[int, int, int]:
    """Items and steps of multiply-adds, and elements of the triad's arrays."""
    if device.name == "cuda" and cuda_facts()["simulated"]:
        return SIMULATED, SIMULATED, SIMULATED
    elements = (QUICK_BYTES if quick else ARRAY_BYTES[device.name]) // 4
    return (4 * get_num_threads(), STEPS, elements) if device.name == "cpu" else (GPU_ITEMS, GPU_STEPS, elements)


def _step_flops(device: Device) -> int:
    if device.name == "cpu":
        from numbacnn.kernels.cpu import roofline

        return roofline.STEP_FLOPS
    from numbacnn.kernels.cuda import roofline as gpu_roofline

    return gpu_roofline.STEP_FLOPS


def _best(device: Device, work: Callable[[], None], turns: int) -> float:
    """Seconds of the fastest turn. Launches are recorded, so that Python's share is small."""
    with ENGINE:
        start = partial(run, device.record(work).launches)
        return min([seconds(Launched(start, device.synchronize)) for _ in range(1 + turns)][1:])
