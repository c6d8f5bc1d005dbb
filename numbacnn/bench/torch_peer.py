"""PyTorch as a peer: on the CPU in both memory formats; on the GPU also compiled, and captured as a CUDA graph.

On the GPU, as in our own steps, images and labels come from pinned host memory in every mode, and losses and outputs go
back to the host. Single kernels are not compiled. cuDNN chooses its algorithms by benchmarking them. The optimizer is
the fused one.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from numbacnn.bench.cases import FORWARD, INPUT_GRADIENT, UPDATE, WEIGHTED, Case
from numbacnn.bench.peers import Arrays, Peer
from numbacnn.bench.timing import Launched, Work
from numbacnn.bench.torch_twin import (
    CPU,
    FORMATS,
    Placement,
    Twin,
    channels_first,
    in_format,
    is_symmetric,
    to_tensor,
)
from numbacnn.bench.work import graph_of
from numbacnn.engine.graph import Graph, Node
from numbacnn.geometry import ConvGeometry, Shape

T = TypeVar("T")
Inputs = Sequence[NDArray[np.float32]]

WARM_UP = 3  # runs before a capture, as PyTorch recommends


class TorchPeer(Peer):
    """PyTorch on the CPU."""

    version = torch.__version__
    device = "cpu"
    training_modes: Sequence[str] = tuple(FORMATS)

    def configure(self, threads: int, precision: str) -> None:
        """Set the number of CPU threads."""
        torch.set_num_threads(threads)

    def inference(self, graph: Graph, arrays: Arrays, inputs: Inputs) -> dict[str, Work]:
        """Return forward passes in inference mode."""
        self._begin()
        return {mode: self._inference(graph, arrays, inputs, mode) for mode in self.training_modes}

    def _inference(self, graph: Graph, arrays: Arrays, inputs: Inputs, mode: str) -> Work:
        layout, _, form = mode.partition(", ")
        twin = Twin(graph, arrays, FORMATS[layout], False, Placement(self.device))
        xs, upload = self._on_device([to_tensor(x, FORMATS[layout]) for x in inputs])

        def forward() -> list[Tensor]:
            with torch.inference_mode(), self._autocast():
                return twin(*xs)

        run = self._in_form(forward, form)

        def work() -> list[Tensor]:
            upload()
            return [y.cpu() for y in run()]

        return work

    def training_step(
        self,
        graph: Graph,
        arrays: Arrays | None,
        inputs: Inputs,
        labels: NDArray[np.int64],
        auxiliary_weight: float,
        modes: Sequence[str] | None = None,
    ) -> dict[str, Work]:
        """Return training steps with the fused optimizer."""
        self._begin()
        data = graph, arrays, inputs, labels, auxiliary_weight
        return {mode: self._training_step(*data, mode) for mode in modes or self.training_modes}

    def _training_step(
        self,
        graph: Graph,
        arrays: Arrays | None,
        inputs: Inputs,
        labels: NDArray[np.int64],
        auxiliary_weight: float,
        mode: str,
    ) -> Work:
        layout, _, form = mode.partition(", ")
        twin = Twin(graph, arrays, FORMATS[layout], True, Placement(self.device))
        tensors, upload = self._on_device([*(to_tensor(x, FORMATS[layout]) for x in inputs), torch.from_numpy(labels)])
        optimizer, (*xs, targets) = make_optimizer(twin), tensors
        network = compiled(twin.__call__) if form == "compiled" else twin

        def step() -> Tensor:
            optimizer.zero_grad()
            with self._autocast():
                loss = total_loss(network(*xs), targets, twin, auxiliary_weight)
            loss.backward()
            optimizer.step()
            return loss

        run = captured(step) if form == "graph" else step

        def work() -> object:
            upload()
            return run().item()  # waits for a GPU

        return work

    def kernel(self, case: Case, direction: str) -> dict[str, Work]:
        """Return one direction of a case alone.

        A convolution's gradient runs PyTorch's kernel for that gradient, that of another layer runs through autograd.
        """
        placement = self._placement(case)
        if direction == UPDATE:
            return self._forms("fused", partial(update_work, case.shape, placement))
        modes = dict[str, Work]()
        for name, layout in FORMATS.items():
            modes |= self._forms(name, partial(kernel_work, case, direction, layout, placement))
        return modes

    # -- what differs on the GPU ----------------------------------------------------------------------------------

    def _begin(self) -> None:
        """Prepare for the steps of another network."""

    def _placement(self, case: Case) -> Placement:
        return CPU

    def _autocast(self) -> AbstractContextManager[object]:
        return nullcontext()

    def _on_device(self, tensors: list[Tensor]) -> tuple[list[Tensor], Callable[[], None]]:
        """Return the tensors on the device, and a function that uploads them."""
        return tensors, lambda: None

    def _in_form(self, run: Callable[[], T], form: str) -> Callable[[], T]:
        return run

    def _forms(self, name: str, make: Callable[[], Work]) -> dict[str, Work]:
        """Return each form of a kernel with arrays of its own."""
        return {name: make()}


class TorchGpuPeer(TorchPeer):
    """PyTorch on the same GPU: eager, compiled, and captured as a CUDA graph."""

    device = "cuda"
    training_modes = tuple(f"{layout}, {form}" for layout in FORMATS for form in ("eager", "compiled", "graph"))
    _precision = "fp32"

    def unavailable(self) -> str | None:
        """Return why PyTorch cannot run on the GPU."""
        return None if torch.cuda.is_available() else "this PyTorch has no CUDA, or finds no GPU"

    def configure(self, threads: int, precision: str) -> None:
        """Run convolutions and dense layers in "fp32", or on tensor cores in "tf32", or in "bf16" by autocast."""
        super().configure(threads, precision)
        self._precision = precision
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision == "tf32"
        torch.backends.cudnn.benchmark = True

    def _begin(self) -> None:
        torch.compiler.reset()  # all twins share one function, which would run eagerly after eight compilations

    def _placement(self, case: Case) -> Placement:
        in_bf16 = self._precision == "bf16" and case.op in WEIGHTED  # all of their arrays
        return Placement(self.device, torch.bfloat16 if in_bf16 else torch.float32)

    def _autocast(self) -> AbstractContextManager[object]:
        return torch.autocast(self.device, torch.bfloat16) if self._precision == "bf16" else nullcontext()

    def _on_device(self, tensors: list[Tensor]) -> tuple[list[Tensor], Callable[[], None]]:
        hosts = [pinned(tensor) for tensor in tensors]
        copies = [host.to(self.device) for host in hosts]

        def upload() -> None:
            for target, host in zip(copies, hosts, strict=True):
                target.copy_(host, non_blocking=True)

        return copies, upload

    def _in_form(self, run: Callable[[], T], form: str) -> Callable[[], T]:
        return captured(run) if form == "graph" else compiled(run) if form == "compiled" else run

    def _forms(self, name: str, make: Callable[[], Work]) -> dict[str, Work]:
        """Make the captured form on the stream of its capture: autograd runs backward on that of the forward pass."""
        made = cache(make)
        forms = {"eager": make(), "graph": captured(lambda: made()())}
        return {f"{name}, {form}": Launched(work, torch.cuda.synchronize) for form, work in forms.items()}


PEERS = {"cpu": TorchPeer(), "cuda": TorchGpuPeer()}


# -- training ---------------------------------------------------------------------------------------------------------


def make_optimizer(twin: Twin) -> torch.optim.Optimizer:
    """Return the optimizer of our timed training step, SGD with momentum."""
    return torch.optim.SGD(twin.parameters, 1e-3, momentum=0.9, fused=True)


def total_loss(ys: Sequence[Tensor], targets: Tensor, twin: Twin, auxiliary_weight: float) -> Tensor:
    """Sum the cross-entropies of all outputs, those of auxiliary outputs weighted."""
    losses, main = [F.cross_entropy(y, targets) for y in ys], len(twin.graph.outputs)
    return sum(losses[1:main], losses[0]) + auxiliary_weight * sum(losses[main:])


# -- kernels ----------------------------------------------------------------------------------------------------------


def update_work(shape: Shape, placement: Placement = CPU) -> Work:
    """Return an update of parameters of this shape."""
    w = torch.zeros(shape).to(*placement).requires_grad_()
    w.grad = torch.ones_like(w)
    optimizer = torch.optim.SGD([w], 1e-3, momentum=0.9, fused=True)
    return lambda: optimizer.step()


def kernel_work(case: Case, direction: str, layout: torch.memory_format, placement: Placement = CPU) -> Work:
    """Return one direction of a case in one memory format."""
    graph = graph_of(case)
    node = graph.nodes[0]
    twin = Twin(graph, None, layout, direction != FORWARD or node.layer.normalizes, placement)
    x = in_format(torch.randn(case.batch, *channels_first(case.shape)).to(*placement), layout)
    if direction == FORWARD:

        def forward() -> list[Tensor]:
            with torch.inference_mode():
                return twin(x)

        return forward
    if isinstance(node.geometry, ConvGeometry) and node.layer.op != "conv2d_transpose":
        return convolution_gradient(twin, node, x, direction == INPUT_GRADIENT)
    of_input, together = direction == INPUT_GRADIENT, node.layer.normalizes  # as in ``kernel_job``
    x.requires_grad_(of_input)
    variables = [*([x] if of_input else []), *(twin.parameters if together or not of_input else [])]
    (y,) = twin(x)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, variables, dy, retain_graph=True)


def convolution_gradient(twin: Twin, node: Node, x: Tensor, of_input: bool) -> Work:
    """Return the gradient of a convolution with respect to its input or its weights."""
    g: ConvGeometry = node.geometry
    weight = twin.tensors[f"{node.name}.weight"].detach()
    padding = [g.pad_top, g.pad_left]
    if not is_symmetric(g):
        top, bottom, left, right = g.input_halo
        x, padding = F.pad(x, (left, right, top, bottom)), [0, 0]
    dy = torch.randn_like(twin(x)[0]) if is_symmetric(g) else x.new_empty(len(x), g.k, g.p, g.q).normal_()
    stride, dilation = [g.stride_h, g.stride_w], [g.dilation_h, g.dilation_w]
    gradient, mask = torch.ops.aten.convolution_backward, [of_input, not of_input, False]
    return lambda: gradient(dy, x, weight, None, stride, padding, dilation, False, [0, 0], g.groups, mask)


# -- compiling, capturing, and pinned memory --------------------------------------------------------------------------


def compiled(run: Callable[..., T]) -> Callable[..., T]:
    """Compile for fixed sizes, as a program with one model and one batch size would."""
    return torch.compile(run, dynamic=False)  # type: ignore[no-any-return]


def captured(run: Callable[[], T]) -> Callable[[], T]:
    """Return a function that replays ``run`` as a CUDA graph and returns its tensors, which every replay overwrites.

    The first call captures, so that a function that cannot be captured fails like one that cannot run.
    """
    replay = cache(partial(capture, run))
    return lambda: replay()()


def capture(run: Callable[[], T]) -> Callable[[], T]:
    """Run a few times, then capture."""
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


def pinned(tensor: Tensor) -> Tensor:
    """Copy to host memory that the GPU reads directly."""
    return tensor.pin_memory()
