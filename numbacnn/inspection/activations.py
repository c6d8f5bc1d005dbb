"""Looking into a model: what its layers compute, and how much a class depends on it.

A part of the model's graph, with other inputs or outputs, is planned by itself and runs on the model's own parameters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import choose
from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError

Float32 = NDArray[np.float32]
PROBABILITY_OPS = ("softmax", "sigmoid")


def layer_value(graph: Graph, name: str) -> int:
    """The value that the layer of this name computes. Raises ArgumentError, with the nearest name, where none does."""
    return choose("layer", name, {node.name: graph.value(i) for i, node in enumerate(graph.nodes)})


def score_value(graph: Graph) -> int:
    """The value of a classifier's scores: its first output, or what comes before the softmax or sigmoid there."""
    last = graph.outputs[0] - len(graph.input_shapes)
    node = graph.nodes[last]
    return node.inputs[0] if node.layer.op in PROBABILITY_OPS else graph.outputs[0]


def activations(
    graph: Graph, store: Parameters, device: Device, x: Float32, names: Sequence[str], batch_size: int
) -> dict[str, Float32]:
    """The outputs (N, …) of the named layers as inference computes them from the normalised input x (N, …)."""
    values = {name: layer_value(graph, name) for name in names}
    part = graph.between(range(len(graph.input_shapes)), list(values.values()))
    result = {name: np.empty((len(x), *graph.shapes[value]), np.float32) for name, value in values.items()}
    with engine_lock:
        executor = Executor(make_plan(part, device.sizes, min(batch_size, len(x)), training=False), store, device)
        for start in range(0, len(x), batch_size):
            binding = executor.bind(len(x[start : start + batch_size]))
            _upload(device, binding.inputs, [x[start : start + batch_size]])
            executor.forward(len(binding.inputs[0]))
            for array, view in zip(result.values(), binding.outputs, strict=True):
                array[start : start + len(view)] = device.download(view, (len(view), *array.shape[1:]))
    return result


def class_gradients(
    graph: Graph, store: Parameters, device: Device, x: Float32, name: str, classes: NDArray[np.int64]
) -> tuple[Float32, Float32]:
    """The output (N, …) of a layer for the normalised input x, and by it the gradient of each image's class's score.

    The score is that before a softmax or sigmoid at the end, summed over pixels where there are several; all layers run
    as in inference. Raises ArgumentError where the score does not depend on the layer.
    """
    value, score = layer_value(graph, name), score_value(graph)
    part = graph.between([value], [score])
    if value == score or not part.consumers[0]:
        raise ArgumentError(f'layer "{name}" does not lead to the scores of the classes; choose one before them')
    channels = graph.shapes[score][-1]
    wrong = np.flatnonzero((classes < 0) | (classes >= channels))
    if classes.shape != (len(x),) or len(wrong):
        told = f"class {classes[wrong[0]]}" if len(wrong) else f"classes of shape {classes.shape}"
        raise ArgumentError(f"{told} for {len(x)} images and {channels} classes: give each a number below {channels}")
    (y,) = activations(graph, store, device, x, [name], len(x)).values()
    with engine_lock:
        # Where all is frozen, all runs as in inference, and no parameter gets a gradient.
        frozen = frozenset(graph.freezable)
        plan = make_plan(part, device.sizes, len(x), training=True, input_gradient=True, frozen=frozen)
        executor, random = Executor(plan, store, device), store.random.copy()
        binding = executor.bind(len(x))
        _upload(device, binding.inputs, [y, x][: len(binding.inputs)])
        executor.forward(len(x))
        store.random[:] = random  # the model's next training step draws what it would have drawn
        dy = np.zeros((len(x), *graph.shapes[score]), np.float32)
        dy[np.arange(len(x)), ..., classes] = 1
        _upload(device, binding.output_gradients, [dy])
        executor.backward(len(x))
        dx = binding.input_gradients[0]
        assert dx is not None
        return y, device.download(dx, y.shape)


def _upload(device: Device, views: Sequence[Float32], arrays: Sequence[Float32]) -> None:
    for view, array in zip(views, arrays, strict=True):
        device.upload(view, array.reshape(view.shape))
