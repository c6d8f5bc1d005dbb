"""The values that plots show: confident mistakes, Grad-CAM, gradient norms."""

import copy
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import whole
from numbacnn._checks.names import checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import CLASSES
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.inspection.activations import layer_value, score_value
from numbacnn.model import Model
from numbacnn.plots.figures import check_dataset, check_model
from numbacnn.tasks import task_for
from numbacnn.training.trainer import LossOfOutputs

Float32 = NDArray[np.float32]
MERGES = ("add", "concat")
CONVOLUTIONS = ("conv2d", "depthwise_conv2d", "conv2d_transpose")


class Mistakes(NamedTuple):
    """Misclassified images: their indices in the data set, the predicted classes, and the probabilities of these."""

    indices: NDArray[np.int64]
    predicted: NDArray[np.int64]
    probabilities: Float32


@checks_call
def confident_mistakes(model: Model, dataset: Dataset, count: int) -> Mistakes:
    """Return the mistakes with the highest predicted probabilities, at most ``count``, in descending order.

    Images whose label is the data set's ``ignore_index`` have no class to be mistaken for.

    Raises:
        ArgumentError: the model is not a classifier.
    """
    check_model(model, "mistakes")
    check_dataset(dataset, "mistakes")
    if dataset.kind != CLASSES:
        raise ArgumentError(f"mistakes are those of a classifier; the data has {dataset.kind}")
    probabilities = model.predict(dataset.inputs if dataset.others else dataset.images)
    if probabilities.ndim != 2:
        raise ArgumentError(f"mistakes are those of a classifier; this model's output is {model.output_shape}")
    predicted = probabilities.argmax(axis=1)
    wrong = np.flatnonzero((predicted != dataset.labels) & (dataset.labels != dataset.ignore_index))
    chosen = wrong[np.argsort(-probabilities[wrong, predicted[wrong]], kind="stable")[: whole(count, "count")]]
    return Mistakes(chosen, predicted[chosen], probabilities[chosen, predicted[chosen]])


@checks_call
def class_activation_map(model: Model, images: ArrayLike, classes: ArrayLike, layer: str | None = None) -> Float32:
    """Compute Grad-CAM (Selvaraju et al. 2017, section 3) of raw images: where the evidence for a class is.

    Args:
        model: a model of one input.
        images: raw images (N, H, W, C).
        classes: the class of each image, (N,).
        layer: the layer whose maps are weighted, by default the last convolution block before the scores: the last
            convolution whose maps have more than one pixel, with the normalizations, activations, additions and
            concatenations that follow it.

    Returns:
        ReLU(Σ_k α_k·A_k), (N, h, w): A_k are the layer's maps, and α_k is the mean over a map of the gradient of the
        class's score before softmax.

    Raises:
        ArgumentError: the layer does not exist (with the nearest name) or has no maps, or does not affect the scores.
    """
    check_model(model, "class_activation_map")
    name = default_layer(model) if layer is None else layer
    shape = model.graph.shapes[layer_value(model.graph, name)]
    if len(shape) != 3:
        raise ArgumentError(
            f'layer "{name}" has outputs {shape}, which are not maps; choose an earlier one, "{default_layer(model)}"'
        )
    return weighted_maps(*model.class_gradients(images, name, classes))


def weighted_maps(maps: Float32, gradients: Float32) -> Float32:
    """Return ReLU(Σ_k α_k·A_k), (N, h, w), of maps A (N, h, w, k) and the gradients whose means are α."""
    weights = gradients.mean(axis=(1, 2), dtype=np.float64)
    evidence: NDArray[np.float64] = np.einsum("nhwk,nk->nhw", maps, weights)
    return np.maximum(evidence, 0).astype(np.float32)


def default_layer(model: Model) -> str:
    """Return the layer that Grad-CAM looks at by default, as ``class_activation_map`` says.

    Raises:
        ArgumentError: the model has no convolution before its scores.
    """
    graph, inputs = model.graph, len(model.graph.input_shapes)
    score = score_value(graph)
    part = graph.between(range(inputs), [score])
    ops = {node.name: node.layer.op for node in part.nodes}
    found = [name for name, op in ops.items() if op in CONVOLUTIONS and layer_value(graph, name) != score]
    if not found:
        raise ArgumentError("the model has no convolution before its scores: choose a layer that has maps")
    several = [name for name in found if np.prod(graph.shapes[layer_value(graph, name)][:2]) > 1]
    value = layer_value(graph, (several or found)[-1])
    while len(graph.consumers[value]) == 1:
        number = graph.consumers[value][0]
        layer = graph.nodes[number].layer
        if graph.value(number) == score or not (layer.normalizes or layer.rectifies or layer.op in MERGES):
            break
        value = graph.value(number)
    return graph.names[value]


@checks_call
def layer_gradient_norms(
    model: Model, images: ArrayLike, labels: ArrayLike, loss: LossOfOutputs | None = None
) -> dict[str, float]:
    """Return the L2 norm of the loss's gradient with respect to each layer's parameters, for one batch of raw images.

    The gradient is computed as in a training step, penalties included, but on a copy: the model does not change.
    ``loss`` is by default that of the model's task.
    """
    check_model(model, "layer_gradient_norms")
    probe = copy.deepcopy(model)
    raw = model.raw_images(images)
    if loss is None:
        loss = probe.default_losses(task_for(model.task, Dataset.of((raw, labels)), model.input_shape))
    with engine_lock:
        batch = probe.training_batch(len(raw), probe.objective(loss))
        probe.load_images(batch.inputs[0], raw)
        batch.gradients(labels)
    squares: dict[str, float] = {}
    for name, gradient in probe.gradients.items():
        layer = name.rpartition(".")[0]
        squares[layer] = squares.get(layer, 0.0) + float(np.sum(gradient.astype(np.float64) ** 2))
    return {layer: float(np.sqrt(total)) for layer, total in squares.items()}
