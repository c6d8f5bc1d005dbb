"""Converters of elementwise operators: activations, products and sums with constants, and operators of two tensors.

Frameworks write the same activation in many ways: hard-swish as x · clip(x + 3, 0, 6) / 6, GELU by Erf or Tanh. A
subgraph of one input is recognized as an activation by its values at sample points, whichever operators it consists of.
"""

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from numbacnn import layers as nl
from numbacnn.engine.graph import Tensor
from numbacnn.onnx.broadcasting import expanded, output_channels
from numbacnn.onnx.layout import Layout
from numbacnn.onnx.values import POINTS, Float32, Item, Samples, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

Function = Callable[[Any], Any]
MAX_ERROR = 2e-6  # of a recognized activation on the sample points, absolute where it is below 1, else relative
MAX_ERROR_OF_ZERO = 3e-7  # where it is 0

_HARDSIGMOID = np.clip(POINTS / 6 + 0.5, 0, 1)
_LOGISTIC = np.exp(-np.logaddexp(0, -POINTS))
_ERF = np.array([math.erf(x / math.sqrt(2)) for x in POINTS])
_TANH = np.tanh(math.sqrt(2 / math.pi) * (POINTS + 0.044715 * POINTS**3))
KNOWN: tuple[tuple[Samples, Callable[[], nl.Layer]], ...] = (
    (_HARDSIGMOID, nl.Hardsigmoid),
    (POINTS * _HARDSIGMOID, nl.Hardswish),
    (_LOGISTIC, nl.Sigmoid),
    (POINTS * _LOGISTIC, nl.SiLU),
    (POINTS * (1 + _ERF) / 2, nl.GELU),
    (POINTS * (1 + _TANH) / 2, lambda: nl.GELU("tanh")),
    (np.clip(POINTS, 0, 6), nl.ReLU6),
    (np.maximum(POINTS, 0), nl.ReLU),
    (POINTS * np.tanh(np.logaddexp(0, POINTS)), lambda: nl.Elementwise("mish")),
    (np.logaddexp(0, POINTS), lambda: nl.Elementwise("softplus")),
)
TINY = 1e-3  # a bound that keeps a divisor from 0; on the sample points it is the same as 0
FUNCTIONS: dict[str, Callable[[Any, Any], Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": np.divide,
    "Sum": np.add,
    "Max": np.maximum,
    "Min": np.minimum,
}


def activation(r: "Reader", x: Item, function: Function, layer: nl.Layer | None) -> Value:
    """Apply an elementwise function, by ``layer`` if there is one, or by the activation that it completes."""
    value = x if isinstance(x, Value) else r.value(x)
    with np.errstate(all="ignore"):
        samples = function(value.samples)
    if layer is None or value.base is not None:
        known = recognized(r, value.root, samples, value.layout)
        if known is not None:
            return known
    if layer is None or value.tensor is None:
        return _partial_match(r, value, samples)
    return Value(r.record(layer, value.tensor), value.layout, base=value.root, samples=samples)


def recognized(r: "Reader", root: Value, samples: Samples, layout: Layout) -> Value | None:
    """Return our activation that makes ``samples`` of the sample points, on ``root``."""
    if root.tensor is None or not np.isfinite(samples).all():
        return None
    for expected, layer in KNOWN:
        if _alike(samples, expected):
            return Value(r.record(layer(), root.tensor), layout, base=root, samples=samples)
    return None


def _alike(samples: Samples, expected: Samples) -> bool:
    size = np.abs(expected)
    allowed = np.minimum(MAX_ERROR * np.maximum(1, size), MAX_ERROR_OF_ZERO + 2e-3 * size)
    return bool((np.abs(samples - expected) <= allowed).all())


def _hardly_differ(a: Samples, b: Samples) -> bool:
    """Return whether recognition takes samples for equal: an addend or a bound may keep a logarithm finite."""
    with np.errstate(all="ignore"):
        return not np.array_equal(a, b, equal_nan=True) and _alike(a, b)


def _partial_match(r: "Reader", value: Value, samples: Samples) -> Value:
    problem = value.problem or f'{r.op.kind} "{r.op.name}"'
    return Value(None, value.layout, problem, value.root, samples)


# -- constants --------------------------------------------------------------------------------------------------------


def affine(r: "Reader", x: Item, factor: ArrayLike, addend: ArrayLike = 0.0) -> Value:
    """Return factor · x + addend, each a number, or constants that are broadcast to x.

    Numbers for each channel become part of the convolution, dense layer or normalization before it, if nothing else
    reads that; otherwise they are the weights of a 1×1 depthwise convolution. Single numbers are not to be trained.
    """
    value = x if isinstance(x, Value) else r.value(x)
    factor, addend = np.asarray(factor, np.float32), np.asarray(addend, np.float32)
    scalar = factor.size == 1 and addend.size == 1
    if scalar and factor == 1 and addend == 0:
        return value
    samples, tiny = value.samples, False
    if scalar:
        with np.errstate(all="ignore"):
            samples = samples * float(factor.reshape(-1)[0]) + float(addend.reshape(-1)[0])
        tiny = _hardly_differ(samples, value.samples)
        known = recognized(r, value.root, samples, value.layout) if value.base is not None and not tiny else None
        if known is not None:
            return known
    if value.tensor is None:
        if not scalar:
            raise UnsupportedError(f"its input comes from {value.problem}, which has no counterpart")
        return _partial_match(r, value, samples)
    if not scalar and factor.size > 1 and addend.size > 1:
        raise UnsupportedError("a factor and an addend at once")
    image, numbers = r.along(value, addend if factor.size == 1 else factor)
    ones = np.ones_like(numbers)
    if scalar:
        scale, shift = ones * factor.reshape(-1)[0], ones * addend.reshape(-1)[0]
    elif factor.size > 1:
        scale, shift = numbers, ones * addend.reshape(-1)[0]
    else:
        scale, shift = ones * factor.reshape(-1)[0], numbers
    if not scalar and _folds(r, value.tensor, scale, shift, factor.size > 1):
        return Value(value.tensor, value.layout)
    c = len(scale)
    layer = nl.DepthwiseConv2D(1)
    y = r.record(layer, image, constant=scalar, weight=scale.reshape(1, 1, 1, c), bias=shift)
    if scalar and not tiny:
        return Value(y, value.layout, base=value.root, samples=samples)
    if not scalar:
        r.takes_affine(y, layer)
    return Value(y, value.layout)


def _folds(r: "Reader", tensor: Tensor, scale: Float32, shift: Float32, factor_only: bool) -> bool:
    """Multiply and add into the weights of the layer that computes ``tensor``, if it is the only one that is read."""
    layer = r.foldable(tensor)
    if layer is None or tensor.shape[-1] != len(scale):
        return False
    arrays = r.arrays[id(layer)]
    arrays["weight"] = arrays["weight"] * scale[output_channels(layer, arrays["weight"].shape)]
    if "bias" not in arrays and factor_only:
        return True
    arrays["bias"] = arrays.get("bias", np.zeros_like(shift)) * scale + shift
    layer.bias = True  # type: ignore[attr-defined]  # of a convolution or dense layer; normalizations have one
    return True


def clip(r: "Reader", x: Item, low: float | None, high: float | None) -> Value:
    """Return x between two bounds, either of which may be None; ReLU and the like are recognized."""
    value = x if isinstance(x, Value) else r.value(x)
    samples = np.clip(value.samples, low, high) if (low, high) != (None, None) else value.samples
    tiny = any(bound is not None and 0 < abs(bound) < TINY for bound in (low, high))
    tiny = tiny or _hardly_differ(samples, value.samples)
    known = None if tiny else recognized(r, value.root, samples, value.layout)
    if known is not None:
        return known
    if value.tensor is None:
        return _partial_match(r, value, samples)
    if low is not None and high is not None and low >= high:
        y = affine(r, Value(value.tensor, value.layout), 0.0, high)
    else:
        y = applied(r, value, nl.Clip(low, high))
    return Value(y.tensor, value.layout) if tiny else Value(y.tensor, value.layout, base=value.root, samples=samples)


def _bounded(r: "Reader", x: Value, bound: ArrayLike, maximum: bool) -> Value:
    """max(x, b) or min(x, b) for constants b: the biases of a depthwise convolution whose weights are zeros."""
    image, numbers = r.along(x, np.asarray(bound))
    finite = r.record(nl.Clip(0.0, 1.0), image, suffix="/finite")  # 0 · ∞ is not a number
    zeros = np.zeros((1, 1, 1, len(numbers)), np.float32)
    bounds = r.record(nl.DepthwiseConv2D(1), finite, constant=True, suffix="/bounds", weight=zeros, bias=numbers)
    return Value(r.record(nl.Maximum() if maximum else nl.Minimum(), image, bounds), x.layout)


def applied(r: "Reader", x: Value, layer: nl.Layer) -> Value:
    """Apply an elementwise layer."""
    return Value(r.record(layer, r.tensor(x)), x.layout)


# -- several tensors --------------------------------------------------------------------------------------------------


def binary(kind: str) -> Callable[..., Item]:
    """Return the row of an operator of two inputs, or of any number."""

    def row(r: "Reader", *xs: Item) -> Item:
        if len(xs) == 1 or any(x is None for x in xs):
            return r.value(xs[0])
        values = [x for x in xs if isinstance(x, Value)]
        if len(values) == len(xs):
            return _of_tensors(r, kind, values)
        return _with_constant(r, kind, *xs) if len(xs) == 2 else _with_constants(r, kind, xs)

    return row


def _with_constants(r: "Reader", kind: str, xs: Sequence[Item]) -> Item:
    """Sum, Mean, Max or Min of several inputs: of the tensors, and then with one constant after another."""
    values = [x for x in xs if isinstance(x, Value)]
    pairwise = "Sum" if kind == "Mean" else kind
    y: Item = values[0] if len(values) == 1 else _of_tensors(r, pairwise, values)
    for x in xs:
        if not isinstance(x, Value):
            y = _with_constant(r, pairwise, y, x)
    return affine(r, y, 1 / len(xs)) if kind == "Mean" else y


def _with_constant(r: "Reader", kind: str, a: Item, b: Item) -> Item:
    swapped = not isinstance(a, Value)
    value, number = (b, a) if swapped else (a, b)
    array = np.asarray(number, np.float32)
    if r.opset < 7 and isinstance(value, Value) and (axis := r.attribute("axis")) is not None:
        array = array.reshape(array.shape + (1,) * (r.rank(value) - int(axis) - array.ndim))
    if array.size != 1 and isinstance(value, Value) and value.tensor is not None:
        value = _fitting(r, value, array.shape)
    if kind in ("Max", "Min") and array.size != 1:
        return _bounded(r, r.value(value), array, kind == "Max")
    if kind in ("Max", "Min"):
        bound = float(array.reshape(-1)[0])
        return clip(r, value, bound, None) if kind == "Max" else clip(r, value, None, bound)
    if kind == "Div" and swapped:
        return affine(r, activation(r, value, lambda z: 1 / z, nl.Elementwise("reciprocal")), array)
    with np.errstate(all="ignore"):
        if kind == "Mul":
            return affine(r, value, array)
        if kind == "Div":
            return affine(r, value, np.float32(1) / array)
    if kind == "Mean":
        return affine(r, affine(r, value, 1.0, array), 0.5)
    if kind == "Sub":
        return affine(r, affine(r, value, -1.0), 1.0, array) if swapped else affine(r, value, 1.0, -array)
    return affine(r, value, 1.0, array)


def _fitting(r: "Reader", value: Value, shape: tuple[int, ...]) -> Value:
    """Repeat a value's elements where constants of this shape have more."""
    try:
        whole = np.broadcast_shapes((1,) * r.leading + value.shape, shape)
    except ValueError:
        return value  # an error says later that the constants do not fit
    fits = len(whole) == r.rank(value) or not r.leading
    return expanded(r, value, whole[r.leading :]) if fits and whole[: r.leading] == (1,) * r.leading else value


def _of_tensors(r: "Reader", kind: str, values: list[Value]) -> Item:
    a, b = values[0], values[-1]
    if len(values) == 2 and a.root is b.root and kind in FUNCTIONS:
        with np.errstate(all="ignore"):
            samples = FUNCTIONS[kind](a.samples, b.samples)
        if _hardly_differ(samples, a.samples) or _hardly_differ(samples, b.samples):
            return _computed(r, kind, values)
        known = recognized(r, a.root, samples, a.layout)
        if known is not None:
            return known
        if a.tensor is None or b.tensor is None:
            return _partial_match(r, a if a.tensor is None else b, samples)
        y = _computed(r, kind, values)
        return Value(y.tensor, y.layout, base=a.root, samples=samples) if y.layout == a.layout else y
    return _computed(r, kind, values)


def _computed(r: "Reader", kind: str, values: list[Value]) -> Value:
    if kind == "Mul":
        return combined(r, nl.Multiply(), values)
    if kind in ("Add", "Sum"):
        return combined(r, nl.Add(), values)
    if kind == "Mean":
        return affine(r, combined(r, nl.Add(), values), 1 / len(values))
    if kind == "Sub":
        return combined(r, nl.Add(), [values[0], affine(r, values[1], -1.0)])
    if kind in ("Max", "Min"):
        y = values[0]
        for value in values[1:]:
            y = combined(r, nl.Maximum() if kind == "Max" else nl.Minimum(), [y, value])
        return y
    return combined(r, nl.Multiply(), [values[0], applied(r, values[1], nl.Elementwise("reciprocal"))])


def combined(r: "Reader", layer: nl.Layer, values: Sequence[Value]) -> Value:
    """Return the sum or product of tensors, of one shape or broadcast to the largest."""
    for value in values:
        r.tensor(value)
    if r.leading and len({len(value.shape) for value in values}) > 1:
        raise UnsupportedError(f"inputs {' and '.join(r.shown(value) for value in values)}")
    shape = np.broadcast_shapes(*(value.shape for value in values))
    if len(shape) != 3 or all(value.shape != shape for value in values):
        values = [expanded(r, value, shape) for value in values]
    largest = next(value for value in values if value.shape == shape)
    if all(value.layout == largest.layout for value in values):
        tensors = [r.shaped(r.tensor(value), r.tensor(largest).shape) for value in values]
        return Value(r.record(layer, *tensors), largest.layout)
    if len(shape) != 3:
        tensors = [r.features(r.in_order(value)) for value in values]
        return Value(r.record(layer, *tensors), Layout.contiguous(shape))
    images = [_broadcast(r, value, shape, isinstance(layer, nl.Multiply) and len(values) == 2) for value in values]
    return r.nchw(r.record(layer, *images))


def _broadcast(r: "Reader", value: Value, shape: tuple[int, ...], gate: bool) -> Tensor:
    """Return an image in the size of the largest; a product takes a gate (1, 1, c) as it is."""
    image, (c, h, w) = r.image(value), shape
    if image.shape == (h, w, c) or (gate and image.shape == (1, 1, c)):
        return image
    if image.shape[2] == 1 < c:
        ones = np.ones((1, 1, 1, r.made(c)), np.float32)
        image = r.record(nl.Conv2D(c, 1, bias=False), image, constant=True, suffix="/channels", weight=ones)
    if image.shape[:2] != (h, w) and not (gate and image.shape[:2] == (1, 1)):
        factors = h // image.shape[0], w // image.shape[1]
        image = r.record(nl.Upsample2D(factors), image, suffix="/pixels")
    return image
