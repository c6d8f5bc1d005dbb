"""PyTorch on the same GPU as a peer: the twin of ``torch_peer`` eager, compiled, and captured as a CUDA graph.

Images and labels come from memory of the host that the GPU reads by itself, and losses and outputs go back there, in
every mode, as ours do. Single kernels are not compiled. cuDNN chooses its algorithms by trying them.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from numbacnn.bench.cases import STEP, WEIGHTED, Case
from numbacnn.bench.timing import Launched, Work
from numbacnn.bench.torch_peer import (
    FORMATS,
    NAME,
    VERSION,
    Arrays,
    Twin,
    kernel_work,
    make_optimizer,
    set_num_threads,
    to_tensor,
    total_loss,
    update_work,
)
from numbacnn.engine.graph import Graph

__all__ = [
    "MODES",
    "NAME",
    "VERSION",
    "captured",
    "inference",
    "kernel",
    "set_num_threads",
    "set_precision",
    "training_step",
]

DEVICE = "cuda"
FORMS = ("eager", "compiled", "graph")
MODES = tuple(f"{layout}, {form}" for layout in FORMATS for form in FORMS)
WARM_UP = 3  # runs before a capture, as PyTorch asks for

_precision = "fp32"


def why_not() -> str | None:
    """What keeps PyTorch from running on the GPU, or None."""
    return None if torch.cuda.is_available() else "this PyTorch has no CUDA, or finds no GPU"


def set_precision(name: str) -> None:
    """Has products run in "fp32", or on tensor cores in "tf32", or in "bf16" by autocast."""
    global _precision
    _precision = name
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"
    torch.backends.cudnn.benchmark = True


def _autocast() -> AbstractContextManager[Any]:
    return torch.autocast(DEVICE, torch.bfloat16) if _precision == "bf16" else nullcontext()


def inference(graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
    """As in ``torch_peer``."""
    _forget_compilations()
    return {mode: _inference(graph, arrays, inputs, *mode.split(", ")) for mode in MODES}


def _inference(graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]], layout: str, form: str) -> Work:
    twin = Twin(graph, arrays, FORMATS[layout], False, {"device": DEVICE})
    hosts, xs = _inputs(inputs, FORMATS[layout])

    def forward() -> list[Any]:
        with torch.inference_mode(), _autocast():
            return twin(*xs)

    run = _in_form(forward, form)

    def work() -> list[Any]:
        _upload(xs, hosts)
        return [y.cpu() for y in run()]

    return work


def training_step(
    graph: Graph,
    arrays: Arrays | None,
    inputs: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    auxiliary_weight: float,
    modes: Sequence[str] = MODES,
) -> dict[str, Work]:
    """As in ``torch_peer``."""
    _forget_compilations()
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
    twin = Twin(graph, arrays, FORMATS[layout], True, {"device": DEVICE})
    hosts, tensors = _inputs(inputs, FORMATS[layout])
    hosts.append(_pinned(torch.from_numpy(labels)))
    tensors.append(hosts[-1].to(DEVICE))
    optimizer, compiled = make_optimizer(twin), _compiled(twin.__call__) if form == "compiled" else twin

    def step() -> Any:
        optimizer.zero_grad()
        *xs, targets = tensors
        with _autocast():
            total = total_loss(compiled(*xs), targets, twin, auxiliary_weight)
        total.backward()
        optimizer.step()
        return total

    run = captured(step) if form == "graph" else step

    def work() -> float:
        _upload(tensors, hosts)
        return float(run().item())  # which waits for the GPU

    return work


def kernel(case: Case, direction: str) -> dict[str, Work]:
    """As in ``torch_peer``, eager and captured; in bf16 all arrays of products are."""
    place: dict[str, Any] = {"device": DEVICE}
    if direction == STEP:
        return _launched("fused", partial(update_work, case.shape, place))
    if _precision == "bf16" and case.op in WEIGHTED:
        place["dtype"] = torch.bfloat16
    modes = dict[str, Work]()
    for name, layout in FORMATS.items():
        modes |= _launched(name, partial(kernel_work, case, direction, layout, place))
    return modes


def _launched(name: str, make: Callable[[], Work]) -> dict[str, Work]:
    """Each form with arrays of its own. What is captured is made on the stream of its capture, where autograd, which
    goes to the stream of the forward pass, is then captured too."""
    made = cache(make)
    forms = {"eager": make(), "graph": captured(lambda: made()())}
    return {f"{name}, {form}": Launched(work, torch.cuda.synchronize) for form, work in forms.items()}


# -- forms ------------------------------------------------------------------------------------------------------------


def _in_form(run: Callable[[], Any], form: str) -> Callable[[], Any]:
    if form == "graph":
        return captured(run)
    return _compiled(run) if form == "compiled" else run


def _compiled(run: Callable[..., Any]) -> Callable[..., Any]:
    """For the sizes at hand, as in a program of one model and one batch size."""
    return torch.compile(run, dynamic=False)  # type: ignore[no-any-return]


def _forget_compilations() -> None:
    """Those of other twins count as one function's, and more than eight of it would run eagerly."""
    torch.compiler.reset()


def captured(run: Callable[[], Any]) -> Callable[[], Any]:
    """A function that replays ``run`` as a CUDA graph, and gives the tensors that it writes each time. It captures at
    its first call, so that one that cannot be captured fails like one that cannot run."""
    replay = cache(partial(_capture, run))
    return lambda: replay()()


def _capture(run: Callable[[], Any]) -> Callable[[], Any]:
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UP):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        result = run()

    def replay() -> Any:
        graph.replay()
        return result

    return replay


def _inputs(inputs: Sequence[NDArray[np.float32]], layout: Any) -> tuple[list[Any], list[Any]]:
    """Images on the host, and where they go on the GPU."""
    hosts = [_pinned(to_tensor(x, layout)) for x in inputs]
    return hosts, [host.to(DEVICE) for host in hosts]


def _pinned(tensor: Any) -> Any:
    return tensor.pin_memory()


def _upload(targets: Sequence[Any], hosts: Sequence[Any]) -> None:
    for target, host in zip(targets, hosts, strict=True):
        target.copy_(host, non_blocking=True)
