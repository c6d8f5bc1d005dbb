"""Converters of ONNX's pools: our layers, or for windows that leave out pixels several of them."""

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn import layers as nl
from numbacnn.engine.graph import Tensor
from numbacnn.onnx.elementwise import affine
from numbacnn.onnx.import_pixels import filled
from numbacnn.onnx.import_reductions import absolute
from numbacnn.onnx.import_windows import window_options
from numbacnn.onnx.values import Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

LOWEST = float(np.finfo(np.float32).min)  # around an image of which maxima are taken; an infinity times 0 is NaN


class Windows(NamedTuple):
    """The windows of a pool along an axis of ``size`` pixels, with ``before`` and ``after`` pixels of padding."""

    size: int
    window: int
    stride: int
    dilation: int
    before: int
    after: int
    ceil: bool

    @property
    def outputs(self) -> int:
        """The number of windows; with ``ceil`` the last may reach beyond the padding, but not begin there."""
        steps, rest = divmod(self.size + self.before + self.after - self._reach, self.stride)
        return steps + 1 + int(self.ceil and rest > 0 and (steps + 1) * self.stride < self.size + self.before)

    @property
    def sides(self) -> tuple[int, int]:
        """The pixels outside the image that windows reach, before and after it."""
        end = (self.outputs - 1) * self.stride + self._reach
        return self.before, max(0, end - self.size - self.before)

    def counts(self, padding: bool) -> NDArray[np.int64]:
        """Return how many pixels of the image, or also of its padding, are in each window."""
        first = np.arange(self.outputs)[:, None] * self.stride - self.before
        pixels = first + np.arange(self.window) * self.dilation
        low, high = (-self.before, self.size + self.after) if padding else (0, self.size)
        found: NDArray[np.int64] = ((pixels >= low) & (pixels < high)).sum(axis=1)
        return found

    @property
    def _reach(self) -> int:
        return (self.window - 1) * self.dilation + 1


def _pool(r: "Reader", x: Item, average: bool) -> Value:
    if len(r.op.outputs) > 1 and r.uses[r.op.outputs[1]]:
        raise UnsupportedError("the positions of the maxima")
    value, image, axes = _windows(r, r.value(x))
    if any(axis.dilation > 1 for axis in axes):
        y = (_dilated_averages if average else _dilated_maxima)(r, image, axes)
        return r.nchw(y, len(value.shape))
    options: dict[str, Any] = {
        "stride": tuple(axis.stride for axis in axes),
        "padding": tuple((axis.before, axis.after) for axis in axes),
        "ceil_mode": axes[0].ceil,
    }
    window = axes[0].window, axes[1].window
    if average:
        layer: nl.Layer = nl.AvgPool2D(window, count_include_pad=bool(r.attribute("count_include_pad", 0)), **options)
    else:
        layer = nl.MaxPool2D(window, **options)
    return r.nchw(r.record(layer, image), len(value.shape))


def _windows(r: "Reader", value: Value) -> tuple[Value, Tensor, list[Windows]]:
    """Return the value, its image, and the windows along height and width."""
    window = tuple(r.attribute("kernel_shape"))
    rank = len(window)
    if rank not in (1, 2) or len(value.shape) != rank + 1:
        raise UnsupportedError(f"windows of {rank} axes over {r.shown(value)}")
    image, window = r.image(value), (1,) * (2 - rank) + window
    strides, dilations, *padding = window_options(r, window, image.shape[:2], rank)
    parts = zip(image.shape, window, strides, dilations, padding, strict=False)
    ceil = bool(r.attribute("ceil_mode", 0))
    axes = [Windows(size, count, by, apart, *sides, ceil) for size, count, by, apart, sides in parts]
    if any(axis.outputs < 1 or min(axis.stride, axis.window) < 1 for axis in axes):
        raise UnsupportedError(f"a window {window} with dilations {dilations} over {r.shown(value)}")
    return value, image, axes


def _dilated_maxima(r: "Reader", image: Tensor, axes: list[Windows]) -> Tensor:
    """The maximum of shifted images, one for each pixel of a window."""
    sides = [(0, 0), *(axis.sides for axis in axes)]
    if any(n for side in sides for n in side):
        image = r.image(filled(r, r.nchw(image), sides, LOWEST))
    rows, columns = axes
    y: Tensor | None = None
    for i in range(0, rows.window * rows.dilation, rows.dilation):
        for j in range(0, columns.window * columns.dilation, columns.dilation):
            ends = i + (rows.outputs - 1) * rows.stride + 1, j + (columns.outputs - 1) * columns.stride + 1
            shifted = r.record(nl.Slice((i, ends[0]), (j, ends[1])), image, suffix="/shifted")
            y = shifted if y is None else r.record(nl.Maximum(), y, shifted)
    assert y is not None
    strides = rows.stride, columns.stride
    return y if strides == (1, 1) else r.record(nl.MaxPool2D(1, stride=strides), y)


def _dilated_averages(r: "Reader", image: Tensor, axes: list[Windows]) -> Tensor:
    """Sums of windows, divided by the pixels in each."""
    padding = bool(r.attribute("count_include_pad", 0))
    counts = np.multiply.outer(*(axis.counts(padding) for axis in axes))
    whole = axes[0].window * axes[1].window
    if (counts == whole).all():
        return _sums(r, image, axes, 1 / whole)
    sums = r.nchw(_sums(r, image, axes, 1.0))
    return r.image(affine(r, sums, 1 / counts[None].astype(np.float32)))


def _sums(r: "Reader", image: Tensor, axes: list[Windows], weight: float) -> Tensor:
    """The sum of each window of each channel, times a number."""
    rows, columns = axes
    window, strides = (rows.window, columns.window), (rows.stride, columns.stride)
    dilations, sides = (rows.dilation, columns.dilation), (rows.sides, columns.sides)
    c, layer = image.shape[2], nl.DepthwiseConv2D(window, 1, strides, sides, dilations, bias=False)
    numbers = np.full((*window, 1, c), weight, np.float32)
    r.made(numbers.size)
    return r.record(layer, image, constant=True, weight=numbers)


def _lp_pool(r: "Reader", x: Item) -> Value:
    """The root of the sum of powers of each window."""
    value, power = r.value(x), float(r.attribute("p", 2))
    _, image, axes = _windows(r, absolute(r, value))
    powers = image if power == 1 else r.record(nl.Power(power), image)
    y = _sums(r, powers, axes, 1.0)
    return r.nchw(y if power == 1 else r.record(nl.Power(1 / power), y), len(value.shape))


POOLS: dict[str, Row] = {
    "MaxPool": Row(partial(_pool, average=False)),
    "AveragePool": Row(partial(_pool, average=True)),
    "LpPool": Row(_lp_pool),
}
