"""Converters of ONNX's reductions over axes: averages, sums, maxima, norms."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from numbacnn import layers as nl
from numbacnn.onnx.broadcasting import expanded, with_shape
from numbacnn.onnx.elementwise import affine, applied, combined
from numbacnn.onnx.import_shapes import sliced
from numbacnn.onnx.layout import Layout
from numbacnn.onnx.values import Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

MAX_FACTORS = 64  # of a product over axes, each of which is a layer


def _global_pool(r: "Reader", x: Item, maximum: bool) -> Value:
    value = r.value(x)
    return reduced(r, value, range(2 - r.leading, len(value.shape)), True, maximum)


def reduced(r: "Reader", value: Value, axes: Iterable[int], keepdims: bool, maximum: bool) -> Value:
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
        raise UnsupportedError(f"a reduction over axes {over} of {r.shown(value)}")
    return Value(r.record(layer, tensor), found)


def _factors(layout: Layout, axes: list[int]) -> list[int]:
    return sorted(i for axis in axes for i in layout.axes[axis])


def squares(r: "Reader", value: Value) -> Value:
    """Return the square of each element."""
    return combined(r, nl.Multiply(), [value, value])


def _summed(r: "Reader", value: Value, over: Sequence[int], keepdims: bool) -> Value:
    return affine(r, reduced(r, value, over, keepdims, False), float(prod(value.shape[i] for i in over)))


def absolute(r: "Reader", value: Value) -> Value:
    """Return the size of each element."""
    image, weight = r.along(value, np.full(1, -1, np.float32))
    return Value(r.record(nl.PReLU(), image, constant=True, weight=weight), value.layout)


def _minimum(r: "Reader", value: Value, over: Sequence[int], keepdims: bool) -> Value:
    return affine(r, reduced(r, affine(r, value, -1.0), over, keepdims, True), -1.0)


def _euclidean(r: "Reader", value: Value, over: Sequence[int], keepdims: bool) -> Value:
    return applied(r, _summed(r, squares(r, value), over, keepdims), nl.Elementwise("sqrt"))


def _log_sum(r: "Reader", value: Value, over: Sequence[int], keepdims: bool) -> Value:
    return applied(r, _summed(r, value, over, keepdims), nl.Elementwise("log"))


def _log_sum_exp(r: "Reader", value: Value, over: Sequence[int], keepdims: bool) -> Value:
    """m + log Σ exp(x − m), where m is the maximum, so that nothing overflows."""
    largest = reduced(r, value, over, True, True)
    below = combined(r, nl.Add(), [value, affine(r, expanded(r, largest, value.shape), -1.0)])
    y = combined(r, nl.Add(), [largest, _log_sum(r, applied(r, below, nl.Elementwise("exp")), over, True)])
    return y if keepdims else with_shape(r, y, tuple(n for i, n in enumerate(value.shape) if i not in over))


def _product(r: "Reader", value: Value, over: Sequence[int], keepdims: bool) -> Value:
    """Multiply slices, one for each element of the axes."""
    others = [i for i in range(len(value.shape)) if i not in over]
    sizes, count = tuple(value.shape[i] for i in others), prod(value.shape[i] for i in over)
    if count > MAX_FACTORS:
        raise UnsupportedError(f"a product of {count} elements")
    moved = Value(value.tensor, value.layout.transposed((*others, *over)))
    flat = with_shape(r, moved, (prod(sizes), count))
    y = sliced(r, flat, 1, 0, 1)
    for i in range(1, count):
        y = combined(r, nl.Multiply(), [y, sliced(r, flat, 1, i, i + 1)])
    return with_shape(r, y, tuple(1 if i in over else n for i, n in enumerate(value.shape)) if keepdims else sizes)


Reduction = Callable[["Reader", Value, Sequence[int], bool], Value]
REDUCTIONS: dict[str, Reduction] = {
    "Mean": lambda r, value, over, keepdims: reduced(r, value, over, keepdims, False),
    "Max": lambda r, value, over, keepdims: reduced(r, value, over, keepdims, True),
    "Min": _minimum,
    "Sum": _summed,
    "Prod": _product,
    "L1": lambda r, value, over, keepdims: _summed(r, absolute(r, value), over, keepdims),
    "L2": _euclidean,
    "SumSquare": lambda r, value, over, keepdims: _summed(r, squares(r, value), over, keepdims),
    "LogSum": _log_sum,
    "LogSumExp": _log_sum_exp,
}


def _reduce(r: "Reader", x: Item, axes: Item = None, *, kind: str) -> Item:
    value, given = r.value(x), r.integers(axes, "axes")
    over = sorted({r.axis(axis, value) for axis in given or []})
    if not given:
        if r.attribute("noop_with_empty_axes", 0) and kind in ("Mean", "Max", "Min", "Sum", "Prod"):
            return value
        if r.leading:
            raise UnsupportedError("a reduction over the batch")
        over = list(range(len(value.shape)))
    return REDUCTIONS[kind](r, value, over, bool(r.attribute("keepdims", 1)))


def scaled_by(r: "Reader", value: Value, factor: Value) -> Value:
    """Multiply by a factor with axes of one element."""
    return combined(r, nl.Multiply(), [value, expanded(r, factor, value.shape)])


def centered(r: "Reader", value: Value, over: Iterable[int]) -> tuple[Value, Value]:
    """Return the mean over axes, which keep one element, and the value without it."""
    mean = reduced(r, value, over, True, False)
    return mean, combined(r, nl.Add(), [value, affine(r, expanded(r, mean, value.shape), -1.0)])


ROWS_OF_AXES: dict[str, Row] = {
    "GlobalMaxPool": Row(partial(_global_pool, maximum=True)),
    "GlobalAveragePool": Row(partial(_global_pool, maximum=False)),
    **{f"Reduce{kind}": Row(partial(_reduce, kind=kind)) for kind in REDUCTIONS},
}
