"""Converters of ONNX's normalizations."""

from collections.abc import Iterable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn import layers as nl
from numbacnn.engine.graph import Tensor
from numbacnn.onnx.elementwise import affine, applied, combined
from numbacnn.onnx.import_reductions import REDUCTIONS, centered, reduced, scaled_by, squares
from numbacnn.onnx.layout import Shape
from numbacnn.onnx.values import Float32, Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader


def _batch_norm(r: "Reader", x: Item, scale: Item, bias: Item, mean: Item, variance: Item) -> Value:
    if r.attribute("training_mode", 0) or any(r.op.outputs[1:]):
        raise UnsupportedError("training_mode")
    value = r.value(x)
    arrays: dict[str, Any] = {}
    for name, item in {"weight": scale, "bias": bias, "running_mean": mean, "running_var": variance}.items():
        array = r.weights(item, name)
        if array.shape != value.shape[:1]:
            raise UnsupportedError(f"its {name} has shape {array.shape}, not {value.shape[:1]}")
        image, arrays[name] = r.along(value, array.reshape(-1, *[1] * (len(value.shape) - 1)))
    momentum = min(1.0, max(0.0, 1 - float(r.attribute("momentum", 0.9))))
    layer = nl.BatchNorm(momentum=round(momentum, 7), eps=r.number("epsilon", 1e-5))
    y = r.record(layer, image, **arrays)
    r.takes_affine(y, layer)
    return Value(y, value.layout)


def _instance_norm(r: "Reader", x: Item, scale: Item, bias: Item) -> Value:
    """Normalize over all axes but the first: a group normalization, whose channels may be split into two factors."""
    value = r.value(x)
    factors, groups = value.layout.factors, value.layout.axes[0]
    first, end = (groups[0], groups[-1] + 1) if groups else (len(factors), len(factors))
    if groups and list(groups) != list(range(first, end)):
        raise UnsupportedError("channels in this order")
    pixels, count, inner = prod(factors[:first]), prod(factors[first:end]), prod(factors[end:])
    arrays = {"weight": r.weights(scale, "scale"), "bias": r.weights(bias, "bias")}
    arrays = {name: np.repeat(array.reshape(-1), inner) for name, array in arrays.items()}
    return _group_norm_of(r, value, (1, pixels, count * inner), count, arrays)


def _group_norm_of(r: "Reader", value: Value, shape: Shape, groups: int, arrays: dict[str, Any]) -> Value:
    tensor = r.tensor(value)
    image = tensor if tensor.shape[-1] == shape[-1] else r.shaped(tensor, shape)
    if prod(image.shape) == groups:
        return Value(_of_single_values(r, image, arrays["bias"]), value.layout)
    layer = nl.GroupNorm(groups, eps=r.number("epsilon", 1e-5))
    y = r.record(layer, image, **arrays)
    r.takes_affine(y, layer)
    return Value(y, value.layout)


def _of_single_values(r: "Reader", x: Tensor, bias: Float32) -> Tensor:
    """Normalize groups of one value each: it is its mean, and the bias remains."""
    c = prod(x.shape)
    zeros, image = np.zeros((1, 1, 1, c), np.float32), r.shaped(x, (1, 1, c))
    return r.record(nl.DepthwiseConv2D(1), image, constant=True, weight=zeros, bias=bias)


def _group_norm(r: "Reader", x: Item, scale: Item, bias: Item) -> Value:
    value, groups = r.value(x), int(r.attribute("num_groups"))
    c = value.shape[0]
    arrays = {"weight": r.weights(scale, "scale"), "bias": r.weights(bias, "bias")}
    if groups < 1 or c % groups:
        raise UnsupportedError(f"{c} channels in {groups} groups")
    if r.opset < 21:
        arrays = {name: np.repeat(array, c // groups) for name, array in arrays.items()}
    if len(value.shape) == 3:
        return r.nchw(r.tensor(_group_norm_of(r, Value(r.image(x), value.layout), r.image(x).shape, groups, arrays)))
    value = r.in_order(Value(value.tensor, value.layout.transposed((*range(1, len(value.shape)), 0))))
    y = _group_norm_of(r, value, (1, prod(value.shape) // c, c), groups, arrays)
    return Value(y.tensor, y.layout.transposed((len(value.shape) - 1, *range(len(value.shape) - 1))))


def _layer_norm(r: "Reader", x: Item, scale: Item, bias: Item = None) -> list[Item]:
    """Normalize over the last axes: a group normalization of one pixel, with a group for each row that they make."""
    value = r.in_order(x)
    axis = _first_axis(r, value)
    weight, rows, c = r.weights(scale, "scale"), prod(value.shape[:axis]), prod(value.shape[axis:])
    addend = None if bias is None else r.weights(bias, "bias")
    if rows == 1 and weight.size == c:
        arrays = {"weight": weight.reshape(-1), "bias": np.zeros(c) if addend is None else addend.reshape(-1)}
        y = _group_norm_of(r, value, (1, 1, c), 1, arrays)
    else:
        r.made(2 * rows * c)
        layer, ones = nl.GroupNorm(rows, eps=r.number("epsilon", 1e-5)), np.ones(rows * c, np.float32)
        image = r.shaped(r.tensor(value), (1, 1, rows * c))
        if c == 1:
            normalized = _of_single_values(r, image, 0 * ones)
        else:
            normalized = r.record(layer, image, constant=True, weight=ones, bias=0 * ones)
        y = Value(r.shaped(normalized, (1, rows, c)), value.layout)  # so that all rows have the same scale
        y = affine(r, y, weight)
        y = y if addend is None else affine(r, y, 1.0, addend)
    return [y, *_statistics(r, value, range(axis, len(value.shape)))]


def _first_axis(r: "Reader", value: Value) -> int:
    return r.axis(int(r.attribute("axis", -1)), value)


def _statistics(r: "Reader", value: Value, over: Iterable[int]) -> list[Item]:
    """Return the mean and the inverse of the standard deviation, if the file reads them."""
    if not any(r.uses[name] for name in r.op.outputs[1:]):
        return []
    mean, rest = centered(r, value, over)
    return [mean, _inverse(r, reduced(r, squares(r, rest), over, True, False))]


def _inverse(r: "Reader", variance: Value) -> Value:
    """(variance + ε)^−½."""
    return applied(r, affine(r, variance, 1.0, r.number("epsilon", 1e-5)), nl.Power(-0.5))


def _rms_norm(r: "Reader", x: Item, scale: Item) -> Value:
    """Divide by the root of the mean of squares over the last axes."""
    value = r.value(x)
    over = range(_first_axis(r, value), len(value.shape))
    y = scaled_by(r, value, _inverse(r, reduced(r, squares(r, value), over, True, False)))
    return affine(r, y, r.weights(scale, "scale"))


def _lp_norm(r: "Reader", x: Item) -> Value:
    """Divide by the sum of sizes along an axis, or by the root of the sum of squares; zeros stay zeros."""
    value, power = r.value(x), int(r.attribute("p", 2))
    length = REDUCTIONS[f"L{power}"](r, value, [_first_axis(r, value)], True)
    gap = affine(r, applied(r, length, nl.Elementwise("sign")), -1.0, 1.0)  # 1 where the divisor would be 0
    divisor = combined(r, nl.Add(), [length, gap])
    return scaled_by(r, value, applied(r, divisor, nl.Elementwise("reciprocal")))


def _standardize(r: "Reader", x: Item) -> Value:
    """Subtract the mean over axes, and divide by the standard deviation."""
    value = r.value(x)
    over = sorted({r.axis(axis, value) for axis in r.attribute("axes") or (0, 2, 3)})
    _, rest = centered(r, value, over)
    variance = affine(r, reduced(r, squares(r, rest), over, True, False), 1.0, 1e-18)
    return scaled_by(r, rest, applied(r, variance, nl.Power(-0.5)))


def _lrn(r: "Reader", x: Item) -> Value:
    size = int(r.attribute("size"))
    if size % 2 == 0:
        raise UnsupportedError("windows of even size, which reach further to higher channels")
    options = [r.number(name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    return r.nchw(r.record(nl.LocalResponseNorm(size, *options), r.image(x)))


NORMS: dict[str, Row] = {
    "BatchNormalization": Row(_batch_norm),
    "InstanceNormalization": Row(_instance_norm),
    "GroupNormalization": Row(_group_norm),
    "LayerNormalization": Row(_layer_norm),
    "RMSNormalization": Row(_rms_norm),
    "LpNormalization": Row(_lp_norm),
    "MeanVarianceNormalization": Row(_standardize),
    "LRN": Row(_lrn),
}
