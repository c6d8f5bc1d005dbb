"""The outputs of layers, and the gradients of class scores with respect to them.

A part of the model's graph, with other inputs or outputs, is planned on its own and runs on the model's parameters.
"""

from collections.abc import Container, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose, listed, whole
from numbacnn._checks.arrays import real_array
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
    every = [node.name for node in model.graph.nodes]
    names = every if names is None else list(dict.fromkeys(listed(names, "names", str)))
    if not names:
        return {}
    x, size = model.normalized(images), whole(batch_size, "batch_size")
    return LayerOutputs(model, names, min(size, len(x)))(x)


class LayerOutputs:
    """The outputs of layers for batches of at most ``batch_size`` images; planned once, for any number of calls."""

    def __init__(self, model: Predictor, names: Sequence[str], batch_size: int = 1) -> None:
        graph, self._model, self._batch_size = model.graph, model, batch_size
        values = {name: layer_value(graph, name) for name in names}
        self._shapes = {name: graph.shapes[value] for name, value in values.items()}
        part = graph.between(range(len(graph.input_shapes)), list(values.values()))
        with engine_lock:
            plan = make_plan(part, model.device.sizes, batch_size, training=False)
            self._executor = Executor(plan, model.store, model.device)

    def __call__(self, x: Float32, names: Container[str] | None = None) -> dict[str, Float32]:
        """Return the output of each layer, or of those in ``names``, (N, …), for normalized images."""
        model, executor = self._model, self._executor
        wanted = {name: shape for name, shape in self._shapes.items() if names is None or name in names}
        result = {name: np.empty((len(x), *shape), np.float32) for name, shape in wanted.items()}
        with engine_lock:
            for start in range(0, len(x), self._batch_size):
                batch = x[start : start + self._batch_size]
                bound = executor.bind(len(batch))
                model.upload(bound.inputs, [batch])
                executor.forward(len(batch))
                for name, view in zip(self._shapes, bound.outputs, strict=True):
                    if (array := result.get(name)) is not None:
                        array[start : start + len(view)] = model.device.download(view, (len(view), *array.shape[1:]))
        return result


class ScoreGradients:
    """The gradients of class scores with respect to the output of a layer; planned once, for any number of calls.

    The score of a class is its logit, before a softmax or sigmoid at the end, summed over pixels if there are several.
    All layers run as in inference. Raises ArgumentError if there is no such layer, or the scores do not depend on it.
    """

    def __init__(self, model: Predictor, name: str, batch_size: int = 1) -> None:
        graph, self._model = model.graph, model
        value, score = layer_value(graph, name), score_value(graph)
        part = graph.between([value], [score])
        if value == score or not part.consumers[0]:
            raise ArgumentError(f'layer "{name}" does not lead to the scores of the classes; choose one before them')
        self._score_shape = graph.shapes[score]
        self._single = self._score_shape[-1] == 1  # the score of the second of two classes
        with engine_lock:
            # With every parameter frozen, all layers run as in inference and no parameter gets a gradient.
            frozen = frozenset(graph.freezable)
            sizes = model.device.sizes
            plan = make_plan(part, sizes, batch_size, training=True, input_gradient=True, frozen=frozen)
            self._executor = Executor(plan, model.store, model.device)

    def __call__(self, x: Float32, y: Float32, classes: ArrayLike) -> Float32:
        """Return the gradient, like y, for normalized images x, for which the layer's output is y.

        Raises ArgumentError unless there is a class for each image.
        """
        dy = self._score_gradient(len(x), np.atleast_1d(real_array(classes, "classes")))
        model, executor = self._model, self._executor
        with engine_lock:
            random, version = model.store.random.copy(), model.store.version
            bound = executor.bind(len(x))
            model.upload(bound.inputs, [y, x][: len(bound.inputs)])
            executor.forward(len(x))
            model.store.random[:] = random  # so that the next training step draws the same numbers as without this
            model.store.version = version  # no weight has changed: inference keeps what it made of them
            model.upload(bound.output_gradients, [dy])
            executor.backward(len(x))
            dx = bound.input_gradients[0]
            assert dx is not None
            return model.device.download(dx, y.shape)

    def _score_gradient(self, n: int, classes: NDArray[Any]) -> Float32:
        """Return the gradient of the chosen classes' scores with respect to all scores."""
        channels = 2 if self._single else self._score_shape[-1]
        wrong = classes[~np.isin(classes, np.arange(channels))]
        if classes.shape != (n,) or len(wrong):
            given = f"class {wrong[0]}" if len(wrong) else f"classes of shape {classes.shape}"
            raise ArgumentError(f"{given} for {n} images and {channels} classes: pass one number below {channels}")
        chosen, dy = classes.astype(np.int64), np.zeros((n, *self._score_shape), np.float32)
        if self._single:
            dy += (2 * chosen - 1).reshape(-1, *(1,) * (dy.ndim - 1))
        else:
            dy[np.arange(n), ..., chosen] = 1
        return dy


def class_gradients(model: Predictor, images: ArrayLike, name: str, classes: ArrayLike) -> tuple[Float32, Float32]:
    """Return a layer's output and the gradient of class scores with respect to it: see ``Model.class_gradients``."""
    x = model.normalized(images)
    gradients = ScoreGradients(model, name, len(x))
    (y,) = LayerOutputs(model, [name], len(x))(x).values()
    return y, gradients(x, y, classes)
