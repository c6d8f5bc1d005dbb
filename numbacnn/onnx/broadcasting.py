"""Values in other shapes: the same elements, or elements of axes of one repeated; channels of weights."""

from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from numbacnn import layers as nl
from numbacnn._checks import format_shape
from numbacnn.onnx.layout import Layout, Shape
from numbacnn.onnx.values import UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader


def with_shape(r: "Reader", value: Value, shape: Shape) -> Value:
    """Return the same elements, in the order of ONNX, with other axes."""
    layout = value.layout.reshaped(shape)
    if layout is not None:
        return Value(r.tensor(value), layout)
    return Value(r.tensor(r.in_order(value)), Layout.contiguous(shape))


def expanded(r: "Reader", value: Value, shape: Shape) -> Value:
    """Repeat the elements of axes of one, as NumPy's broadcasting does. Only axes with more keep their size."""
    missing = len(shape) - len(value.shape)
    if missing:
        if r.leading:
            raise UnsupportedError(f"{r.shown(value)} of as many axes as (N, {format_shape(shape)})")
        value = with_shape(r, value, (1,) * missing + value.shape)
    for axis, (have, size) in enumerate(zip(value.shape, shape, strict=True)):
        if size in (1, have):
            continue
        if have != 1:
            raise UnsupportedError(f"{r.shown(value)}, which does not broadcast to {format_shape(shape)}")
        before, after = prod(value.shape[:axis]), prod(value.shape[axis + 1 :])
        x = r.shaped(r.tensor(r.in_order(value)), (before, 1, after))
        y = r.record(nl.Upsample2D((1, size)), x, suffix="/repeated")
        value = Value(y, Layout.contiguous((*value.shape[:axis], size, *value.shape[axis + 1 :])))
    return value


def output_channels(layer: nl.Layer, weight_shape: Shape) -> NDArray[np.intp]:
    """Return the output channel that each weight belongs to, in a shape that broadcasts to the layer's weight.

    The filters of a transposed convolution, R×S×filters/groups×C, are on two axes: the last has the groups' inputs.
    """
    if not isinstance(layer, nl.Conv2DTranspose):
        return np.arange(weight_shape[-1])
    filters, inputs = weight_shape[2:]
    return np.add.outer(np.arange(filters), np.arange(inputs) // (inputs // layer.groups) * filters)
