"""Converters of ONNX's operators that move elements: shapes, slices, concatenation."""

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from numbacnn import layers as nl
from numbacnn.onnx.broadcasting import expanded, with_shape
from numbacnn.onnx.layout import Layout
from numbacnn.onnx.values import Constant, Item, Row, UnsupportedError, Value

if TYPE_CHECKING:
    from numbacnn.onnx.reader import Reader

MAX_REPEATS = 64

# -- shapes -----------------------------------------------------------------------------------------------------------


def _reshape(r: "Reader", x: Item, shape: Item = None) -> Value:
    value, target = r.value(x), list(r.integers(shape, "shape") or [])
    sizes, count = [*[r.batch] * r.leading, *value.shape], prod(value.shape)
    if r.leading and not target:
        raise UnsupportedError("a reshape to a single number")
    if not r.attribute("allowzero", 0):
        if any(size == 0 and i >= len(sizes) for i, size in enumerate(target)):
            raise UnsupportedError(f"a shape {target} with a zero beyond the input's")
        target = [sizes[i] if size == 0 else size for i, size in enumerate(target)]
    rest = target[r.leading :]
    if any(size not in (r.batch, -1) for size in target[: r.leading]) or target.count(-1) > 1:
        raise UnsupportedError(f"shape {target} of {r.shown(value)}, which mixes images of a batch")
    known = prod(size for size in rest if size != -1)
    if -1 in rest and known and count % known == 0:
        rest[rest.index(-1)] = count // known
    if prod(rest) != count or min(rest, default=1) < 1:
        raise UnsupportedError(f"shape {target} of {r.shown(value)}")
    return with_shape(r, value, tuple(rest))


def _flatten(r: "Reader", x: Item) -> Value:
    value, axis = r.value(x), int(r.attribute("axis", 1))
    axis += r.rank(value) * (axis < 0)
    if not r.leading and 0 <= axis <= len(value.shape):
        return with_shape(r, value, (prod(value.shape[:axis]), prod(value.shape[axis:])))
    if axis < 1 or prod(value.shape[: axis - 1]) != 1:
        raise UnsupportedError(f"axis {axis}, which joins the batch with others")
    return with_shape(r, value, (prod(value.shape),))


def _squeeze(r: "Reader", x: Item, axes: Item = None) -> Value:
    value, given = r.value(x), r.integers(axes, "axes")
    dropped = {r.axis(axis, value) for axis in given} if given is not None else set(range(len(value.shape)))
    kept = [size for i, size in enumerate(value.shape) if i not in dropped or (given is None and size != 1)]
    if prod(kept) != prod(value.shape):
        raise UnsupportedError(f"axes {given} of {r.shown(value)}")
    return with_shape(r, value, tuple(kept))


def _unsqueeze(r: "Reader", x: Item, axes: Item = None) -> Value:
    value, given = r.value(x), r.integers(axes, "axes") or []
    rank = r.rank(value) + len(given)
    inserted = sorted(axis % rank for axis in given if -rank <= axis < rank)
    if not inserted or inserted[0] < r.leading or len(set(inserted)) != len(given) or rank > 9:
        raise UnsupportedError(f"axes {given}, one of which is before the batch")
    shape = list(value.shape)
    for position in inserted:
        shape.insert(position - r.leading, 1)
    return with_shape(r, value, tuple(shape))


def _transpose(r: "Reader", x: Item) -> Value:
    value = r.value(x)
    order = list(r.attribute("perm") or range(r.rank(value))[::-1])
    if sorted(order) != list(range(r.rank(value))) or order[: r.leading] != [0] * r.leading:
        raise UnsupportedError(f"perm {order}, which moves the batch")
    return Value(r.tensor(value), value.layout.transposed(tuple(i - r.leading for i in order[r.leading :])))


def _shape(r: "Reader", x: Item) -> Constant:
    sizes = np.array([*[r.batch] * r.leading, *r.value(x).shape], np.int64)
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
    wanted, rank = [max(1, size) for size in target], r.rank(value)
    wanted = [1] * (rank - len(wanted)) + wanted
    if r.leading and (len(wanted) > rank or wanted[0] not in (1, r.batch)):
        raise UnsupportedError(f"shape {target} of {r.shown(value)}, which repeats images of a batch")
    return expanded(r, value, tuple(wanted[r.leading :]))


def _tile(r: "Reader", x: Item, repeats: Item) -> Item:
    value, counts = r.value(x), r.integers(repeats, "repeats") or []
    if len(counts) != r.rank(value) or counts[: r.leading] != [1] * r.leading or not 0 < max(counts) <= MAX_REPEATS:
        raise UnsupportedError(f"repeats {counts} of {r.shown(value)}")
    for axis, count in enumerate(counts[r.leading :]):
        value = joined(r, [value] * count, axis)
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
        if r.leading and axis % r.rank(value) == 0 and start == 0 and stop >= r.batch and by == 1:
            continue
        index = r.axis(axis, value)
        if by == 0:
            raise UnsupportedError("a step of 0")
        start, stop, _ = slice(start, stop, by).indices(value.shape[index])
        if len(range(start, stop, by)) == 0:
            raise UnsupportedError(f"elements {start} to {stop} with step {by}")
        if by < 0:
            value = _chosen(r, value, index, np.arange(start, stop, by))
            continue
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
    if given.size == 0 or given.ndim > 4 or not np.issubdtype(given.dtype, np.integer):
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
    return y if given.ndim == 1 else with_shape(r, y, (*y.shape[:axis], *given.shape, *y.shape[axis + 1 :]))


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
    return joined(r, values, axis)


def joined(r: "Reader", values: list[Value], axis: int) -> Value:
    """Concatenate values along an axis."""
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
    "Tile": Row(_tile),
    "Slice": Row(_slice),
    "Split": Row(_split),
    "Gather": Row(_gather),
    "Concat": Row(_concat),
}
