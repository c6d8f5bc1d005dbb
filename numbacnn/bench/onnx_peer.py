"""onnxruntime as a peer in inference: our graph is converted to ONNX, node by node, with its weights."""

from collections.abc import Callable, Sequence
from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from numbacnn.bench.cases import FORWARD, Case
from numbacnn.bench.peers import Arrays, Peer
from numbacnn.bench.timing import Work
from numbacnn.bench.work import graph_of
from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import NumbacnnError
from numbacnn.geometry import AdaptiveGeometry, ConvGeometry, PoolGeometry, Shape
from numbacnn.layers import BatchNorm
from numbacnn.saving.pretrained import state_dict_shapes

OPSET = 17
LIMITS = {"low": np.float32(0), "high": np.float32(6)}  # of ReLU6, which ONNX's Clip takes as tensors


class OnnxruntimePeer(Peer):
    """onnxruntime on the CPU, which has no gradients."""

    version = onnxruntime.__version__
    _threads = 0  # onnxruntime's default

    def configure(self, threads: int, precision: str) -> None:
        """Set the number of threads of new sessions."""
        self._threads = threads

    def inference(self, graph: Graph, arrays: Arrays, inputs: Sequence[NDArray[np.float32]]) -> dict[str, Work]:
        """Return a forward pass of a session with all optimizations."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        session = onnxruntime.InferenceSession(
            to_onnx(graph, arrays, len(inputs[0])).SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        feeds = {
            name: np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
            for name, x in zip(graph.input_names, inputs, strict=True)
        }
        return {"all optimizations": lambda: session.run(None, feeds)}

    def kernel(self, case: Case, direction: str) -> dict[str, Work]:
        """Return a layer's forward pass; there are no batch statistics."""
        if direction != FORWARD:
            return {}
        graph = graph_of(case)
        if graph.nodes[0].layer.normalizes:
            return {}
        draw = np.random.default_rng(0)
        arrays = {name: draw.standard_normal(shape, np.float32) for name, shape in state_dict_shapes(graph).items()}
        return self.inference(graph, arrays, [draw.standard_normal((case.batch, *case.shape), np.float32)])


PEERS = {"cpu": OnnxruntimePeer()}


def to_onnx(graph: Graph, arrays: Arrays, batch: int) -> onnx.ModelProto:
    """Convert the inference graph to an ONNX model for a fixed batch size.

    Raises:
        NumbacnnError: an op has no counterpart.
    """
    graph = graph.inference
    names = graph.names
    nodes = []
    for node in graph.nodes:
        if node.layer.op not in OPS:
            raise NumbacnnError(f'no ONNX counterpart of {node.layer.op} "{node.name}"')
        op, tensors, attributes = OPS[node.layer.op](node)
        sources = [*(names[value] for value in node.inputs), *(f"{node.name}.{name}" for name in tensors)]
        nodes.append(helper.make_node(op, sources, [node.name], name=node.name, **attributes))
    limits = {f"{node.name}.{end}": LIMITS[end] for node in graph.nodes if node.layer.op == "relu6" for end in LIMITS}
    used = {source for node in nodes for source in node.input}
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "numbacnn",
            [_value(name, shape, batch) for name, shape in zip(graph.input_names, graph.input_shapes, strict=True)],
            [_value(names[value], graph.shapes[value], batch) for value in graph.outputs],
            [
                numpy_helper.from_array(np.asarray(array, order="C"), name)
                for name, array in {**arrays, **limits}.items()
                if name in used
            ],
        ),
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=8,
    )
    onnx.checker.check_model(model)
    return model


def _value(name: str, shape: Shape, batch: int) -> onnx.ValueInfoProto:
    channels_first = (shape[2], *shape[:2]) if len(shape) == 3 else shape
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, (batch, *channels_first))


# -- ops: name, tensors that follow the inputs, and attributes --------------------------------------------------------

Counterpart = tuple[str, Sequence[str], dict[str, Any]]


def _plain(op: str, **attributes: int) -> Callable[[Node], Counterpart]:
    return lambda node: (op, (), attributes)


def _convolution(node: Node) -> Counterpart:
    g: ConvGeometry = node.geometry
    top, bottom, left, right = g.input_halo
    attributes = {
        "kernel_shape": (g.r, g.s),
        "strides": (g.stride_h, g.stride_w),
        "dilations": (g.dilation_h, g.dilation_w),
        "pads": (top, left, bottom, right),
        "group": g.groups,
    }
    return "Conv", _names(node), attributes


def _dense(node: Node) -> Counterpart:
    return "Gemm", _names(node), {"transB": 1}


def _names(node: Node) -> tuple[str, ...]:
    return tuple(node.layer.parameters(node.input_shapes))


def _batch_norm(node: Node) -> Counterpart:
    eps = cast(BatchNorm, node.layer).eps
    return "BatchNormalization", ("weight", "bias", "running_mean", "running_var"), {"epsilon": eps}


def _pool(op: str) -> Callable[[Node], Counterpart]:
    def counterpart(node: Node) -> Counterpart:
        g: PoolGeometry = node.geometry
        attributes: dict[str, Any] = {
            "kernel_shape": (g.r, g.s),
            "strides": (g.stride_h, g.stride_w),
            "pads": (g.pad_top, g.pad_left, g.pad_bottom, g.pad_right),
            "ceil_mode": int(getattr(node.layer, "ceil_mode", False)),
        }
        if op == "AveragePool":
            attributes["count_include_pad"] = int(g.count_include_pad)
        return op, (), attributes

    return counterpart


def _adaptive_average(node: Node) -> Counterpart:
    g: AdaptiveGeometry = node.geometry
    if (g.h, g.w) == (g.p, g.q):
        return "Identity", (), {}
    if g.h % g.p or g.w % g.q:
        raise NumbacnnError(f'no ONNX counterpart of "{node.name}", which pools {g.h}×{g.w} to {g.p}×{g.q}')
    window = g.h // g.p, g.w // g.q
    return "AveragePool", (), {"kernel_shape": window, "strides": window}


def _global_average(node: Node) -> Counterpart:
    return "ReduceMean", (), {"axes": (2, 3), "keepdims": int(len(node.shape) == 3)}


OPS: dict[str, Callable[[Node], Counterpart]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "relu": _plain("Relu"),
    "relu6": lambda node: ("Clip", tuple(LIMITS), {}),
    "tanh": _plain("Tanh"),
    "sigmoid": _plain("Sigmoid"),
    "softmax": _plain("Softmax", axis=1),
    "max_pool2d": _pool("MaxPool"),
    "avg_pool2d": _pool("AveragePool"),
    "global_avg_pool2d": _global_average,
    "adaptive_avg_pool2d": _adaptive_average,
    "flatten": _plain("Flatten"),
    "dropout": _plain("Identity"),
    "add": _plain("Add"),
    "concat": _plain("Concat", axis=1),
}
