"""Rows of ONNX's normalizations and activations."""

import math
from collections.abc import Callable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn import layers as nl
from numbacnn.onnx.elementwise import activation, affine, binary, clip, combined
from numbacnn.onnx.layout import Shape
from numbacnn.onnx.values import Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

# -- normalization ----------------------------------------------------------------------------------------------------


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
    layer = nl.BatchNorm(momentum=round(momentum, 7), eps=number(r, "epsilon", 1e-5))
    y = r.record(layer, image, **arrays)
    r.takes_affine(y, layer)
    return Value(y, value.layout)


def number(r: "Reader", name: str, default: float) -> float:
    """Return an attribute as the shortest number that is its float32, such as 1e-05."""
    return float(str(np.float32(r.attribute(name, default))))


def _instance_norm(r: "Reader", x: Item, scale: Item, bias: Item) -> Value:
    """Normalize over all axes but the first: a group normalization, whose channels may be split into two factors."""
    value = r.value(x)
    factors, groups = value.layout.factors, value.layout.axes[0]
    first, end = (groups[0], groups[-1] + 1) if groups else (len(factors), len(factors))
    if groups and list(groups) != list(range(first, end)):
        value = r.in_order(Value(value.tensor, value.layout.transposed((*range(1, len(value.shape)), 0))))
        raise UnsupportedError("channels in this order")
    pixels, count, inner = prod(factors[:first]), prod(factors[first:end]), prod(factors[end:])
    arrays = {"weight": r.weights(scale, "scale"), "bias": r.weights(bias, "bias")}
    arrays = {name: np.repeat(array.reshape(-1), inner) for name, array in arrays.items()}
    return _group_norm_of(r, value, (1, pixels, count * inner), count, arrays)


def _group_norm_of(r: "Reader", value: Value, shape: Shape, groups: int, arrays: dict[str, Any]) -> Value:
    layer = nl.GroupNorm(groups, eps=number(r, "epsilon", 1e-5))
    tensor = r.tensor(value)
    image = tensor if tensor.shape[-1] == shape[-1] else r.shaped(tensor, shape)
    y = r.record(layer, image, **arrays)
    r.takes_affine(y, layer)
    return Value(y, value.layout)


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


def _layer_norm(r: "Reader", x: Item, scale: Item, bias: Item = None) -> Value:
    value = r.value(x)
    if len(value.shape) != 1:
        raise UnsupportedError("normalization of images over some of their axes")
    weight = r.weights(scale, "scale")
    arrays = {"weight": weight, "bias": np.zeros_like(weight) if bias is None else r.weights(bias, "bias")}
    return _group_norm_of(r, r.in_order(value), (1, 1, *value.shape), 1, arrays)


def _lrn(r: "Reader", x: Item) -> Value:
    size = int(r.attribute("size"))
    if size % 2 == 0:
        raise UnsupportedError("windows of even size, which reach further to higher channels")
    options = [number(r, name, default) for name, default in (("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0))]
    return r.nchw(r.record(nl.LocalResponseNorm(size, *options), r.image(x)))


# -- activations ------------------------------------------------------------------------------------------------------


def _softmax(r: "Reader", x: Item) -> Value:
    value = r.value(x)
    if r.opset >= 13:
        return _along_axis(r, value, r.axis(int(r.attribute("axis", -1)), value), nl.Softmax())
    if r.axis(int(r.attribute("axis", 1)), value):
        raise UnsupportedError("an axis that joins the batch with others")
    return Value(r.record(nl.Softmax(), r.features(value)), value.layout)


def _along_axis(r: "Reader", value: Value, axis: int, layer: nl.Layer) -> Value:
    """Apply a layer that works on the last axis of ours along an axis of ONNX."""
    others = [i for i in range(len(value.shape)) if i != axis]
    layout, size = value.layout, value.shape[axis]
    last = layout.axes[axis]
    if list(last) != list(range(len(layout.factors) - len(last), len(layout.factors))):
        moved = r.in_order(Value(value.tensor, layout.transposed((*others, axis))))
        value = Value(moved.tensor, moved.layout.transposed(tuple(np.argsort([*others, axis]).tolist())))
    tensor = r.tensor(value)
    if tensor.shape[-1] != size:
        tensor = r.shaped(tensor, (1, prod(tensor.shape) // size, size))
    return Value(r.record(layer, tensor), value.layout)


def _prelu(r: "Reader", x: Item, slope: Item) -> Value:
    value = r.value(x)
    image, weight = r.along(value, r.weights(slope, "slope"))
    return Value(r.record(nl.PReLU(), image, weight=weight), value.layout)


def _hard_sigmoid(r: "Reader", x: Item) -> Item:
    alpha, beta = number(r, "alpha", 0.2), number(r, "beta", 0.5)
    if not (abs(alpha * 6 - 1) < 1e-6 and beta == 0.5):
        x = affine(r, r.value(x), 6 * alpha, 6 * beta - 3)
    return activation(r, x, lambda z: np.clip(z / 6 + 0.5, 0, 1), nl.Hardsigmoid())


def _leaky_relu(r: "Reader", x: Item) -> Item:
    slope = number(r, "alpha", 0.01)
    if slope < 0:
        return _slope(r, x, slope)
    return activation(r, x, lambda z: np.where(z < 0, slope * z, z), nl.LeakyReLU(slope))


def _slope(r: "Reader", x: Item, slope: float) -> Item:
    """x if x > 0, else slope · x, for any slope; −1 gives the absolute value."""
    value = r.value(x)
    image, weight = r.along(value, np.full(1, slope, np.float32))
    y = r.record(nl.PReLU(), image, constant=True, weight=weight)
    return Value(y, value.layout, base=value.root, samples=np.where(value.samples < 0, slope, 1) * value.samples)


def _elu(r: "Reader", x: Item) -> Item:
    alpha = number(r, "alpha", 1.0)
    return activation(r, x, lambda z: np.where(z < 0, alpha * np.expm1(z), z), nl.ELU(alpha))


def _selu(r: "Reader", x: Item) -> Item:
    alpha, gamma = number(r, "alpha", 1.6732632), number(r, "gamma", 1.0507010)
    return affine(r, r.value(activation(r, x, lambda z: np.where(z < 0, alpha * np.expm1(z), z), nl.ELU(alpha))), gamma)


def _celu(r: "Reader", x: Item) -> Item:
    alpha = number(r, "alpha", 1.0)
    y = activation(r, affine(r, r.value(x), 1 / alpha), lambda z: np.where(z < 0, np.expm1(z), z), nl.ELU())
    return affine(r, r.value(y), alpha)


def _gelu(r: "Reader", x: Item) -> Item:
    approximate = r.attribute("approximate", "none")
    return Value(r.record(nl.GELU(approximate), r.tensor(x)), r.value(x).layout)


def _swish(r: "Reader", x: Item) -> Item:
    alpha, value = number(r, "alpha", 1.0), r.value(x)
    if alpha == 1:
        return Value(r.record(nl.SiLU(), r.tensor(x)), value.layout)
    gate = activation(r, affine(r, value, alpha), lambda z: 1 / (1 + np.exp(-z)), nl.Sigmoid())
    return combined(r, nl.Multiply(), [value, r.value(gate)])


def _clip(r: "Reader", x: Item, low: Item = None, high: Item = None) -> Item:
    bounds = []
    for item, name in ((low, "min"), (high, "max")):
        given = r.attribute(name) if item is None else float(r.weights(item, name).reshape(-1)[0])
        bounds.append(None if given is None or abs(given) > 3e38 else given)
    return clip(r, x, *bounds)


def _pow(r: "Reader", x: Item, exponent: Item) -> Item:
    if isinstance(x, Value) and not isinstance(exponent, Value) and exponent is not None and exponent.size == 1:
        power = float(np.asarray(exponent, np.float64).reshape(-1)[0])
        if power in (1, 2, 3) and x.tensor is not None:
            factors = [x] * int(power)
            return factors[0] if power == 1 else _product(r, factors)
        return activation(r, x, lambda z: np.power(np.abs(z) if power % 1 else z, power), None)
    raise UnsupportedError("an exponent that is not one constant number")


def _product(r: "Reader", factors: list[Value]) -> Value:
    y = factors[0]
    for factor in factors[1:]:
        y = r.value(combined(r, nl.Multiply(), [y, factor]))
    return y


def _argmax(r: "Reader", x: Item) -> Item:
    """The class of each pixel or image, at the end of a network: ours ends in the scores, and predicts the class."""
    value = r.value(x)
    if r.uses[r.op.outputs[0]] > 1 or r.axis(int(r.attribute("axis", 0)), value):
        raise UnsupportedError("positions of maxima, other than of the classes at the end of the network")
    return Value(value.tensor, value.layout)


def _sigmoid(z: Any) -> Any:
    return 1 / (1 + np.exp(-z))


def _plain(layer: Callable[[], nl.Layer] | None, function: Callable[[Any], Any]) -> Row:
    """Return the row of an elementwise operator; without a layer, it counts only as a part of an activation of ours."""
    return Row(lambda r, x: activation(r, x, function, layer and layer()), elementwise=True)


VALUES: dict[str, Row] = {
    "BatchNormalization": Row(_batch_norm),
    "InstanceNormalization": Row(_instance_norm),
    "GroupNormalization": Row(_group_norm),
    "LayerNormalization": Row(_layer_norm),
    "LRN": Row(_lrn),
    "Relu": _plain(nl.ReLU, lambda z: np.maximum(z, 0)),
    "Sigmoid": _plain(nl.Sigmoid, _sigmoid),
    "Tanh": _plain(nl.Tanh, np.tanh),
    "HardSwish": _plain(nl.Hardswish, lambda z: z * np.clip(z / 6 + 0.5, 0, 1)),
    "HardSigmoid": Row(_hard_sigmoid),
    "LeakyRelu": Row(_leaky_relu),
    "PRelu": Row(_prelu),
    "Elu": Row(_elu),
    "Selu": Row(_selu),
    "Celu": Row(_celu),
    "Gelu": Row(_gelu),
    "Swish": Row(_swish),
    "Clip": Row(_clip, elementwise=True),
    "Abs": Row(partial(_slope, slope=-1.0)),
    "Neg": Row(lambda r, x: affine(r, x, -1.0), elementwise=True),
    "Erf": _plain(None, np.vectorize(math.erf)),
    "Exp": _plain(None, np.exp),
    "Log": _plain(None, lambda z: np.log(np.maximum(z, 1e-30))),
    "Sqrt": _plain(None, lambda z: np.sqrt(np.maximum(z, 0))),
    "Softplus": _plain(None, lambda z: np.logaddexp(0, z)),
    "Reciprocal": _plain(None, lambda z: 1 / np.where(z == 0, 1e-30, z)),
    "Pow": Row(_pow, elementwise=True),
    "Softmax": Row(_softmax),
    "ArgMax": Row(_argmax),
    "Add": Row(binary("Add"), elementwise=True),
    "Sub": Row(binary("Sub"), elementwise=True),
    "Mul": Row(binary("Mul"), elementwise=True),
    "Div": Row(binary("Div"), elementwise=True),
    "Sum": Row(binary("Sum"), elementwise=True),
    "Mean": Row(binary("Mean"), elementwise=True),
    "Max": Row(binary("Max"), elementwise=True),
    "Min": Row(binary("Min"), elementwise=True),
}
