"""Converters of ONNX's convolutions and matrix products."""

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn import layers as nl
from numbacnn.engine.graph import Tensor
from numbacnn.onnx.broadcasting import with_shape
from numbacnn.onnx.elementwise import affine, combined
from numbacnn.onnx.export_pools import averages
from numbacnn.onnx.layout import Layout, Shape
from numbacnn.onnx.values import Constant, Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

# -- convolutions and dense layers ------------------------------------------------------------------------------------


def window_options(r: "Reader", window: Shape, size: Shape, rank: int) -> tuple[tuple[int, int], ...]:
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
        raise UnsupportedError(f"windows of {rank} axes over {r.shown(r.value(x))}")
    if rank == 1:
        weight = weight[:, :, None]
    image, groups = r.image(x), int(r.attribute("group", 1))
    k, inner, height, width = weight.shape
    strides, dilations, rows, columns = window_options(r, (height, width), image.shape[:2], rank)
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
    weight = r.weights(w, "weight")
    rank = weight.ndim - 2
    if rank not in (1, 2) or len(r.value(x).shape) != rank + 1:
        raise UnsupportedError(f"windows of {rank} axes over {r.shown(r.value(x))}")
    weight, image = weight[:, :, None] if rank == 1 else weight, r.image(x)
    groups, window = int(r.attribute("group", 1)), weight.shape[2:]
    strides, dilations, rows, columns = window_options(r, window, image.shape[:2], rank)
    pads, extra = [list(rows), list(columns)], [0, *(r.attribute("output_padding") or [0] * rank)][-2:]
    output, auto = r.attribute("output_shape"), r.attribute("auto_pad", "NOTSET")
    if output is None and auto.startswith("SAME"):
        output = [size * stride for size, stride in zip(image.shape, strides, strict=False)]
    if output is not None:
        for i, size in enumerate([1, *output[-rank:]][-2:]):
            total = strides[i] * (image.shape[i] - 1) + (window[i] - 1) * dilations[i] + 1 + extra[i] - size
            extra[i], total = extra[i] + max(0, -total), max(0, total)
            before = total // 2 if auto == "SAME_UPPER" else total - total // 2
            pads[i] = [before, total - before]
    layer = nl.Conv2DTranspose(
        weight.shape[1] * groups, window, strides, pads, tuple(extra), dilations, groups, bias=b is not None
    )
    return r.nchw(_weighted(r, layer, image, weight.transpose(2, 3, 1, 0), b), rank + 1)


def _gemm(r: "Reader", a: Item, b: Item, c: Item = None) -> Value:
    weight, value = r.weights(b, "second factor") * np.float32(r.attribute("alpha", 1.0)), r.value(a)
    if r.attribute("transA", 0):
        if r.leading:
            raise UnsupportedError("transA, which swaps the batch axis and the features")
        value = Value(value.tensor, value.layout.transposed((1, 0)))
    weight = weight.T if r.attribute("transB", 0) else weight
    y = _dense(r, value, weight) if len(value.shape) == 1 else _of_rows(r, value, weight)
    if c is None:
        return y
    if isinstance(c, Value):
        return combined(r, nl.Add(), [y, affine(r, c, r.attribute("beta", 1.0))])
    return affine(r, y, 1.0, r.weights(c, "addend") * np.float32(r.attribute("beta", 1.0)))


def _dense(r: "Reader", a: Item, weight: Constant) -> Value:
    """Multiply features by constants; the rows of these follow the order of the features in our memory."""
    value = r.value(a)
    if weight.ndim != 2 or value.shape != weight.shape[:1]:
        raise UnsupportedError(f"a product of {r.shown(value)} and {weight.shape}")
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
    vector = weight.ndim == 1
    weight = weight[:, None] if vector else weight
    if r.leading and weight.ndim >= max(3, r.rank(a)):
        if weight.ndim > r.rank(a) or weight.shape[0] != 1:
            raise UnsupportedError(f"a product of {r.shown(a)} and {weight.shape}, which mixes images of a batch")
        weight = weight[0]
    if len(a.shape) == 1 and weight.ndim == 2:
        y = _dense(r, a, weight)
    elif len(a.shape) == 1:
        y = _of_rows(r, with_shape(r, a, (1, *a.shape)), weight)
        y = with_shape(r, y, (*y.shape[:-2], y.shape[-1]))
    else:
        y = _of_rows(r, a, weight)
    return with_shape(r, y, y.shape[:-1]) if vector else y


def _of_rows(r: "Reader", a: Value, weight: Constant) -> Value:
    """Multiply rows of features by one matrix, or by as many as there are sets of rows: a 1×1 convolution."""
    *sets, k, m = weight.shape
    count = prod(sets)
    if len(a.shape) < 2 or a.shape[-1] != k:
        raise UnsupportedError(f"a product of {r.shown(a)} and {weight.shape}")
    if count == 1:
        x = r.in_order(a)
        image = r.shaped(r.tensor(x), (1, prod(a.shape[:-1]), k))
        y = _weighted(r, nl.Conv2D(m, 1, bias=False), image, weight.reshape(1, 1, k, m), None)
        return Value(y, Layout.contiguous((*a.shape[:-1], m)))
    own = prod(a.shape[:-2])
    if own != 1 and a.shape[:-2] != tuple(sets):
        raise UnsupportedError(f"a product of {r.shown(a)} and {weight.shape}")
    rows = a.shape[-2]
    flat = with_shape(r, a, (own, rows, k))
    x = r.in_order(Value(flat.tensor, flat.layout.transposed((1, 0, 2))))
    layer = nl.Conv2D(count * m, 1, groups=own, bias=False)
    matrices = weight.reshape(count, k, m).transpose(1, 0, 2).reshape(1, 1, k, count * m)
    y = _weighted(r, layer, r.shaped(r.tensor(x), (1, rows, own * k)), matrices, None)
    made = Layout.contiguous((rows, count, m)).transposed((1, 0, 2))
    return with_shape(r, Value(y, made), (*sets, rows, m))


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


WINDOWS: dict[str, Row] = {
    "Conv": Row(_conv),
    "ConvTranspose": Row(_conv_transpose),
    "Gemm": Row(_gemm),
    "MatMul": Row(_matmul, elementwise=True),
}
