"""The table of our ops in ONNX: a row for each, a function that adds its nodes.

A function takes the writer, our node, the names of its inputs, the name of its output, and the order of the features of
its first input, which only the ops in ``KEEP_ORDER`` and ``TAKE_ORDER`` get. Attributes and versions of the operators:
https://onnx.ai/onnx/operators.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.graph import Node
from numbacnn.errors import NumbacnnError
from numbacnn.geometry import ConvGeometry, Halo, ResizeAxis, ResizeGeometry
from numbacnn.layers import (
    ELU,
    GELU,
    BatchNorm,
    Clip,
    Elementwise,
    GroupNorm,
    LeakyReLU,
    LocalResponseNorm,
    Power,
    Resize2D,
    Upsample2D,
)
from numbacnn.onnx.export_pools import adaptive_average, adaptive_max, average_pool, global_pool, max_pool

if TYPE_CHECKING:
    from numbacnn.onnx.writer import Writer

Order = NDArray[np.intp]
Row = Callable[["Writer", Node, list[str], str, Order | None], object]


TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def plain(op: str, **attributes: float | str | Sequence[int]) -> Row:
    """Return a row of one operator with constant attributes."""
    return lambda w, node, xs, y, order: w.add(op, xs, y, **attributes)


# -- convolutions and dense layers ------------------------------------------------------------------------------------


def _convolution(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    g: ConvGeometry = node.geometry
    top, bottom, left, right = g.input_halo
    _add_convolution(w, "Conv", node, xs, y, pads=(top, left, bottom, right))


def _transposed(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    g: ConvGeometry = node.geometry
    # What the windows cover beyond the output is padding; what they do not reach of it is output padding.
    beyond = [
        (g.p - 1) * g.stride_h + (g.r - 1) * g.dilation_h + 1 - g.pad_top - g.h,
        (g.q - 1) * g.stride_w + (g.s - 1) * g.dilation_w + 1 - g.pad_left - g.w,
    ]
    if -beyond[0] >= g.stride_h or -beyond[1] >= g.stride_w:  # runtimes reject as much output padding: zeros after x
        rows, columns = max(0, -(beyond[0] // g.stride_h)), max(0, -(beyond[1] // g.stride_w))
        xs = [w.add("Pad", [*xs, w.integers(f"{y}:zeros", (0, 0, 0, 0, 0, 0, rows, columns))], f"{y}:padded")]
        beyond = [beyond[0] + rows * g.stride_h, beyond[1] + columns * g.stride_w]
    pads = g.pad_top, g.pad_left, max(0, beyond[0]), max(0, beyond[1])
    extra = max(0, -beyond[0]), max(0, -beyond[1])
    _add_convolution(w, "ConvTranspose", node, xs, y, pads=pads, output_padding=extra)


def _add_convolution(w: "Writer", op: str, node: Node, xs: list[str], y: str, **padding: tuple[int, ...]) -> None:
    g: ConvGeometry = node.geometry
    sources = [*xs, w.parameter(node, "weight", w.array(node, "weight").transpose(3, 2, 0, 1))]
    if w.has(node, "bias"):
        sources.append(w.parameter(node, "bias"))
    strides, dilations = (g.stride_h, g.stride_w), (g.dilation_h, g.dilation_w)
    w.add(op, sources, y, kernel_shape=(g.r, g.s), strides=strides, dilations=dilations, group=g.groups, **padding)


def _dense(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    weight = w.array(node, "weight")
    sources = [*xs, w.parameter(node, "weight", (weight if order is None else weight[order]).T)]
    if w.has(node, "bias"):
        sources.append(w.parameter(node, "bias"))
    w.add("Gemm", sources, y, transB=1)


# -- normalization ----------------------------------------------------------------------------------------------------


def _batch_norm(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    names = ("weight", "bias", "running_mean", "running_var")
    arrays = [_per_channel(w, node, name, order) for name in names]
    layer = cast(BatchNorm, node.layer)
    w.add("BatchNormalization", [*xs, *arrays], y, epsilon=layer.eps, momentum=1 - layer.momentum)


def _per_channel(w: "Writer", node: Node, name: str, order: Order | None) -> str:
    array = w.array(node, name)
    return w.parameter(node, name, array if order is None else array[order])


def _group_norm(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    layer = cast(GroupNorm, node.layer)
    groups, c = layer.groups, node.shape[-1]
    if len(node.shape) == 3 and groups == c > 1:
        arrays = [w.parameter(node, "weight"), w.parameter(node, "bias")]
        w.add("InstanceNormalization", [*xs, *arrays], y, epsilon=layer.eps)
    elif w.opset >= 21:
        arrays = [w.parameter(node, "weight"), w.parameter(node, "bias")]
        w.add("GroupNormalization", [*xs, *arrays], y, epsilon=layer.eps, num_groups=groups)
    else:
        h, width, _ = (1, 1, c) if len(node.shape) == 1 else node.shape
        channels = (-1, 1, 1)[: len(node.shape)]
        ones, zeros = np.ones(groups, np.float32), np.zeros(groups, np.float32)
        constants = [w.constant(f"{y}:ones", ones), w.constant(f"{y}:zeros", zeros)]
        split = w.integers(f"{y}:split", (0, groups, -1))
        whole = w.integers(f"{y}:whole", (0, c, h, width)[: len(node.shape) + 1])
        x = w.add("Reshape", [*xs, split], f"{y}:groups")
        x = w.add("InstanceNormalization", [x, *constants], f"{y}:normalized", epsilon=layer.eps)
        x = w.add("Reshape", [x, whole], f"{y}:image")
        x = w.add("Mul", [x, w.parameter(node, "weight", w.array(node, "weight").reshape(channels))], f"{y}:scaled")
        w.add("Add", [x, w.parameter(node, "bias", w.array(node, "bias").reshape(channels))], y)


def _local_response_norm(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    layer = cast(LocalResponseNorm, node.layer)
    if layer.size % 2:
        w.add("LRN", xs, y, size=layer.size, alpha=layer.alpha, beta=layer.beta, bias=layer.k)
        return
    # Runtimes reject windows of even size, so a 1×1 convolution averages the squares of neighboring channels.
    c = node.shape[-1]
    k, i = np.ogrid[:c, :c]
    near = (i >= k - layer.size // 2) & (i <= k + (layer.size - 1) // 2)
    means = (near / np.float32(layer.size)).astype(np.float32).reshape(c, c, 1, 1)
    z = w.add("Mul", [*xs, *xs], f"{y}:squares")
    z = w.add("Conv", [z, w.constant(f"{y}:means", means)], f"{y}:means_of_channels")
    z = w.add("Mul", [z, w.number(f"{y}:alpha", layer.alpha)], f"{y}:scaled")
    z = w.add("Add", [z, w.number(f"{y}:k", layer.k)], f"{y}:sum")
    z = w.add("Pow", [z, w.number(f"{y}:beta", layer.beta)], f"{y}:divisor")
    w.add("Div", [*xs, z], y)


# -- activations ------------------------------------------------------------------------------------------------------


def _relu6(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    w.add("Clip", [*xs, w.number(f"{y}:low", 0), w.number(f"{y}:high", 6)], y)


def _leaky_relu(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    w.add("LeakyRelu", xs, y, alpha=cast(LeakyReLU, node.layer).slope)


def _elu(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    w.add("Elu", xs, y, alpha=cast(ELU, node.layer).alpha)


def _prelu(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    weight = w.array(node, "weight")
    slope = (weight if order is None else weight[order]).reshape((-1, 1, 1)[: len(node.shape)])
    w.add("PRelu", [*xs, w.parameter(node, "weight", slope)], y)


def _silu(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    w.add("Mul", [*xs, w.add("Sigmoid", xs, f"{y}:sigmoid")], y)


def _gelu(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    approximate = cast(GELU, node.layer).approximate
    if w.opset >= 20:
        w.add("Gelu", xs, y, approximate=approximate)
        return
    if approximate == "none":
        z = w.add("Div", [*xs, w.number(f"{y}:sqrt_2", math.sqrt(2))], f"{y}:scaled")
        z = w.add("Erf", [z], f"{y}:erf")
    else:
        z = w.add("Pow", [*xs, w.number(f"{y}:3", 3)], f"{y}:cube")
        z = w.add("Mul", [z, w.number(f"{y}:factor", 0.044715)], f"{y}:cubic")
        z = w.add("Add", [*xs, z], f"{y}:sum")
        z = w.add("Mul", [z, w.number(f"{y}:sqrt", math.sqrt(2 / math.pi))], f"{y}:scaled")
        z = w.add("Tanh", [z], f"{y}:tanh")
    z = w.add("Add", [z, w.number(f"{y}:1", 1)], f"{y}:plus_1")
    z = w.add("Mul", [*xs, z], f"{y}:product")
    w.add("Mul", [z, w.number(f"{y}:half", 0.5)], y)


def _mish(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    if w.opset >= 18:
        w.add("Mish", xs, y)
    else:
        w.add("Mul", [*xs, w.add("Tanh", [w.add("Softplus", xs, f"{y}:softplus")], f"{y}:tanh")], y)


def _elementwise(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    function = cast(Elementwise, node.layer).function
    if function == "mish":
        _mish(w, node, xs, y, order)
    else:
        w.add(function.title(), xs, y)


def _clip(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    layer = cast(Clip, node.layer)
    bounds = ((f"{y}:low", layer.low), (f"{y}:high", layer.high))
    w.add("Clip", [*xs, *("" if bound is None else w.number(name, bound) for name, bound in bounds)], y)


def _power(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    w.add("Pow", [*xs, w.number(f"{y}:exponent", cast(Power, node.layer).exponent)], y)


# -- shapes and merging -----------------------------------------------------------------------------------------------


def _flatten(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    """Flatten in ONNX's order, which the writer notes, or in ours if the features leave the graph."""
    if len(node.input_shapes[0]) == 3 and w.graph.value(w.graph.nodes.index(node)) in w.graph.outputs:
        xs = [w.add("Transpose", xs, f"{y}:nhwc", perm=TO_NHWC)]
    w.add("Flatten", xs, y)


def _reshape(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    x, shape = xs[0], w.integers(f"{y}:shape", (0, *node.shape))
    if len(node.input_shapes[0]) == 3:
        x = w.add("Transpose", [x], f"{y}:nhwc", perm=TO_NHWC)
        shape = w.integers(f"{y}:shape", (0, -1, *node.shape[1:]) if len(node.shape) == 3 else (0, -1))
    if len(node.shape) == 3:
        x = w.add("Reshape", [x, shape], f"{y}:reshaped")
        w.add("Transpose", [x], y, perm=TO_NCHW)
    else:
        w.add("Reshape", [x, shape], y)


def _zero_pad(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    g: Halo = node.geometry
    w.add("Pad", [*xs, w.integers(f"{y}:pads", (0, 0, g.top, g.left, 0, 0, g.bottom, g.right))], y)


def _slice(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    rows, columns, channels = node.geometry
    ranges = channels, rows, columns
    ends = [
        w.integers(f"{y}:{name}", part) for name, part in zip(("first", "end"), zip(*ranges, strict=True), strict=True)
    ]
    w.add("Slice", [*xs, *ends, w.integers(f"{y}:axes", (1, 2, 3))], y)


def _upsample(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    scales = np.array([1, 1, node.geometry.factor_h, node.geometry.factor_w], np.float32)
    sources = [*xs, "", w.constant(f"{y}:scales", scales)]
    if cast(Upsample2D, node.layer).mode == "bilinear":
        w.add("Resize", sources, y, mode="linear", coordinate_transformation_mode="half_pixel")
    else:
        mode = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
        w.add("Resize", sources, y, mode="nearest", **mode)


def _edges_of(
    region: tuple[float, float, float, float], size: tuple[int, int]
) -> tuple[tuple[int, ...], tuple[float, ...]]:
    """Return the pixels by which a region is larger than the image on each side, and the region of the larger image.

    Outside of the image, the layer repeats its edge, and ONNX has a number.
    """
    pads, edges = [0] * 4, list(region)
    for axis, pixels in enumerate(size):
        if pixels > 1:
            start, end, last = region[axis], region[axis + 2], pixels - 1
            before = max(0, math.ceil(-min(start, end) * last))
            after = max(0, math.ceil((max(start, end) - 1) * last))
            pads[axis], pads[axis + 2] = before, after
            edges[axis], edges[axis + 2] = ((edge * last + before) / (last + before + after) for edge in (start, end))
    return tuple(pads), tuple(edges)


def _off_ties(edges: tuple[float, ...], g: ResizeGeometry) -> tuple[float, ...]:
    """Move a region by a millionth if a position is where rounding begins, to the side to which it is rounded.

    Otherwise the region's own rounding to float32 in the file would decide which pixel is nearest. Regions that are
    float32 stay.
    """
    if all(edge == float(np.float32(edge)) for edge in edges) or not any(map(_has_tie, g.axes)):
        return edges
    return tuple(min(max(edge + (-1e-6 if g.up else 1e-6), 0.0), 1.0) for edge in edges)


def _has_tie(axis: ResizeAxis) -> bool:
    """Return whether a position is a whole number, about, at which rounding up or down begins."""
    positions = (np.arange(axis.outputs) + axis.offset) * axis.numerator / axis.denominator + axis.shift
    return bool((abs(positions - np.round(positions)) < 1e-6 * axis.size).any())


def _resize(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    layer, g = cast(Resize2D, node.layer), node.geometry
    if layer.coordinates == "half_pixel_symmetric" and w.opset < 19:
        raise NumbacnnError(f'Resize2D "{node.name}": half_pixel_symmetric needs opset=19 or later')
    modes = {
        "mode": "linear" if layer.mode == "bilinear" else "nearest",
        "coordinate_transformation_mode": "tf_crop_and_resize" if layer.region else layer.coordinates,
        "nearest_mode": layer.rounding,
    }
    region = ""
    if layer.region is not None:
        pads, edges = _edges_of(layer.region, (g.h, g.w))
        top, left, bottom, right = edges if layer.mode == "bilinear" else _off_ties(edges, g)
        region = w.constant(f"{y}:region", np.array([0, 0, top, left, 1, 1, bottom, right], np.float32))
        if any(pads):
            above, before, below, after = pads
            widths = w.integers(f"{y}:pads", (0, 0, above, before, 0, 0, below, after))
            xs = [w.add("Pad", [*xs, widths], f"{y}:padded", mode="edge")]
    if layer.scale is not None and layer.region is None:
        if (math.floor(g.h * layer.scale[0] + 1e-7), math.floor(g.w * layer.scale[1] + 1e-7)) != (g.p, g.q):
            raise NumbacnnError(f'Resize2D "{node.name}": the sizes in ONNX are those of the input times the scale')
        scales = np.array([1, 1, *layer.scale], np.float32)
        w.add("Resize", [*xs, "", w.constant(f"{y}:scales", scales)], y, **modes)
    else:  # sizes of two axes, as opset 18 has, fail in onnxruntime when it moves a transpose beyond them
        batch = w.add("Shape", xs, f"{y}:batch", start=0, end=2)
        sizes = w.add("Concat", [batch, w.integers(f"{y}:size", (g.p, g.q))], f"{y}:sizes", axis=0)
        w.add("Resize", [*xs, region, "", sizes], y, **modes)


def _add(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    w.add("Add" if len(xs) == 2 else "Sum", xs, y)


def _multiply(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    gate = node.geometry
    if gate is not None and len(node.input_shapes[gate]) == 1:
        shape = w.integers(f"{y}:shape", (0, -1, 1, 1))
        xs[gate] = w.add("Reshape", [xs[gate], shape], f"{y}:gate")
    w.add("Mul", xs, y)


# Ops that compute each feature on its own, from features in any order and in the order of a flattened image.
KEEP_ORDER = {
    *("relu", "relu6", "leaky_relu", "prelu", "elu", "gelu", "silu", "hardswish", "hardsigmoid", "tanh", "sigmoid"),
    *("softmax", "log_softmax", "dropout", "batch_norm", "elementwise", "power", "clip"),
}
TAKE_ORDER = {"dense"}

OPS: dict[str, Row] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv2d_transpose": _transposed,
    "dense": _dense,
    "batch_norm": _batch_norm,
    "group_norm": _group_norm,
    "local_response_norm": _local_response_norm,
    "relu": plain("Relu"),
    "relu6": _relu6,
    "leaky_relu": _leaky_relu,
    "prelu": _prelu,
    "elu": _elu,
    "gelu": _gelu,
    "silu": _silu,
    "hardswish": plain("HardSwish"),
    "hardsigmoid": plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "tanh": plain("Tanh"),
    "sigmoid": plain("Sigmoid"),
    "softmax": plain("Softmax", axis=1),
    "log_softmax": plain("LogSoftmax", axis=1),
    "elementwise": _elementwise,
    "power": _power,
    "clip": _clip,
    "max_pool2d": max_pool,
    "avg_pool2d": average_pool,
    "global_max_pool2d": global_pool("GlobalMaxPool"),
    "global_avg_pool2d": global_pool("GlobalAveragePool"),
    "adaptive_max_pool2d": adaptive_max,
    "adaptive_avg_pool2d": adaptive_average,
    "flatten": _flatten,
    "reshape": _reshape,
    "zero_pad2d": _zero_pad,
    "slice": _slice,
    "upsample2d": _upsample,
    "resize2d": _resize,
    "dropout": plain("Identity"),
    "spatial_dropout": plain("Identity"),
    "add": _add,
    "multiply": _multiply,
    "maximum": plain("Max"),
    "minimum": plain("Min"),
    "concat": plain("Concat", axis=1),
}
