"""A classifier as one HTML file that recognizes drawings without a server: its network runs in plain JavaScript."""

import base64
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks.names import checks_call
from numbacnn.data.files import write_file
from numbacnn.data.normalization import Normalization
from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import ArgumentError
from numbacnn.geometry import AdaptiveGeometry
from numbacnn.layers import BatchNorm
from numbacnn.model import Model
from numbacnn.serve.pages import page
from numbacnn.serve.prediction import check_images
from numbacnn.serve.strokes import StrokeForm
from numbacnn.tasks import Classification
from numbacnn.tasks.predictor import PROBABILITY_OPS

SCRIPTS = ("drawing.js", "network.js", "export.js")
MAX_PARAMETERS = 20_000_000

Float32 = NDArray[np.float32]
Json = dict[str, Any]


@checks_call
def export_page(
    model: Model, path: str | os.PathLike[str], name: str = "Classifier", form: StrokeForm | None = None
) -> int:
    """Write an HTML file with a classifier inside, which needs neither a server nor a network; return its size.

    Args:
        model: a classifier of gray or RGB images.
        path: the file; it is replaced if it exists.
        name: the title of the page.
        form: size, position and width of the strokes in the training images, to which drawings are normalized.

    Raises:
        ArgumentError: the model is not a classifier, is too large, or has a layer that the page cannot compute.
    """
    content = page("export.html", SCRIPTS, describe(model, name, form)).encode()
    write_file(Path(path), content)
    return len(content)


def describe(model: Model, name: str, form: StrokeForm | None) -> Json:
    """Return the network as ``network.js`` reads it: steps, and all weights as float32 in Base64."""
    check_images(model)
    if model.task not in (None, Classification.name) or len(model.output_shape) != 1:
        raise ArgumentError(f"a page can be exported of a classifier; this model's output is {model.output_shape}")
    if model.store.count > MAX_PARAMETERS:
        raise ArgumentError(f"{model.store.count:,} parameters are too many for a page; at most {MAX_PARAMETERS:,}")
    graph, weights = model.graph.inference, Weights()
    arrays = {**model.parameters, **model.state}
    steps = [_step(graph, node, arrays, weights) for node in graph.nodes]
    normalization = model.normalization or Normalization.identity(model.input_shape[2])
    scale, shift = normalization.scale_and_shift(np.dtype(np.uint8), 1)
    trained = normalization.images
    return {
        "name": name,
        "classes": list(model.class_names),
        "shape": list(model.input_shape),
        "form": form and form.as_dict(),
        "light": bool(trained and trained.light_on_dark),
        "fit": trained.fit if trained else "stretch",
        "scale": [float(value) for value in scale],
        "shift": [float(value) for value in shift],
        "steps": steps,
        "output": graph.outputs[0],
        "softmax": steps[graph.producer(graph.outputs[0])]["op"] not in PROBABILITY_OPS,
        "weights": weights.text,
    }


class Weights:
    """Arrays one after another, as float32."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def add(self, array: Float32) -> list[int]:
        """Append an array; return where it starts, and its number of elements."""
        start = self._count
        self._count += array.size
        self._parts.append(np.ascontiguousarray(array, np.dtype("<f4")).tobytes())
        return [start, array.size]

    @property
    def text(self) -> str:
        """All arrays in Base64."""
        return base64.b64encode(b"".join(self._parts)).decode()


def _step(graph: Graph, node: Node, arrays: dict[str, Float32], weights: Weights) -> Json:
    """Describe the step of a layer. Raises ArgumentError if the page cannot compute it."""
    op = node.layer.op
    if op not in STEPS:
        raise ArgumentError(f'a page cannot compute the {type(node.layer).__name__} "{node.name}"; export to ONNX')
    own = {name.rpartition(".")[2]: array for name, array in arrays.items() if name.rpartition(".")[0] == node.name}
    step: Json = {"op": op, "inputs": list(node.inputs), "shape": list(node.shape)}
    return step | STEPS[op](node, own, weights)


Description = Callable[[Node, dict[str, Float32], Weights], Json]


def _convolution(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    g = node.geometry
    step = {"window": [g.r, g.s], "stride": [g.stride_h, g.stride_w], "dilation": [g.dilation_h, g.dilation_w]}
    step |= {"pad": [g.pad_top, g.pad_left], "groups": g.groups, "input": [g.h, g.w, g.c]}
    return {**step, "op": "conv2d"} | _weights(node, own, weights)


def _weights(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    return {name: weights.add(own[name]) for name in ("weight", "bias") if name in own}


def _pool(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    g = node.geometry
    kind = "max" if node.layer.op.endswith("max_pool2d") else "mean"
    if isinstance(g, AdaptiveGeometry):
        bins = [_bins(g.h, g.p), _bins(g.w, g.q)]
    else:
        bins = [
            [[i * stride - pad, i * stride - pad + window] for i in range(count)]
            for count, stride, pad, window in ((g.p, g.stride_h, g.pad_top, g.r), (g.q, g.stride_w, g.pad_left, g.s))
        ]
    step = {"op": "pool", "kind": kind, "bins": bins, "input": [g.h, g.w, g.c]}
    if kind == "mean" and not isinstance(g, AdaptiveGeometry) and g.count_include_pad:
        step["padded"] = [g.h + g.pad_bottom, g.w + g.pad_right]  # pixels up to there count
    return step


def _bins(size: int, count: int) -> list[list[int]]:
    return [[i * size // count, -(-(i + 1) * size // count)] for i in range(count)]


def _batch_norm(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    assert isinstance(node.layer, BatchNorm)
    scale = own["weight"] / np.sqrt(own["running_var"].astype(np.float64) + node.layer.eps)
    shift = own["bias"] - own["running_mean"] * scale
    return {
        "op": "affine",
        "scale": weights.add(scale.astype(np.float32)),
        "shift": weights.add(shift.astype(np.float32)),
    }


def _concatenation(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    return {"channels": [shape[-1] for shape in node.input_shapes]}


def _activation(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    return {
        **{k: v for k, v in node.layer.attributes().items() if isinstance(v, float)},
        **_weights(node, own, weights),
    }


def _plain(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    return {}


def _same(node: Node, own: dict[str, Float32], weights: Weights) -> Json:
    return {"op": "same"}


def _each(ops: Sequence[str], description: Description) -> dict[str, Description]:
    return dict.fromkeys(ops, description)


STEPS: dict[str, Description] = {
    **_each(("conv2d", "depthwise_conv2d"), _convolution),
    "dense": _weights,
    **_each(("max_pool2d", "avg_pool2d", "global_max_pool2d", "global_avg_pool2d"), _pool),
    **_each(("adaptive_max_pool2d", "adaptive_avg_pool2d"), _pool),
    "batch_norm": _batch_norm,
    **_each(("flatten", "reshape", "dropout", "spatial_dropout"), _same),
    "concat": _concatenation,
    **_each(("add", "multiply", "softmax"), _plain),
    **_each(("relu", "relu6", "leaky_relu", "elu", "tanh", "sigmoid"), _activation),
    **_each(("hardsigmoid", "hardswish", "silu", "prelu"), _activation),
}
"""What a page can compute, by op."""
