"""The only module that imports ``numba.cuda``: what its successor would have to offer stands here.

Three ways to be: with the package numba-cuda and a GPU; with the package and ``NUMBA_ENABLE_CUDASIM=1``, where Numba
runs kernels as Python, thread by thread, on memory of the host; and without the package, where kernels can be imported
and listed, but not run.
"""

import contextlib
import ctypes
import math
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from types import ModuleType, SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numba
import numpy as np

from numbacnn.kernels.formulas.formula import with_math

INSTALLED = find_spec("numba_cuda") is not None  # Numba's own numba.cuda is old, and not maintained
SIMULATED = INSTALLED and bool(numba.config.ENABLE_CUDASIM)

if INSTALLED:
    from numba import cuda as numba_cuda

    numba.config.CUDA_LOW_OCCUPANCY_WARNINGS = 0  # small layers make small grids
else:
    numba_cuda = None

# -- what kernels are written with ------------------------------------------------------------------------------------


class _Simulator:
    """``cuda`` for simulated kernels: that of the running launch. Numba puts it into the kernel's own module alone, and
    takes it away again while other threads still run functions of other modules."""

    _lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        from numba.cuda.simulator.kernel import _get_kernel_context

        return getattr(_get_kernel_context(), name)

    @property
    def shared(self) -> Any:
        return SimpleNamespace(array=self._shared_array)

    def _shared_array(self, shape: Any, dtype: Any, alignment: int | None = None) -> Any:
        """One array for all threads of a block and each line of code that asks for one."""
        from numba.cuda.simulator.kernel import _get_kernel_context

        caller = sys._getframe(1)
        with self._lock:
            arrays = _get_kernel_context().__dict__.setdefault("numbacnn_shared", {})
            key = caller.f_code, caller.f_lineno
            if key not in arrays:
                arrays[key] = np.full(shape, np.nan, numba.np.numpy_support.as_dtype(dtype))
            return arrays[key]


cuda: Any = _Simulator() if SIMULATED else numba_cuda


def _quiet(function: Callable[..., Any]) -> Callable[..., Any]:
    """A function of NumPy's without warnings of overflow, and in float32, as the device's are."""

    def quiet(*arguments: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.float32(function(*arguments))

    return quiet


MATHS: Any = ModuleType("math")  # with ``fma``, which Python's has from version 3.13 on
vars(MATHS).update(vars(math))
if SIMULATED:  # Python's functions raise where the device's give infinity or NaN
    names = ("exp", "expm1", "log", "log1p", "sqrt", "tanh", "pow", "floor", "sin", "cos")
    vars(MATHS).update({name: _quiet(getattr(np, name)) for name in names}, erfc=_quiet(math.erfc))
if SIMULATED or not INSTALLED:
    MATHS.fma = _quiet(lambda x, y, z: np.float64(x) * y + z)
else:
    MATHS.fma = numba_cuda.libdevice.fmaf

# cos(πx) and sin(πx) of a float64: without the table that other angles of any size take, which lies in slow memory.
if SIMULATED or not INSTALLED:

    def cospi(x: float) -> float:
        """cos(πx)."""
        return math.cos(math.pi * x)

    def sinpi(x: float) -> float:
        """sin(πx)."""
        return math.sin(math.pi * x)

else:
    cospi, sinpi = numba_cuda.libdevice.cospi, numba_cuda.libdevice.sinpi


def device_function(function: Callable[..., Any]) -> Any:
    """One thread's work as its own function, which kernels and other device functions call; compiled into them."""
    if SIMULATED or not INSTALLED or hasattr(function, "py_func"):  # it is one already
        return function
    return numba_cuda.jit(device=True, forceinline=True)(function)


def scalar_function(function: Callable[..., Any]) -> Any:
    """A scalar function of Python as a device function, with the device's ``math``."""
    return device_function(with_math(function, MATHS, device_function))


# Elements of contiguous arrays by a flat index, which does not wrap around where it is negative: kernels that compute
# with memory as a whole need no such test. And four floats at a time, in one access of 16 bytes.

if SIMULATED or not INSTALLED:

    def load(array: Any, i: int) -> Any:
        """array[i]."""
        return array[i]

    def store(array: Any, i: int, value: Any) -> None:
        """array[i] = value."""
        array[i] = value

    def load4(x: Any, at: Any) -> Any:
        """The four floats of a device array from index ``at`` on, at a multiple of 16 bytes, as a tuple."""
        *front, last = at
        return tuple(x[(*front, last + lane)] for lane in range(4))

    def store4(x: Any, at: Any, values: Any) -> None:
        """Writes four floats where ``load4`` reads them."""
        *front, last = at
        for lane in range(4):
            x[(*front, last + lane)] = values[lane]

else:
    from llvmlite import ir
    from numba.core import cgutils
    from numba.cuda.extending import intrinsic
    from numba.cuda.np import arrayobj

    VECTOR = ir.VectorType(ir.FloatType(), 4)
    FLOATS = numba.types.UniTuple(numba.types.float32, 4)

    def _vector_pointer(context: Any, builder: Any, kinds: Any, arguments: Any) -> Any:
        (array_kind, at_kind), (array, at) = kinds[:2], arguments[:2]
        parts = zip(cgutils.unpack_tuple(builder, at), at_kind, strict=True)
        indices = [context.cast(builder, part, kind, numba.types.intp) for part, kind in parts]
        struct = arrayobj.make_array(array_kind)(context, builder, array)
        pointer = cgutils.get_item_pointer(context, builder, array_kind, struct, indices, wraparound=False)
        return builder.bitcast(pointer, VECTOR.as_pointer())

    def _pointer(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        """To the element of the first two arguments, an array and an index."""
        return builder.gep(arrayobj.make_array(signature.args[0])(context, builder, arguments[0]).data, [arguments[1]])

    @intrinsic  # type: ignore[untyped-decorator]
    def load(typing: Any, array: Any, i: Any) -> Any:
        """array[i]."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            return builder.load(_pointer(context, builder, signature, arguments))

        return array.dtype(array, numba.types.int64), emit

    @intrinsic  # type: ignore[untyped-decorator]
    def store(typing: Any, array: Any, i: Any, value: Any) -> Any:
        """array[i] = value."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            builder.store(arguments[2], _pointer(context, builder, signature, arguments))
            return context.get_dummy_value()

        return numba.types.void(array, numba.types.int64, array.dtype), emit

    @intrinsic  # type: ignore[untyped-decorator]
    def load4(typing: Any, x: Any, at: Any) -> Any:
        """The four floats of a device array from index ``at`` on, at a multiple of 16 bytes, as a tuple."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = builder.load(_vector_pointer(context, builder, signature.args, arguments), align=16)
            lanes = [builder.extract_element(vector, ir.Constant(ir.IntType(32), lane)) for lane in range(4)]
            return cgutils.pack_array(builder, lanes)

        return FLOATS(x, at), emit

    @intrinsic  # type: ignore[untyped-decorator]
    def store4(typing: Any, x: Any, at: Any, values: Any) -> Any:
        """Writes four floats where ``load4`` reads them."""

        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            vector = ir.Constant(VECTOR, ir.Undefined)
            for lane, value in enumerate(cgutils.unpack_tuple(builder, arguments[2])):
                vector = builder.insert_element(vector, value, ir.Constant(ir.IntType(32), lane))
            builder.store(vector, _vector_pointer(context, builder, signature.args, arguments), align=16)
            return context.get_dummy_value()

        return numba.types.void(x, at, FLOATS), emit


def instruction(text: str, outputs: str, inputs: str, of_warp: bool = False) -> Any:
    """A device function of a tuple of float32, the operands of one PTX instruction: $0, $1 … in ``text``, first the
    outputs, which it returns, one or a tuple. Each has a letter: f, a number, or r, 32 bits of any meaning.
    ``of_warp``: its threads run it together, so that the compiler leaves it where it is."""

    @intrinsic  # type: ignore[untyped-decorator]
    def run(typing: Any, operands: Any) -> Any:
        def emit(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            number, word = ir.FloatType(), ir.IntType(32)
            given = [
                builder.bitcast(value, word) if letter == "r" else value
                for value, letter in zip(cgutils.unpack_tuple(builder, arguments[0]), inputs, strict=True)
            ]
            kinds = [word if letter == "r" else number for letter in outputs]
            several = len(kinds) > 1
            kind = ir.FunctionType(ir.LiteralStructType(kinds) if several else kinds[0], [v.type for v in given])
            operands = ",".join([*(f"={letter}" for letter in outputs), *inputs])
            result = builder.asm(kind, text, operands, given, of_warp)
            parts = [builder.extract_value(result, i) for i in range(len(kinds))] if several else [result]
            floats = [builder.bitcast(part, number) if part.type == word else part for part in parts]
            return cgutils.pack_array(builder, floats) if several else floats[0]

        one = numba.types.float32
        return (numba.types.UniTuple(one, len(outputs)) if len(outputs) > 1 else one)(operands), emit

    return run


def of_warp(function: Callable[[list[Any]], Sequence[Any]]) -> Callable[[Any], Any]:
    """The simulator's form of an instruction that the threads of a warp run together: a function of one thread's
    operands, from a function that makes the results of all 32 lanes from the operands of all. All threads of the block
    run it as many times."""

    def run(operands: Any) -> Any:
        from numba.cuda.simulator.kernel import _get_kernel_context

        context = _get_kernel_context()
        calls, given, results = context.__dict__.setdefault("numbacnn_warps", ({}, {}, {}))
        thread = context.threadIdx.x
        warp, lane = thread // 32, thread % 32
        calls[thread] = calls.get(thread, 0) + 1
        turn = warp, calls[thread] % 2  # two in turn: one barrier between writing and reading is then enough
        given[*turn, lane] = operands
        results.pop(turn, None)
        context.syncthreads()
        if turn not in results:
            results[turn] = function([given[*turn, each] for each in range(32)])
        return results[turn][lane]

    return run


# -- compiling and launching ------------------------------------------------------------------------------------------

Grid = tuple[int, int, int]


class Code:
    """A kernel compiled for one signature, for the device at hand."""

    def __init__(self, function: Callable[..., None], signature: tuple[Any, ...], **options: Any) -> None:
        self.signature = signature
        self._dispatcher = numba_cuda.jit(function) if SIMULATED else numba_cuda.jit(**options)(function)
        self._kernel: Any = None if SIMULATED else self._dispatcher.compile(signature)

    def launcher(self, blocks: Grid, threads: Grid, arguments: tuple[Any, ...]) -> Callable[[], None]:
        """A function that launches the kernel on these arguments, checked and laid out here, once."""
        if SIMULATED:
            views = tuple(map(_simulated, arguments, self.signature))

            def simulate() -> None:
                if _streams:
                    _streams[-1].append(simulate)
                else:
                    self._dispatcher[blocks, threads](*views)  # there is one configuration, the last one, for all

            return simulate
        from cuda.core import LaunchConfig, launch

        values: list[Any] = []
        for argument, kind in zip(arguments, self.signature, strict=True):
            _lay_out(values, argument, kind)
        config = LaunchConfig(grid=blocks, block=threads)
        kernel = self._kernel._codelibrary.get_cufunc().kernel

        def run() -> None:
            launch(_stream(), config, kernel, *values)

        run.keeps = arguments  # type: ignore[attr-defined]  # the memory whose addresses are among the values
        return run


def _simulated(argument: Any, kind: Any) -> Any:
    from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray

    if isinstance(kind, numba.types.BaseTuple) and not hasattr(argument, "_fields"):
        return tuple(map(_simulated, argument, kind))
    if isinstance(kind, numba.types.Array):
        view: Any = np.ndarray(argument.shape, argument.dtype, argument.memory.array, 0, argument.strides)
        if argument.size:
            start = argument.offset * argument.dtype.itemsize
            view = np.ndarray(argument.shape, argument.dtype, argument.memory.array, start, argument.strides)
        return FakeCUDAArray(view)
    if isinstance(kind, numba.types.Number | numba.types.Boolean):
        return numba.np.numpy_support.as_dtype(kind).type(argument)
    return argument


def _lay_out(values: list[Any], argument: Any, kind: Any) -> None:
    """Appends an argument as Numba's compiled kernels take it."""
    types = numba.types
    if isinstance(kind, types.Array):
        meminfo = parent = 0
        itemsize = argument.dtype.itemsize
        address = argument.memory.address + argument.offset * itemsize
        values += [meminfo, parent, argument.size, itemsize, address, *argument.shape, *argument.strides]
    elif isinstance(kind, types.BaseTuple):
        for part, part_kind in zip(argument, kind, strict=True):
            _lay_out(values, part, part_kind)
    elif kind == types.boolean:
        values.append(bool(argument))
    else:
        c_types = {types.float32: ctypes.c_float, types.float64: ctypes.c_double}
        values.append((c_types.get(kind) or getattr(ctypes, f"c_{kind}"))(argument))


def compile_ptx(
    function: Callable[..., None],
    signature: tuple[Any, ...],
    capabilities: Sequence[tuple[int, int]],
    launch_bounds: Any = None,
) -> list[str]:
    """The kernel's PTX for each compute capability, such as (9, 0). Needs no device."""
    from numba.cuda.compiler import _compile_pyfunc_with_fixup

    device = SimpleNamespace(compute_capability=capabilities[0])
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):  # device functions ask for it
        library, _ = _compile_pyfunc_with_fixup(
            function, signature, device=False, abi="numba", cc=capabilities[0], launch_bounds=launch_bounds
        )
    return [library.get_asm_str(cc=capability) for capability in capabilities]


_streams: list[Any] = []  # those that launches go to instead of the default one; the last one counts


def _stream() -> Any:
    if _streams:
        return _streams[-1]
    from cuda.core import LEGACY_DEFAULT_STREAM

    return LEGACY_DEFAULT_STREAM


@contextlib.contextmanager
def launching_into(stream: Any) -> Iterator[None]:
    """Launches go to ``stream`` (or a graph that is being recorded) instead of the default one."""
    _streams.append(stream)
    try:
        yield
    finally:
        _streams.pop()


def capture(work: Callable[[], None]) -> Callable[[], None] | None:
    """The launches of ``work``, which do not run now, as a CUDA graph: a function that runs them all. None where the
    packages have no graphs.

    The graph holds addresses: whoever keeps it keeps the launches too, and so the memory that they are of.
    """
    if SIMULATED:
        return _captured_by_the_simulator(work)
    try:
        from cuda.core import LEGACY_DEFAULT_STREAM, Device

        device = Device()
        device.set_current()  # the context that Numba works in: each device's primary one
        builder = device.create_graph_builder()
    except (ImportError, AttributeError):
        return None
    try:
        builder.begin_building()
        with launching_into(builder):
            work()
        graph = builder.end_building().complete()
    finally:
        builder.close()
    return lambda: graph.launch(LEGACY_DEFAULT_STREAM)


def _captured_by_the_simulator(work: Callable[[], None]) -> Callable[[], None]:
    launches: list[Callable[[], None]] = []
    with launching_into(launches):
        work()

    def replay() -> None:
        for launch in launches:
            launch()

    return replay


# -- memory -----------------------------------------------------------------------------------------------------------


class OutOfMemory(Exception):  # noqa: N818 (told on as an error of this package)
    """There is no room for ``size`` bytes: ``free`` are left."""

    def __init__(self, size: int, free: int) -> None:
        super().__init__(f"{size / 2**20:,.0f} MiB asked, {free / 2**20:,.0f} MiB free")
        self.free = free


class _NoError(Exception):
    """What a simulator never raises."""


DeviceError: Any = _NoError
if INSTALLED and not SIMULATED:
    from numba.cuda.cudadrv import driver as _driver

    DeviceError = _driver.CudaAPIError


class Memory:
    """Bytes on the device, given back when nothing refers to them any more."""

    def __init__(self, size: int) -> None:
        self.size = max(size, 1)
        self.array: Any = None
        if SIMULATED:
            self.array = np.zeros(self.size, np.uint8)
            return
        try:
            self.array = numba_cuda.device_array(self.size, np.uint8)
        except DeviceError as error:
            if "OUT_OF_MEMORY" not in str(error):
                raise
            raise OutOfMemory(self.size, numba_cuda.current_context().get_memory_info().free) from None
        self.array.gpu_data.memset(0)

    @property
    def address(self) -> int:
        """Where they start."""
        return int(self.array.device_ctypes_pointer.value)

    def write(self, start: int, source: np.ndarray[Any, Any]) -> None:
        """Copies contiguous host memory to the bytes from ``start`` on."""
        if source.nbytes:
            self._part(start, source.nbytes, source.reshape(-1).view(np.uint8))

    def copy(self, start: int, source: "Memory", first: int, count: int) -> None:
        """Copies ``count`` bytes of other memory, from ``first`` on, to those from ``start`` on."""
        if count:
            self._part(start, count, source.array[first : first + count])

    def _part(self, start: int, count: int, source: Any) -> None:
        part = self.array[start : start + count]
        if SIMULATED:
            part[:] = source
        else:
            part.copy_to_device(source)

    def read(self, start: int, target: np.ndarray[Any, Any]) -> None:
        """Copies the bytes from ``start`` on to contiguous host memory."""
        if not target.nbytes:
            return
        part, flat = self.array[start : start + target.nbytes], target.reshape(-1).view(np.uint8)
        if SIMULATED:
            flat[:] = part
        else:
            part.copy_to_host(flat)


# -- what there is ----------------------------------------------------------------------------------------------------

LEAST_CAPABILITY = (7, 5)


class Gpu(NamedTuple):
    """A GPU: its name, compute capability, and bytes of memory, all and free."""

    name: str
    capability: tuple[int, int]
    memory: int
    free: int


def why_not() -> str | None:
    """What keeps kernels from running here and what to do, in a line; None where they can."""
    if not INSTALLED:
        return 'the package numba-cuda is not installed: pip install "numbacnn[cuda]"'
    if SIMULATED:
        return None
    from cuda.bindings import driver

    try:
        (started,) = driver.cuInit(0)
    except RuntimeError:  # there is no library to load
        return "there is no NVIDIA driver; install one, see https://www.nvidia.com/drivers"
    if started == driver.CUresult.CUDA_ERROR_NO_DEVICE:
        return "the driver finds no NVIDIA GPU; CUDA_VISIBLE_DEVICES may hide it"
    if started != driver.CUresult.CUDA_SUCCESS:
        return f"the NVIDIA driver does not start: {started.name}"
    found, wanted = driver_version(), toolkit_version()
    if found[0] < wanted[0]:
        remedy = "update the driver" + (', or pip install "numbacnn[cuda12]"' if found[0] == 12 else "")
        runs = f"it runs CUDA {_dotted(found)}, the packages are of {_dotted(wanted)}"
        return f"the NVIDIA driver is too old: {runs}; {remedy}"
    gpus = list_gpus()
    if not gpus:
        return "the driver finds no NVIDIA GPU; CUDA_VISIBLE_DEVICES may hide it"
    if gpus[0].capability < LEAST_CAPABILITY:
        return (
            f"{gpus[0].name} has compute capability {_dotted(gpus[0].capability)}; "
            f"{_dotted(LEAST_CAPABILITY)} or higher is needed"
        )
    return None


def has_driver() -> bool:
    """Whether there is a driver's library to load."""
    from cuda.bindings import driver

    try:
        driver.cuDriverGetVersion()
    except RuntimeError:
        return False
    return True


def _dotted(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"


def driver_version() -> tuple[int, int]:
    """The CUDA version that the driver runs."""
    from cuda.bindings import driver

    _, version = driver.cuDriverGetVersion()
    return version // 1000, version % 1000 // 10


def toolkit_version() -> tuple[int, int]:
    """The CUDA version that the installed packages are of."""
    from importlib.metadata import version

    major, minor, *_ = version("cuda-bindings").split(".")
    return int(major), int(minor)


def list_gpus() -> list[Gpu]:
    """The GPUs that the driver finds; of a simulator none."""
    if SIMULATED:
        return []
    gpus = []
    for device in numba_cuda.list_devices():
        with device:
            memory = numba_cuda.current_context().get_memory_info()
        name = device.name if isinstance(device.name, str) else device.name.decode()
        gpus.append(Gpu(name, tuple(device.compute_capability), memory.total, memory.free))
    return gpus


def free_memory() -> int:
    """Bytes of the GPU's memory that nobody uses; of a simulator's a large number."""
    return 1 << 40 if SIMULATED else int(numba_cuda.current_context().get_memory_info().free)


def synchronize() -> None:
    """Returns when all launched work is done."""
    numba_cuda.synchronize()
