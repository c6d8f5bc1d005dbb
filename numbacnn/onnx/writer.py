"""A graph as an ONNX model: values in ONNX's layout, weights permuted to it, and the names of everything.

Images are N×C×H×W in ONNX, so that a flattened image has its features in another order than ours. A value therefore
carries that order, and the next weights are permuted instead of the value.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from numbacnn._checks import one_of, shown
from numbacnn._checks.version import __version__
from numbacnn.data.normalization import Normalization
from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.geometry import Shape
from numbacnn.layers.normalization import BatchNorm
from numbacnn.model import Model
from numbacnn.onnx import DEFAULT_OPSET, LAYOUTS, OPSETS
from numbacnn.onnx.broadcasting import output_channels
from numbacnn.onnx.exports import KEEP_ORDER, OPS, TAKE_ORDER, TO_NCHW, TO_NHWC, Order
from numbacnn.tasks import Detection
from numbacnn.tasks.predictor import PROBABILITY_OPS

Arrays = Mapping[str, NDArray[np.float32]]

MIN_IR = 8
MAX_BYTES = 2**31 - 1  # of a protocol buffer
FOLDABLE = ("conv2d", "depthwise_conv2d", "dense", "conv2d_transpose")  # normalizations become part of their weights


@dataclass(frozen=True)
class Options:
    """The options of ``onnx.save``; ``batch`` is a fixed batch size. Raises ArgumentError if one is not valid."""

    opset: int = DEFAULT_OPSET
    layout: str = "nchw"
    fold: bool = False
    raw_images: bool = False
    probabilities: bool = False
    batch: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.opset, int) or self.opset not in OPSETS:
            raise ArgumentError(f"opset={shown(self.opset)}: use a version from {OPSETS[0]} to {OPSETS[-1]}")
        one_of(self.layout, "layout", LAYOUTS)


class Value(NamedTuple):
    """A value in the ONNX graph. Feature i is our feature ``order[i]``, or our feature i if that is None."""

    name: str
    order: Order | None = None


def model_to_onnx(model: Model, options: Options) -> onnx.ModelProto:
    """Convert a model; ``onnx.save`` documents options and errors.

    Its arrays are copied between two steps of a training, which continues during the conversion.
    """
    if options.raw_images and (len(model.graph.input_shapes) != 1 or len(model.input_shape) != 3):
        raise ArgumentError("raw_images is for models with one input, an image")
    probabilities = options.probabilities and model.task != Detection.name
    normalization = None
    if options.raw_images:
        normalization = model.normalization or Normalization.identity(model.input_shape[2])
    writer = Writer(model.graph.inference, model.store.copies(), options, normalization, probabilities)
    metadata = {
        "numbacnn": __version__,
        "layout": options.layout,
        "classes": json.dumps(model.classes) if model.classes else "",
        "task": model.task or "",
        "algorithms": json.dumps(forced) if (forced := _algorithms(model.graph.inference)) else "",
        "normalization": json.dumps(model.normalization.as_dict())
        if model.normalization and not options.raw_images
        else "",
    }
    return writer.model({name: text for name, text in metadata.items() if text})


def _algorithms(graph: Graph) -> dict[str, str]:
    """Return the convolution algorithms that are not chosen automatically, by layer."""
    found = {node.name: getattr(node.layer, "algorithm", "auto") for node in graph.nodes}
    return {name: algorithm for name, algorithm in found.items() if algorithm != "auto"}


class Writer:
    """Converts one graph. ``arrays`` are its parameters and state in our layouts.

    Intermediate values have the name of their layer, a colon and a word; no layer's name has a colon.
    """

    def __init__(
        self,
        graph: Graph,
        arrays: Arrays,
        options: Options,
        normalization: Normalization | None = None,
        probabilities: bool = False,
    ) -> None:
        self.graph, self.options, self.opset = graph, options, options.opset
        self.normalization, self._probabilities = normalization, probabilities
        self._arrays = dict(arrays)
        self._folded = self._fold() if options.fold else set[int]()
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, NDArray[Any]] = {}
        self._ordered: set[str] = set()  # values that exist in our order too
        self._external = [self._external_name(value) for value in range(len(graph.shapes))]

    # -- for the table of ops -----------------------------------------------------------------------------------------

    def add(self, op: str, inputs: Sequence[str], name: str, **attributes: float | str | Sequence[int]) -> str:
        """Add a node and return the name of its output."""
        self._nodes.append(helper.make_node(op, inputs, [name], name=name, **attributes))
        return name

    def constant(self, name: str, array: ArrayLike) -> str:
        """Add an initializer and return its name."""
        self._initializers[name] = np.ascontiguousarray(array)
        return name

    def integers(self, name: str, numbers: Sequence[int]) -> str:
        """Add an initializer of integers, such as a shape or axes, and return its name."""
        return self.constant(name, np.array(numbers, np.int64))

    def number(self, name: str, number: float) -> str:
        """Add a float32 scalar and return its name."""
        return self.constant(name, np.float32(number))

    def array(self, node: Node, name: str) -> NDArray[np.float32]:
        """Return a parameter or state of a layer, in our layout."""
        return self._arrays[f"{node.name}.{name}"]

    def parameter(self, node: Node, name: str, array: NDArray[np.float32] | None = None) -> str:
        """Add a parameter or state, with another layout if ``array`` is given, and return its name."""
        return self.constant(f"{node.name}.{name}", self.array(node, name) if array is None else array)

    def has(self, node: Node, name: str) -> bool:
        """Return whether a layer has a parameter, or got it by folding."""
        return f"{node.name}.{name}" in self._arrays

    # -- conversion ---------------------------------------------------------------------------------------------------

    def model(self, metadata: Mapping[str, str]) -> onnx.ModelProto:
        """Return the converted model. Raises NumbacnnError if a layer has no counterpart, or it is too large."""
        graph, names = self.graph, self._external
        values = [self._input(i) for i in range(len(graph.input_shapes))]
        for i, node in enumerate(graph.nodes):
            values.append(self._node(i, node, [values[value] for value in node.inputs]))
        inputs = [
            self._declared(name, shape, TensorProto.UINT8 if self.normalization else TensorProto.FLOAT)
            for name, shape in zip(graph.input_names, graph.input_shapes, strict=True)
        ]
        outputs = [self._declared(self._output(value, values), graph.shapes[value]) for value in graph.outputs]
        used = {source for node in self._nodes for source in node.input}
        initializers = [numpy_helper.from_array(a, name) for name, a in self._initializers.items() if name in used]
        size = sum(map(len, names)) + sum(array.nbytes for array in self._initializers.values())
        if size > MAX_BYTES:
            raise NumbacnnError(f"the weights have {size:,} bytes; an ONNX file holds at most {MAX_BYTES:,}")
        opset = helper.make_opsetid("", self.opset)
        model = helper.make_model(
            helper.make_graph(self._nodes, "numbacnn", inputs, outputs, initializers),
            opset_imports=[opset],
            ir_version=max(MIN_IR, helper.find_min_ir_version_for([opset])),
            producer_name="numbacnn",
            producer_version=__version__,
        )
        helper.set_model_props(model, dict(metadata))
        onnx.checker.check_model(model)
        return model

    def _external_name(self, value: int) -> str:
        """Name a value; an output that still needs a node after its layer gets the layer's name there."""
        name, graph = self.graph.names[value], self.graph
        after = self._final(value) or (self.options.layout == "nhwc" and len(graph.shapes[value]) == 3)
        return f"{name}:y" if value in graph.outputs and after else name

    def _declared(self, name: str, shape: Shape, kind: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
        channels_first = (shape[2], *shape[:2]) if len(shape) == 3 and self.options.layout == "nchw" else shape
        return helper.make_tensor_value_info(name, kind, (self.options.batch or "batch", *channels_first))

    def _input(self, i: int) -> Value:
        name, shape = self.graph.input_names[i], self.graph.input_shapes[i]
        x = name
        if self.options.layout == "nhwc" and len(shape) == 3:
            x = self.add("Transpose", [x], f"{name}:nchw", perm=TO_NCHW)
        if self.normalization:
            scale, shift = self.normalization.scale_and_shift(np.dtype(np.uint8), 1)
            x = self.add("Cast", [x], f"{name}:float", to=TensorProto.FLOAT)
            x = self.add("Mul", [x, self.constant(f"{name}:scale", scale.reshape(-1, 1, 1))], f"{name}:scaled")
            x = self.add("Add", [x, self.constant(f"{name}:shift", shift.reshape(-1, 1, 1))], f"{name}:normalized")
        return Value(x)

    def _node(self, i: int, node: Node, xs: list[Value]) -> Value:
        """Add the nodes of a layer and return its output."""
        value, op = self.graph.value(i), node.layer.known_op
        if op not in OPS:
            raise NumbacnnError(f'{type(node.layer).__name__} "{node.name}" has no counterpart in ONNX')
        is_output = value in self.graph.outputs
        if i in self._folded or (node.layer.idle_in_inference and not is_output):
            return xs[0]
        keeps = op in KEEP_ORDER and not is_output
        order = xs[0].order if keeps or op in TAKE_ORDER else None
        sources = [x.name if order is not None else self._in_our_order(x) for x in xs]
        OPS[op](self, node, sources, self._external[value], order)
        if op == "flatten" and len(node.input_shapes[0]) == 3 and not is_output:
            return Value(self._external[value], _channels_first_order(node.input_shapes[0]))
        return Value(self._external[value], order if keeps else None)

    def _in_our_order(self, x: Value) -> str:
        if x.order is None:
            return x.name
        ordered = f"{x.name}:ordered"
        if ordered not in self._ordered:
            self._ordered.add(ordered)
            indices = self.integers(f"{x.name}:order", np.argsort(x.order).tolist())
            self.add("Gather", [x.name, indices], ordered, axis=1)
        return ordered

    def _output(self, value: int, values: Sequence[Value]) -> str:
        """Add what an output needs after its layer, and return its name."""
        name, shape = self.graph.names[value], self.graph.shapes[value]
        x = values[value].name
        transposes = self.options.layout == "nhwc" and len(shape) == 3
        if final := self._final(value):
            attributes = {"axis": 1} if final == "Softmax" else {}
            x = self.add(final, [x], f"{name}:probabilities" if transposes else name, **attributes)
        if transposes:
            x = self.add("Transpose", [x], name, perm=TO_NHWC)
        if x in self.graph.input_names:  # a graph's output must be the output of a node
            x = self.add("Identity", [x], f"{name}:output")
        return x

    def _final(self, value: int) -> str | None:
        """Return the operator that turns an output into probabilities, if it needs one."""
        layer = self.graph.layer_of(value)
        if not self._probabilities or (layer is not None and layer.op in PROBABILITY_OPS):
            return None
        return "Softmax" if self.graph.shapes[value][-1] > 1 else "Sigmoid"

    def _fold(self) -> set[int]:
        """Absorb batch normalizations into the weights before them; return the nodes that this makes superfluous."""
        folded = set()
        for i, node in enumerate(self.graph.nodes):
            source = self.graph.producer(node.inputs[0])
            if not isinstance(node.layer, BatchNorm) or node.layer.known_op is None or source < 0:
                continue
            before = self.graph.nodes[source]
            only = self.graph.consumers[node.inputs[0]] == [i] and node.inputs[0] not in self.graph.outputs
            if before.layer.known_op not in FOLDABLE or not only or self.graph.value(i) in self.graph.outputs:
                continue
            names = ("weight", "bias", "running_mean", "running_var")
            scale, shift, mean, variance = (self.array(node, name).astype(np.float64) for name in names)
            factor = scale / np.sqrt(variance + node.layer.eps)
            weight = self.array(before, "weight").astype(np.float64)
            bias = self.array(before, "bias").astype(np.float64) if self.has(before, "bias") else 0.0
            weight *= factor[output_channels(before.layer, weight.shape)]
            self._arrays[f"{before.name}.weight"] = weight.astype(np.float32)
            self._arrays[f"{before.name}.bias"] = ((bias - mean) * factor + shift).astype(np.float32)
            folded.add(i)
        return folded


def _channels_first_order(shape: Shape) -> Order | None:
    """Return the order of our features (h, w, c) in a flattened image (c, h, w); None if it is the same."""
    h, w, c = shape
    return None if c == 1 or h * w == 1 else np.arange(h * w * c).reshape(shape).transpose(2, 0, 1).reshape(-1)
