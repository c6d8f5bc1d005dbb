"""Stands in for the driver and the GPU: memory, kernels, and graphs of the PTX runtime, below everything else.

``install`` replaces what ``numbacnn.kernels.cuda.runtime`` takes from the driver. A kernel with an error (see
``runtime.c``) raises KernelError when it is launched.
"""

import ctypes
import struct
from typing import NamedTuple

import numpy as np

from numbacnn.kernels.cuda.runtime import array, driver, launch
from numbacnn.kernels.cuda.runtime.memory import OutOfMemory
from ptx import build
from ptx.parser import parse
from ptx.translator import SIZES, offsets, translate, waits

ORDERS = ("forward", "reversed", "random")
SHARED_BYTES, PARAMETER_BYTES, GRID = 48 << 10, 4 << 10, ((1 << 31) - 1, 65535, 65535)
FREE = 1 << 32  # bytes of free memory that the device claims to have


class KernelError(AssertionError):
    """Errors of a launch, each with the kind, the line of the PTX, block and thread."""


class Setup(NamedTuple):
    """The device's compute capability, and the order of threads and blocks."""

    capability: tuple[int, int]
    order: str


setup = Setup((8, 0), "forward")
executed: set[tuple] = set()  # the functions and signatures of the kernels that have run
launches = 0
_runtime: ctypes.PyDLL | None = None


def runtime() -> ctypes.PyDLL:
    """Return the compiled ``runtime.c``."""
    global _runtime
    if _runtime is None:
        _runtime = build.library((build.HERE / "runtime.c").read_text())
        _runtime.allocate.restype, _runtime.allocate.argtypes = ctypes.c_uint64, [ctypes.c_uint64]
        _runtime.release.argtypes = [ctypes.c_uint64] * 2
        _runtime.error_text.restype = ctypes.c_char_p
    return _runtime


def statistics() -> dict[str, int]:
    """Return the numbers of checked accesses, waits at barriers, and lanes of matrix products."""
    found = (ctypes.c_uint64 * 3)()
    runtime().statistics(found)
    return dict(zip(("accesses", "barriers", "matrix products"), found, strict=True))


class Memory:
    """``memory.Memory`` in the arena of the runtime."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        self.address = runtime().allocate(self.size)
        if not self.address:
            raise OutOfMemory(self.size, FREE)
        self.array = np.ctypeslib.as_array((ctypes.c_uint8 * self.size).from_address(self.address))
        self.array[:] = 0

    def write(self, start, source):
        """Copy a host array to the bytes from ``start`` on."""
        self.array[start : start + source.nbytes] = source.reshape(-1).view(np.uint8)

    def copy(self, start, source, first, count):
        """Copy bytes of other memory."""
        self.array[start : start + count] = source.array[first : first + count]

    def read(self, start, target):
        """Copy the bytes from ``start`` on to a host array."""
        target.reshape(-1).view(np.uint8)[:] = self.array[start : start + target.nbytes]

    def __del__(self):
        if getattr(self, "address", 0):
            runtime().release(ctypes.c_uint64(self.address), ctypes.c_uint64(self.size))


class Program:
    """A kernel's PTX, translated and compiled. Raises Unsupported if it cannot be translated."""

    def __init__(self, name: str, text: str) -> None:
        self.name, module = name, parse(text)
        runtime()  # whose functions the library needs
        self._library = build.library(translate(module))
        self._kernel = ctypes.cast(self._library.kernel, ctypes.c_void_p)
        self.offsets, self.waits, self.max_threads = offsets(module), waits(module), module.max_threads
        self.sizes = (ctypes.c_uint32 * max(1, len(module.shared)))(*(size for _, size, _ in module.shared))
        self.arrays = len(module.shared)
        if sum(self.sizes) > SHARED_BYTES:
            raise KernelError(f"{name}: {sum(self.sizes)} bytes of shared memory")

    def run(self, blocks, threads, parameters: bytes, order: str | None = None) -> None:
        """Run a grid. Raises KernelError with the first errors."""
        count = threads[0] * threads[1] * threads[2]
        if not 0 < count <= min(1024, self.max_threads) or any(n > most for n, most in zip(blocks, GRID, strict=True)):
            raise KernelError(f"{self.name}: a grid of {blocks} × {threads}, at most {self.max_threads} threads")
        how = ORDERS.index(order or setup.order)
        three = ctypes.c_uint32 * 3
        arguments = self._kernel, parameters, three(*blocks), three(*threads), self.arrays, self.sizes, self.waits, how
        errors = runtime().run_grid(*arguments)
        if errors:
            first: dict[str, str] = {}
            for line in runtime().error_text().decode().splitlines():
                first.setdefault(" ".join(line.split("|")[:2]), line)
            raise KernelError("\n".join([f"{self.name}: {errors} errors, the first of each kind:", *first.values()]))

    def pack(self, values) -> bytes:
        """Return the parameters' bytes from values as ``launch.append_argument`` makes them."""
        if len(values) != len(self.offsets):
            raise KernelError(f"{self.name}: {len(values)} arguments for {len(self.offsets)} parameters")
        end = max((start + SIZES[kind] for start, kind in self.offsets), default=0)
        if end > PARAMETER_BYTES:
            raise KernelError(f"{self.name}: {end} bytes of parameters")
        packed = bytearray(end)
        for value, (start, kind) in zip(values, self.offsets, strict=True):
            part = _bytes_of(value)
            floats = isinstance(value, float | ctypes.c_float | ctypes.c_double)
            if len(part) != SIZES[kind] or floats != kind.startswith("f"):
                raise KernelError(f"{self.name}: {value!r} for a parameter of type {kind}")
            packed[start : start + len(part)] = part
        return bytes(packed)


def _bytes_of(value) -> bytes:
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, bool):
        return bytes([value])
    return struct.pack("<q", value) if isinstance(value, int) else bytes(value)


class CompiledKernel:
    """``launch.CompiledKernel``, whose launches run on the CPU."""

    def __init__(self, function, signature, **options) -> None:
        self.function, self.signature = function, signature
        (text,) = build.ptx(function, signature, options, [setup.capability])
        self.program = Program(function.__name__, text)

    def launcher(self, blocks, threads, arguments):
        """Return a function that launches the kernel with these arguments."""
        values: list = []
        for argument, kind in zip(arguments, self.signature, strict=True):
            launch.append_argument(values, argument, kind)
        parameters = self.program.pack(values)

        def run() -> None:
            global launches
            if launch._streams.nested:
                launch._streams.nested[-1].append(run)
                return
            self.program.run(blocks, threads, parameters)
            executed.add((self.function, self.signature))
            launches += 1

        run.keeps = arguments
        return run


def install(capability: tuple[int, int], order: str) -> None:
    """Let device "cuda" run on the CPU from now on."""
    global setup
    setup = Setup(capability, order)
    array.Memory = Memory
    launch.CompiledKernel, launch.capture = CompiledKernel, launch._capture_simulated
    driver.why_not = lambda: None
    driver.has_driver = lambda: True
    driver.list_gpus = lambda: [driver.Gpu("PTX on a CPU", capability, FREE, FREE)]
    driver.free_memory = lambda: FREE
    driver.driver_version = driver.toolkit_version
    driver.synchronize = lambda: None
