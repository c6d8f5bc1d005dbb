"""The operators of random graphs: functions that draw one, with its attributes and constants, into a ``Drawing``."""

from math import prod

import numpy as np
from onnx import TensorProto
from random_windows import WINDOWS

F = np.float32


# -- elementwise ------------------------------------------------------------------------------------------------------


WHOLE = range(-100, 101)
STEPS = {"Floor": WHOLE, "Ceil": WHOLE, "Sign": (0,), "ThresholdedRelu": (0.3, 1), "Shrink": (-1, -0.5, 0.5, 1)}


def unary(op, since=0, positive=False, **choices):
    def drawn(d):
        if d.opset < since:
            raise LookupError
        name, _ = d.value()
        if positive:
            d.add("Abs", [name])
            name = list(d.values)[-1]
            d.add("Add", [name, d.constant(F(d.one(1, 0.5, 1e-3, 1e-6)))])
            name = list(d.values)[-1]
        attributes = {key: d.one(*options) for key, options in choices.items() if d.often(0.7)}
        if op in STEPS and any((np.abs(d.values[name] - step) < 1e-3).any() for step in STEPS[op]):
            raise LookupError  # rounding would decide
        d.add(op, [name], **attributes)

    return drawn


def _broadcastable(d, x):
    """A shape that broadcasts to that of x, with the batch as one or without it."""
    shape = [n if d.often(0.6) else 1 for n in x.shape[1:]]
    choice = d.random.random()
    if choice < 0.3:
        return ()
    if choice < 0.6:
        return tuple(shape)
    if choice < 0.8:
        return 1, *shape
    return tuple(shape[d.random.randrange(len(shape)) :])


NUMBERS = (0, 1, 3, 6, 0.5, -1, 2, 1e-6, 1e-7, 1 / 6, 12345.678, -0.25)


def binary(op):
    def drawn(d):
        name, x = d.value()
        choice = d.random.random()
        if choice < 0.3:
            others = [k for k, a in d.values.items() if a.shape == x.shape]
            other = d.random.choice(others)
            if op == "Div":
                d.add("Abs", [other])
                d.add("Add", [list(d.values)[-1], d.constant(F(0.5))])
                other = list(d.values)[-1]
        elif choice < 0.4:
            axis = d.random.randrange(1, x.ndim)
            d.add("ReduceMax", [name, d.integers(axis)] if d.opset >= 18 else [name],
                  **({} if d.opset >= 18 else {"axes": [axis]}))  # fmt: skip
            other = list(d.values)[-1]
            if op == "Div":
                raise LookupError
        elif choice < 0.6:
            other = d.constant(F(d.one(*NUMBERS)), 0)
        else:
            other = d.normal(*_broadcastable(d, x))
        if op == "Div" and other in d.arrays and (np.abs(d.arrays[other]) < 0.05).any():
            raise LookupError
        swapped = d.often() and not (op == "Div" and other in d.arrays)
        d.add(op, [other, name] if swapped else [name, other])

    return drawn


def several(op):
    def drawn(d):
        name, x = d.value()
        others = [k for k, a in d.values.items() if a.shape == x.shape]
        sources = [name, *(d.random.choice(others) for _ in range(d.random.randrange(3)))]
        if d.often(0.3):
            sources.insert(d.random.randrange(len(sources) + 1), d.normal(*_broadcastable(d, x)))
        d.add(op, sources)

    return drawn


def prelu(d):
    name, x = d.value()
    shape = d.one((x.shape[1], *[1] * (x.ndim - 2)), (1,), x.shape[1:])
    d.add("PRelu", [name, d.normal(*shape)])


def clip(d):
    name, _ = d.value()
    low, high = d.one((0, 6), (0, None), (None, 1), (-1, 1), (1e-6, None), (0, 1 - 1e-6), (-1000, 1000))
    bounds = ["" if bound is None else d.constant(F(bound), 0) for bound in (low, high)]
    d.add("Clip", [name, *(bounds if bounds[1] else bounds[:1])])


def power(d):
    name, x = d.value()
    exponent = d.one(2, 3, 1, 0.5, -1, 1.5)
    if exponent in (0.5, -1, 1.5):
        d.add("Abs", [name])
        d.add("Add", [list(d.values)[-1], d.constant(F(0.5))])
        name = list(d.values)[-1]
    exponents = F(exponent) if d.often(0.7) else d.numbers.integers(1, 4, x.shape[1:]).astype(F)
    d.add("Pow", [name, d.constant(exponents, 0)])


def composed(d):
    """An activation that is written as several operators, sometimes with a number that changes it."""
    name, _ = d.value()
    three, six, zero = (d.constant(F(n), 0) for n in (3, 6, d.one(0, 0, 1e-6)))
    last = lambda: list(d.values)[-1]  # noqa: E731
    kind = d.one("hardswish", "silu", "mish", "log")
    if kind == "hardswish":
        d.add("Add", [name, three])
        d.add("Clip", [last(), zero, six])
        d.add("Div", [last(), six])
        d.add("Mul", [name, last()])
    elif kind == "silu":
        d.add("Sigmoid", [name])
        d.add("Mul", [last(), name])
    elif kind == "mish":
        d.add("Softplus", [name])
        d.add("Tanh", [last()])
        d.add("Mul", [name, last()])
    else:
        d.add(d.one("Relu", "Sigmoid", "HardSigmoid"), [name])
        d.add("Add", [last(), d.constant(F(d.one(1e-6, 1e-7, 1e-5, 1)), 0)])
        d.add(d.one("Log", "Sqrt"), [last()])


# -- shapes -----------------------------------------------------------------------------------------------------------


def reshape(d):
    name, x = d.value()
    count = prod(x.shape[1:])
    factors = [n for n in range(1, count + 1) if count % n == 0]
    shape, left = [], count
    for _ in range(d.random.randrange(3)):
        shape.append(d.one(*(n for n in factors if left % n == 0)))
        left //= shape[-1]
    shape = [*shape, left]
    if d.often():
        shape[d.random.randrange(len(shape))] = -1
        batch = 0
    else:
        batch = d.one(0, -1)
    d.add("Reshape", [name, d.integers(batch, *shape)])


def flatten(d):
    name, x = d.value()
    d.add("Flatten", [name], **({"axis": d.one(1, 1 - x.ndim)} if d.often() else {}))


def squeeze(d):
    name, x = d.value()
    axes = [axis for axis in range(1, x.ndim) if x.shape[axis] == 1]
    axes = [
        axis - x.ndim if d.often() else axis for axis in d.random.sample(axes, d.random.randrange(1, len(axes) + 1))
    ]
    if d.opset >= 13:
        d.add("Squeeze", [name, d.integers(*axes)])
    else:
        d.add("Squeeze", [name], axes=axes)


def unsqueeze(d):
    name, x = d.value(2, 3, 4)
    axis = d.random.randrange(1, x.ndim + 1)
    axis = axis - x.ndim - 1 if d.often() else axis
    if d.opset >= 13:
        d.add("Unsqueeze", [name, d.integers(axis)])
    else:
        d.add("Unsqueeze", [name], axes=[axis])


def transpose(d):
    name, x = d.value()
    order = d.random.sample(range(1, x.ndim), x.ndim - 1)
    d.add("Transpose", [name], perm=[0, *order])


def cast(d):
    d.add("Cast", [d.value()[0]], to=TensorProto.FLOAT)


def expand(d):
    name, x = d.value()
    shape = [1, *(d.one(1, n) if n > 1 else d.one(1, 3) for n in x.shape[1:])]
    d.add("Expand", [name, d.integers(*shape)])


def tile(d):
    name, x = d.value()
    d.add("Tile", [name, d.integers(1, *(d.one(1, 1, 2) for _ in x.shape[1:]))])


def slicing(d):
    name, x = d.value()
    axis = d.axis(x)
    n = x.shape[axis]
    start, step = d.random.randrange(-n, n), d.one(1, 1, 2, -1, -2)
    end = d.one(n, 2**31 - 1, 2**63 - 1, -1, d.random.randrange(n) + 1)
    if step < 0:
        end = d.one(-(2**31), -n - 1, 0)
    parts = [d.integers(start), d.integers(end), d.integers(axis)]
    d.add("Slice", [name, *parts, *([d.integers(step)] if step != 1 or d.often() else [])])


def split(d):
    name, x = d.value()
    axis = d.axis(x)
    n = x.shape[axis]
    first = d.random.randrange(1, n)
    sizes = [first, n - first]
    if d.opset >= 13:
        if d.opset >= 18 and d.often(0.4):
            d.add("Split", [name], 2, axis=axis, num_outputs=2)
        else:
            d.add("Split", [name, d.integers(*sizes)], 2, axis=axis)
    else:
        d.add("Split", [name], 2, axis=axis, split=sizes)


def gather(d):
    name, x = d.value()
    axis = d.axis(x)
    n = x.shape[axis]
    indices = d.one(
        np.int64(0),
        np.int64(-1),
        np.arange(n)[::-1].copy(),
        d.numbers.integers(-n, n, 3),
        d.numbers.integers(0, n, (2, 2)),
        np.array([n - 1]),
    )
    d.add("Gather", [name, d.constant(np.asarray(indices, np.int64))], axis=axis)


def concat(d):
    name, x = d.value()
    axis = d.axis(x)
    cut = lambda a: (*a.shape[: axis % x.ndim], *a.shape[axis % x.ndim + 1 :])  # noqa: E731
    others = [k for k, a in d.values.items() if a.ndim == x.ndim and cut(a) == cut(x)]
    d.add("Concat", [name, *(d.random.choice(others) for _ in range(d.one(1, 2)))], axis=axis)


# -- pixels -----------------------------------------------------------------------------------------------------------


def pad(d):
    name, x = d.value(3, 4) if d.often(0.8) else d.value()
    modes = ["constant", "reflect", "edge", *(["wrap"] if d.opset >= 19 else [])]
    mode = d.one(*modes)
    sides = [[0] + [d.one(0, 0, 1, 2) for _ in x.shape[1:]] for _ in range(2)]
    if mode == "constant" and d.often(0.2):
        sides[0][-1] = -1
    sources = [name, d.integers(*sides[0], *sides[1])]
    if mode == "constant" and d.often():
        sources.append(d.constant(F(d.one(0, 1.5, -1000)), 0))
    d.add("Pad", sources, mode=mode)


def center(d):
    name, _ = d.value(4)
    if d.opset < 18:
        raise LookupError
    d.add("CenterCropPad", [name, d.integers(d.one(2, 3, 6, 7), d.one(2, 3, 6, 7))], axes=[2, 3])


def resize(d):
    name, x = d.value(4)
    mode = d.one("nearest", "linear")
    modes = ["half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners"]
    attributes = {"mode": mode, "coordinate_transformation_mode": d.one(*modes)}
    if mode == "nearest" and d.often(0.8):
        attributes["nearest_mode"] = d.one("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    roi = "" if d.opset >= 13 else d.constant(np.zeros(0, F), 0)
    if d.often():
        scales = [1, 1, *(d.one(1, 2, 3, 0.5, 1.5, 2.4, 0.4, 0.6, 1.3) for _ in range(2))]
        d.add("Resize", [name, roi, d.constant(np.array(scales, F), 0)], **attributes)
    else:
        sizes = [*x.shape[:2], *(d.one(1, 2, 3, 5, 8, n) for n in x.shape[2:])]
        empty = "" if d.opset >= 13 else d.constant(np.zeros(0, F), 0)
        d.add("Resize", [name, roi, empty, d.integers(*sizes)], **attributes)


def depth_to_space(d):
    d.add("DepthToSpace", [d.value(4)[0]], blocksize=d.one(1, 2), mode=d.one("DCR", "CRD"))


def space_to_depth(d):
    d.add("SpaceToDepth", [d.value(4)[0]], blocksize=d.one(1, 2))


KINDS = {
    **WINDOWS,
    **{op: unary(op) for op in ("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Erf", "Exp", "Floor", "Ceil", "Sign",
                                "Softplus", "Softsign", "Identity", "Dropout")},
    **{op: unary(op, positive=True) for op in ("Log", "Sqrt", "Reciprocal")},
    "Mish": unary("Mish", 18), "HardSwish": unary("HardSwish", 14),
    "Gelu": unary("Gelu", 20, approximate=("none", "tanh")),
    "HardSigmoid": unary("HardSigmoid", alpha=(0.2, 1 / 6, 0.5), beta=(0.5, 0.1)),
    "LeakyRelu": unary("LeakyRelu", alpha=(0.01, 0.3, -0.5, 0.0)), "Elu": unary("Elu", alpha=(1.0, 0.5)),
    "Selu": unary("Selu"), "Celu": unary("Celu", 12, alpha=(1.0, 2.0)),
    "ThresholdedRelu": unary("ThresholdedRelu", alpha=(1.0, 0.3)),
    "Shrink": unary("Shrink", bias=(0.0, 0.3), lambd=(0.5, 1.0)),
    "PRelu": prelu, "Clip": clip, "Pow": power, "composed": composed,
    **{op: binary(op) for op in ("Add", "Sub", "Mul", "Div", "Max", "Min")},
    **{f"{op} of several": several(op) for op in ("Sum", "Mean", "Max", "Min")},
    "Reshape": reshape, "Flatten": flatten, "Squeeze": squeeze, "Unsqueeze": unsqueeze, "Transpose": transpose,
    "Cast": cast, "Expand": expand, "Tile": tile, "Slice": slicing, "Split": split, "Gather": gather, "Concat": concat,
    "Pad": pad, "CenterCropPad": center, "Resize": resize, "DepthToSpace": depth_to_space,
    "SpaceToDepth": space_to_depth,
}  # fmt: skip
"""Operators by name, each a function that draws one into a graph."""
