"""Converters of ONNX's operators that pad and resize images, and that move pixels to channels or back."""

import math
from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn import layers as nl
from numbacnn.layers.resizing import COORDINATES, ROUNDINGS
from numbacnn.onnx.elementwise import affine
from numbacnn.onnx.import_shapes import joined, sliced
from numbacnn.onnx.layout import Layout
from numbacnn.onnx.values import Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

Side = tuple[int, int]
CROP = "tf_crop_and_resize"
MAX_PIXELS = 1 << 16  # of an axis after resizing
MAX_REPEATED = 64  # pixels that padding adds at a side, if they are not all the same number

# -- padding ----------------------------------------------------------------------------------------------------------


def _pad(r: "Reader", x: Item, pads: Item = None, value: Item = None, axes: Item = None) -> Item:
    image, mode = r.value(x), r.attribute("mode", "constant")
    sides = _sides(r, image, pads, axes)
    for axis, (before, after) in enumerate(sides):  # negative ones crop
        first, end = max(0, -before), image.shape[axis] - max(0, -after)
        if first >= end:
            raise UnsupportedError(f"pads {sides} of {r.shown(image)}")
        image = sliced(r, image, axis, first, end)
    sides = [(max(0, before), max(0, after)) for before, after in sides]
    if not any(n for side in sides for n in side):
        return image
    if mode != "constant":
        for axis, side in enumerate(sides):
            image = _repeated(r, image, axis, side, mode)
        return image
    fill = float(r.attribute("value", 0.0)) if value is None else float(r.weights(value, "value").reshape(-1)[0])
    return filled(r, image, sides, fill)


def _center(r: "Reader", x: Item, shape: Item) -> Item:
    """Crop around the center, or pad with zeros, to a shape."""
    image, wanted = r.value(x), r.integers(shape, "shape") or []
    axes = [r.axis(int(axis), image) for axis in r.attribute("axes") or range(r.rank(image))]
    if len(axes) != len(wanted) or min(wanted, default=1) < 1:
        raise UnsupportedError(f"shape {wanted} of {r.shown(image)}")
    sides = [(0, 0)] * len(image.shape)
    for axis, size in zip(axes, wanted, strict=True):
        more = size - image.shape[axis]
        if more < 0:
            image = sliced(r, image, axis, -more // 2, -more // 2 + size)
        sides[axis] = max(0, more) // 2, max(0, more) - max(0, more) // 2
    return _with_zeros(r, image, sides) if any(n for side in sides for n in side) else image


def _sides(r: "Reader", image: Value, pads: Item, axes: Item) -> list[Side]:
    """Return what is added before and after each axis but the batch's."""
    given, rank = r.integers(pads, "pads") or [], r.rank(image)
    over = r.integers(axes, "axes") if axes is not None else list(range(rank))
    if over is None or len(given) != 2 * len(over) or any(not -rank <= axis < rank for axis in over):
        raise UnsupportedError(f"pads {given} of {r.shown(image)}")
    sides = dict.fromkeys(range(rank), (0, 0))
    sides.update({axis % rank: (given[i], given[i + len(over)]) for i, axis in enumerate(over)})
    if r.leading and any(sides[0]):
        raise UnsupportedError(f"pads {given}, which add to the batch")
    return [sides[axis] for axis in range(r.leading, rank)]


def _with_zeros(r: "Reader", image: Value, sides: Sequence[Side]) -> Value:
    if len(image.shape) == 3 and not any(sides[0]):
        return r.nchw(r.record(nl.ZeroPad2D(tuple(sides[1:])), r.image(image)))
    if len(image.shape) == 3 and not any(sides[2]) and not image.layout.moved:  # channels last
        y = r.record(nl.ZeroPad2D(tuple(sides[:2])), r.shaped(r.tensor(image), image.shape))
        return Value(y, Layout.contiguous(y.shape))
    for axis, side in enumerate(sides):
        if any(side):
            x, n = r.in_order(image), image.shape[axis]
            before, after = prod(image.shape[:axis]), prod(image.shape[axis + 1 :])
            y = r.record(nl.ZeroPad2D(((0, 0), side)), r.shaped(r.tensor(x), (before, n, after)))
            shape = *image.shape[:axis], n + sum(side), *image.shape[axis + 1 :]
            image = Value(y, Layout.contiguous(shape))
    return image


def filled(r: "Reader", image: Value, sides: Sequence[Side], fill: float) -> Value:
    """Pad by a number: zeros, and a 1×1 depthwise convolution with a bias for each element outside."""
    padded = _with_zeros(r, image, sides)
    if not fill:
        return padded
    addend = np.full(padded.shape, fill, np.float32)
    r.made(addend.size)
    addend[tuple(slice(before, size - after) for (before, after), size in zip(sides, padded.shape, strict=True))] = 0
    return affine(r, padded, 1.0, addend)


def _repeated(r: "Reader", image: Value, axis: int, side: Side, mode: str) -> Value:
    """Concatenate elements of the image to it: of the edge, mirrored, or from the other end."""
    (before, after), n = side, image.shape[axis]
    if not before + after:
        return image
    if max(before, after) > MAX_REPEATED or (mode != "edge" and max(before, after) > n - (mode == "reflect")):
        raise UnsupportedError(f"mode {mode} with {before} and {after} elements around {n}")
    if mode == "edge":
        first, last = [0] * before, [n - 1] * after
    elif mode == "reflect":
        first, last = [*range(before, 0, -1)], [*range(n - 2, n - 2 - after, -1)]
    elif mode == "wrap":
        first, last = [*range(n - before, n)], [*range(after)]
    else:
        raise UnsupportedError(f"mode {mode}")
    parts = {i: sliced(r, image, axis, i, i + 1) for i in {*first, *last}}
    return joined(r, [*(parts[i] for i in first), image, *(parts[i] for i in last)], axis)


# -- resizing ---------------------------------------------------------------------------------------------------------


class Scaling(NamedTuple):
    """The sizes of height and width before and after, and their quotients or the factors in the file."""

    have: Side
    wanted: Side
    scales: tuple[float, float]

    @property
    def exact(self) -> bool:
        """Whether the factors are the quotients of the sizes, which are rounded."""
        return all(f == a / b for a, b, f in zip(self.wanted, self.have, self.scales, strict=True))


def _resize(r: "Reader", x: Item, *inputs: Item) -> Item:
    value = r.value(x)
    if len(value.shape) not in (2, 3):
        raise UnsupportedError(f"resizing of {r.shown(value)}, which has no height and width")
    s = _scaling(r, value, inputs)
    mode, coordinates = r.attribute("mode", "nearest"), _coordinates(r)
    region = _region(r, value, inputs) if coordinates == CROP else None
    if region is None and s.wanted == s.have and (s.exact or coordinates == "align_corners"):
        return value
    if mode not in ("nearest", "linear"):
        raise UnsupportedError(f"{mode} interpolation")
    if r.attribute("antialias", 0) and min(s.scales) < 1:
        raise UnsupportedError("antialias")
    kept = r.rank(value) - r.leading
    if region is None:
        return r.nchw(r.record(_resizing(r, s, mode, coordinates), r.image(value)), kept)
    layer = _cropping(r, s, mode, region)
    return _outside(r, r.nchw(r.record(layer, r.image(value)), kept), layer, s.have)


def _region(r: "Reader", value: Value, inputs: Sequence[Item]) -> tuple[float, float, float, float]:
    """Return (top, left, bottom, right) of the part to resize, as fractions between the outermost pixels' centers."""
    rank = r.rank(value)
    axes = [axis % rank for axis in r.attribute("axes") or range(rank)]
    numbers = [] if inputs[0] is None else r.weights(inputs[0], "roi").reshape(-1).tolist()
    if len(value.shape) != 3 or len(numbers) != 2 * len(axes) or not np.isfinite(numbers).all():
        raise UnsupportedError(f"roi {numbers} of {r.shown(value)}")
    edges = {axis: (numbers[i], numbers[i + len(axes)]) for i, axis in enumerate(axes)}
    if any(edges.get(axis, (0, 1)) != (0, 1) for axis in range(rank - 2)):
        raise UnsupportedError(f"roi {numbers}, which crops the batch or the channels")
    (top, bottom), (left, right) = edges.get(rank - 2, (0.0, 1.0)), edges.get(rank - 1, (0.0, 1.0))
    return top, left, bottom, right


def _cropping(r: "Reader", s: Scaling, mode: str, region: tuple[float, float, float, float]) -> nl.Resize2D:
    rounding = r.attribute("nearest_mode", "round_prefer_floor")
    if rounding not in ROUNDINGS:
        raise UnsupportedError(f"nearest_mode {rounding}")
    mode = "bilinear" if mode == "linear" else "nearest"
    return nl.Resize2D(s.wanted, mode, "align_corners", None, rounding, region)


def _outside(r: "Reader", image: Value, layer: nl.Resize2D, have: Side) -> Value:
    """Replace what is outside of the image that was resized by a number."""
    positions = nl.Resize2D(layer.size, "bilinear", "align_corners", region=layer.region).geometry([(*have, 1)])
    inside = []
    for a in positions.axes:
        position = (np.arange(a.outputs) + a.offset) * a.numerator / a.denominator + a.shift
        inside.append((position >= 0) & (position <= a.size - 1))
    kept = np.logical_and.outer(*inside)
    if kept.all():
        return image
    r.made(image.shape[0] * kept.size)
    kept = np.broadcast_to(kept, image.shape)
    fill = float(r.attribute("extrapolation_value", 0.0))
    masked = affine(r, image, kept.astype(np.float32))
    return affine(r, masked, 1.0, np.where(kept, 0, fill)) if fill else masked


def _resizing(r: "Reader", s: Scaling, mode: str, coordinates: str) -> nl.Layer:
    """Return the layer: an enlargement by integers, every second, third … pixel, or any other."""
    default = "round_prefer_floor" if r.op.kind == "Resize" and r.opset >= 11 else "floor"
    rounding = r.attribute("nearest_mode", default)
    if rounding not in ROUNDINGS:
        raise UnsupportedError(f"nearest_mode {rounding}")
    factors, steps = ([a // b if a % b == 0 else 0 for a, b in zip(*sizes, strict=True)]
                      for sizes in ((s.wanted, s.have), (s.have, s.wanted)))  # fmt: skip
    if mode == "linear":
        if all(factors) and s.exact and coordinates.endswith("half_pixel") and min(s.wanted) > 1:
            return nl.Upsample2D((factors[0], factors[1]), "bilinear")
        return nl.Resize2D(s.wanted, "bilinear", coordinates, s.scales)
    layer = nl.Resize2D(s.wanted, "nearest", coordinates, s.scales, rounding)
    nearest = [_sources(layer, s.have, axis) for axis in range(2)]
    if all(factors) and all((p == np.arange(len(p)) // f).all() for p, f in zip(nearest, factors, strict=True)):
        return nl.Upsample2D((factors[0], factors[1]))
    if all(steps) and all((p == np.arange(len(p)) * n).all() for p, n in zip(nearest, steps, strict=True)):
        return nl.MaxPool2D(1, stride=(steps[0], steps[1]))
    return layer


def _coordinates(r: "Reader") -> str:
    default = "half_pixel" if r.op.kind == "Resize" and r.opset >= 11 else "asymmetric"
    found: str = r.attribute("coordinate_transformation_mode", default)
    if found not in (*COORDINATES, CROP):
        raise UnsupportedError(f"coordinate_transformation_mode {found}")
    return found


def _scaling(r: "Reader", value: Value, inputs: Sequence[Item]) -> Scaling:
    """Return the sizes of the last two axes. Raises UnsupportedError if others are resized."""
    rank = r.rank(value)
    axes = [axis % rank for axis in r.attribute("axes") or range(rank)]
    have = [*[1] * r.leading, *value.shape]
    scales = inputs[0] if len(inputs) == 1 else inputs[1] if len(inputs) > 1 else None
    given = r.integers(inputs[2], "sizes") if len(inputs) > 2 and inputs[2] is not None else None
    if given is not None:
        found = [size / have[axis] for axis, size in zip(axes, given, strict=False)]
        given = [1 if r.leading and axis == 0 else size for axis, size in zip(axes, given, strict=False)]
        found = [1.0 if r.leading and axis == 0 else f for axis, f in zip(axes, found, strict=False)]
        policy = r.attribute("keep_aspect_ratio_policy", "stretch")
        if policy in ("not_larger", "not_smaller"):
            found = [min(found) if policy == "not_larger" else max(found)] * len(found)
            given = [math.floor(f * have[axis] + 0.5) for f, axis in zip(found, axes, strict=True)]
    else:
        numbers = r.attribute("scales") if scales is None else r.weights(scales, "scales")
        found = np.asarray(numbers, np.float64).reshape(-1).tolist()
        given = [math.floor(have[axis] * f + 1e-7) for axis, f in zip(axes, found, strict=False)]
    sizes, factors = dict(enumerate(have)), dict.fromkeys(range(rank), 1.0)
    sizes.update(zip(axes, given, strict=False))
    factors.update(zip(axes, found, strict=False))
    kept = rank - len(value.shape) + 1
    if len(found) != len(axes) or any(sizes[axis] != have[axis] for axis in range(kept)):
        raise UnsupportedError(f"scales {found} of {r.shown(value)}")
    spatial = [0] * (2 - (rank - kept)) + [*range(kept, rank)]
    if not all(0 < sizes[axis] <= MAX_PIXELS for axis in spatial):
        raise UnsupportedError(f"sizes {given}")
    if rank - kept == 1:  # (channels, width)
        return Scaling((1, have[-1]), (1, sizes[kept]), (1.0, factors[kept]))
    return Scaling((have[kept], have[-1]), (sizes[kept], sizes[rank - 1]), (factors[kept], factors[rank - 1]))


def _sources(layer: nl.Resize2D, have: Side, axis: int) -> NDArray[np.int64]:
    """Return the pixel that each pixel of the result copies."""
    g = layer.geometry([(*have, 1)])
    a = g.axes[axis]
    position = (np.arange(a.outputs) + a.offset) * a.numerator / a.denominator + a.shift
    rounds: Callable[[Any], Any] = np.ceil if a.up else np.floor
    sources: NDArray[np.int64] = np.clip(rounds(position), 0, a.size - 1).astype(np.int64)
    return sources


# -- pixels and channels ----------------------------------------------------------------------------------------------


def _depth_to_space(r: "Reader", x: Item) -> Value:
    """Move channels to pixels: a transposed convolution whose weights are zeros and ones."""
    image, b = r.image(x), int(r.attribute("blocksize"))
    c = image.shape[2]
    if b < 1 or c % (b * b):
        raise UnsupportedError(f"{c} channels in blocks of {b}×{b}")
    k = c // (b * b)
    weight = np.zeros((b, b, k, r.made(b * b * k * c) // (b * b * k)), np.float32)
    rows, columns, out = np.ogrid[:b, :b, :k]
    first = r.attribute("mode", "DCR") == "DCR"
    weight[rows, columns, out, (rows * b + columns) * k + out if first else out * b * b + rows * b + columns] = 1
    layer = nl.Conv2DTranspose(k, b, stride=b, bias=False)
    return r.nchw(r.record(layer, image, constant=True, weight=weight))


def _space_to_depth(r: "Reader", x: Item) -> Value:
    """Move pixels to channels: a convolution whose weights are zeros and ones."""
    image, b = r.image(x), int(r.attribute("blocksize"))
    h, w, c = image.shape
    if b < 1 or h % b or w % b:
        raise UnsupportedError(f"{h}×{w} pixels in blocks of {b}×{b}")
    r.made(b * b * c * b * b * c)
    weight = np.zeros((b, b, c, b * b * c), np.float32)
    rows, columns, channel = np.ogrid[:b, :b, :c]
    first = r.attribute("mode", "DCR") == "DCR"
    weight[
        rows, columns, channel, (rows * b + columns) * c + channel if first else channel * b * b + rows * b + columns
    ] = 1
    layer = nl.Conv2D(b * b * c, b, stride=b, bias=False)
    return r.nchw(r.record(layer, image, constant=True, weight=weight))


PIXELS: dict[str, Row] = {
    "Pad": Row(_pad),
    "CenterCropPad": Row(_center),
    "Resize": Row(_resize),
    "Upsample": Row(_resize),
    "DepthToSpace": Row(_depth_to_space),
    "SpaceToDepth": Row(_space_to_depth),
}
