"""The oracle of each layer by its op, from the layer's public fields, and of a whole graph. Everything in float64."""

import numpy as np
import reference as ref


def _conv2d(layer, x, w, b):
    return ref.conv2d(x, w, b, layer.stride, layer.padding, layer.dilation, layer.groups)


def _conv2d_gradients(dy, layer, x, w):
    return ref.conv2d_gradients(dy, x, w, layer.stride, layer.padding, layer.dilation, layer.groups)


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
    "average_pool2d": (ref.average_pool2d, ref.average_pool2d_gradient, _counted_windows),
    "global_average_pool2d": (ref.average_pool2d, ref.average_pool2d_gradient, _maximum),
}
ELEMENTWISE = {
    "relu": (ref.relu, ref.relu_gradient),
    "tanh": (ref.tanh, ref.tanh_gradient),
    "sigmoid": (ref.sigmoid, ref.sigmoid_gradient),
    "softmax": (ref.softmax, ref.softmax_gradient),
}


def forward(layer, xs, parameters):
    """y of a layer on inputs ``xs``; ``parameters`` by their short names."""
    x = xs[0]
    if layer.op in ELEMENTWISE:
        return ELEMENTWISE[layer.op][0](x)
    if layer.op in POOLS:
        function, _, arguments = POOLS[layer.op]
        y = function(x, *arguments(layer, x))
        return y[:, 0, 0] if layer.op.startswith("global") and not layer.keep_dimensions else y
    if layer.op == "conv2d":
        return _conv2d(layer, x, parameters["weight"], parameters.get("bias"))
    if layer.op == "dense":
        return ref.dense(x, parameters["weight"], parameters.get("bias"))
    if layer.op == "flatten":
        return x.reshape(len(x), -1)
    assert layer.op == "add", f"tests/oracles.py has no oracle for {layer.op}"
    return sum(xs)


def gradients(dy, layer, xs, parameters):
    """([dx of each input], {name: gradient}) of a layer."""
    x = xs[0]
    if layer.op in ELEMENTWISE:
        return [ELEMENTWISE[layer.op][1](dy, x)], {}
    if layer.op in POOLS:
        _, function, arguments = POOLS[layer.op]
        image = dy[:, None, None] if dy.ndim == 2 else dy
        return [function(image, x, *arguments(layer, x))], {}
    if layer.op in ("conv2d", "dense"):
        w = parameters["weight"]
        dx, dw, db = _conv2d_gradients(dy, layer, x, w) if layer.op == "conv2d" else ref.dense_gradients(dy, x, w)
        return [dx], {"weight": dw, "bias": db} if "bias" in parameters else {"weight": dw}
    if layer.op == "flatten":
        return [dy.reshape(x.shape)], {}
    assert layer.op == "add", f"tests/oracles.py has no oracle for {layer.op}"
    return [dy] * len(xs), {}


# -- whole graphs -----------------------------------------------------------------------------------------------------


def graph_forward(graph, xs, parameters):
    """Every value of a graph, inputs first; ``parameters`` as ``model.parameters``."""
    values = [np.asarray(x, np.float64) for x in xs]
    for node in graph.nodes:
        values.append(forward(node.layer, [values[i] for i in node.inputs], _own(node, parameters)))
    return values


def graph_gradients(graph, values, dys, parameters):
    """([gradient of each input], {name: gradient}); a value's gradient is the sum over all that read it."""
    totals = [np.zeros(value.shape) for value in values]
    for value, dy in zip(graph.training_outputs, dys, strict=True):
        totals[value] += dy
    by_name = {}
    for i, node in reversed(list(enumerate(graph.nodes))):
        xs = [values[x] for x in node.inputs]
        dxs, own = gradients(totals[graph.value(i)], node.layer, xs, _own(node, parameters))
        for x, dx in zip(node.inputs, dxs, strict=True):
            totals[x] += dx
        by_name |= {f"{node.name}.{name}": gradient for name, gradient in own.items()}
    return totals[: len(graph.input_shapes)], by_name


def _own(node, parameters):
    names = node.layer.parameters(node.input_shapes)
    return {name: np.asarray(parameters[f"{node.name}.{name}"], np.float64) for name in names}
