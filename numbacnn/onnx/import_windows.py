"""Rows of ONNX's operators with windows and weights, and of pools and reductions."""

from collections.abc import Iterable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn import layers as nl
from numbacnn.engine.graph import Tensor
from numbacnn.onnx.elementwise import affine
from numbacnn.onnx.exports import averages
from numbacnn.onnx.layout import Layout, Shape
from numbacnn.onnx.values import Constant, Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

# -- convolutions and dense layers ------------------------------------------------------------------------------------


def _window(r: "Reader", window: Shape, size: Shape, rank: int) -> tuple[tuple[int, int], ...]:
    """Return strides, dilations and pads ((top, bottom), (left, right)) of windows over ``size`` pixels."""
    strides, dilations = (tuple(r.attribute(name) or (1,) * rank) for name in ("strides", "dilations"))
    pads, auto = list(r.attribute("pads") or (0,) * 2 * rank), r.attribute("auto_pad", "NOTSET")
    if len(strides) != rank or len(dilations) != rank or len(pads) != 2 * rank:
        raise UnsupportedError(
            f"its strides {strides}, dilations {dilations} or pads {pads} do not fit its window {window}"
        )
    if rank == 1:
        strides, dilations, pads = (1, *strides), (1, *dilations), [0, pads[0], 0, pads[1]]
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        for axis in range(2):
            reach = (window[axis] - 1) * dilations[axis] + 1
            total = max(0, (-(-size[axis] // strides[axis]) - 1) * strides[axis] + reach - size[axis])
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[axis], pads[axis + 2] = before, total - before
    top, left, bottom, right = pads
    return strides, dilations, (top, bottom), (left, right)


def _conv(r: "Reader", x: Item, w: Item, b: Item = None) -> Value:
    weight = r.weights(w, "weight")
    rank = weight.ndim - 2
    if rank not in (1, 2) or len(r.value(x).shape) != rank + 1:
        raise UnsupportedError(f"windows of {rank} axes over (N, {', '.join(map(str, r.value(x).shape))})")
    if rank == 1:
        weight = weight[:, :, None]
    image, groups = r.image(x), int(r.attribute("group", 1))
    k, inner, height, width = weight.shape
    strides, dilations, rows, columns = _window(r, (height, width), image.shape[:2], rank)
    options: dict[str, Any] = {
        "stride": strides,
        "dilation": dilations,
        "padding": (rows, columns),
        "bias": b is not None,
    }
    c = image.shape[2]
    if inner * groups != c or k % groups:
        raise UnsupportedError(f"a weight of shape {weight.shape} in {groups} groups does not fit {c} channels")
    layer: nl.Layer
    if groups == c > 1:
        layer = nl.DepthwiseConv2D((height, width), depth_multiplier=k // c, **options)
    else:
        layer = nl.Conv2D(k, (height, width), groups=groups, **options)
    return r.nchw(_weighted(r, layer, image, weight.transpose(2, 3, 1, 0), b), rank + 1)


def _weighted(r: "Reader", layer: nl.Layer, x: Tensor, weight: Constant, b: Item) -> Tensor:
    """Record a layer with weights, and with a bias if it is given; affine operators after it become part of them."""
    arrays: dict[str, Any] = {"weight": np.ascontiguousarray(weight)}
    if b is not None:
        arrays["bias"] = r.weights(b, "bias").reshape(-1)
    y = r.record(layer, x, **arrays)
    r.takes_affine(y, layer)
    return y


def _conv_transpose(r: "Reader", x: Item, w: Item, b: Item = None) -> Value:
    weight, image = r.weights(w, "weight"), r.image(x)
    if weight.ndim != 4:
        raise UnsupportedError(f"windows of {weight.ndim - 2} axes")
    groups, window = int(r.attribute("group", 1)), weight.shape[2:]
    strides, dilations, rows, columns = _window(r, window, image.shape[:2], 2)
    pads, extra = [list(rows), list(columns)], list(r.attribute("output_padding") or (0, 0))
    output, auto = r.attribute("output_shape"), r.attribute("auto_pad", "NOTSET")
    if output is None and auto.startswith("SAME"):
        output = [size * stride for size, stride in zip(image.shape, strides, strict=False)]
    if output is not None:
        for i, size in enumerate(output[-2:]):
            total = strides[i] * (image.shape[i] - 1) + (window[i] - 1) * dilations[i] + 1 - size
            extra[i], total = max(0, -total), max(0, total)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[i] = [before, total - before]
    layer = nl.Conv2DTranspose(
        weight.shape[1] * groups, window, strides, pads, tuple(extra), dilations, groups, bias=b is not None
    )
    return r.nchw(_weighted(r, layer, image, weight.transpose(2, 3, 1, 0), b))


def _gemm(r: "Reader", a: Item, b: Item, c: Item = None) -> Value:
    weight = r.weights(b, "second factor") * np.float32(r.attribute("alpha", 1.0))
    if r.attribute("transA", 0):
        raise UnsupportedError("transA")
    y = _dense(r, a, weight.T if r.attribute("transB", 0) else weight)
    if c is None:
        return y
    return affine(r, y, 1.0, r.weights(c, "addend") * np.float32(r.attribute("beta", 1.0)))


def _dense(r: "Reader", a: Item, weight: Constant) -> Value:
    """Multiply features by constants; the rows of these follow the order of the features in our memory."""
    value = r.value(a)
    if weight.ndim != 2 or value.shape != weight.shape[:1]:
        raise UnsupportedError(f"a product of (N, {', '.join(map(str, value.shape))}) and {weight.shape}")
    if (flat := value.layout.flat) != sorted(flat):
        ordered = weight.reshape(*(value.layout.factors[i] for i in flat), -1)
        weight = ordered.transpose(*np.argsort(flat), len(flat)).reshape(weight.shape)
    y = _weighted(r, nl.Dense(weight.shape[1], bias=False), r.features(value), weight, None)
    return Value(y, Layout.contiguous(y.shape))


def _matmul(r: "Reader", a: Item, b: Item) -> Value:
    if not isinstance(a, Value):
        return _bins(r, r.weights(a, "first factor"), r.value(b))
    if a.problem.startswith("averages") and not isinstance(b, Value):
        return _averaged(r, a, r.weights(b, "second factor"))
    weight = r.weights(b, "second factor")
    if len(a.shape) == 1:
        return _dense(r, a, weight)
    if weight.ndim != 2 or a.shape[-1] != weight.shape[0]:
        raise UnsupportedError(f"a product of (N, {', '.join(map(str, a.shape))}) and {weight.shape}")
    x = r.in_order(a)
    pixels, c = prod(a.shape[:-1]), a.shape[-1]
    image = r.shaped(r.tensor(x), (1, pixels, c))
    y = _weighted(r, nl.Conv2D(weight.shape[1], 1, bias=False), image, weight[None, None], None)
    return Value(y, Layout.contiguous((*a.shape[:-1], weight.shape[1])))


def _bins(r: "Reader", matrix: Constant, x: Value) -> Value:
    """Averages over rows, the first half of an adaptive pool: the product with its columns completes it."""
    if len(x.shape) != 3 or matrix.ndim != 2 or matrix.shape[1] != x.shape[1]:
        raise UnsupportedError("a constant first factor")
    shape = x.shape[0], matrix.shape[0], x.shape[2]
    if not np.allclose(matrix, averages(*matrix.shape[::-1])):
        raise UnsupportedError("a constant first factor")
    return Value(None, Layout.contiguous(shape), "averages over rows", x)


def _averaged(r: "Reader", rows: Value, matrix: Constant) -> Value:
    if matrix.ndim != 2 or not np.allclose(matrix.T, averages(*matrix.shape)):
        raise UnsupportedError("a second factor after averages over rows")
    pool = nl.AdaptiveAvgPool2D((rows.shape[1], matrix.shape[1]))
    return r.nchw(r.record(pool, r.image(rows.root)))


# -- pooling and reductions -------------------------------------------------------------------------------------------


def _pool(r: "Reader", x: Item, average: bool) -> Value:
    window = tuple(r.attribute("kernel_shape"))
    rank, value = len(window), r.value(x)
    if rank not in (1, 2) or len(value.shape) != rank + 1:
        raise UnsupportedError(f"windows of {rank} axes over (N, {', '.join(map(str, value.shape))})")
    if len(r.op.outputs) > 1 and r.uses[r.op.outputs[1]]:
        raise UnsupportedError("the positions of the maxima")
    image = r.image(x)
    window = (1, *window) if rank == 1 else window
    strides, dilations, rows, columns = _window(r, window, image.shape[:2], rank)
    if dilations != (1, 1):
        raise UnsupportedError(f"dilations {dilations}")
    options: dict[str, Any] = {
        "stride": strides,
        "padding": (rows, columns),
        "ceil_mode": bool(r.attribute("ceil_mode", 0)),
    }
    if average:
        layer: nl.Layer = nl.AvgPool2D(window, count_include_pad=bool(r.attribute("count_include_pad", 0)), **options)
    else:
        layer = nl.MaxPool2D(window, **options)
    return r.nchw(r.record(layer, image), rank + 1)


def _global_pool(r: "Reader", x: Item, maximum: bool) -> Value:
    value = r.value(x)
    return _reduced(r, value, range(1, len(value.shape)), True, maximum)


def _reduced(r: "Reader", value: Value, axes: Iterable[int], keepdims: bool, maximum: bool) -> Value:
    """Average or maximize over axes: as pixels, if the others are channels, else as channels of a 1×1 convolution."""
    over, count = sorted(set(axes)), len(value.shape)
    others = [i for i in range(count) if i not in over]
    sizes = [value.shape[i] for i in others]
    shape = tuple(1 if i in over else value.shape[i] for i in range(count)) if keepdims else tuple(sizes)
    layout = value.layout
    f = _factors(layout, over)
    pixels_first = f == list(range(len(f)))
    if not maximum and not pixels_first and not layout.transposed((*others, *over)).moved:
        c = prod(value.shape[i] for i in over)
        image = r.shaped(r.tensor(value), (1, prod(sizes), c))
        mean = np.full((1, 1, r.made(c), 1), 1 / c, np.float32)
        return Value(r.record(nl.Conv2D(1, 1, bias=False), image, constant=True, weight=mean), Layout.contiguous(shape))
    moved = value
    if not pixels_first:
        moved = r.in_order(Value(value.tensor, layout.transposed((*over, *others))))
        inner = Layout.contiguous(tuple(sizes))
    else:
        rest = [tuple(i - len(f) for i in layout.axes[axis]) for axis in others]
        inner = Layout(layout.factors[len(f) :], tuple(rest))
    tensor, pixels = r.tensor(moved), prod(value.shape[i] for i in over)
    if prod(tensor.shape[:-1]) != pixels or len(tensor.shape) != 3:
        tensor = r.shaped(tensor, (1, pixels, prod(sizes)))
    spatial = keepdims and count == 3
    layer = (nl.GlobalMaxPool2D if maximum else nl.GlobalAvgPool2D)(keepdims=spatial)
    found = inner.reshaped(shape)
    if found is None:
        raise UnsupportedError(f"a reduction over axes {over} of (N, {', '.join(map(str, value.shape))})")
    return Value(r.record(layer, tensor), found)


def _factors(layout: Layout, axes: list[int]) -> list[int]:
    return sorted(i for axis in axes for i in layout.axes[axis])


def _reduce(r: "Reader", x: Item, axes: Item = None, *, kind: str) -> Item:
    value, given = r.value(x), r.integers(axes, "axes")
    over = [r.axis(axis, value) for axis in given or []]
    if not given:
        if r.attribute("noop_with_empty_axes", 0):
            return value
        raise UnsupportedError("a reduction over the batch")
    keepdims = bool(r.attribute("keepdims", 1))
    if kind == "min":
        y = _reduced(r, r.value(affine(r, value, -1.0)), over, keepdims, True)
        return affine(r, y, -1.0)
    y = _reduced(r, value, over, keepdims, kind == "max")
    return affine(r, y, float(prod(value.shape[i] for i in set(over)))) if kind == "sum" else y


WINDOWS: dict[str, Row] = {
    "Conv": Row(_conv),
    "ConvTranspose": Row(_conv_transpose),
    "Gemm": Row(_gemm),
    "MatMul": Row(_matmul, elementwise=True),
    "MaxPool": Row(partial(_pool, average=False)),
    "AveragePool": Row(partial(_pool, average=True)),
    "GlobalMaxPool": Row(partial(_global_pool, maximum=True)),
    "GlobalAveragePool": Row(partial(_global_pool, maximum=False)),
    **{f"Reduce{kind}": Row(partial(_reduce, kind=kind.lower())) for kind in ("Mean", "Max", "Min", "Sum")},
}
