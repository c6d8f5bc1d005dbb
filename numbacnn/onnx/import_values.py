"""Converters of ONNX's activations and other elementwise functions."""

import math
from collections.abc import Callable
from functools import partial
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numbacnn import layers as nl
from numbacnn.onnx.elementwise import activation, affine, applied, binary, clip, combined
from numbacnn.onnx.import_reductions import absolute
from numbacnn.onnx.layout import Layout
from numbacnn.onnx.values import Constant, Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

MAX_POWERS = 64  # of channels, each of which is a layer

# -- activations ------------------------------------------------------------------------------------------------------


def _softmax(r: "Reader", x: Item, layer: Callable[[], nl.Layer]) -> Value:
    value = r.value(x)
    if r.opset >= 13:
        return _along_axis(r, value, r.axis(int(r.attribute("axis", -1)), value), layer())
    first = r.axis(int(r.attribute("axis", 1)), value)  # of the axes that the old versions join
    rows = prod(value.shape[:first])
    if rows == 1:
        return Value(r.record(layer(), r.features(value)), value.layout)
    value = r.in_order(value)
    image = r.shaped(r.tensor(value), (1, rows, prod(value.shape[first:])))
    return Value(r.record(layer(), image), value.layout)


def _along_axis(r: "Reader", value: Value, axis: int, layer: nl.Layer) -> Value:
    """Apply a layer that works on our last axis along an axis of ONNX."""
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
    value, slopes = r.value(x), r.weights(slope, "slope")
    if r.opset < 7 and slopes.ndim == 1:  # of the channels, as if it had more axes
        slopes = slopes.reshape(-1, *[1] * (len(value.shape) - 1))
    image, weight = r.along(value, slopes)
    return Value(r.record(nl.PReLU(), image, weight=weight), value.layout)


def _hard_sigmoid(r: "Reader", x: Item) -> Item:
    alpha, beta = r.number("alpha", 0.2), r.number("beta", 0.5)
    if not (abs(alpha * 6 - 1) < 1e-6 and beta == 0.5):
        x = affine(r, r.value(x), 6 * alpha, 6 * beta - 3)
    return activation(r, x, lambda z: np.clip(z / 6 + 0.5, 0, 1), nl.Hardsigmoid())


def _leaky_relu(r: "Reader", x: Item) -> Item:
    slope = r.number("alpha", 0.01)
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
    alpha = r.number("alpha", 1.0)
    return activation(r, x, lambda z: np.where(z < 0, alpha * np.expm1(z), z), nl.ELU(alpha))


def _selu(r: "Reader", x: Item) -> Item:
    alpha, gamma = r.number("alpha", 1.6732632), r.number("gamma", 1.0507010)
    return affine(r, r.value(activation(r, x, lambda z: np.where(z < 0, alpha * np.expm1(z), z), nl.ELU(alpha))), gamma)


def _celu(r: "Reader", x: Item) -> Item:
    alpha = r.number("alpha", 1.0)
    y = activation(r, affine(r, r.value(x), 1 / alpha), lambda z: np.where(z < 0, np.expm1(z), z), nl.ELU())
    return affine(r, r.value(y), alpha)


def _gelu(r: "Reader", x: Item) -> Item:
    approximate = r.attribute("approximate", "none")
    return Value(r.record(nl.GELU(approximate), r.tensor(x)), r.value(x).layout)


def _swish(r: "Reader", x: Item) -> Item:
    alpha, value = r.number("alpha", 1.0), r.value(x)
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
    if not isinstance(x, Value) or isinstance(exponent, Value) or exponent is None:
        raise UnsupportedError("an exponent that is not constant")
    if exponent.size != 1:
        return _powers(r, x, exponent)
    return _raised(r, x, float(np.asarray(exponent, np.float64).reshape(-1)[0]))


def _powers(r: "Reader", x: Value, exponents: Constant) -> Value:
    """Raise channels to different powers: each run of equal ones on its own."""
    image, numbers = r.along(x, np.asarray(exponents, np.float32))
    ends = [*(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    if len(ends) > MAX_POWERS:
        raise UnsupportedError(f"{len(ends)} exponents in turn, more than {MAX_POWERS}")
    parts, first = [], 0
    for end in ends:
        part = image if len(ends) == 1 else r.record(nl.Slice(channels=(first, end)), image, suffix="/part")
        parts.append(r.tensor(_raised(r, Value(part, Layout.contiguous(part.shape)), float(numbers[first]))))
        first = end
    return Value(parts[0] if len(parts) == 1 else r.record(nl.Concat(), *parts), x.layout)


def _raised(r: "Reader", x: Value, power: float) -> Item:
    if power in (1, 2, 3) and x.tensor is not None:
        factors = [x] * int(power)
        return factors[0] if power == 1 else _product(r, factors)
    layer = {0.5: nl.Elementwise("sqrt"), -1.0: nl.Elementwise("reciprocal")}.get(power) or nl.Power(power)
    return activation(r, x, lambda z: np.power(z, power), layer)


def _product(r: "Reader", factors: list[Value]) -> Value:
    y = factors[0]
    for factor in factors[1:]:
        y = r.value(combined(r, nl.Multiply(), [y, factor]))
    return y


def _thresholded(r: "Reader", x: Item) -> Item:
    """x above a threshold, else 0: a product with 1 or 0, the rectified sign of the difference."""
    return _above(r, r.value(x), r.number("alpha", 1.0), 0.0)


def _shrink(r: "Reader", x: Item) -> Item:
    """x moved towards 0 by ``bias`` where it is beyond ±``lambd``, else 0."""
    value, bias, threshold = r.value(x), r.number("bias", 0.0), r.number("lambd", 0.5)
    below = _above(r, affine(r, value, -1.0), threshold, -bias)
    return combined(r, nl.Add(), [_above(r, value, threshold, -bias), affine(r, below, -1.0)])


def _above(r: "Reader", value: Value, threshold: float, shift: float) -> Value:
    """x + shift where x is above the threshold, else 0."""
    sign = applied(r, affine(r, value, 1.0, -threshold), nl.Elementwise("sign"))
    return combined(r, nl.Multiply(), [affine(r, value, 1.0, shift), applied(r, sign, nl.ReLU())])


def _softsign(r: "Reader", x: Item) -> Item:
    """x / (1 + |x|)."""
    value = r.value(x)
    divisor = affine(r, absolute(r, value), 1.0, 1.0)
    return combined(r, nl.Multiply(), [value, applied(r, divisor, nl.Elementwise("reciprocal"))])


def _argmax(r: "Reader", x: Item) -> Item:
    """The class of each pixel or image, at the end of a network: ours ends in the scores, and predicts the class."""
    value = r.value(x)
    if not _ends(r, r.op.outputs[0]) or r.axis(int(r.attribute("axis", 0)), value):
        raise UnsupportedError("positions of maxima, other than of the classes at the end of the network")
    return Value(value.tensor, value.layout)


def _ends(r: "Reader", name: str) -> bool:
    """Return whether only operators that keep the numbers are between a value and an output of the network."""
    seen = set[str]()
    while r.uses[name] == 1 and name in r.readers and name not in seen:
        seen.add(name)
        (node,) = r.readers[name]
        if node.op_type not in ("Identity", "Cast"):
            return False
        name = node.output[0]
    return r.uses[name] == 1 and name not in seen  # a cycle has no end


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    y: NDArray[np.float64] = 1 / (1 + np.exp(-z))
    return y


def _plain(layer: Callable[[], nl.Layer], function: Callable[[Any], Any]) -> Row:
    """Return the row of an elementwise operator."""
    return Row(lambda r, x: activation(r, x, function, layer()), elementwise=True)


def _named(name: str, function: Callable[[Any], Any]) -> Row:
    return _plain(partial(nl.Elementwise, name), function)


FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "Erf": np.vectorize(math.erf),
    "Exp": np.exp,
    "Log": np.log,
    "Sqrt": np.sqrt,
    "Reciprocal": np.reciprocal,
    "Floor": np.floor,
    "Ceil": np.ceil,
    "Sign": np.sign,
    "Softplus": lambda z: np.logaddexp(0, z),
    "Mish": lambda z: z * np.tanh(np.logaddexp(0, z)),
}
VALUES: dict[str, Row] = {
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
    "Pow": Row(_pow, elementwise=True),
    **{kind: _named(kind.lower(), function) for kind, function in FUNCTIONS.items()},
    "Softsign": Row(_softsign),
    "ThresholdedRelu": Row(_thresholded),
    "Shrink": Row(_shrink),
    "Softmax": Row(partial(_softmax, layer=nl.Softmax)),
    "LogSoftmax": Row(partial(_softmax, layer=nl.LogSoftmax)),
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
