"""A network on raw images: how they become its input, and what its output means."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import number, whole
from numbacnn._checks.names import checks_arguments, checks_call
from numbacnn.data.arrays import by_input
from numbacnn.data.chain import Augmentation
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.normalization import Normalization, raw_images
from numbacnn.detection import Detections
from numbacnn.engine.device import Device
from numbacnn.engine.executor import BoundPlan, Executor
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.network import Network
from numbacnn.errors import ArgumentError
from numbacnn.metrics import Report
from numbacnn.tasks import Detection, Regression, Segmentation, Tagging, task_of
from numbacnn.tasks.detection import IOU_THRESHOLD, SCORE_THRESHOLD
from numbacnn.tasks.views import Averaging, Views

Float32 = NDArray[np.float32]
T = TypeVar("T")
Inputs: TypeAlias = ArrayLike | Sequence[ArrayLike] | Mapping[str, ArrayLike]  # of one input, or of each
EVALUATION_BATCH = 256
MAX_VALUES = 1 << 24  # of the largest layer's output for an evaluation batch: 64 MiB
PROBABILITY_OPS = ("softmax", "sigmoid")


class Predictor(Network):
    """A network with the ``normalization`` of its raw images, the names of its ``classes``, and its ``task``."""

    def __init__(self, graph: Graph, device: Device, several_inputs: bool, several_outputs: bool) -> None:
        super().__init__(graph, device, several_inputs, several_outputs)
        self.classes: tuple[str, ...] | None = None
        self.normalization: Normalization | None = None
        self.task: str | None = None
        self._factors: dict[int, tuple[object, tuple[Float32, Float32]]] = {}  # of ``input_factors``, with their keys

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, or their numbers if they have none."""
        count = task_of(self.task, self.input_shape).classes(self.output_shape[-1])
        return self.classes or tuple(map(str, range(count)))

    # -- predictions --------------------------------------------------------------------------------------------------

    @checks_arguments
    def predict(
        self, images: Inputs, batch_size: int = EVALUATION_BATCH, *, tta: Augmentation | None = None
    ) -> Float32:
        """Return class probabilities (N, classes) of raw images (N, H, W, C), uint8 or float.

        A model with several inputs takes a tuple of arrays, or a dict by name; the images of a Dataset do as well. They
        are normalized as in training. A
        model that segments returns (N, H, W, classes). Softmax is applied over the last axis unless the model ends in a
        softmax or sigmoid. A single output, a probability p or its logit, gives two classes: [1 − p, p]. A model of
        tags returns the probability of each, (N, tags), and one that regresses returns its outputs (N, k).

        ``tta``, test-time augmentation, averages over views of each image: "hflip" over it and its mirror image,
        "crop=1" over its shifts by up to a pixel, "crop=1, hflip" over both (``Views``).

        Raises:
            ArgumentError: the model detects: use ``detect``; or ``tta`` is not valid, or not for this model.
        """
        if len(self.graph.outputs) != 1:
            raise ArgumentError("this model has several outputs: use forward")
        if self.task == Detection.name:
            raise ArgumentError("this model's task is to detect: use detect, which gives boxes")
        raw = self.raw_inputs(images)
        is_row = self.task in (Tagging.name, Regression.name)
        shape = *self.output_shape[:-1], max(self.output_shape[-1], 1 if is_row else 2)
        result = np.empty((len(raw[0]), *shape), np.float32)
        activation = self.applied_activation(self.task)

        def receive(start: int, outputs: list[Float32]) -> None:
            (output,) = outputs
            result[start : start + len(output)] = self.predictions(output, self.task, activation).reshape(-1, *shape)

        averaging = self.averaging(tta, self.graph.outputs, [activation])
        self.each_output(raw, receive, whole(batch_size, "batch_size"), averaging=averaging)
        return result

    def averaging(
        self, tta: Augmentation | None, values: Sequence[int], activations: Sequence[str | None]
    ) -> Averaging | None:
        """Return the average over views of values of the graph, of which ``activations`` make predictions.

        None without test-time augmentation, and for a single view. Raises ArgumentError if it is not valid, or not for
        this model.
        """
        if tta is None:
            return None
        views = self.check_tta(tta)
        if len(views) == 1:
            return None
        for value in values:
            if math.prod(self.graph.shapes[value][:-1]) != 1:
                raise ArgumentError(
                    f"tta: output {self.graph.names[value]!r} of shape {self.graph.shapes[value]} is a map"
                )
        return Averaging(views, activations, self.device)

    def check_tta(self, tta: Augmentation) -> Views:
        """Return the views of test-time augmentation.

        Raises ArgumentError if it is not valid, or not for this model.
        """
        views = Views(tta)
        if len(self.graph.input_shapes) != 1 or len(self.input_shape) != 3:
            shapes = ", ".join(map(str, self.graph.input_shapes))
            raise ArgumentError(f"tta is for models whose only input is an image; this one has {shapes}; leave it out")
        if len(self.output_shape) != 1:
            raise ArgumentError(
                "tta is for models that give one row of numbers for each image, and this one gives a map "
                f"{self.output_shape}; leave it out"
            )
        return views

    def applied_activation(self, task: str | None, output: int | None = None) -> str | None:
        """Return the op, "softmax" or "sigmoid", that makes predictions of an output, by default the first one.

        None if the graph has applied it, or the task has none.
        """
        value = self.graph.outputs[0] if output is None else output
        layer = self.graph.layer_of(value)
        if (layer is not None and layer.op in PROBABILITY_OPS) or task == Regression.name:
            return None
        return "sigmoid" if task == Tagging.name or self.graph.shapes[value][-1] == 1 else "softmax"

    def predictions(self, output: Float32, task: str | None, activation: str | None) -> Float32:
        """Return predictions as ``predict`` does, but N×H×W×C in the host's memory, of an output of the graph.

        ``activation`` is the op that is still to be applied.
        """
        is_row = task in (Tagging.name, Regression.name)
        if activation == "softmax" and output.shape[-1] > 1 and not is_row:
            scores = self.device.zeros(output.shape)
            self.device.kernels.softmax_forward(scores, output)
            return self.device.host(scores)
        found = self.device.host(output)
        if output.shape[-1] == 1 and not is_row:
            found = np.concatenate([-found if activation == "sigmoid" else 1 - found, found], axis=-1)
        return np.exp(-np.logaddexp(0, -found)) if activation == "sigmoid" else found

    @property
    def _end(self) -> str | None:
        """The op at the end of the first output."""
        layer = self.graph.layer_of(self.graph.outputs[0])
        return None if layer is None else layer.op

    def _pair(self, output: Float32) -> Float32:
        """Return an output in the host's memory; of a single channel, a probability or logit, those of both classes."""
        if output.shape[-1] > 1:
            return output
        return np.concatenate([1 - output if self._end == "sigmoid" else -output, output], axis=-1)

    @checks_call
    def segment(self, images: Inputs, batch_size: int = EVALUATION_BATCH) -> NDArray[np.uint8 | np.int64]:
        """Return the class of each pixel, (N, H, W), of raw images; uint8 for up to 256 classes.

        Raises ArgumentError unless the model gives a class for each pixel.
        """
        if self.task not in (None, Segmentation.name):
            raise ArgumentError(f"segment: this model's task is to {self.task}; train one to segment")
        task = Segmentation(self.input_shape)
        task.check_output(self.output_shape)
        return np.concatenate(self._decoded(task.decode, images, batch_size))

    @checks_call
    def detect(
        self,
        images: Inputs,
        score_threshold: float = SCORE_THRESHOLD,
        iou_threshold: float = IOU_THRESHOLD,
        batch_size: int = EVALUATION_BATCH,
    ) -> list[Detections]:
        """Return the objects found in each raw image: boxes, classes and scores, in descending order of score.

        Objects below ``score_threshold`` are dropped, and of two boxes with an intersection over union above
        ``iou_threshold``, the one with the lower score. Raises ArgumentError unless the model detects.
        """
        if self.task != Detection.name:
            raise ArgumentError(f"detect: this model's task is to {self.task or 'do nothing yet'}; train one to detect")
        number(score_threshold, "score_threshold", 0, 1), number(iou_threshold, "iou_threshold", 0, 1)
        task = Detection(self.input_shape)
        parts = self._decoded(lambda output: task.decode(output, score_threshold, iou_threshold), images, batch_size)
        return [found for part in parts for found in part]

    def _decoded(self, decode: Callable[[Float32], T], images: Inputs, batch_size: int) -> list[T]:
        parts: list[T] = []
        raw = self.raw_inputs(images)
        self.each_output(
            raw,
            lambda _, outputs: parts.append(decode(self._pair(self.device.host(outputs[0])))),
            whole(batch_size, "batch_size"),
        )
        return parts

    @checks_call
    def report(
        self,
        test: Dataset | tuple[Inputs, ArrayLike] | ArrayLike,
        labels: ArrayLike | None = None,
        top_k: Sequence[int] = (1,),
        *,
        tta: Augmentation | None = None,
    ) -> Report:
        """Return per-class measures on a Dataset, or raw images and labels; of several outputs, for the first.

        Confusion matrix, precision, recall and F1; and for each k of ``top_k``, the share of images whose class is
        among the k highest scores. ``top_k`` may follow a Dataset or a tuple; ``tta`` is as in ``predict``. Raises
        ArgumentError unless the model gives one row of scores for each image.
        """
        if len(self.output_shape) != 1:
            raise ArgumentError(f"a report is of a classifier; this model's output is {self.output_shape}")
        if self.task in (Tagging.name, Regression.name):
            raise ArgumentError(f"a report is of a classifier; this model's task is to {self.task}: use evaluate")
        if labels is not None and isinstance(test, Dataset | tuple) and len(self.graph.input_shapes) == 1:
            top_k, labels = cast(Sequence[int], labels), None
        given = test if labels is None else (test, labels)
        dataset = Dataset.of(given, self.classes, inputs=self.graph.input_names)
        raw = self.adapted(dataset.inputs)
        scores = np.empty((len(dataset), max(self.output_shape[-1], 2)), np.float32)

        def receive(start: int, outputs: list[Float32]) -> None:
            found = self._pair(self.device.host(outputs[0])).reshape(-1, scores.shape[1])
            scores[start : start + len(found)] = found

        first = self.graph.outputs[:1]
        averaging = self.averaging(tta, first, [self.applied_activation(self.task)])
        self.each_output(raw, receive, outputs=first, averaging=averaging)
        counted = dataset.labels != dataset.ignore_index  # all if it is None
        return Report.of(dataset.labels[counted], scores[counted], self.class_names, top_k)

    # -- raw images ---------------------------------------------------------------------------------------------------

    def raw_inputs(self, given: Inputs) -> list[Images]:
        """Return ``raw_images`` of each input: of one, of a tuple or a dict of several, or of a data set.

        Raises ArgumentError if they do not fit.
        """
        return self.adapted(given.inputs if isinstance(given, Dataset) else by_input(given, self.graph.input_names))

    def adapted(self, inputs: Sequence[ArrayLike]) -> list[Images]:
        """Return ``raw_images`` of each input. Raises ArgumentError if there is not one for each."""
        shapes, names = self.graph.input_shapes, self.graph.input_names
        if len(inputs) != len(shapes):
            listed = ", ".join(names)
            raise ArgumentError(f"the data has {len(inputs)} inputs, and the model {len(shapes)}: {listed}")
        found = list[Images]()
        for i, (given, shape) in enumerate(zip(inputs, shapes, strict=True)):
            raw = raw_images(given, shape, "images" if len(shapes) == 1 else names[i])
            normalization = None if self.normalization is None else self.normalization.of_input(i)
            found.append(raw if normalization is None else normalization.adapt(raw))
        return found

    def raw_images(self, images: ArrayLike) -> Images:
        """Return raw images as contiguous uint8 or float32 (N, H, W, C), in the scale of the training images.

        Raises ArgumentError if they do not fit.
        """
        self.check_one_input()
        return self.adapted([images])[0]

    def check_one_input(self) -> None:
        """Raise ArgumentError if the model has several inputs."""
        if len(self.graph.input_shapes) != 1:
            raise ArgumentError("this is for models with one input; fit, evaluate, predict and forward take several")

    @checks_call
    def normalized(self, images: ArrayLike) -> Float32:
        """Return raw images as the network's input, (N, H, W, C) or (N, 1, 1, C)."""
        raw = self.raw_images(images)
        if not len(raw):
            raise ArgumentError("there are no images")
        with engine_lock:
            x = self.device.zeros((len(raw), *(1, 1, *self.input_shape)[-3:]))
            self.load_images(x, raw)
            return self.device.host(x)

    def load_inputs(self, targets: Sequence[Float32], inputs: Sequence[Images]) -> None:
        """Write contiguous raw images (n, H, W, C) of each input, normalized, to the arrays ``targets``."""
        for i, (target, images) in enumerate(zip(targets, inputs, strict=True)):
            self.load_images(target, images, i)

    def load_images(self, target: Float32, images: Images, i: int = 0) -> None:
        """Write contiguous raw images (n, H, W, C), normalized, to ``target``, the model's input i."""
        if images.ndim == 2:
            images = images[:, None, None]  # features are images of one pixel
        kernels = self.device.kernels
        kernel = kernels.normalize_bytes if images.dtype == np.uint8 else kernels.normalize_floats
        rows = images.reshape(len(images) * images.shape[1], -1)
        kernel(target, np.require(rows, requirements=["C", "W"]), *self.input_factors(images, i))  # must be writeable

    def input_factors(self, images: Images, i: int = 0) -> tuple[Float32, Float32]:
        """Return scale and shift, (W·C,) each, that normalize each number in a row of raw images (n, H, W, C).

        They are those of the model's input i.
        """
        channels = images.shape[-1]
        own = None if self.normalization is None else self.normalization.of_input(i)
        normalization = own or Normalization.identity(channels)
        if len(normalization.mean) != channels:
            raise ArgumentError(f"normalization of {len(normalization.mean)} channels for images of {channels}")
        key = normalization, images.dtype, images.shape[2]
        if i not in self._factors or self._factors[i][0] != key:
            self._factors[i] = key, normalization.scale_and_shift(images.dtype, images.shape[2])
        return self._factors[i][1]

    def reserve_outputs(
        self, images: int, batch_size: int = EVALUATION_BATCH, outputs: tuple[int, ...] | None = None
    ) -> int:
        """Make the buffers that ``each_output`` needs for a number of images, under ``engine_lock``.

        Return the size of its batches, which is smaller for large images.
        """
        largest = max(map(math.prod, self.graph.shapes))
        batch_size = max(1, min(batch_size, images, MAX_VALUES // largest))
        self.executor(batch_size, training=False, outputs=outputs)
        return batch_size

    def each_output(
        self,
        inputs: Sequence[Images],
        receive: Callable[[int, list[Float32]], None],
        batch_size: int = EVALUATION_BATCH,
        outputs: tuple[int, ...] | None = None,
        averaging: Averaging | None = None,
    ) -> None:
        """Call ``receive(start, outputs)`` for each batch of raw images of each input, with views N×H×W×C of outputs.

        The next batch overwrites them. ``outputs`` are values of the graph, by default its outputs. With ``averaging``,
        which takes one input, they are the averages over views of the images.
        """
        with engine_lock:
            count = len(inputs[0])
            batch_size = self.reserve_outputs(count, batch_size, outputs)
            executor = self.executor(batch_size, training=False, outputs=outputs)
            for start in range(0, count, batch_size):
                parts = [images[start : start + batch_size] for images in inputs]
                bound = executor.bind(len(parts[0]))
                forward = partial(self._forward, executor, bound)
                if averaging is None:
                    forward(*parts)
                else:
                    averaging(parts[0], bound.outputs, forward)
                receive(start, bound.outputs)

    def _forward(self, executor: Executor, bound: BoundPlan, *inputs: Images) -> None:
        self.load_inputs(bound.inputs, inputs)
        executor.forward(len(inputs[0]))
