"""The twin of a graph in PyTorch, written as a PyTorch user would write it.

ReLU works in place if its input has no other reader, as in torchvision's networks.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 (its usual name)

from numbacnn.bench.peers import Arrays
from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import NumbacnnError
from numbacnn.geometry import ConvGeometry, PoolGeometry, Shape
from numbacnn.layers import BatchNorm, Dropout
from numbacnn.saving.pretrained import state_dict_shapes

FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}
OVERWRITABLE = ("conv2d", "depthwise_conv2d", "conv2d_transpose", "dense", "batch_norm", "add")
"""Ops whose gradients do not need their outputs."""

Apply = Callable[[list[Tensor]], Tensor]


class Placement(NamedTuple):
    """Device and type of tensors: the arguments of ``Tensor.to``."""

    device: str = "cpu"
    dtype: torch.dtype = torch.float32


CPU = Placement()


@dataclass
class NodeTensors:
    """The tensors of a node by our names, and how it runs."""

    training: bool
    in_place: bool  # whether it may overwrite its input
    weight: Tensor | None = None
    bias: Tensor | None = None
    running_mean: Tensor | None = None
    running_var: Tensor | None = None


class Twin:
    """A graph in PyTorch. Call it with inputs (N, C, H, W) to get the list of outputs.

    Args:
        graph: a numbacnn graph.
        arrays: parameters and state as ``pretrained.state_dict`` returns them; None draws them.
        memory_format: of the four-dimensional parameters.
        training: whether to run the training graph, with auxiliary outputs.
        placement: of the parameters.

    Raises:
        NumbacnnError: an op is not supported.
    """

    def __init__(
        self,
        graph: Graph,
        arrays: Arrays | None,
        memory_format: torch.memory_format,
        training: bool,
        placement: Placement = CPU,
    ) -> None:
        self.graph, self.training = graph if training else graph.inference, training
        self.outputs = graph.training_outputs if training else self.graph.outputs
        trained = graph.parameters()
        self.tensors: dict[str, Tensor] = {}
        for name, shape in state_dict_shapes(self.graph).items():
            tensor = torch.rand(shape) / 32 if arrays is None else torch.from_numpy(np.array(arrays[name]))
            tensor = in_format(tensor.to(*placement), memory_format)
            self.tensors[name] = tensor.requires_grad_(training and name in trained)
        self._calls = [self._call(node) for node in self.graph.nodes]

    @property
    def parameters(self) -> list[Tensor]:
        """The trainable tensors."""
        return [tensor for tensor in self.tensors.values() if tensor.requires_grad]

    def __call__(self, *inputs: Tensor) -> list[Tensor]:
        """Return the outputs for inputs (N, C, H, W)."""
        values = list(inputs)
        for apply, sources in self._calls:
            values.append(apply([values[i] for i in sources]))
        return [values[i] for i in self.outputs]

    def _call(self, node: Node) -> tuple[Apply, tuple[int, ...]]:
        """Return a function of the node's inputs, and the indices of these."""
        op = node.layer.op
        if op not in OPS:
            raise NumbacnnError(f'no PyTorch twin of {op} "{node.name}"')
        names = [*node.layer.parameters(node.input_shapes), *node.layer.state(node.input_shapes)]
        tensors = {name: self.tensors[f"{node.name}.{name}"] for name in names}
        return OPS[op](node, NodeTensors(self.training, self._may_overwrite(node.inputs[0]), **tensors)), node.inputs

    def _may_overwrite(self, value: int) -> bool:
        """Return whether a value has a single reader and is not needed for a gradient."""
        i = value - len(self.graph.input_shapes)
        free = i >= 0 and self.graph.nodes[i].layer.op in OVERWRITABLE
        return free and len(self.graph.consumers[value]) == 1 and value not in self.outputs


# -- ops: functions from a node and its tensors to a function of its inputs -------------------------------------------


def _convolution(node: Node, t: NodeTensors) -> Apply:
    g: ConvGeometry = node.geometry
    options = {"stride": (g.stride_h, g.stride_w), "dilation": (g.dilation_h, g.dilation_w), "groups": g.groups}
    if is_symmetric(g):
        return lambda xs: F.conv2d(xs[0], t.weight, t.bias, padding=(g.pad_top, g.pad_left), **options)
    top, bottom, left, right = g.input_halo
    return lambda xs: F.conv2d(F.pad(xs[0], (left, right, top, bottom)), t.weight, t.bias, **options)


def is_symmetric(g: ConvGeometry) -> bool:
    """Return whether equal padding on both sides gives this output."""
    rows = g.h + 2 * g.pad_top - (g.r - 1) * g.dilation_h - 1
    columns = g.w + 2 * g.pad_left - (g.s - 1) * g.dilation_w - 1
    return (rows // g.stride_h + 1, columns // g.stride_w + 1) == (g.p, g.q)


def _transposed(node: Node, t: NodeTensors) -> Apply:
    g: ConvGeometry = node.geometry  # of the convolution that is transposed: h×w is the output
    stride, dilation = (g.stride_h, g.stride_w), (g.dilation_h, g.dilation_w)
    extra = (
        g.h - ((g.p - 1) * g.stride_h - 2 * g.pad_top + (g.r - 1) * g.dilation_h + 1),
        g.w - ((g.q - 1) * g.stride_w - 2 * g.pad_left + (g.s - 1) * g.dilation_w + 1),
    )
    if min(extra) < 0:
        raise NumbacnnError(f'no PyTorch twin of the uneven padding of "{node.name}"')
    return lambda xs: F.conv_transpose2d(
        xs[0], t.weight, t.bias, stride, (g.pad_top, g.pad_left), extra, g.groups, dilation
    )


def _pool(function: Callable[..., Tensor], averages: bool) -> Callable[[Node, NodeTensors], Apply]:
    def op(node: Node, t: NodeTensors) -> Apply:
        g: PoolGeometry = node.geometry
        window, stride, padding = (g.r, g.s), (g.stride_h, g.stride_w), (g.pad_top, g.pad_left)
        if (g.pad_bottom, g.pad_right) != padding or 2 * max(padding) > min(window):
            raise NumbacnnError(f'no PyTorch twin of the padding of "{node.name}"')
        ceil_mode = bool(getattr(node.layer, "ceil_mode", False))
        options = {"count_include_pad": g.count_include_pad} if averages else {}
        flat, shape = len(node.shape) == 1, (-1, *node.shape)
        if not flat:
            return lambda xs: function(xs[0], window, stride, padding, ceil_mode=ceil_mode, **options)
        return lambda xs: function(xs[0], window, stride, padding, **options).reshape(shape)

    return op


def _global_average(node: Node, t: NodeTensors) -> Apply:
    keepdim = len(node.shape) == 3
    return lambda xs: xs[0].mean((2, 3), keepdim=keepdim)


def _batch_norm(node: Node, t: NodeTensors) -> Apply:
    layer = cast(BatchNorm, node.layer)
    return lambda xs: F.batch_norm(
        xs[0], t.running_mean, t.running_var, t.weight, t.bias, t.training, layer.momentum, layer.eps
    )


def _activation(function: Callable[[Tensor], Tensor]) -> Callable[[Node, NodeTensors], Apply]:
    return lambda node, t: lambda xs: function(xs[0])


def _dropout(node: Node, t: NodeTensors) -> Apply:
    rate = cast(Dropout, node.layer).rate
    return lambda xs: F.dropout(xs[0], rate, t.training)


OPS: dict[str, Callable[[Node, NodeTensors], Apply]] = {
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


# -- layouts ----------------------------------------------------------------------------------------------------------


def to_tensor(x: NDArray[np.float32], layout: torch.memory_format) -> Tensor:
    """Convert images (N, H, W, C) to (N, C, H, W) in a memory format; features stay as they are."""
    tensor = torch.from_numpy(x)
    return in_format(tensor.permute(0, 3, 1, 2), layout) if x.ndim == 4 else tensor


def in_format(x: Tensor, layout: torch.memory_format) -> Tensor:
    """Convert images to a memory format."""
    return x.contiguous(memory_format=layout) if x.ndim == 4 else x


def channels_first(shape: Shape) -> Shape:
    """Return the shape (C, H, W) of an image (H, W, C)."""
    return (shape[2], *shape[:2]) if len(shape) == 3 else shape
