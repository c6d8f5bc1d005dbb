"""The oracle of each layer by its op, from the layer's public fields, and of a whole graph. Everything in float64.

``arrays`` are a layer's parameters and state by their short names; ``key`` is (seed, step, stream), from which training
draws random numbers, or None for inference.
"""

import zlib

import numpy as np
import reference as ref


def _conv2d(layer, x, w, b):
    return ref.conv2d(x, w, b, layer.stride, layer.padding, layer.dilation, layer.groups)


def _conv2d_gradients(dy, layer, x, w):
    return ref.conv2d_gradients(dy, x, w, layer.stride, layer.padding, layer.dilation, layer.groups)


def _conv2d_transpose(layer, x, w, b):
    return ref.conv2d_transpose(x, w, b, *_transposed(layer, x))


def _conv2d_transpose_gradients(dy, layer, x, w):
    _, *options = _transposed(layer, x)
    return ref.conv2d_transpose_gradients(dy, x, w, *options)


def _transposed(layer, x):
    """Size of the output, stride, padding, dilation and groups."""
    windows = layer.kernel_size, layer.stride, layer.dilation
    enlarged = tuple(n * step for n, step in zip(x.shape[1:3], layer.stride, strict=True))
    padding = ref.sides(enlarged, layer.kernel_size, layer.stride, layer.dilation, layer.padding)
    size = [
        (n - 1) * step + spread * (extent - 1) + 1 - sum(cut) + extra
        for n, extent, step, spread, cut, extra in zip(
            x.shape[1:3], *windows, padding, layer.output_padding, strict=True
        )
    ]
    return enlarged if layer.padding == "same" else tuple(size), layer.stride, padding, layer.dilation, layer.groups


def _depthwise(layer, x, w, b):
    return ref.conv2d(x, w, b, layer.stride, layer.padding, layer.dilation, x.shape[3])


def _depthwise_gradients(dy, layer, x, w):
    return ref.conv2d_gradients(dy, x, w, layer.stride, layer.padding, layer.dilation, x.shape[3])


def _dense(layer, x, w, b):
    return ref.dense(x, w, b)


def _dense_gradients(dy, layer, x, w):
    return ref.dense_gradients(dy, x, w)


def _maximum(layer, x):
    return x.shape[1:3], x.shape[1:3], "valid", False


def _windows(layer, x):
    return layer.pool_size, layer.stride, layer.padding, layer.ceil_mode


def _counted_windows(layer, x):
    return *_windows(layer, x), layer.count_include_pad


# op → y of (layer, x), dx of (dy, layer, x); the arguments of pools as the last entry gives them
POOLS = {
    "max_pool2d": (ref.max_pool2d, ref.max_pool2d_gradient, _windows),
    "global_max_pool2d": (ref.max_pool2d, ref.max_pool2d_gradient, _maximum),
    "avg_pool2d": (ref.avg_pool2d, ref.avg_pool2d_gradient, _counted_windows),
    "global_avg_pool2d": (ref.avg_pool2d, ref.avg_pool2d_gradient, _maximum),
}
# op → y of (layer, x, weight, bias); dx, dweight, dbias of (dy, layer, x, weight)
WEIGHTED = {
    "conv2d": (_conv2d, _conv2d_gradients),
    "depthwise_conv2d": (_depthwise, _depthwise_gradients),
    "conv2d_transpose": (_conv2d_transpose, _conv2d_transpose_gradients),
    "dense": (_dense, _dense_gradients),
}
# op → y of (x, …), dx of (dy, x, …), the layer's fields that both take last
ONE_INPUT = {
    "relu": (ref.relu, ref.relu_gradient, ()),
    "relu6": (ref.relu6, ref.relu6_gradient, ()),
    "leaky_relu": (ref.leaky_relu, ref.leaky_relu_gradient, ("slope",)),
    "elu": (ref.elu, ref.elu_gradient, ("alpha",)),
    "gelu": (ref.gelu, ref.gelu_gradient, ("approximate",)),
    "silu": (ref.silu, ref.silu_gradient, ()),
    "hardswish": (ref.hardswish, ref.hardswish_gradient, ()),
    "hardsigmoid": (ref.hardsigmoid, ref.hardsigmoid_gradient, ()),
    "tanh": (ref.tanh, ref.tanh_gradient, ()),
    "sigmoid": (ref.sigmoid, ref.sigmoid_gradient, ()),
    "softmax": (ref.softmax, ref.softmax_gradient, ()),
    "adaptive_avg_pool2d": (ref.adaptive_pool2d, ref.adaptive_avg_pool2d_gradient, ("output_size",)),
    "adaptive_max_pool2d": (
        lambda x, output_size: ref.adaptive_pool2d(x, output_size, largest=True),
        ref.adaptive_max_pool2d_gradient,
        ("output_size",),
    ),
    "upsample2d": (ref.upsample2d, ref.upsample2d_gradient, ("factor", "mode")),
    "zero_pad2d": (ref.zero_pad2d, ref.zero_pad2d_gradient, ("padding",)),
}
DROPOUTS = {"dropout": ref.dropout, "spatial_dropout": ref.spatial_dropout}  # y of (x, rate, key)


def _fields(layer):
    return [getattr(layer, name) for name in ONE_INPUT[layer.op][2]]


def _product_gradient(dy, x, other):
    """The gradient of x in x · other: summed over the pixels where x is a gate."""
    product = dy * other
    return product if x.shape == dy.shape else product.sum((1, 2)).reshape(x.shape)


def _as_images(xs):
    """Features (n, c) beside images as N×1×1×C."""
    return [x[:, None, None] if x.ndim == 2 and max(other.ndim for other in xs) == 4 else x for x in xs]


def _local(layer):
    return layer.size, layer.alpha, layer.beta, layer.k


def forward(layer, xs, arrays, key=None):
    """y of a layer on inputs ``xs``."""
    x = xs[0]
    if layer.op in ONE_INPUT:
        return ONE_INPUT[layer.op][0](x, *_fields(layer))
    if layer.op in POOLS:
        function, _, arguments = POOLS[layer.op]
        y = function(x, *arguments(layer, x))
        return y[:, 0, 0] if layer.op.startswith("global") and not layer.keepdims else y
    if layer.op in WEIGHTED:
        return WEIGHTED[layer.op][0](layer, x, arrays["weight"], arrays.get("bias"))
    if layer.op == "batch_norm" and key is None:
        running = arrays["running_mean"], arrays["running_var"]
        return ref.batch_norm_inference(x, arrays["weight"], arrays["bias"], *running, layer.eps)
    if layer.op == "batch_norm":
        return ref.batch_norm(x, arrays["weight"], arrays["bias"], layer.eps)
    if layer.op == "group_norm":
        return ref.group_norm(x, arrays["weight"], arrays["bias"], layer.groups, layer.eps)
    if layer.op == "local_response_norm":
        return ref.local_response_norm(x, *_local(layer))
    if layer.op in DROPOUTS:
        return x if key is None else DROPOUTS[layer.op](x, layer.rate, key)
    if layer.op == "prelu":
        return ref.prelu(x, arrays["weight"])
    if layer.op == "flatten":
        return x.reshape(len(x), -1)
    if layer.op == "reshape":
        return x.reshape(len(x), *layer.shape)
    if layer.op == "concat":
        return np.concatenate(xs, -1)
    if layer.op == "multiply":
        a, b = _as_images(xs)
        return a * b
    assert layer.op == "add", f"tests/oracles.py has no oracle for {layer.op}"
    return sum(xs)


def gradients(dy, layer, xs, arrays, key=None):
    """([dx of each input], {name: gradient}) of a layer in training."""
    x = xs[0]
    if layer.op in ONE_INPUT:
        return [ONE_INPUT[layer.op][1](dy, x, *_fields(layer))], {}
    if layer.op in POOLS:
        _, function, arguments = POOLS[layer.op]
        image = dy[:, None, None] if dy.ndim == 2 else dy
        return [function(image, x, *arguments(layer, x))], {}
    if layer.op in WEIGHTED:
        dx, dw, db = WEIGHTED[layer.op][1](dy, layer, x, arrays["weight"])
        return [dx], {"weight": dw, "bias": db} if "bias" in arrays else {"weight": dw}
    if layer.op == "batch_norm":
        dx, dw, db = ref.batch_norm_gradients(dy, x, arrays["weight"], layer.eps)
        return [dx], {"weight": dw, "bias": db}
    if layer.op == "group_norm":
        dx, dw, db = ref.group_norm_gradients(dy, x, arrays["weight"], layer.groups, layer.eps)
        return [dx], {"weight": dw, "bias": db}
    if layer.op == "local_response_norm":
        return [ref.local_response_norm_gradient(dy, x, *_local(layer))], {}
    if layer.op in DROPOUTS:
        return [DROPOUTS[layer.op](dy, layer.rate, key)], {}  # linear: the mask is its own gradient
    if layer.op == "prelu":
        dx, dw = ref.prelu_gradients(dy, x, arrays["weight"])
        return [dx], {"weight": dw}
    if layer.op in ("flatten", "reshape"):
        return [dy.reshape(x.shape)], {}
    if layer.op == "concat":
        return np.split(dy, np.cumsum([x.shape[-1] for x in xs])[:-1], -1), {}
    if layer.op == "multiply":
        return [_product_gradient(dy, x, other) for x, other in zip(xs, _as_images(xs)[::-1], strict=True)], {}
    assert layer.op == "add", f"tests/oracles.py has no oracle for {layer.op}"
    return [dy] * len(xs), {}


# -- whole graphs -----------------------------------------------------------------------------------------------------


def graph_forward(graph, xs, arrays, key=None):
    """Every value of a graph, inputs first; ``arrays``: parameters and state by full names; key: (seed, step)."""
    values = [np.asarray(x, np.float64) for x in xs]
    for node in graph.nodes:
        xs = [values[i] for i in node.inputs]
        values.append(forward(node.layer, xs, custom_arrays(node, arrays), key and node_key(node, key)))
    return values


def graph_gradients(graph, values, dys, arrays, key):
    """([gradient of each input], {name: gradient}); a value's gradient is the sum over all that read it."""
    totals = [np.zeros(value.shape) for value in values]
    for value, dy in zip(graph.training_outputs, dys, strict=True):
        totals[value] += dy
    by_name = {}
    for i, node in reversed(list(enumerate(graph.nodes))):
        xs = [values[x] for x in node.inputs]
        dy, own = totals[graph.value(i)], custom_arrays(node, arrays)
        dxs, own = gradients(dy, node.layer, xs, own, node_key(node, key))
        for x, dx in zip(node.inputs, dxs, strict=True):
            totals[x] += dx
        by_name |= {f"{node.name}.{name}": gradient for name, gradient in own.items()}
    return totals[: len(graph.input_shapes)], by_name


def custom_arrays(node, arrays):
    """A node's parameters and state by their short names, in float64."""
    names = [*node.layer.parameters(node.input_shapes), *node.layer.state(node.input_shapes)]
    return {name: np.asarray(arrays[f"{node.name}.{name}"], np.float64) for name in names}


def node_key(node, key):
    """(seed, step) with the stream of the node's own."""
    return *key, zlib.crc32(node.name.encode())
