"""PyTorch as a peer: the twin of a graph of ours, in both memory formats, each the way a PyTorch program would have it.

Tensors are channels first, contiguous or channels-last; ReLU works in place where nobody reads its input again, as
torchvision's networks have it; the optimiser is the fused one.
"""

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F  # noqa: N812 (its usual name)

from numbacnn.bench.cases import FORWARD, INPUT_GRADIENT, STEP, Case
from numbacnn.bench.timing import Work
from numbacnn.bench.work import graph_of
from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import NumbacnnError
from numbacnn.geometry import ConvGeometry, PoolGeometry, Shape
from numbacnn.saving.pretrained import state_dict_shapes

NAME = "PyTorch"
VERSION = torch.__version__
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
MODES = tuple(FORMATS)
OUTPUT_NOT_KEPT = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "dense", "batch_norm", "add")  # for a gradient

Arrays = Mapping[str, NDArray[np.float32]]
Place = Mapping[str, Any] | None  # what ``Tensor.to`` takes: device and type


def set_num_threads(count: int) -> None:
    """Of PyTorch's kernels."""
    torch.set_num_threads(count)


class Twin:
    """A graph in PyTorch: called with its inputs (N, C, H, W), it gives the list of its outputs.

    ``arrays`` are those of ``pretrained.state_dict``; without them parameters are drawn. ``place`` is that of
    the parameters. Raises NumbacnnError where an op is not known here.
    """

    def __init__(
        self, graph: Graph, arrays: Arrays | None, memory_format: Any, training: bool, place: Place = None
    ) -> None:
        self.graph, self.training = graph if training else graph.inference, training
        self.outputs = graph.training_outputs if training else self.graph.outputs
        trained = graph.parameters()
        self.tensors = {}
        for name, shape in state_dict_shapes(self.graph).items():
            tensor = torch.rand(shape) / 32 if arrays is None else torch.from_numpy(np.array(arrays[name]))
            tensor = tensor.to(**(place or {}))
            tensor = tensor.contiguous(memory_format=memory_format) if tensor.ndim == 4 else tensor
            self.tensors[name] = tensor.requires_grad_(training and name in trained)
        self._calls = [self._call(i, node) for i, node in enumerate(self.graph.nodes)]

    @property
    def parameters(self) -> list[Any]:
        """What is trained."""
        return [tensor for tensor in self.tensors.values() if tensor.requires_grad]

    def __call__(self, *inputs: Any) -> list[Any]:
        """The outputs for inputs (N, C, H, W)."""
        values = list(inputs)
        for apply, sources in self._calls:
            values.append(apply([values[i] for i in sources]))
        return [values[i] for i in self.outputs]

    def _call(self, i: int, node: Node) -> tuple[Callable[[list[Any]], Any], tuple[int, ...]]:
        """A function of the node's inputs, and which they are."""
        op = node.layer.op
        if op not in OPS:
            raise NumbacnnError(f'no {NAME} twin of {op} "{node.name}"')
        arrays = {**node.layer.parameters(node.input_shapes), **node.layer.state(node.input_shapes)}
        own = SimpleNamespace(bias=None)
        for name in arrays:
            setattr(own, name, self.tensors[f"{node.name}.{name}"])
        own.training, own.in_place = self.training, self._may_overwrite(node.inputs[0])
        return OPS[op](node, own), node.inputs

    def _may_overwrite(self, value: int) -> bool:
        """Whether one node alone reads a value, and that which computed it does not need it for its gradient."""
        i = value - len(self.graph.input_shapes)
        free = i >= 0 and self.graph.nodes[i].layer.op in OUTPUT_NOT_KEPT
        return free and len(self.graph.consumers[value]) == 1 and value not in self.outputs


# -- ops: from a node and its tensors to a function of the inputs -----------------------------------------------------

Apply = Callable[[list[Any]], Any]


def _convolution(node: Node, t: SimpleNamespace) -> Apply:
    g: ConvGeometry = node.geometry
    options = {"stride": (g.stride_h, g.stride_w), "dilation": (g.dilation_h, g.dilation_w), "groups": g.groups}
    if _is_even(g):
        return lambda xs: F.conv2d(xs[0], t.weight, t.bias, padding=(g.pad_top, g.pad_left), **options)
    top, bottom, left, right = g.input_halo
    return lambda xs: F.conv2d(F.pad(xs[0], (left, right, top, bottom)), t.weight, t.bias, **options)


def _is_even(g: ConvGeometry) -> bool:
    """Whether the same padding on both sides gives this output."""
    rows = g.h + 2 * g.pad_top - (g.r - 1) * g.dilation_h - 1
    columns = g.w + 2 * g.pad_left - (g.s - 1) * g.dilation_w - 1
    return (rows // g.stride_h + 1, columns // g.stride_w + 1) == (g.p, g.q)


def _transposed(node: Node, t: SimpleNamespace) -> Apply:
    g: ConvGeometry = node.geometry  # of the convolution whose transpose it is: h×w is the output
    stride, dilation = (g.stride_h, g.stride_w), (g.dilation_h, g.dilation_w)
    extra = (
        g.h - ((g.p - 1) * g.stride_h - 2 * g.pad_top + (g.r - 1) * g.dilation_h + 1),
        g.w - ((g.q - 1) * g.stride_w - 2 * g.pad_left + (g.s - 1) * g.dilation_w + 1),
    )
    if min(extra) < 0:
        raise NumbacnnError(f'no {NAME} twin of the uneven padding of "{node.name}"')
    return lambda xs: F.conv_transpose2d(
        xs[0], t.weight, t.bias, stride, (g.pad_top, g.pad_left), extra, g.groups, dilation
    )


def _pool(function: Callable[..., Any], averages: bool) -> Callable[[Node, SimpleNamespace], Apply]:
    def op(node: Node, t: SimpleNamespace) -> Apply:
        g: PoolGeometry = node.geometry
        window, stride, padding = (g.r, g.s), (g.stride_h, g.stride_w), (g.pad_top, g.pad_left)
        if (g.pad_bottom, g.pad_right) != padding or 2 * max(padding) > min(window):
            raise NumbacnnError(f'no {NAME} twin of the padding of "{node.name}"')
        rounded_up = bool(getattr(node.layer, "ceil_mode", False))
        more = {"count_include_pad": g.count_include_pad} if averages else {}
        features, batch = len(node.shape) == 1, (-1, *node.shape)
        if not features:
            return lambda xs: function(xs[0], window, stride, padding, ceil_mode=rounded_up, **more)
        return lambda xs: function(xs[0], window, stride, padding, **more).reshape(batch)

    return op


def _global_average(node: Node, t: SimpleNamespace) -> Apply:
    kept = len(node.shape) == 3
    return lambda xs: xs[0].mean((2, 3), keepdim=kept)


def _batch_norm(node: Node, t: SimpleNamespace) -> Apply:
    layer: Any = node.layer
    return lambda xs: F.batch_norm(
        xs[0], t.running_mean, t.running_var, t.weight, t.bias, t.training, layer.momentum, layer.eps
    )


def _activation(function: Callable[[Any], Any]) -> Callable[[Node, SimpleNamespace], Apply]:
    return lambda node, t: lambda xs: function(xs[0])


def _dropout(node: Node, t: SimpleNamespace) -> Apply:
    layer: Any = node.layer
    return lambda xs: F.dropout(xs[0], layer.rate, t.training)


OPS: dict[str, Callable[[Node, SimpleNamespace], Apply]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv2d_transpose": _transposed,
    "dense": lambda node, t: lambda xs: F.linear(xs[0], t.weight, t.bias),
    "batch_norm": _batch_norm,
    "relu": lambda node, t: lambda xs: F.relu(xs[0], t.in_place),
    "relu6": lambda node, t: lambda xs: F.relu6(xs[0], t.in_place),
    "tanh": _activation(torch.tanh),
    "sigmoid": _activation(torch.sigmoid),
    "softmax": _activation(lambda x: F.softmax(x, 1)),
    "max_pool2d": _pool(F.max_pool2d, averages=False),
    "avg_pool2d": _pool(F.avg_pool2d, averages=True),
    "global_max_pool2d": _pool(F.max_pool2d, averages=False),
    "global_avg_pool2d": _global_average,
    "adaptive_avg_pool2d": lambda node, t: lambda xs: F.adaptive_avg_pool2d(xs[0], node.shape[:2]),
    "flatten": lambda node, t: lambda xs: xs[0].flatten(1),
    "dropout": _dropout,
    "add": lambda node, t: lambda xs: sum(xs[1:], xs[0]),
    "concat": lambda node, t: lambda xs: torch.cat(xs, 1),
}


# -- what is timed: a function for each memory format -----------------------------------------------------------------


def inference(graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
    """Forward passes in inference mode; ``inputs`` are ours, (N, H, W, C)."""
    return {mode: _inference(Twin(graph, arrays, layout, False), inputs, layout) for mode, layout in FORMATS.items()}


def _inference(twin: Twin, inputs: Sequence[NDArray[np.float32]], layout: Any) -> Work:
    xs = [to_tensor(x, layout) for x in inputs]

    def work() -> list[Any]:
        with torch.inference_mode():
            return twin(*xs)

    return work


def training_step(
    graph: Graph,
    arrays: Arrays | None,
    inputs: Sequence[NDArray[np.float32]],
    labels: NDArray[np.int64],
    auxiliary_weight: float,
    modes: Sequence[str] = MODES,
) -> dict[str, Work]:
    """Forward, cross-entropy, backward and SGD with momentum; auxiliary outputs count their weight."""
    work = {}
    for mode in modes:
        layout = FORMATS[mode]
        twin = Twin(graph, arrays, layout, True)
        work[mode] = _training_step(twin, [to_tensor(x, layout) for x in inputs], labels, auxiliary_weight)
    return work


def _training_step(twin: Twin, xs: list[Any], labels: NDArray[np.int64], auxiliary_weight: float) -> Work:
    targets, optimizer = torch.from_numpy(labels), make_optimizer(twin)

    def work() -> float:
        optimizer.zero_grad()
        total = total_loss(twin(*xs), targets, twin, auxiliary_weight)
        total.backward()
        optimizer.step()
        return float(total.item())

    return work


def make_optimizer(twin: Twin) -> Any:
    """SGD with momentum, as ours is timed."""
    return torch.optim.SGD(twin.parameters, 1e-3, momentum=0.9, fused=True)


def total_loss(ys: list[Any], targets: Any, twin: Twin, auxiliary_weight: float) -> Any:
    """The cross-entropy of all outputs."""
    losses, main = [F.cross_entropy(y, targets) for y in ys], len(twin.graph.outputs)
    return sum(losses[1:main], losses[0]) + auxiliary_weight * sum(losses[main:])


def kernel(case: Case, direction: str) -> dict[str, Work]:
    """One direction of a case alone; gradients of convolutions by the very kernel, of other layers through autograd."""
    if direction == STEP:
        return {"fused": update_work(case.shape)}
    return {mode: kernel_work(case, direction, layout) for mode, layout in FORMATS.items()}


def update_work(shape: Shape, place: Place = None) -> Work:
    """One update of parameters of this shape."""
    w = torch.zeros(shape, **(place or {})).requires_grad_()
    w.grad = torch.ones(shape, **(place or {}))
    optimizer = torch.optim.SGD([w], 1e-3, momentum=0.9, fused=True)
    return lambda: optimizer.step()


def kernel_work(case: Case, direction: str, layout: Any, place: Place = None) -> Work:
    """One direction of a case, in one memory format."""
    graph = graph_of(case)
    node = graph.nodes[0]
    twin = Twin(graph, None, layout, direction != FORWARD or node.layer.normalizes, place)
    x = torch.randn(case.batch, *_channels_first(case.shape)).to(**(place or {}))
    x = x.contiguous(memory_format=layout) if x.ndim == 4 else x
    if direction == FORWARD:

        def forward() -> list[Any]:
            with torch.inference_mode():
                return twin(x)

        return forward
    if isinstance(node.geometry, ConvGeometry) and node.layer.op != "conv2d_transpose":
        return _convolution_gradient(twin, node, x, direction == INPUT_GRADIENT)
    of_input, together = direction == INPUT_GRADIENT, node.layer.normalizes  # as ours has it
    x.requires_grad_(of_input)
    wanted = [*([x] if of_input else []), *(twin.parameters if together or not of_input else [])]
    (y,) = twin(x)
    dy = torch.randn_like(y)
    return lambda: torch.autograd.grad(y, wanted, dy, retain_graph=True)


def _convolution_gradient(twin: Twin, node: Node, x: Any, of_input: bool) -> Work:
    g: ConvGeometry = node.geometry
    weight = twin.tensors[f"{node.name}.weight"].detach()
    padding = [g.pad_top, g.pad_left]
    if not _is_even(g):
        top, bottom, left, right = g.input_halo
        x, padding = F.pad(x, (left, right, top, bottom)), [0, 0]
    dy = torch.randn_like(twin(x)[0]) if _is_even(g) else x.new_empty(len(x), g.k, g.p, g.q).normal_()
    stride, dilation = [g.stride_h, g.stride_w], [g.dilation_h, g.dilation_w]
    gradient, mask = torch.ops.aten.convolution_backward, [of_input, not of_input, False]
    return lambda: gradient(dy, x, weight, None, stride, padding, dilation, False, [0, 0], g.groups, mask)


def to_tensor(x: NDArray[np.float32], layout: Any) -> Any:
    """Channels first, in a memory format."""
    tensor = torch.from_numpy(x)
    return tensor.permute(0, 3, 1, 2).contiguous(memory_format=layout) if x.ndim == 4 else tensor


def _channels_first(shape: Shape) -> Shape:
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape
