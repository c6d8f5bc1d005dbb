"""PyTorch on the same GPU as a peer: the twin of ``torch_peer`` eager, compiled, and captured as a CUDA graph.

In every mode, as in our own steps, images and labels come from pinned host memory, and losses and outputs go back to
the host. Single kernels are not compiled. cuDNN chooses its algorithms by benchmarking them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from numbacnn.bench.cases import UPDATE, WEIGHTED, Case
from numbacnn.bench.peers import Arrays
from numbacnn.bench.timing import Launched, Work
from numbacnn.bench.torch_peer import (
    FORMATS,
    VERSION,
    Placement,
    Twin,
    kernel_work,
    make_step,
    set_num_threads,
    to_tensor,
    update_work,
)
from numbacnn.engine.graph import Graph

__all__ = ["VERSION", "set_num_threads"]  # which a peer has, and its twin on the CPU gives

T = TypeVar("T")

DEVICE = "cuda"
FORMS = ("eager", "compiled", "graph")
TRAINING_MODES = tuple(f"{layout}, {form}" for layout in FORMATS for form in FORMS)
WARM_UP = 3  # runs before a capture, as PyTorch recommends

_precision = "fp32"


def unavailable() -> str | None:
    """Return why PyTorch cannot run on the GPU, or None."""
    return None if torch.cuda.is_available() else "this PyTorch has no CUDA, or finds no GPU"


def set_precision(precision: str) -> None:
    """Run convolutions and dense layers in "fp32", or on tensor cores in "tf32", or in "bf16" by autocast."""
    global _precision
    _precision = precision
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
    torch.backends.cudnn.benchmark = True


def _autocast() -> AbstractContextManager[object]:
    return torch.autocast(DEVICE, torch.bfloat16) if _precision == "bf16" else nullcontext()


def inference(graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
    """Return forward passes; see ``Peer.inference``."""
    _reset_compiler()
    return {mode: _inference(graph, arrays, inputs, *mode.split(", ")) for mode in TRAINING_MODES}


def _inference(graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]], layout: str, form: str) -> Work:
    twin = Twin(graph, arrays, FORMATS[layout], False, Placement(DEVICE))
    hosts, xs = _upload_buffers([to_tensor(x, FORMATS[layout]) for x in inputs])

    def forward() -> list[Tensor]:
        with torch.inference_mode(), _autocast():
            return twin(*xs)

    run = captured(forward) if form == "graph" else _compiled(forward) if form == "compiled" else forward

    def work() -> list[Tensor]:
        _upload(xs, hosts)
        return [y.cpu() for y in run()]

    return work


def training_step(
    graph: Graph,
    arrays: Arrays | None,
    inputs: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    auxiliary_weight: float,
    modes: Sequence[str] = TRAINING_MODES,
) -> dict[str, Work]:
    """Return training steps; see ``Peer.training_step``."""
    _reset_compiler()
    return {mode: _training_step(graph, arrays, inputs, labels, auxiliary_weight, *mode.split(", ")) for mode in modes}


def _training_step(
    graph: Graph,
    arrays: Arrays | None,
    inputs: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    auxiliary_weight: float,
    layout: str,
    form: str,
) -> Work:
    twin = Twin(graph, arrays, FORMATS[layout], True, Placement(DEVICE))
    xs = [to_tensor(x, FORMATS[layout]) for x in inputs]
    hosts, tensors = _upload_buffers([*xs, torch.from_numpy(labels)])
    network = _compiled(twin.__call__) if form == "compiled" else twin
    step = make_step(twin, network, tensors, auxiliary_weight, _autocast)
    run = captured(step) if form == "graph" else step

    def work() -> object:
        _upload(tensors, hosts)
        return run().item()  # waits for the GPU

    return work


def kernel(case: Case, direction: str) -> dict[str, Work]:
    """Return one direction of a case, eager and captured. In bf16, all arrays of convolutions and dense layers are."""
    if direction == UPDATE:
        return _forms("fused", partial(update_work, case.shape, Placement(DEVICE)))
    in_bf16 = _precision == "bf16" and case.op in WEIGHTED
    placement = Placement(DEVICE, torch.bfloat16 if in_bf16 else torch.float32)
    modes = dict[str, Work]()
    for name, layout in FORMATS.items():
        modes |= _forms(name, partial(kernel_work, case, direction, layout, placement))
    return modes


def _forms(name: str, make: Callable[[], Work]) -> dict[str, Work]:
    """Return each form with arrays of its own.

    The captured one is made on the stream of its capture: autograd runs backward on the stream of the forward pass.
    """
    made = cache(make)
    forms = {"eager": make(), "graph": captured(lambda: made()())}
    return {f"{name}, {form}": Launched(work, torch.cuda.synchronize) for form, work in forms.items()}


# -- compiling and capturing ------------------------------------------------------------------------------------------


def _compiled(run: Callable[..., T]) -> Callable[..., T]:
    """Compile for fixed sizes, as a program with one model and one batch size would."""
    return torch.compile(run, dynamic=False)  # type: ignore[no-any-return]


def _reset_compiler() -> None:
    """Forget earlier compilations: all twins share one function, which would run eagerly after the eighth."""
    torch.compiler.reset()


def captured(run: Callable[[], T]) -> Callable[[], T]:
    """Return a function that replays ``run`` as a CUDA graph and returns its tensors, which every replay overwrites.

    The first call captures, so that a function that cannot be captured fails like one that cannot run.
    """
    replay = cache(partial(_capture, run))
    return lambda: replay()()


def _capture(run: Callable[[], T]) -> Callable[[], T]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        result = run()

    def replay() -> T:
        graph.replay()
        return result

    return replay


# -- memory -----------------------------------------------------------------------------------------------------------


def _upload_buffers(tensors: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the tensors in pinned host memory, and their copies on the GPU."""
    hosts = [_pinned(tensor) for tensor in tensors]
    return hosts, [host.to(DEVICE) for host in hosts]


def _pinned(tensor: Tensor) -> Tensor:
    return tensor.pin_memory()


def _upload(targets: Sequence[Tensor], hosts: Sequence[Tensor]) -> None:
    for target, host in zip(targets, hosts, strict=True):
        target.copy_(host, non_blocking=True)
