"""The peaks of this machine on the threads in use: multiply-adds per second, and memory bandwidth."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from numbacnn.bench.timing import Launched, seconds
from numbacnn.engine.device import Device, cuda_facts, get_device
from numbacnn.engine.locks import engine_lock, get_num_threads
from numbacnn.kernels.recording import run

ARRAY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30}  # of each of the triad's three arrays: too large for any cache
QUICK_BYTES = 1 << 22
STEPS = 200_000  # of multiply-adds per item: some milliseconds
GPU_ITEMS = 1 << 20  # enough threads for the largest GPU four times over
GPU_STEPS = {"fp32": 1 << 14, "tf32": 1 << 12, "bf16": 1 << 12}
SIMULATED, SIMULATED_STEPS = 64, {"fp32": 64, "tf32": 2, "bf16": 2}  # in CUDA's simulator


class Peaks(NamedTuple):
    """Peak compute in GFLOP/s, a multiply-add counted as two operations, and bandwidth of a triad in GB/s.

    A GPU's compute is that of ``precision``: for "tf32" and "bf16", of tensor cores on operands in registers.
    """

    gflops: float
    bandwidth: float
    precision: str = "fp32"


def measure_peaks(device: Device | None = None, quick: bool = False) -> Peaks:
    """Measure the peaks of a device, by default the CPU: the best of several turns, as a peak is an upper bound."""
    device = get_device("cpu") if device is None else device
    items, steps, _ = _sizes(device, quick)
    y, turns = device.zeros(items), 2 if quick else 15
    multiply_adds, flops = _multiply_adds(device)
    compute = _best(_launched(device, lambda: multiply_adds(y, steps)), turns)
    triad, moved = make_triad(device, quick)
    return Peaks(items * steps * flops / compute / 1e9, moved / _best(triad, turns) / 1e9, device.precision)


def make_triad(device: Device, quick: bool = False) -> tuple[Launched, int]:
    """Return a triad a = b + s·c (STREAM, McCalpin 1995), and the bytes that it moves: 12 per element.

    The arrays are written first: memory that was never written maps to one page of zeros, which stays in the cache.
    """
    elements = _sizes(device, quick)[2]
    a, b, c = (device.zeros(elements) for _ in range(3))
    with engine_lock:
        for arrays in ((b, c, a), (c, a, b)):
            device.kernels.triad(*arrays, 3.0)
    return _launched(device, lambda: device.kernels.triad(a, b, c, 3.0)), 12 * elements


def _sizes(device: Device, quick: bool) -> tuple[int, int, int]:
    """Return items and steps of the multiply-adds, and elements of the triad's arrays."""
    if device.name == "cuda" and cuda_facts()["simulated"]:
        return SIMULATED, SIMULATED_STEPS[device.precision], SIMULATED
    elements = (QUICK_BYTES if quick else ARRAY_BYTES[device.name]) // 4
    if device.name == "cpu":
        return 4 * get_num_threads(), STEPS, elements
    return GPU_ITEMS, GPU_STEPS[device.precision], elements


def _multiply_adds(device: Device) -> tuple[Callable[..., None], int]:
    """Return the kernel for the device's precision, and its operations per item and step."""
    if device.name == "cpu":
        from numbacnn.kernels.cpu import roofline

        return device.kernels.multiply_adds, roofline.STEP_FLOPS
    from numbacnn.kernels.cuda import roofline as gpu_roofline

    if device.precision == "fp32":
        return device.kernels.multiply_adds, gpu_roofline.STEP_FLOPS
    kernel = partial(gpu_roofline.warp_multiply_adds, precision=device.precision)
    return kernel, gpu_roofline.WARP_STEP_FLOPS[device.precision]


def _launched(device: Device, work: Callable[[], None]) -> Launched:
    """Record the launches of ``work``, which takes most of Python's time out of the measurement."""
    with engine_lock:
        launches = device.record(work).launches

    def start() -> None:
        with engine_lock:
            run(launches)

    return Launched(start, device.synchronize)


def _best(work: Launched, turns: int) -> float:
    """Return the seconds of the fastest turn, after one to warm up."""
    return min([seconds(work) for _ in range(1 + turns)][1:])
