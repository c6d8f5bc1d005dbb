"""The table of our ops in ONNX: a row for each, a function that adds its nodes.

A function takes the writer, our node, the names of its inputs, the name of its output, and the order of the features of
its first input, which only the ops in ``KEEP_ORDER`` and ``TAKE_ORDER`` get. Attributes and versions of the operators:
https://onnx.ai/onnx/operators.
"""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.graph import Node
from numbacnn.geometry import AdaptiveGeometry, ConvGeometry, Halo, PoolGeometry
from numbacnn.layers import ELU, GELU, BatchNorm, GroupNorm, LeakyReLU, LocalResponseNorm, Upsample2D

if TYPE_CHECKING:
    from numbacnn.onnx.writer import Writer

Order = NDArray[np.intp]
Row = Callable[["Writer", Node, list[str], str, Order | None], object]


TO_NCHW, TO_NHWC = (0, 3, 1, 2), (0, 2, 3, 1)


def plain(op: str, **attributes: Any) -> Row:
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
    # Runtimes reject windows of even size, so channels are averaged as the rows of an image, as PyTorch exports it.
    h, width, c = node.shape
    z = w.add("Mul", [*xs, *xs], f"{y}:squares")
    z = w.add("Reshape", [z, w.integers(f"{y}:rows", (0, 1, c, -1))], f"{y}:channels_as_rows")
    pads = layer.size // 2, 0, (layer.size - 1) // 2, 0
    z = w.add("AveragePool", [z], f"{y}:means", kernel_shape=(layer.size, 1), pads=pads, count_include_pad=1)
    z = w.add("Reshape", [z, w.integers(f"{y}:image", (0, c, h, width))], f"{y}:means_of_channels")
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


# -- pooling ----------------------------------------------------------------------------------------------------------


def _max_pool(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    g: PoolGeometry = node.geometry
    _add_pool(w, "MaxPool", xs, y, g, (g.pad_top, g.pad_left, *_reach(g, g.pad_top, g.pad_left)))


def _average_pool(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    """Runtimes disagree about ceil_mode, so the pads are those that the last windows reach, and padding that counts
    beyond which windows reach is a Pad of its own."""
    g: PoolGeometry = node.geometry
    reach = _reach(g, g.pad_top, g.pad_left)
    pads = g.pad_top, g.pad_left, *reach
    counted = g.count_include_pad and any(pads)
    if counted and (reach[0] > g.pad_bottom or reach[1] > g.pad_right):
        around = (0, 0, g.pad_top, g.pad_left, 0, 0, g.pad_bottom, g.pad_right)
        xs = [w.add("Pad", [*xs, w.integers(f"{y}:pads", around)], f"{y}:padded")]
        pads, counted = (0, 0, max(0, reach[0] - g.pad_bottom), max(0, reach[1] - g.pad_right)), False
    _add_pool(w, "AveragePool", xs, y, g, pads, count_include_pad=int(counted))


def _reach(g: PoolGeometry, top: int, left: int) -> tuple[int, int]:
    """Return the rows and columns beyond the image that the last windows reach."""
    return (
        max(0, (g.p - 1) * g.stride_h + g.r - g.h - top),
        max(0, (g.q - 1) * g.stride_w + g.s - g.w - left),
    )


def _add_pool(
    w: "Writer", op: str, xs: list[str], y: str, g: PoolGeometry, pads: tuple[int, ...], **options: int
) -> None:
    w.add(op, xs, y, kernel_shape=(g.r, g.s), strides=(g.stride_h, g.stride_w), pads=pads, **options)


def _global_pool(op: str) -> Row:
    def row(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
        if len(node.shape) == 3:
            w.add(op, xs, y)
        else:
            w.add("Flatten", [w.add(op, xs, f"{y}:image")], y)

    return row


def _adaptive_average(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    """Bins of one size are windows; others are two products with matrices of averages, over rows and over columns."""
    g: AdaptiveGeometry = node.geometry
    if not _add_equal_bins(w, "AveragePool", node, xs, y):
        rows, columns = averages(g.h, g.p), averages(g.w, g.q)
        x = w.add("MatMul", [w.constant(f"{y}:rows", rows), *xs], f"{y}:over_rows")
        w.add("MatMul", [x, w.constant(f"{y}:columns", columns.T)], y)


def _adaptive_max(w: "Writer", node: Node, xs: list[str], y: str, order: Order | None) -> None:
    """Bins of one size are windows; of others, the maxima of slices, over rows and then over columns."""
    g: AdaptiveGeometry = node.geometry
    if not _add_equal_bins(w, "MaxPool", node, xs, y):
        x = _maxima(w, xs[0], f"{y}:rows", 2, _bins(g.h, g.p), f"{y}:over_rows")
        _maxima(w, x, f"{y}:columns", 3, _bins(g.w, g.q), y)


def _add_equal_bins(w: "Writer", op: str, node: Node, xs: list[str], y: str) -> bool:
    g: AdaptiveGeometry = node.geometry
    if g.h % g.p or g.w % g.q:
        return False
    window = g.h // g.p, g.w // g.q
    w.add(op, xs, y, kernel_shape=window, strides=window)
    return True


def _bins(size: int, count: int) -> list[tuple[int, int]]:
    """Return the first element and the end of each bin."""
    return [(i * size // count, -(-(i + 1) * size // count)) for i in range(count)]


def averages(size: int, count: int) -> NDArray[np.float32]:
    """Return the matrix (count, size) that averages each bin of an adaptive pool over an axis."""
    matrix = np.zeros((count, size), np.float32)
    for row, (first, end) in zip(matrix, _bins(size, count), strict=True):
        row[first:end] = 1 / (end - first)
    return matrix


def _maxima(w: "Writer", x: str, name: str, axis: int, bins: list[tuple[int, int]], y: str) -> str:
    axes, parts = w.integers(f"{name}:axis", [axis]), []
    for i, (first, end) in enumerate(bins):
        ends = w.integers(f"{name}:{i}:first", [first]), w.integers(f"{name}:{i}:end", [end])
        part = w.add("Slice", [x, *ends, axes], f"{name}:{i}:part")
        reduced = [part, axes] if w.opset >= 18 else [part]
        attributes = {} if w.opset >= 18 else {"axes": [axis]}
        parts.append(w.add("ReduceMax", reduced, f"{name}:{i}", keepdims=1, **attributes))
    return w.add("Concat", parts, y, axis=axis)


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
    *("softmax", "dropout", "batch_norm"),
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
    "max_pool2d": _max_pool,
    "avg_pool2d": _average_pool,
    "global_max_pool2d": _global_pool("GlobalMaxPool"),
    "global_avg_pool2d": _global_pool("GlobalAveragePool"),
    "adaptive_max_pool2d": _adaptive_max,
    "adaptive_avg_pool2d": _adaptive_average,
    "flatten": _flatten,
    "reshape": _reshape,
    "zero_pad2d": _zero_pad,
    "slice": _slice,
    "upsample2d": _upsample,
    "dropout": plain("Identity"),
    "spatial_dropout": plain("Identity"),
    "add": _add,
    "multiply": _multiply,
    "concat": plain("Concat", axis=1),
}
