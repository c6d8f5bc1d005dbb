"""The computation of one number of a layer: the window it reads, products, sum, bias, and activation."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn.engine.graph import Graph, Node
from numbacnn.errors import ArgumentError
from numbacnn.geometry import AdaptiveGeometry, PoolGeometry, as_image
from numbacnn.layers import BatchNorm

Float32 = NDArray[np.float32]
Json = dict[str, Any]
Taps = list[int | None]  # rows or columns of the input, None for padding

MAX_TERMS = 64  # of a dense layer, the largest products

ACTIVATIONS = {
    "relu": "max(x, 0)",
    "relu6": "min(max(x, 0), 6)",
    "leaky_relu": "x if x ≥ 0, else slope · x",
    "elu": "x if x > 0, else alpha · (eˣ − 1)",
    "tanh": "tanh(x)",
    "sigmoid": "1 / (1 + e⁻ˣ)",
    "hardsigmoid": "min(max(x + 3, 0), 6) / 6",
    "hardswish": "x · min(max(x + 3, 0), 6) / 6",
    "silu": "x / (1 + e⁻ˣ)",
    "gelu": "x · Φ(x)",
    "prelu": "x if x > 0, else weight · x",
}
"""The formulas of activations by op."""


class Pixel(NamedTuple):
    """One number of a layer's output (h, w, c); features (c,) are an image of one pixel."""

    row: int
    column: int
    channel: int


class Context(NamedTuple):
    """A node with the arrays that its output depends on.

    Attributes:
        inputs: of one image, (h, w, c) each.
        arrays: parameters and state by the layer's own names.
        output: (p, q, k).
    """

    node: Node
    inputs: list[Float32]
    arrays: Mapping[str, Float32]
    output: Float32

    @classmethod
    def of(cls, graph: Graph, name: str, values: Mapping[str, Float32], arrays: Mapping[str, Float32]) -> "Context":
        """Collect the arrays of a layer. ``values`` holds those of inputs and layers, ``arrays`` the parameters."""
        node = next(node for node in graph.nodes if node.name == name)
        own = {full.rpartition(".")[2]: a for full, a in arrays.items() if full.rpartition(".")[0] == name}
        return cls(node, [_image(values[graph.names[i]]) for i in node.inputs], own, _image(values[name]))


def explain(
    graph: Graph, name: str, pixel: Pixel, values: Mapping[str, Float32], arrays: Mapping[str, Float32]
) -> Json:
    """Return how a number of the layer ``name`` is computed, as a JSON object. Raises ArgumentError if it has none."""
    context = Context.of(graph, name, values, arrays)
    if any(not 0 <= index < size for index, size in zip(pixel, context.output.shape, strict=True)):
        raise ArgumentError(f'layer "{name}" has the shape {context.output.shape}; there is no {tuple(pixel)}')
    op = context.node.layer.op
    found = EXPLANATIONS.get(op, _elsewhere)(context, pixel)
    head: Json = {"layer": name, "op": op, "pixel": list(pixel), "image": len(context.node.shape) == 3}
    head["inputs"] = [graph.names[i] for i in context.node.inputs]
    return (
        head | found | {"value": float(context.output[pixel])} | _activation_after(graph, context.node, pixel, values)
    )


def _activation_after(graph: Graph, node: Node, pixel: Pixel, values: Mapping[str, Float32]) -> Json:
    """Return the activation that follows a layer, with its value there."""
    readers = graph.consumers[graph.value(graph.nodes.index(node))]
    if len(readers) != 1 or graph.nodes[readers[0]].layer.op not in ACTIVATIONS:
        return {}
    after = graph.nodes[readers[0]]
    value = float(_image(values[after.name])[pixel])
    return {"activation": {"layer": after.name, "formula": ACTIVATIONS[after.layer.op], "value": value}}


def _image(array: Float32) -> Float32:
    return array.reshape(as_image(array.shape))


# -- convolutions and dense layers ------------------------------------------------------------------------------------


def _convolution(t: Context, pixel: Pixel) -> Json:
    """y = Σ x · w + b over the window and the channels of the filter's group."""
    g = t.node.geometry
    rows = _taps(pixel.row * g.stride_h - g.pad_top, g.r, g.dilation_h, g.h)
    columns = _taps(pixel.column * g.stride_w - g.pad_left, g.s, g.dilation_w, g.w)
    each = g.c // g.groups
    first = pixel.channel // (g.k // g.groups) * each
    weights = [t.arrays["weight"][:, :, i, pixel.channel] for i in range(each)]
    return _products(t, rows, columns, range(first, first + each), weights, pixel.channel)


def _transposed(t: Context, pixel: Pixel) -> Json:
    """y = Σ x · w + b over the input pixels whose spread windows reach the output pixel."""
    g = t.node.geometry  # of the convolution that it transposes, from its output to its input
    rows = _sources(pixel.row + g.pad_top, g.r, g.dilation_h, g.stride_h, g.p)
    columns = _sources(pixel.column + g.pad_left, g.s, g.dilation_w, g.stride_w, g.q)
    each = g.k // g.groups
    group, filter_in_group = divmod(pixel.channel, g.c // g.groups)
    channels = range(group * each, (group + 1) * each)
    weights = [t.arrays["weight"][:, :, filter_in_group, i] for i in channels]
    return _products(t, rows, columns, channels, weights, pixel.channel)


def _products(
    t: Context, rows: Taps, columns: Taps, channels: Sequence[int], weights: Sequence[Float32], channel: int
) -> Json:
    windows, total = [], 0.0
    for i, w in zip(channels, weights, strict=True):
        x = _window(t.inputs[0][..., i], rows, columns)
        part = float(np.sum(x.astype(np.float64) * w))
        total += part
        windows.append({"channel": i, "x": x.tolist(), "w": w.tolist(), "sum": part})
    bias = float(t.arrays["bias"][channel]) if "bias" in t.arrays else None
    found = {"kind": "products", "formula": "y = Σ x · w" + (" + b" if bias is not None else "")}
    return found | {"rows": rows, "columns": columns, "windows": windows, "sum": total, "bias": bias}


def _taps(start: int, count: int, step: int, size: int) -> Taps:
    return [i if 0 <= i < size else None for i in range(start, start + count * step, step)]


def _sources(end: int, count: int, dilation: int, stride: int, size: int) -> Taps:
    """Return the input rows from which the taps of a transposed convolution reach a row of the padded output."""
    positions = [divmod(end - i * dilation, stride) for i in range(count)]
    return [i if not rest and 0 <= i < size else None for i, rest in positions]


def _window(x: Float32, rows: Taps, columns: Taps, outside: float = 0.0) -> Float32:
    """Return the pixels of a channel (h, w) at rows and columns; padding has the value ``outside``."""
    found = np.full((len(rows), len(columns)), outside, np.float32)
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            if row is not None and column is not None:
                found[i, j] = x[row, column]
    return found


def _dense(t: Context, pixel: Pixel) -> Json:
    """y = Σ x · w + b over the features; the largest products are listed."""
    x, w = t.inputs[0].reshape(-1), t.arrays["weight"][:, pixel.channel]
    products = x.astype(np.float64) * w
    largest = np.argsort(-np.abs(products), kind="stable")[:MAX_TERMS]
    terms = [{"feature": int(i), "x": float(x[i]), "w": float(w[i]), "product": float(products[i])} for i in largest]
    bias = float(t.arrays["bias"][pixel.channel]) if "bias" in t.arrays else None
    rest = float(np.delete(products, largest).sum())
    found = {"kind": "terms", "formula": "y = Σ x · w" + (" + b" if bias is not None else "")}
    return (
        found
        | {"terms": terms, "others": len(x) - len(terms), "rest": rest}
        | {
            "sum": float(products.sum()),
            "bias": bias,
        }
    )


# -- pooling ----------------------------------------------------------------------------------------------------------


def _pool(t: Context, pixel: Pixel) -> Json:
    """The maximum or the mean of a window in one channel."""
    g = t.node.geometry
    if isinstance(g, AdaptiveGeometry):
        rows, columns = _bin(pixel.row, g.h, g.p), _bin(pixel.column, g.w, g.q)
    else:
        rows = _taps(pixel.row * g.stride_h - g.pad_top, g.r, 1, g.h)
        columns = _taps(pixel.column * g.stride_w - g.pad_left, g.s, 1, g.w)
    x = _window(t.inputs[0][..., pixel.channel], rows, columns, np.nan)
    numbers = [[None if np.isnan(value) else float(value) for value in row] for row in x]
    found = {"kind": "window", "rows": rows, "columns": columns, "x": numbers}
    if "max" in t.node.layer.op:
        return found | {"formula": "y = max(x)"}
    counted = _counted(g, pixel) if isinstance(g, PoolGeometry) and g.count_include_pad else np.isfinite(x).sum()
    return found | {"formula": "y = Σ x / n", "sum": float(np.nansum(x.astype(np.float64))), "count": int(counted)}


def _counted(g: PoolGeometry, pixel: Pixel) -> int:
    """Return the pixels of a window that averages count: those in the padded image."""
    top, left = pixel.row * g.stride_h - g.pad_top, pixel.column * g.stride_w - g.pad_left
    return min(g.r, g.h + g.pad_bottom - top) * min(g.s, g.w + g.pad_right - left)


def _bin(index: int, size: int, count: int) -> Taps:
    return list(range(index * size // count, -(-(index + 1) * size // count)))


# -- elementwise ------------------------------------------------------------------------------------------------------


def _batch_norm(t: Context, pixel: Pixel) -> Json:
    """y = (x − mean) / √(variance + ε) · weight + bias, with the running statistics."""
    assert isinstance(t.node.layer, BatchNorm)
    named = ("mean", "running_mean"), ("variance", "running_var"), ("weight", "weight"), ("bias", "bias")
    numbers = {"x": float(t.inputs[0][pixel])} | {name: float(t.arrays[own][pixel.channel]) for name, own in named}
    formula = "y = (x − mean) / √(variance + ε) · weight + bias"
    return {"kind": "numbers", "formula": formula, "numbers": numbers | {"ε": t.node.layer.eps}}


def _activation(t: Context, pixel: Pixel) -> Json:
    """y = f(x)."""
    numbers = {"x": float(t.inputs[0][pixel])}
    numbers |= {name: value for name, value in t.node.layer.attributes().items() if isinstance(value, float)}
    if "weight" in t.arrays:
        numbers["weight"] = float(t.arrays["weight"][pixel.channel])
    return {"kind": "numbers", "formula": f"y = {ACTIVATIONS[t.node.layer.op]}", "numbers": numbers}


def _combination(t: Context, pixel: Pixel) -> Json:
    """The sum or the product of the inputs; a factor of one pixel counts for all."""
    sign = " + " if t.node.layer.op == "add" else " · "
    names = [f"x{i}" for i in range(1, len(t.inputs) + 1)]
    numbers = {
        name: float(x[min(pixel.row, x.shape[0] - 1), min(pixel.column, x.shape[1] - 1), pixel.channel])
        for name, x in zip(names, t.inputs, strict=True)
    }
    return {"kind": "numbers", "formula": f"y = {sign.join(names)}", "numbers": numbers}


def _elsewhere(t: Context, pixel: Pixel) -> Json:
    """The value at the same position of the input, if it has the same shape."""
    if t.inputs[0].shape != t.output.shape:
        return {"kind": "numbers", "formula": f"y = {t.node.layer.op}(x)", "numbers": {}}
    return {"kind": "numbers", "formula": f"y = {t.node.layer.op}(x)", "numbers": {"x": float(t.inputs[0][pixel])}}


EXPLANATIONS: dict[str, Callable[[Context, Pixel], Json]] = {
    "conv2d": _convolution,
    "depthwise_conv2d": _convolution,
    "conv2d_transpose": _transposed,
    "dense": _dense,
    "max_pool2d": _pool,
    "avg_pool2d": _pool,
    "global_max_pool2d": _pool,
    "global_avg_pool2d": _pool,
    "adaptive_max_pool2d": _pool,
    "adaptive_avg_pool2d": _pool,
    "batch_norm": _batch_norm,
    "add": _combination,
    "multiply": _combination,
    **dict.fromkeys(ACTIVATIONS, _activation),
}
"""By op; other layers show their input at the same position."""
