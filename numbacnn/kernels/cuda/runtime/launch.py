"""Compilation and launches of kernels, one by one or as a CUDA graph."""

import contextlib
import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numba

from numbacnn.kernels.cuda.runtime import backend
from numbacnn.kernels.cuda.runtime.backend import numba_cuda
from numbacnn.kernels.cuda.runtime.simulator import simulated

Grid = tuple[int, int, int]


class CompiledKernel:
    """A kernel compiled for one signature and the current device."""

    def __init__(self, function: Callable[..., None], signature: tuple[Any, ...], **options: Any) -> None:
        self.signature = signature
        self._dispatcher = numba_cuda.jit(function) if backend.SIMULATED else numba_cuda.jit(**options)(function)
        self._kernel: Any = None if backend.SIMULATED else self._dispatcher.compile(signature)

    def launcher(self, blocks: Grid, threads: Grid, arguments: tuple[Any, ...]) -> Callable[[], None]:
        """Return a function that launches the kernel with these arguments, which are converted once, here."""
        if backend.SIMULATED:
            views = tuple(map(simulated, arguments, self.signature))

            def simulate() -> None:
                if _streams.nested:
                    _streams.nested[-1].append(simulate)
                else:
                    self._dispatcher[blocks, threads](*views)  # the dispatcher keeps only its last configuration

            return simulate
        from cuda.core import LaunchConfig, launch

        values: list[Any] = []
        for argument, kind in zip(arguments, self.signature, strict=True):
            append_argument(values, argument, kind)
        config = LaunchConfig(grid=blocks, block=threads)
        kernel = self._kernel._codelibrary.get_cufunc().kernel

        def run() -> None:
            launch(current_stream(), config, kernel, *values)

        run.keeps = arguments  # type: ignore[attr-defined]  # values holds only addresses: keep the arrays alive
        return run


def append_argument(values: list[Any], argument: Any, kind: Any) -> None:
    """Append an argument of a Numba type to ``values``, flattened by the calling convention of Numba's kernels."""
    types = numba.types
    if isinstance(kind, types.Array):
        meminfo = parent = 0
        itemsize = argument.dtype.itemsize
        address = argument.memory.address + argument.offset * itemsize
        values += [meminfo, parent, argument.size, itemsize, address, *argument.shape, *argument.strides]
    elif isinstance(kind, types.BaseTuple):
        for part, part_kind in zip(argument, kind, strict=True):
            append_argument(values, part, part_kind)
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
    """Return the PTX of a kernel for each compute capability, such as (9, 0). Needs no device."""
    from numba.cuda.compiler import _compile_pyfunc_with_fixup

    device = SimpleNamespace(compute_capability=capabilities[0])
    with mock.patch("numba.cuda.dispatcher.get_current_device", return_value=device):  # device functions ask for it
        library, _ = _compile_pyfunc_with_fixup(
            function, signature, device=False, abi="numba", cc=capabilities[0], launch_bounds=launch_bounds
        )
    return [library.get_asm_str(cc=capability) for capability in capabilities]


# -- streams and graphs -----------------------------------------------------------------------------------------------


class _Streams(threading.local):
    """Streams and graph builders (in the simulator, lists of launches) of a thread's nested ``launching_into``.

    The last one is in use. Launches of other threads do not enter a graph that this one captures.
    """

    def __init__(self) -> None:
        self.nested: list[Any] = []


_streams = _Streams()


def current_stream() -> Any:
    """Return the stream or the graph builder that launches go to."""
    if _streams.nested:
        return _streams.nested[-1]
    from cuda.core import LEGACY_DEFAULT_STREAM

    return LEGACY_DEFAULT_STREAM


@contextlib.contextmanager
def launching_into(stream: Any) -> Iterator[None]:
    """Send launches to a stream or a graph builder instead of the default stream."""
    _streams.nested.append(stream)
    try:
        yield
    finally:
        _streams.nested.pop()


def capture(work: Callable[[], None]) -> Callable[[], None] | None:
    """Capture the launches of ``work`` as a CUDA graph, without running them, and return a function that replays it.

    Returns None if the packages do not support graphs. The graph contains addresses: keep the launches, which own the
    memory, as long as the graph.
    """
    if backend.SIMULATED:
        return _capture_simulated(work)
    try:
        from cuda.core import LEGACY_DEFAULT_STREAM, Device

        device = Device()
        device.set_current()  # in the device's primary context, which Numba uses too
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


def _capture_simulated(work: Callable[[], None]) -> Callable[[], None]:
    launches: list[Callable[[], None]] = []
    with launching_into(launches):
        work()

    def replay() -> None:
        for launch in launches:
            launch()

    return replay
