"""Operators of random graphs over windows and axes: functions that draw one into a ``Drawing``."""

import numpy as np

F = np.float32


# -- windows ----------------------------------------------------------------------------------------------------------


def _windows(d, rank, pads=True, dilations=True):
    """Attributes of windows over axes, and their sizes."""
    window = [d.one(1, 2, 3) for _ in range(rank)]
    attributes = {"kernel_shape": window}
    if d.often(0.7):
        attributes["strides"] = [d.one(1, 2, 3) for _ in range(rank)]
    if dilations and d.often(0.3):
        attributes["dilations"] = [d.one(1, 2) for _ in range(rank)]
    choice = d.random.random()
    if choice < 0.4 and pads:
        attributes["pads"] = [d.random.randrange(n) for n in window * 2]
    elif choice < 0.6:
        attributes["auto_pad"] = d.one("SAME_UPPER", "SAME_LOWER", "VALID", "NOTSET")
        strides = attributes.get("strides", [1] * rank)
        if attributes["auto_pad"].startswith("SAME") and any(n < by for n, by in zip(window, strides, strict=True)):
            raise LookupError  # the reference crops
    return attributes


def _groups(d, c):
    return d.one(1, 1, c, *(n for n in range(1, c + 1) if c % n == 0))


def conv(d):
    name, x = d.value(3, 4)
    c, groups = x.shape[1], _groups(d, x.shape[1])
    attributes = _windows(d, x.ndim - 2)
    k = groups * d.one(1, 2, 3)
    sources = [name, d.normal(k, c // groups, *attributes["kernel_shape"])]
    if d.often():
        sources.append(d.normal(k))
    if d.often():
        del attributes["kernel_shape"]
    d.add("Conv", sources, group=groups, **attributes)


def conv_transpose(d):
    name, x = d.value(3, 4)
    c, groups = x.shape[1], _groups(d, x.shape[1])
    attributes = _windows(d, x.ndim - 2)
    k = d.one(1, 2, 3)
    strides = attributes.get("strides", [1] * (x.ndim - 2))
    if d.often(0.3):
        attributes["output_padding"] = [d.random.randrange(stride) for stride in strides]
    if d.often(0.2):
        attributes.pop("pads", None)
        attributes["output_shape"] = [
            n * by + d.random.randrange(by) for n, by in zip(x.shape[2:], strides, strict=True)
        ]
    sources = [name, d.normal(c, k, *attributes["kernel_shape"])]
    if d.often():
        sources.append(d.normal(k * groups))
    d.add("ConvTranspose", sources, group=groups, **attributes)


def gemm(d):
    name, x = d.value(2)
    k, m = x.shape[1], d.one(1, 3, 6)
    transposed = d.one(0, 1)
    sources = [name, d.normal(m, k) if transposed else d.normal(k, m)]
    if d.often():
        sources.append(d.normal(*d.one((m,), (1, m), (1,), ())))
    scales = {"alpha": 0.5, "beta": 2.0} if d.often(0.3) else {}
    d.add("Gemm", sources, transB=transposed, **scales)


def matmul(d):
    name, x = d.value()
    k, m = x.shape[-1], d.one(1, 2, 5)
    shape = d.one((k, m), (k, m), (k,), (*x.shape[1:-2], k, m))
    d.add("MatMul", [name, d.normal(*shape)])


def pool(op):
    def drawn(d):
        name, x = d.value(3, 4)
        dilations = op == "MaxPool" or (op == "AveragePool" and d.opset >= 19) or (op == "LpPool" and d.opset >= 18)
        attributes = _windows(d, x.ndim - 2, dilations=dilations)
        if (op != "LpPool" and d.often(0.4)) or (op == "LpPool" and d.opset >= 18 and d.often(0.2)):
            attributes["ceil_mode"] = 1
        if op == "AveragePool" and d.often():
            attributes["count_include_pad"] = 1
        if op == "LpPool" and d.often():
            attributes["p"] = d.one(1, 2, 3)
        d.add(op, [name], **attributes)

    return drawn


# -- axes -------------------------------------------------------------------------------------------------------------


def reduction(op):
    def drawn(d):
        name, x = d.value(3, 4) if d.often(0.8) else d.value()
        axes = d.random.sample(range(1, x.ndim), d.random.randrange(1, x.ndim))
        axes = [axis - x.ndim if d.often() else axis for axis in axes]
        attributes = {"keepdims": d.one(0, 1)} if d.often(0.8) else {}
        if op in ("ReduceLogSum",):
            d.add("Abs", [name])
            name = list(d.values)[-1]
        if d.opset >= (13 if op == "ReduceSum" else 18):
            d.add(op, [name, d.integers(*axes)], **attributes)
        else:
            d.add(op, [name], axes=axes, **attributes)

    return drawn


def softmax(op):
    def drawn(d):
        name, x = d.value()
        d.add(op, [name], **({"axis": d.axis(x)} if d.often(0.7) else {}))

    return drawn


def whole(op, **attributes):
    """An operator of one input of three or four axes without attributes of its own."""
    return lambda d: d.add(op, [d.value(3, 4)[0]], **attributes)


# -- normalizations ---------------------------------------------------------------------------------------------------


def _positive(d, *shape):
    return d.constant(d.numbers.uniform(0.5, 2, shape).astype(F), 0)


def batch_norm(d):
    name, x = d.value()
    c = x.shape[1]
    sources = [name, d.normal(c), d.normal(c), d.normal(c), _positive(d, c)]
    d.add("BatchNormalization", sources, **({"epsilon": 1e-3} if d.often() else {}))


def instance_norm(d):
    name, x = d.value(3, 4)
    c = x.shape[1]
    d.add("InstanceNormalization", [name, d.normal(c), d.normal(c)])


def group_norm(d):
    name, x = d.value(3, 4)
    c = x.shape[1]
    groups = d.one(*(n for n in range(1, c + 1) if c % n == 0))
    count = c if d.opset >= 21 else groups
    if d.opset < 18:
        raise LookupError
    d.add("GroupNormalization", [name, d.normal(count), d.normal(count)], num_groups=groups)


def layer_norm(d):
    name, x = d.value()
    axis = d.axis(x)
    if d.opset < 17:
        raise LookupError
    sources = [name, d.normal(*x.shape[axis:])]
    if d.often(0.7):
        sources.append(d.normal(*x.shape[axis:]))
    d.add("LayerNormalization", sources, axis=axis)


def lp_norm(d):
    name, x = d.value()
    d.add("LpNormalization", [name], axis=d.axis(x), p=d.one(1, 2))


def mean_variance(d):
    name, x = d.value(4)
    axes = d.one([2, 3], [1, 2, 3], [2], [3], [1])
    if x.std(axis=tuple(axes)).min() < 1e-3:
        raise LookupError  # it divides rounding errors by almost nothing
    d.add("MeanVarianceNormalization", [name], axes=axes)


def lrn(d):
    d.add("LRN", [d.value(4)[0]], size=d.one(1, 3, 5), alpha=d.one(1e-4, 0.5), beta=0.75, bias=d.one(1.0, 2.0))


WINDOWS = {
    "Conv": conv, "ConvTranspose": conv_transpose, "Gemm": gemm, "MatMul": matmul,
    **{op: pool(op) for op in ("MaxPool", "AveragePool", "LpPool")},
    **{op: whole(op) for op in ("GlobalMaxPool", "GlobalAveragePool")},
    **{op: reduction(op) for op in ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceProd", "ReduceL1",
                                    "ReduceL2", "ReduceSumSquare", "ReduceLogSum", "ReduceLogSumExp")},
    **{op: softmax(op) for op in ("Softmax", "LogSoftmax")},
    "BatchNormalization": batch_norm, "InstanceNormalization": instance_norm, "GroupNormalization": group_norm,
    "LayerNormalization": layer_norm, "LpNormalization": lp_norm, "MeanVarianceNormalization": mean_variance,
    "LRN": lrn,
}  # fmt: skip
