"""The oracle: layers and whole graphs on the reference kernels, in float64, one layer after the other.

It shares neither plan nor executor with the engine: nothing is fused, no memory is used twice, no halo is read.
``arrays`` are a layer's parameters and state by their short names; ``key`` is (seed, step, stream), from which training
draws random numbers, or None for inference.
"""

import zlib

import numpy as np

from numbacnn.kernels.reference import launchers, sizes
from numbacnn.layers.bindings import Bindings


class Call:
    """A layer's forward and backward on inputs ``xs`` of n images each; what forward saves is kept for backward."""

    def __init__(self, layer, xs, arrays, key):
        self.layer, self.shapes, n = layer, [x.shape[1:] for x in xs], len(xs[0])
        self.geometry = layer.geometry(self.shapes)
        self.y_shape = layer.output_shape(self.shapes)
        seed, step, stream = key or (0, 0, 0)
        y = np.full((n, *image_shape(self.y_shape)), np.nan)
        self.t = Bindings(
            [as_images(x.astype(np.float64)) for x in xs], y, np.empty(0), [],
            training=key is not None, random=np.array([seed, step], np.uint64), stream=np.uint64(stream),
            algorithms=layer.algorithms(sizes, self.geometry, ("forward", "weight", "input")),
            arrays={name: np.array(array, np.float64) for name, array in arrays.items()}
            | {name: np.zeros(spec.shape) for name, spec in layer.scratch(sizes, self.geometry, n).items()},
        )  # fmt: skip
        layer.forward(launchers, self.t, self.geometry)
        self.y = self.t.y.reshape(n, *self.y_shape)

    def gradients(self, dy):
        """([dx of each input], {name: gradient})."""
        t, n = self.t, len(dy)
        t.dy = as_images(dy.reshape(n, *self.y_shape).astype(np.float64))
        t.dxs = [np.full(x.shape, np.nan) for x in t.xs]
        if self.layer.in_place_gradient:
            t.dxs = [t.dy]
        names = list(self.layer.parameters(self.shapes))
        t.arrays |= {f"d_{name}": np.full(t.arrays[name].shape, np.nan) for name in names}
        self.layer.backward(launchers, t, self.geometry)
        dxs = [dx.reshape(n, *shape) for dx, shape in zip(t.dxs, self.shapes, strict=True)]
        return dxs, {name: t.arrays[f"d_{name}"] for name in names}


def image_shape(shape):
    """Features (c,) are images of one pixel."""
    return shape if len(shape) == 3 else (1, 1, *shape)


def as_images(x):
    return x.reshape(len(x), *image_shape(x.shape[1:]))


def forward(layer, xs, arrays, key=None):
    """y of a layer on inputs ``xs``."""
    return Call(layer, xs, arrays, key).y


def gradients(dy, layer, xs, arrays, key):
    """([dx of each input], {name: gradient}) of a layer in training."""
    return Call(layer, xs, arrays, key).gradients(dy)


# -- whole graphs -----------------------------------------------------------------------------------------------------


def graph_calls(graph, xs, arrays, key=None):
    """(the values of a graph, inputs first; the calls that made the others). key: (seed, step)."""
    values, calls = [np.asarray(x, np.float64) for x in xs], []
    for node in graph.nodes:
        key_of_node = key and node_key(node, key)
        calls.append(Call(node.layer, [values[i] for i in node.inputs], custom_arrays(node, arrays), key_of_node))
        values.append(calls[-1].y)
    return values, calls


def graph_forward(graph, xs, arrays, key=None):
    """Every value of a graph, inputs first; ``arrays``: parameters and state by full names; key: (seed, step)."""
    return graph_calls(graph, xs, arrays, key)[0]


def graph_gradients(graph, values, calls, dys):
    """([gradient of each input], {name: gradient}); a value's gradient is the sum over all that read it."""
    totals = [np.zeros(value.shape) for value in values]
    for value, dy in zip(graph.training_outputs, dys, strict=True):
        totals[value] += dy
    by_name = {}
    for i, node in reversed(list(enumerate(graph.nodes))):
        dxs, by_short_name = calls[i].gradients(totals[graph.value(i)])
        for x, dx in zip(node.inputs, dxs, strict=True):
            totals[x] += dx
        by_name |= {f"{node.name}.{name}": gradient for name, gradient in by_short_name.items()}
    return totals[: len(graph.input_shapes)], by_name


def custom_arrays(node, arrays):
    """A node's parameters and state by their short names, in float64."""
    names = [*node.layer.parameters(node.input_shapes), *node.layer.state(node.input_shapes)]
    return {name: np.asarray(arrays[f"{node.name}.{name}"], np.float64) for name in names}


def node_key(node, key):
    """(seed, step) with the node's own stream."""
    return *key, zlib.crc32(node.name.encode())
