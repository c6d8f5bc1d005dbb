"""Rows of ONNX's operators that move elements: shapes, slices, padding, resizing."""

import math
from collections.abc import Callable
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from numbacnn import layers as nl
from numbacnn.onnx.layout import Layout, Shape
from numbacnn.onnx.values import Constant, Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

# -- shapes -----------------------------------------------------------------------------------------------------------


def _reshape(r: "Reader", x: Item, shape: Item = None) -> Value:
    value = r.value(x)
    target = r.integers(shape, "shape")
    if not target:
        raise UnsupportedError("a reshape to a single number")
    sizes, count = [r.batch, *value.shape], prod(value.shape)
    if not r.attribute("allowzero", 0):
        if any(size == 0 and i >= len(sizes) for i, size in enumerate(target)):
            raise UnsupportedError(f"a shape {target} with a zero beyond the input's")
        target = [sizes[i] if size == 0 else size for i, size in enumerate(target)]
    rest = target[1:]
    if target[0] not in (r.batch, -1) or rest.count(-1) + (target[0] == -1) > 1:
        raise UnsupportedError(
            f"shape {target} of (N, {', '.join(map(str, value.shape))}), which mixes images of a batch"
        )
    known = prod(size for size in rest if size != -1)
    if -1 in rest and known and count % known == 0:
        rest[rest.index(-1)] = count // known
    if prod(rest) != count or min(rest, default=1) < 1:
        raise UnsupportedError(f"shape {target} of (N, {', '.join(map(str, value.shape))})")
    return _with_shape(r, value, tuple(rest))


def _with_shape(r: "Reader", value: Value, shape: Shape) -> Value:
    """Return the same elements, in the order of ONNX, with other axes."""
    layout = value.layout.reshaped(shape)
    if layout is not None:
        return Value(r.tensor(value), layout)
    return Value(r.tensor(r.in_order(value)), Layout.contiguous(shape))


def _flatten(r: "Reader", x: Item) -> Value:
    value, axis = r.value(x), int(r.attribute("axis", 1))
    axis += (len(value.shape) + 1) * (axis < 0)
    if axis < 1 or prod(value.shape[: axis - 1]) != 1:
        raise UnsupportedError(f"axis {axis}, which joins the batch with others")
    return _with_shape(r, value, (prod(value.shape),))


def _squeeze(r: "Reader", x: Item, axes: Item = None) -> Value:
    value, given = r.value(x), r.integers(axes, "axes")
    dropped = {r.axis(axis, value) for axis in given} if given is not None else set(range(len(value.shape)))
    kept = [size for i, size in enumerate(value.shape) if i not in dropped or (given is None and size != 1)]
    if prod(kept) != prod(value.shape):
        raise UnsupportedError(f"axes {given} of (N, {', '.join(map(str, value.shape))})")
    return _with_shape(r, value, tuple(kept))


def _unsqueeze(r: "Reader", x: Item, axes: Item = None) -> Value:
    value, given = r.value(x), r.integers(axes, "axes") or []
    rank = len(value.shape) + 1 + len(given)
    inserted = sorted(axis % rank for axis in given if -rank <= axis < rank)
    if not inserted or inserted[0] == 0 or len(set(inserted)) != len(given) or rank > 9:
        raise UnsupportedError(f"axes {given}, one of which is before the batch")
    shape = list(value.shape)
    for position in inserted:
        shape.insert(position - 1, 1)
    return _with_shape(r, value, tuple(shape))


def _transpose(r: "Reader", x: Item) -> Value:
    value = r.value(x)
    rank = len(value.shape) + 1
    order = list(r.attribute("perm") or range(rank)[::-1])
    if sorted(order) != list(range(rank)) or order[0] != 0:
        raise UnsupportedError(f"perm {order}, which moves the batch")
    return Value(r.tensor(value), value.layout.transposed(tuple(i - 1 for i in order[1:])))


def _shape(r: "Reader", x: Item) -> Constant:
    sizes = np.array([r.batch, *r.value(x).shape], np.int64)
    return sizes[r.attribute("start", 0) : r.attribute("end")]


def _same(r: "Reader", x: Item, *_: Item) -> Item:
    return r.value(x)


def _dropout(r: "Reader", x: Item, ratio: Item = None, training: Item = None) -> Item:
    """Drop elements in training only, and only if the file was made for training."""
    value = r.value(x)
    if training is None or not r.constant(training, "training_mode").any():
        return value
    rate = 0.5 if ratio is None else float(r.weights(ratio, "ratio").reshape(-1)[0])
    return Value(r.record(nl.Dropout(round(rate, 6)), r.tensor(x)), value.layout)


def _cast(r: "Reader", x: Item) -> Item:
    if r.attribute("to") not in (1, 10, 11):
        raise UnsupportedError(f"a cast to the type {r.attribute('to')}")
    return r.value(x)


def _expand(r: "Reader", x: Item, shape: Item) -> Item:
    value, target = r.value(x), r.integers(shape, "shape") or []
    if len(target) > len(value.shape) + 1 or any(
        size not in (1, have) for size, have in zip(target[::-1], [*value.shape[::-1], r.batch], strict=False)
    ):
        raise UnsupportedError(f"shape {target} of (N, {', '.join(map(str, value.shape))})")
    return value


def sliced(r: "Reader", value: Value, axis: int, first: int, end: int) -> Value:
    """Return elements ``first`` to ``end`` − 1 along an axis."""
    if (first, end) == (0, value.shape[axis]):
        return value
    if len(value.shape) == 3 and value.layout.moved:
        ranges = [(0, size) for size in value.shape]
        ranges[axis] = first, end
        channels, height, width = ranges
        return r.nchw(r.record(nl.Slice(height, width, channels), r.image(value)))
    x, n = r.in_order(value), value.shape[axis]
    before, after = prod(value.shape[:axis]), prod(value.shape[axis + 1 :])
    y = r.record(nl.Slice((0, before), (first, end), (0, after)), r.shaped(r.tensor(x), (before, n, after)))
    return Value(y, Layout.contiguous((*value.shape[:axis], end - first, *value.shape[axis + 1 :])))


def _slice(r: "Reader", x: Item, starts: Item = None, ends: Item = None, axes: Item = None, steps: Item = None) -> Item:
    value = r.value(x)
    first, end = r.integers(starts, "starts") or [], r.integers(ends, "ends") or []
    along = r.integers(axes, "axes") or list(range(len(first)))
    step = r.integers(steps, "steps") or [1] * len(first)
    if not len(first) == len(end) == len(along) == len(step):
        raise UnsupportedError(f"starts {first}, ends {end}, axes {along} and steps {step} of different lengths")
    for start, stop, axis, by in zip(first, end, along, step, strict=True):
        rank = len(value.shape) + 1
        if axis % rank == 0 and start == 0 and stop >= r.batch and by == 1:
            continue
        index = r.axis(axis, value)
        start, stop, _ = slice(start, stop, by).indices(value.shape[index])
        if by < 1 or start >= stop:
            raise UnsupportedError(f"elements {start} to {stop} with step {by}")
        value = sliced(r, value, index, start, stop)
        if by > 1:
            value = _every(r, value, index, by)
    return value


def _every(r: "Reader", value: Value, axis: int, step: int) -> Value:
    """Return every ``step``-th element along an axis, by a max-pool of windows of one pixel."""
    if len(value.shape) == 3 and axis > 0:
        stride = (step, 1) if axis == 1 else (1, step)
        return r.nchw(r.record(nl.MaxPool2D(1, stride=stride), r.image(value)))
    x, n = r.in_order(value), value.shape[axis]
    before, after = prod(value.shape[:axis]), prod(value.shape[axis + 1 :])
    y = r.record(nl.MaxPool2D(1, stride=(1, step)), r.shaped(r.tensor(x), (before, n, after)))
    return Value(y, Layout.contiguous((*value.shape[:axis], -(-n // step), *value.shape[axis + 1 :])))


def _split(r: "Reader", x: Item, sizes: Item = None) -> list[Item]:
    value = r.value(x)
    axis, count = r.axis(int(r.attribute("axis", 0)), value), len(r.op.outputs)
    n, given = value.shape[axis], r.integers(sizes, "split")
    if given is None:
        part = -(-n // int(r.attribute("num_outputs", count)))
        given = [max(0, min(part, n - i * part)) for i in range(count)]
    if sum(given) != n or min(given) < 1 or len(given) != count:
        raise UnsupportedError(f"parts of {given} of {n} elements")
    ends = np.cumsum(given).tolist()
    return [sliced(r, value, axis, end - size, end) for size, end in zip(given, ends, strict=True)]


def _gather(r: "Reader", x: Item, indices: Item) -> Item:
    value, axis = r.value(x), r.axis(int(r.attribute("axis", 0)), r.value(x))
    given, n = r.constant(indices, "indices"), value.shape[axis]
    if given.ndim > 1 or given.size == 0 or not np.issubdtype(given.dtype, np.integer):
        raise UnsupportedError(f"indices of shape {given.shape}")
    chosen = given.reshape(-1).astype(np.int64)
    chosen = np.where(chosen < 0, chosen + n, chosen)
    if chosen.min() < 0 or chosen.max() >= n:
        raise UnsupportedError(f"indices beyond the {n} elements of axis {axis + 1}")
    start, size = int(chosen[0]), chosen.size
    if (chosen == np.arange(start, start + size)).all():
        y = sliced(r, value, axis, start, start + size)
    else:
        y = _chosen(r, value, axis, chosen)
    return y if given.ndim else _with_shape(r, y, (*y.shape[:axis], *y.shape[axis + 1 :]))


def _chosen(r: "Reader", value: Value, axis: int, chosen: Constant) -> Value:
    """Return elements along an axis in another order, by a 1×1 convolution whose weights are zeros and ones."""
    others = [i for i in range(len(value.shape)) if i != axis]
    n, layout = value.shape[axis], value.layout.transposed((*others, axis))
    x = r.in_order(Value(value.tensor, layout))
    r.made(n * chosen.size)
    weight = np.zeros((n, chosen.size), np.float32)
    weight[chosen, np.arange(chosen.size)] = 1
    image = r.shaped(r.tensor(x), (1, prod(value.shape) // n, n))
    y = r.record(nl.Conv2D(chosen.size, 1, bias=False), image, constant=True, weight=weight[None, None])
    made = Layout.contiguous((*(value.shape[i] for i in others), chosen.size))
    return Value(y, made.transposed(tuple(np.argsort([*others, axis]).tolist())))


def _concat(r: "Reader", *xs: Item) -> Item:
    values = [r.value(x) for x in xs]
    axis = r.axis(int(r.attribute("axis", 1)), values[0])
    rest = {(*value.shape[:axis], *value.shape[axis + 1 :]) for value in values}
    if len(rest) != 1 or len({len(value.shape) for value in values}) != 1:
        raise UnsupportedError(f"inputs of shapes {', '.join(str(value.shape) for value in values)}")
    if len(values) == 1:
        return values[0]
    if len(values[0].shape) == 3 and axis == 0:
        return r.nchw(r.record(nl.Concat(), *[r.image(value) for value in values]))
    before, after = prod(values[0].shape[:axis]), prod(values[0].shape[axis + 1 :])
    parts = [r.shaped(r.tensor(r.in_order(v)), (1, before, v.shape[axis] * after)) for v in values]
    if before == 1:
        parts = [r.features(r.in_order(value)) for value in values]
    shape = *values[0].shape[:axis], sum(value.shape[axis] for value in values), *values[0].shape[axis + 1 :]
    return Value(r.record(nl.Concat(), *parts), Layout.contiguous(shape))


def _pad(r: "Reader", x: Item, pads: Item = None, value: Item = None, axes: Item = None) -> Item:
    image, rank = r.value(x), len(r.value(x).shape) + 1
    given = r.integers(pads, "pads") or []
    over = r.integers(axes, "axes") if axes is not None else list(range(rank))
    if r.attribute("mode", "constant") != "constant":
        raise UnsupportedError(f"mode {r.attribute('mode')}")
    fill = r.attribute("value", 0.0) if value is None else float(r.weights(value, "value").reshape(-1)[0])
    if over is None or len(given) != 2 * len(over):
        raise UnsupportedError(f"pads {given} of (N, {', '.join(map(str, image.shape))})")
    sides = dict.fromkeys(range(rank), (0, 0))
    sides.update({axis % rank: (given[i], given[i + len(over)]) for i, axis in enumerate(over)})
    if not any(n for side in sides.values() for n in side):
        return image
    if rank != 4 or fill or any(sides[0]) or any(sides[1]):
        raise UnsupportedError("padding of other axes than height and width, or by other numbers than 0")
    for axis in (2, 3):  # negative ones crop
        before, after = sides[axis]
        image = sliced(r, image, axis - 1, max(0, -before), image.shape[axis - 1] - max(0, -after))
    around = tuple((max(0, before), max(0, after)) for before, after in (sides[2], sides[3]))
    if not any(n for side in around for n in side):
        return image
    return r.nchw(r.record(nl.ZeroPad2D(around), r.image(image)))


def _resize(r: "Reader", x: Item, *inputs: Item) -> Item:
    """Enlarge by integer factors, or keep every second, third … pixel."""
    value = r.value(x)
    if len(value.shape) != 3 or r.attribute("axes") is not None:
        raise UnsupportedError(f"images of (N, {', '.join(map(str, value.shape))}) along some axes")
    scales = inputs[0] if len(inputs) == 1 else inputs[1] if len(inputs) > 1 else None
    sizes = inputs[2] if len(inputs) > 2 else None
    have = [1, *value.shape]
    if sizes is not None:
        wanted = [1, *(r.integers(sizes, "sizes") or [])[1:]]
        ratio = [a / b for a, b in zip(wanted, have, strict=True)] if len(wanted) == 4 else []
    else:
        ratio = (
            np.asarray(r.attribute("scales") if scales is None else r.weights(scales, "scales")).reshape(-1).tolist()
        )
        wanted = [math.floor(a * b) for a, b in zip(have, ratio, strict=False)]
    if len(ratio) != 4 or ratio[:2] != [1, 1]:
        raise UnsupportedError(f"scales {ratio}")
    mode = r.attribute("mode", "nearest")
    nearest = [_sources(r, have[i], wanted[i], ratio[i]) for i in (2, 3)]
    image = r.image(value)
    factors = wanted[2] // have[2] * (wanted[2] % have[2] == 0), wanted[3] // have[3] * (wanted[3] % have[3] == 0)
    if wanted[2:] == have[2:]:
        return value
    if mode == "nearest" and all(factors):  # noqa: SIM102
        if all((p == np.arange(len(p)) // f).all() for p, f in zip(nearest, factors, strict=True)):
            return r.nchw(r.record(nl.Upsample2D(factors), image))
    if mode == "nearest" and all(have[i] % wanted[i] == 0 for i in (2, 3)):
        steps = have[2] // wanted[2], have[3] // wanted[3]
        if all((p == np.arange(len(p)) * s).all() for p, s in zip(nearest, steps, strict=True)):
            return r.nchw(r.record(nl.MaxPool2D(1, stride=steps), image))
    half_pixel = r.attribute("coordinate_transformation_mode", "half_pixel").endswith("half_pixel")
    if mode == "linear" and all(factors) and half_pixel and min(wanted[2:]) > 1:
        return r.nchw(r.record(nl.Upsample2D(factors, "bilinear"), image))
    raise UnsupportedError(f"mode {mode} with scales {ratio}")


def _sources(r: "Reader", have: int, wanted: int, scale: float) -> Constant:
    """Return the pixel that each pixel of the result is nearest to."""
    if not 0 < wanted <= 1 << 16:
        raise UnsupportedError(f"{wanted} pixels")
    i = np.arange(wanted, dtype=np.float64)
    default = "half_pixel" if r.op.kind == "Resize" and r.opset >= 11 else "asymmetric"
    mode = r.attribute("coordinate_transformation_mode", default)
    if mode == "asymmetric":
        position = i / scale
    elif mode == "align_corners":
        position = i * (have - 1) / max(1, wanted - 1)
    elif mode in ("half_pixel", "pytorch_half_pixel", "half_pixel_symmetric"):
        position = (i + 0.5) / scale - 0.5
    else:
        raise UnsupportedError(f"coordinate_transformation_mode {mode}")
    rounding = r.attribute("nearest_mode", "round_prefer_floor" if r.opset >= 11 and r.op.kind == "Resize" else "floor")
    rounds: dict[str, Callable[[Any], Any]] = {
        "floor": np.floor,
        "ceil": np.ceil,
        "round_prefer_floor": lambda z: np.ceil(z - 0.5),
        "round_prefer_ceil": lambda z: np.floor(z + 0.5),
    }
    if rounding not in rounds:
        raise UnsupportedError(f"nearest_mode {rounding}")
    nearest: Constant = np.clip(rounds[rounding](position), 0, have - 1).astype(np.int64)
    return nearest


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


SHAPES: dict[str, Row] = {
    "Reshape": Row(_reshape),
    "Flatten": Row(_flatten),
    "Squeeze": Row(_squeeze),
    "Unsqueeze": Row(_unsqueeze),
    "Transpose": Row(_transpose),
    "Shape": Row(_shape),
    "Identity": Row(_same),
    "Dropout": Row(_dropout),
    "Cast": Row(_cast),
    "Expand": Row(_expand),
    "Slice": Row(_slice),
    "Split": Row(_split),
    "Gather": Row(_gather),
    "Concat": Row(_concat),
    "Pad": Row(_pad),
    "Resize": Row(_resize),
    "Upsample": Row(_resize),
    "DepthToSpace": Row(_depth_to_space),
    "SpaceToDepth": Row(_space_to_depth),
}
