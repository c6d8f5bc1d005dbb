"""A copy of a model that the page looks into and damages."""

import contextlib
import copy
import threading
from collections.abc import Collection
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import shown
from numbacnn.data.dataset import Dataset
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.geometry import Shape
from numbacnn.inspection.activations import LayerOutputs, ScoreGradients
from numbacnn.model import Model
from numbacnn.plots.values import default_layer, weighted_maps
from numbacnn.serve.changes import Changes, Occlusion
from numbacnn.serve.explanation import Pixel, explain
from numbacnn.serve.prediction import Upload, predict_from
from numbacnn.tasks import Classification, task_of

MAX_MAPS = 12  # of a layer, in one look
MAX_FEATURES = 512
TEST_IMAGES = 500  # on which a damaged model is measured

Float32 = NDArray[np.float32]
Json = dict[str, Any]


class Look(NamedTuple):
    """The numbers of layers or of Grad-CAM: JSON values that describe ``bytes``, numbers from 0 to 255."""

    header: Json
    content: bytes


class Workbench:
    """Looks into a copy of a model, with changed weights, one call at a time.

    test: images that examples are taken from, and on which accuracy is measured.
    """

    def __init__(self, model: Model, test: Dataset | None = None) -> None:
        self._lock = threading.Lock()
        with engine_lock:  # not within a step of a training
            self._original, self._seen = model, _trained(model)
            self._model = copy.deepcopy(model)
        self._arrays = {name: array.copy() for name, array in self._model.parameters.items()}
        self._changes = Changes()
        graph = model.graph.inference
        self._names = [node.name for node in graph.nodes]
        self._output = graph.names[graph.outputs[0]]
        self._outputs = LayerOutputs(self._model, self._names)
        self._take_task()
        self.test = test
        self._sample = None if test is None else test.subset(np.arange(len(test))[:: -(-len(test) // TEST_IMAGES)])

    def _take_task(self) -> None:
        """Plan Grad-CAM, if the model classifies and has a convolution before its scores."""
        self._task = task_of(self._model.task, self._model.input_shape)
        self._gradients: ScoreGradients | None = None
        self._needed = [self._output]  # and the layer of Grad-CAM
        if self._task.name != Classification.name:
            return
        with contextlib.suppress(ArgumentError):
            self._cam_layer = default_layer(self._model)
            self._gradients = ScoreGradients(self._model, self._cam_layer)
            self._needed.append(self._cam_layer)

    def refresh(self) -> None:
        """Take weights, normalization, classes and task of the original, if a training has changed any of them."""
        with self._lock, engine_lock:
            if (seen := _trained(self._original)) == self._seen:
                return
            self._seen, original = seen, self._original
            self._arrays = {name: array.copy() for name, array in original.parameters.items()}
            self._model.set_parameters({**self._arrays, **original.state})
            self._model.normalization, self._model.classes = original.normalization, original.classes
            if self._model.task != original.task:
                self._model.task = original.task
                self._take_task()
            self._changes = Changes()

    def _apply(self, changes: Changes) -> None:
        if changes != self._changes:
            changes.apply(self._model, self._arrays)
            self._changes = changes

    # -- looks --------------------------------------------------------------------------------------------------------

    def look(
        self,
        upload: Upload,
        changes: Changes,
        cam_class: int | None = None,
        whole: str | None = None,
        shown: Collection[str] | None = None,
    ) -> Look:
        """Return prediction, Grad-CAM, and the first maps of the layers ``shown``, by default of every layer.

        All come from one forward pass. ``cam_class`` is the number of the class that Grad-CAM explains, by default the
        predicted one; ``whole`` is a layer of which all maps are returned.
        """
        names = [name for name in self._names if shown is None or name in shown]
        with self._lock:
            self._apply(changes)
            x = self._model.normalized(upload.pixels[None])
            outputs = self._outputs(x, {*names, *self._needed})
            found = predict_from(self._model, outputs[self._output], upload)
            cam = self._grad_cam(x, outputs, found, cam_class)
        parts = [_maps(name, outputs[name][0], name == whole) for name in names]
        header: Json = {"prediction": found, "layers": [], "cam": None}
        if cam is not None:
            header["cam"] = cam.header
            parts.append(cam)
        header["layers"] = [part.header for part in parts if part is not cam]
        return Look(header, b"".join(part.content for part in parts))

    def _grad_cam(self, x: Float32, outputs: dict[str, Float32], found: Json, chosen: int | None) -> Look | None:
        if self._gradients is None:
            return None
        names = self._model.class_names
        number = names.index(found["class"]) if chosen is None else chosen
        y = outputs[self._cam_layer]
        heat = weighted_maps(y, self._gradients(x, y, [number]))[0]
        scaled = (heat * (255 / (heat.max() or 1))).astype(np.uint8)
        return Look({"layer": self._cam_layer, "class": names[number], "shape": list(heat.shape)}, scaled.tobytes())

    def explain(self, upload: Upload, changes: Changes, layer: str, pixel: Pixel) -> Json:
        """Return how a number of a layer is computed. Raises ArgumentError if there is no such layer or number."""
        if layer not in self._names:
            raise ArgumentError(f"there is no layer {shown(layer)}")
        with self._lock:
            self._apply(changes)
            x = self._model.normalized(upload.pixels[None])
            values = {name: array[0] for name, array in self._outputs(x).items()}
            values[self._model.graph.input_names[0]] = x[0]
            arrays = {**self._model.parameters, **self._model.state}
            return explain(self._model.graph, layer, pixel, values, arrays)

    # -- test images --------------------------------------------------------------------------------------------------

    def measure(self, changes: Changes, occlusion: Occlusion | None) -> Json:
        """Return the score on test images, and their number. Raises ArgumentError if there are none."""
        if self._sample is None:
            raise ArgumentError("there are no test images; serve the folder of a run, or add --data")
        images = self._sample.images if occlusion is None else occlusion.cover(self._sample.images)
        with self._lock:
            self._apply(changes)
            scores = self._model.evaluate(replace(self._sample, images=images))
        return {"score": scores[self._task.score], "name": self._task.score_name, "images": len(self._sample)}


def _trained(model: Model) -> tuple[object, ...]:
    """Return what differs once a training has changed a model."""
    return model.store.version, model.normalization, model.classes, model.task


def shown_count(shape: Shape, whole: bool) -> int:
    """Return how many maps or features of a layer are shown."""
    if len(shape) == 3:
        return shape[-1] if whole else min(shape[-1], MAX_MAPS)
    return min(shape[-1], MAX_FEATURES)


def _maps(name: str, output: Float32, whole: bool) -> Look:
    """Return the maps of a layer one after another, or its features, on one scale from 0 to 255."""
    low, high = float(output.min()), float(output.max())
    count = shown_count(output.shape, whole)
    shown = output[..., :count].transpose(2, 0, 1) if output.ndim == 3 else output[:count]
    scale = 255 / (high - low) if 0 < high - low < np.inf else 0.0
    content = ((shown - low) * scale).astype(np.uint8).tobytes()
    return Look({"name": name, "shape": list(output.shape), "count": count, "low": low, "high": high}, content)
