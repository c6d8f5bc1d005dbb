"""The outputs of layers, and the gradients of class scores with respect to them.

A part of the model's graph, with other inputs or outputs, is planned on its own and runs on the model's parameters.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose, whole
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError
from numbacnn.tasks.predictor import PROBABILITY_OPS, Predictor

Float32 = NDArray[np.float32]


def layer_value(graph: Graph, name: str) -> int:
    """Return the value that the layer of this name computes. Raises ArgumentError with the nearest name."""
    return choose("layer", name, {node.name: graph.value(i) for i, node in enumerate(graph.nodes)})


def score_value(graph: Graph) -> int:
    """Return the value of the class scores: the first output, or the input of a softmax or sigmoid that computes it."""
    node = graph.nodes[graph.producer(graph.outputs[0])]
    return node.inputs[0] if node.layer.op in PROBABILITY_OPS else graph.outputs[0]


def activations(
    model: Predictor, images: ArrayLike, names: Sequence[str] | None, batch_size: int
) -> dict[str, Float32]:
    """Return the outputs of layers: see ``Model.activations``."""
    names = [node.name for node in model.graph.nodes] if names is None else list(dict.fromkeys(names))
    return _activations(model, model.normalized(images), names, whole(batch_size, "batch_size")) if names else {}


def _activations(model: Predictor, x: Float32, names: Sequence[str], batch_size: int) -> dict[str, Float32]:
    graph, device = model.graph, model.device
    values = {name: layer_value(graph, name) for name in names}
    part = graph.between(range(len(graph.input_shapes)), list(values.values()))
    result = {name: np.empty((len(x), *graph.shapes[value]), np.float32) for name, value in values.items()}
    with engine_lock:
        plan = make_plan(part, device.sizes, min(batch_size, len(x)), training=False)
        executor = Executor(plan, model.store, device)
        for start in range(0, len(x), batch_size):
            batch = x[start : start + batch_size]
            bound = executor.bind(len(batch))
            model.upload(bound.inputs, [batch])
            executor.forward(len(batch))
            for array, view in zip(result.values(), bound.outputs, strict=True):
                array[start : start + len(view)] = device.download(view, (len(view), *array.shape[1:]))
    return result


def class_gradients(model: Predictor, images: ArrayLike, name: str, classes: ArrayLike) -> tuple[Float32, Float32]:
    """Return a layer's output and the gradient of class scores with respect to it: see ``Model.class_gradients``.

    The score is summed over pixels if there are several.
    """
    x, chosen = model.normalized(images), np.atleast_1d(np.asarray(classes, np.int64))
    graph, device = model.graph, model.device
    value, score = layer_value(graph, name), score_value(graph)
    part = graph.between([value], [score])
    if value == score or not part.consumers[0]:
        raise ArgumentError(f'layer "{name}" does not lead to the scores of the classes; choose one before them')
    single = graph.shapes[score][-1] == 1  # the score of the second of two classes
    channels = 2 if single else graph.shapes[score][-1]
    wrong = np.flatnonzero((chosen < 0) | (chosen >= channels))
    if chosen.shape != (len(x),) or len(wrong):
        given = f"class {chosen[wrong[0]]}" if len(wrong) else f"classes of shape {chosen.shape}"
        raise ArgumentError(f"{given} for {len(x)} images and {channels} classes: give each a number below {channels}")
    (y,) = _activations(model, x, [name], len(x)).values()
    with engine_lock:
        # With every parameter frozen, all layers run as in inference and no parameter gets a gradient.
        frozen = frozenset(graph.freezable)
        plan = make_plan(part, device.sizes, len(x), training=True, input_gradient=True, frozen=frozen)
        executor, random = Executor(plan, model.store, device), model.store.random.copy()
        bound = executor.bind(len(x))
        model.upload(bound.inputs, [y, x][: len(bound.inputs)])
        executor.forward(len(x))
        model.store.random[:] = random  # so that the next training step draws the same numbers as without this
        dy = np.zeros((len(x), *graph.shapes[score]), np.float32)
        if single:
            dy += (2 * chosen - 1).reshape(-1, *(1,) * (dy.ndim - 1))
        else:
            dy[np.arange(len(x)), ..., chosen] = 1
        model.upload(bound.output_gradients, [dy])
        executor.backward(len(x))
        dx = bound.input_gradients[0]
        assert dx is not None
        return y, device.download(dx, y.shape)
