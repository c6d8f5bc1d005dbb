"""The two roofs of this machine on the threads in use: multiply-adds a second, and bytes a second from memory."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from numbacnn.bench.timing import Launched, seconds
from numbacnn.engine.device import Device, cuda_facts, get_device
from numbacnn.engine.locks import engine_lock, get_num_threads
from numbacnn.kernels.recording import run

ARRAY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}  # of each of the triad's three: out of any cache
QUICK_BYTES = 1 << 22
STEPS = 200_000  # of multiply-adds for each item: some milliseconds
GPU_ITEMS = 1 << 20  # threads for four times the largest GPU
GPU_STEPS = {"fp32": 1 << 14, "tf32": 1 << 12, "bf16": 1 << 12}
SIMULATED, SIMULATED_STEPS = 64, {"fp32": 64, "tf32": 2, "bf16": 2}  # where a simulator runs it


class Roofs(NamedTuple):
    """``gflops``: 10⁹ operations a second, a multiply-add counted as two; ``bandwidth``: GB/s of a triad.

    The peak is that of ``precision``: of tensor cores, on operands in their registers, where that is not "fp32".
    """

    gflops: float
    bandwidth: float
    precision: str = "fp32"


def measure_roofs(device: Device | None = None, quick: bool = False) -> Roofs:
    """The best of some turns of each, as a roof is what cannot be exceeded; of the CPU by default."""
    device = get_device("cpu") if device is None else device
    items, steps, _ = _sizes(device, quick)
    y, turns = device.zeros(items), 2 if quick else 15
    multiply_adds, flops = _multiply_adds(device)
    compute = _best(_launched(device, lambda: multiply_adds(y, steps)), turns)
    triad, moved = make_triad(device, quick)
    return Roofs(items * steps * flops / compute / 1e9, moved / _best(triad, turns) / 1e9, device.precision)


def make_triad(device: Device, quick: bool = False) -> tuple[Launched, int]:
    """A triad a = b + s·c, and the bytes it counts: 12 an element, as STREAM does.

    What it reads is written before: memory that never was is one page of zeros, read from the cache again and again.
    """
    elements = _sizes(device, quick)[2]
    a, b, c = (device.zeros(elements) for _ in range(3))
    with engine_lock:
        for arrays in ((b, c, a), (c, a, b)):
            device.kernels.triad(*arrays, 3.0)
    return _launched(device, lambda: device.kernels.triad(a, b, c, 3.0)), 12 * elements


def _sizes(device: Device, quick: bool) -> tuple[int, int, int]:
    """Items and steps of multiply-adds, and elements of the triad's arrays."""
    if device.name == "cuda" and cuda_facts()["simulated"]:
        return SIMULATED, SIMULATED_STEPS[device.precision], SIMULATED
    elements = (QUICK_BYTES if quick else ARRAY_BYTES[device.name]) // 4
    if device.name == "cpu":
        return 4 * get_num_threads(), STEPS, elements
    return GPU_ITEMS, GPU_STEPS[device.precision], elements


def _multiply_adds(device: Device) -> tuple[Callable[[Any, int], None], int]:
    """What multiplies and adds in the device's precision, and the operations of an item in a step."""
    if device.name == "cpu":
        from numbacnn.kernels.cpu import roofline

        return device.kernels.multiply_adds, roofline.STEP_FLOPS
    from numbacnn.kernels.cuda import roofline as gpu_roofline

    if device.precision == "fp32":
        return device.kernels.multiply_adds, gpu_roofline.STEP_FLOPS
    work = partial(gpu_roofline.warp_multiply_adds, precision=device.precision)
    return work, gpu_roofline.WARP_STEP_FLOPS[device.precision]


def _launched(device: Device, work: Callable[[], None]) -> Launched:
    """Launches are recorded, so that Python's share is small."""
    with engine_lock:
        launches = device.record(work).launches

    def start() -> None:
        with engine_lock:
            run(launches)

    return Launched(start, device.synchronize)


def _best(work: Launched, turns: int) -> float:
    """Seconds of the fastest turn."""
    return min([seconds(work) for _ in range(1 + turns)][1:])
