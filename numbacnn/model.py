"""Model, Sequential and load: the façade over graph, plan, executor, training and files."""

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from os import PathLike
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import matching, number, whole
from numbacnn.data.augment import Augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.normalization import Normalization, raw_images
from numbacnn.detection import Detections
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph import Graph, Input, Tensor
from numbacnn.engine.graph_format import from_dict, import_custom_layers, to_dict
from numbacnn.engine.locks import engine_lock
from numbacnn.engine.parameters import Parameters
from numbacnn.engine.plan import make_plan
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.inspection import activations as probing
from numbacnn.inspection.summary import Summary, summarize
from numbacnn.layers import Layer
from numbacnn.metrics import Metrics, Report
from numbacnn.optimizers import Optimizer
from numbacnn.saving import format as files
from numbacnn.saving.pretrained import LoadedWeights, load_weights
from numbacnn.schedules import Schedule, get_schedule
from numbacnn.tasks import Detection, Segmentation, task_for, task_of
from numbacnn.tasks.detection import IOU_THRESHOLD, SCORE_THRESHOLD
from numbacnn.training import trainer as training
from numbacnn.training.batch import LossOfOutputs, TrainingBatch
from numbacnn.training.objective import Objective, make_objective
from numbacnn.training.penalties import Penalties

Float32 = NDArray[np.float32]
T = TypeVar("T")
FLOAT32 = np.dtype(np.float32)
EVALUATION_BATCH = 256
MOST_NUMBERS = 1 << 24  # in the output of one layer for an evaluation's batch: 64 MiB


class Model:
    """A network: the graph from ``inputs`` to ``outputs``, its parameters, and how raw images become its input.

    ``seed`` draws the initial parameters, each from the seed and its own name. ``device`` is "cpu" or "cuda", and
    ``precision`` what convolutions and dense layers round their products' operands to, "fp32", or on "cuda", for the
    tensor cores, "tf32" or "bf16" (docs/cuda.md). ``classes`` are names of the classes, ``normalization`` what raw
    images go through, and ``task`` is what the output is for, "classify", "segment" or "detect": ``fit`` sets them,
    from the data, where they are None, and the model's file keeps them.

    ``auxiliary`` are outputs in training only, behind the others, whose losses count ``auxiliary_weight`` unless
    ``loss_weights`` says otherwise (Szegedy et al. 2015, section 5); inference leaves out what only they need.
    """

    def __init__(
        self,
        inputs: Tensor | Sequence[Tensor],
        outputs: Tensor | Sequence[Tensor],
        *,
        auxiliary: Sequence[Tensor] = (),
        auxiliary_weight: float = 0.3,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        self._several_inputs = not isinstance(inputs, Tensor)
        self._several_outputs = not isinstance(outputs, Tensor)
        graph = Graph(_list(inputs), _list(outputs), _list(auxiliary))
        self.auxiliary_weight = number(auxiliary_weight, "auxiliary_weight", 0)
        self._build(graph, get_device(device, precision))
        self.store.initialize(seed)

    def _build(self, graph: Graph, device: Device) -> None:
        self.graph, self.device = graph, device
        self.store = Parameters(graph.parameters(), graph.state(), self.device)
        self._penalties = Penalties(graph.penalties(), self.store)
        self.classes: tuple[str, ...] | None = None
        self.normalization: Normalization | None = None
        self.task: str | None = None
        self._executors: dict[tuple[bool, bool], Executor] = {}
        self._pending: tuple[Executor, int] | None = None
        self._rows_key: object = None  # of the normalisation rows kept for ``load_images``
        self._rows: tuple[Float32, Float32]

    # -- parameters ---------------------------------------------------------------------------------------------------

    @property
    def parameters(self) -> Mapping[str, Float32]:
        """Every trained array by name, "layer.weight", read-only; write with ``set_parameters``."""
        return self.store.view(self.store.values)

    @property
    def gradients(self) -> Mapping[str, Float32]:
        """The gradient of every parameter as ``backward`` last left it, read-only."""
        return self.store.view(self.store.gradients)

    @property
    def state(self) -> Mapping[str, Float32]:
        """What is kept but not trained, as running statistics, by name, read-only; write with ``set_parameters``."""
        return self.store.state_view()

    def set_parameters(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes parameters and state by name. Raises ArgumentError, and writes nothing, where a name or a shape does
        not fit."""
        with engine_lock:
            self.store.set(arrays)

    def load_weights(self, path: str | PathLike[str], strict: bool = True, ignore: Sequence[str] = ()) -> LoadedWeights:
        """Writes a safetensors file's tensors into the parameters and the state of the same names.

        The file is a PyTorch state dict (layouts are permuted, docs/pretrained.md; float32, or cast from float16 or
        float64) or a model file of ours. Tensors called like one of the patterns ``ignore`` are passed over. Raises
        ModelFileError, and writes nothing, if a tensor is missing, unexpected, or mismatched. With ``strict=False``
        what fits is written and the rest left as it was; the result names both.
        """
        with engine_lock:
            return load_weights(self.graph, self.store, path, strict, ignore)

    # -- transfer learning --------------------------------------------------------------------------------------------

    @property
    def frozen(self) -> tuple[str, ...]:
        """The frozen parameters, in the model's order."""
        return tuple(name for name in self.store.slots if name in self.store.frozen)

    def freeze(self, pattern: str) -> None:
        """Freezes the parameters whose names match ``pattern``, of fnmatch's form, such as "features.*".

        No gradient of theirs is computed (it is zeros), nor anything that only served one, and optimisers leave them as
        they are. A layer whose parameters are all frozen runs in training as in inference; so does one without
        parameters whose own name matches. Copies of the model keep this, its file does not. Raises ArgumentError
        where nothing matches.
        """
        self._set_frozen(self.store.frozen | set(matching("freeze: the pattern", pattern, self.graph.freezable)))

    def unfreeze(self, pattern: str = "*") -> None:
        """Lets the matching parameters, by default all, train again. Raises ArgumentError where nothing matches."""
        self._set_frozen(self.store.frozen - set(matching("unfreeze: the pattern", pattern, self.graph.freezable)))

    def replace_head(self, classes: int, *, seed: int = 0) -> "Model":
        """A model for another number of classes: with these weights, but in the last layer, which is drawn anew.

        Auxiliary outputs get new layers too. What is frozen, and the normalisation of raw images, stay; names of
        classes do not. This model is left as it is. Raises ArgumentError where the last layer with weights is no dense
        layer or convolution.
        """
        model = type(self).__new__(type(self))
        model._several_inputs, model._several_outputs = self._several_inputs, self._several_outputs
        model.auxiliary_weight = self.auxiliary_weight
        model._build(self.graph.with_heads(task_of(self.task, self.input_shape).outputs(classes)), self.device)
        model.store.initialize(seed)
        old, heads = self.store.arrays(), {self.graph.head(value) for value in self.graph.training_outputs}
        model.store.set({name: array for name, array in old.items() if name.rpartition(".")[0] not in heads})
        model._set_frozen(self.store.frozen)
        model.normalization, model.task = self.normalization, self.task
        return model

    def _set_frozen(self, names: frozenset[str]) -> None:
        with engine_lock:
            self.store.freeze(names)
            trained = {name: factors for name, factors in self.graph.penalties().items() if name not in names}
            self._penalties = Penalties(trained, self.store)
            self._executors = {key: executor for key, executor in self._executors.items() if not key[0]}
            self._pending = None

    # -- running ------------------------------------------------------------------------------------------------------

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image, of a model with one input."""
        return self.graph.input_shapes[0]

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one image, of a model with one output."""
        return self.graph.shapes[self.graph.outputs[0]]

    def forward(self, x: Any, training: bool = False) -> Any:
        """The output for normalised float32 input (N, …), a fresh array; lists for several inputs or outputs.

        With ``training`` what ``backward`` reads is kept, and auxiliary outputs stand behind the others in the list.
        """
        arrays = self._checked(x, self._several_inputs, self.graph.input_shapes, "input")
        n = len(arrays[0])
        with engine_lock:
            executor = self._executor(n, training, input_gradient=training)
            binding = executor.bind(n)
            for view, array in zip(binding.inputs, arrays, strict=True):
                self.device.upload(view, array.reshape(view.shape))
            executor.forward(n)
            self._pending = (executor, n) if training else self._pending
            outputs = [
                self.device.download(view, (n, *shape))
                for view, shape in zip(binding.outputs, self._output_shapes(training), strict=True)
            ]
        return outputs if self._gives_list(training) else outputs[0]

    def _output_shapes(self, training: bool) -> list[tuple[int, ...]]:
        """Shapes of the outputs for one image; in training, of the auxiliary ones too."""
        shapes = self.graph.shapes
        return [shapes[value] for value in (self.graph.training_outputs if training else self.graph.outputs)]

    def _gives_list(self, training: bool) -> bool:
        """Whether ``forward`` gives a list of outputs, and ``backward`` takes one of gradients."""
        return self._several_outputs or (training and bool(self.graph.auxiliary))

    def backward(self, dy: Any) -> Any:
        """After ``forward(training=True)``: fills ``gradients`` from dy, the gradient of the output(s); returns that
        of the input(s). The layers' l1 and l2 are not in it: see ``add_penalties``. Raises NumbacnnError where there
        was no such forward.
        """
        if self._pending is None:
            raise NumbacnnError("backward needs a forward(x, training=True) before it")
        executor, n = self._pending
        arrays = self._checked(dy, self._gives_list(True), self._output_shapes(True), "gradient", n)
        with engine_lock:
            binding = executor.bind(n)
            for view, array in zip(binding.output_gradients, arrays, strict=True):
                self.device.upload(view, array.reshape(view.shape))
            executor.backward(n)
            self._pending = None
            gradients = [
                np.zeros((n, *shape), np.float32) if view is None else self.device.download(view, (n, *shape))
                for view, shape in zip(binding.input_gradients, self.graph.input_shapes, strict=True)
            ]
        return gradients if self._several_inputs else gradients[0]

    def add_penalties(self) -> float:
        """Adds the gradients of the layers' l1 and l2 to ``gradients``; returns Σ l1·|w| + l2·w².

        For a loop of one's own, between ``backward`` and the update; ``train_step`` and ``fit`` do it themselves.
        """
        with engine_lock:
            return self._penalties.add()

    def train_step(
        self,
        images: Any,
        labels: Any,
        optimizer: Optimizer,
        loss: LossOfOutputs = "cross_entropy",
        loss_weights: Sequence[float] | None = None,
    ) -> float:
        """Forward, loss, backward and update on normalised float32 images (N, …); returns the loss.

        Of several outputs the loss is the sum of each one's, times its weight: ``loss`` and ``labels`` are one for all
        of them, or a list of one for each, ``loss_weights`` a number for each, by default 1, and for auxiliary outputs
        the model's ``auxiliary_weight``. These stand behind the others; lists may leave them out, and then they take
        the first loss, the first labels and their default weight. Penalties of the layers are part of the loss.
        """
        arrays = self._checked(images, self._several_inputs, self.graph.input_shapes, "input")
        objective = self.objective(loss, loss_weights)
        with engine_lock:
            batch = self.training_batch(len(arrays[0]), objective)
            for view, array in zip(batch.inputs, arrays, strict=True):
                self.device.upload(view, array.reshape(view.shape))
            value = batch.gradients(labels)
            optimizer.step(self)
        return value

    def objective(self, loss: LossOfOutputs, loss_weights: Sequence[float] | None = None) -> Objective:
        """The loss and the weight of each output, as ``train_step`` takes them."""
        outputs, auxiliary = len(self.graph.outputs), len(self.graph.auxiliary)
        return make_objective(loss, loss_weights, outputs, auxiliary, self.auxiliary_weight)

    def training_batch(self, n: int, objective: Objective) -> TrainingBatch:
        """The buffers of a training step on ``n`` images, for a loop that fills them itself under ``engine_lock``."""
        self._pending = None
        executor = self._executor(n, True, input_gradient=False)
        return TrainingBatch(executor, n, objective, self._penalties)

    def _executor(self, n: int, training: bool, input_gradient: bool) -> Executor:
        """An executor for at least ``n`` images: the one there is, or a new plan where that one is too small."""
        key = training, input_gradient
        executor = self._executors.get(key)
        if executor is None or executor.plan.batch < n:
            frozen = self.store.frozen if training else frozenset()
            plan = make_plan(
                self.graph, self.device.sizes, n, training=training, input_gradient=input_gradient, frozen=frozen
            )
            executor = self._executors[key] = Executor(plan, self.store, self.device)
        return executor

    def _checked(
        self, given: Any, several: bool, shapes: Sequence[tuple[int, ...]], what: str, n: int | None = None
    ) -> list[NDArray[Any]]:
        """Arrays (n, *shape) of floats from what a user passed, or an ArgumentError with the shapes."""
        arrays = [_numbers(array, what) for array in (given if several else [given])]
        if len(arrays) != len(shapes):
            raise ArgumentError(f"{len(arrays)} {what}s for a model of {len(shapes)}")
        n = n if n is not None else (len(arrays[0]) if arrays[0].ndim else 0)
        for array, shape in zip(arrays, shapes, strict=True):
            if array.shape != (n, *shape) or n == 0:
                raise ArgumentError(f"{what} of shape {array.shape}; the model wants {(n or 'N', *shape)}")
        return [array if array.dtype == FLOAT32 else array.astype(np.float32) for array in arrays]

    # -- raw images ---------------------------------------------------------------------------------------------------

    def load_images(self, target: Float32, images: NDArray[Any]) -> None:
        """Writes raw images (n, H, W, C), uint8 or float32 and contiguous, normalised, to the input ``target``."""
        if images.ndim == 2:
            images = images[:, None, None]  # features are images of one pixel
        kernels = self.device.kernels
        kernel = kernels.normalize_bytes if images.dtype == np.uint8 else kernels.normalize_floats
        rows = images.reshape(len(images) * images.shape[1], -1)
        factors = self.input_factors(images)
        kernel(target, np.require(rows, requirements=["C", "W"]), *factors)  # kernels refuse read-only memory

    def input_factors(self, images: NDArray[Any]) -> tuple[Float32, Float32]:
        """Factor and addend, (W·C,) each, that normalise each number in a row of raw images (n, H, W, C)."""
        channels = images.shape[-1]
        normalization = self.normalization or Normalization.identity(channels)
        if len(normalization.mean) != channels:
            raise ArgumentError(f"normalization of {len(normalization.mean)} channels for images of {channels}")
        key = (normalization, images.dtype, images.shape[2])
        if self._rows_key != key:
            self._rows_key, self._rows = key, normalization.scale_and_shift(images.dtype, images.shape[2])
        return self._rows

    def reserve_outputs(self, images: int, batch_size: int = EVALUATION_BATCH) -> int:
        """Makes the buffers that ``each_output`` takes for so many images, under ``engine_lock``; returns the size of
        its batches."""
        largest = max(map(math.prod, self.graph.shapes))
        batch_size = max(1, min(batch_size, images, MOST_NUMBERS // largest))
        self._executor(batch_size, False, False)
        return batch_size

    def each_output(
        self, images: NDArray[Any], receive: Callable[[int, list[Float32]], None], batch_size: int = EVALUATION_BATCH
    ) -> None:
        """Calls ``receive(start, outputs)`` for each batch of raw images with the views (n, 1, 1, C) or (n, H, W, C) of
        its outputs, which the next batch overwrites. Batches are smaller where the images are large."""
        with engine_lock:
            batch_size = self.reserve_outputs(len(images), batch_size)
            executor = self._executor(batch_size, False, False)
            for start in range(0, len(images), batch_size):
                part = images[start : start + batch_size]
                binding = executor.bind(len(part))
                self.load_images(binding.inputs[0], part)
                executor.forward(len(part))
                receive(start, binding.outputs)

    def predict(self, images: ArrayLike, batch_size: int = EVALUATION_BATCH) -> Float32:
        """Class probabilities (N, classes) of raw images (N, H, W, C), uint8 or float, normalised as in training.

        Of a model that segments (N, H, W, classes). Softmax is applied to the last axis unless the model ends in a
        softmax or sigmoid itself. Raises ArgumentError for a model that detects: see ``detect``.
        """
        self._need_one_input()
        if len(self.graph.outputs) != 1:
            raise ArgumentError("this model has several outputs: use forward")
        if self.task == Detection.name:
            raise ArgumentError("this model's task is to detect: use detect, which gives boxes")
        raw = raw_images(images, self.input_shape)
        whole(batch_size, "batch_size")
        result = np.empty((len(raw), *self.output_shape), np.float32)
        done = self._gives_probabilities()

        def receive(start: int, outputs: list[Float32]) -> None:
            (output,) = outputs
            scores = output if done else self.device.zeros(output.shape)
            if not done:
                self.device.kernels.softmax_forward(scores, output)
            result[start : start + len(output)] = self.device.host(scores).reshape(-1, *self.output_shape)

        self.each_output(raw, receive, batch_size)
        return result

    def segment(self, images: ArrayLike, batch_size: int = EVALUATION_BATCH) -> NDArray[np.uint8 | np.int64]:
        """The class of each pixel, (N, H, W), of raw images as ``predict`` takes them; uint8 up to 256 classes.

        Raises ArgumentError where the model does not give a class for each pixel.
        """
        if self.task not in (None, Segmentation.name):
            raise ArgumentError(f"segment: this model's task is to {self.task}; train one to segment")
        task = Segmentation(self.input_shape)
        task.check_output(self.output_shape)
        return np.concatenate(self._decoded(task.decode, images, batch_size))

    def detect(
        self,
        images: ArrayLike,
        score_threshold: float = SCORE_THRESHOLD,
        iou_threshold: float = IOU_THRESHOLD,
        batch_size: int = EVALUATION_BATCH,
    ) -> list[Detections]:
        """What is found in each of raw images as ``predict`` takes them: boxes, classes and scores, the surest first.

        score_threshold: the smallest score to report. iou_threshold: of two boxes with a larger intersection over
        union, the one with the higher score is kept. Raises ArgumentError where the model does not detect.
        """
        if self.task != Detection.name:
            raise ArgumentError(f"detect: this model's task is to {self.task or 'do nothing yet'}; train one to detect")
        number(score_threshold, "score_threshold", 0, 1), number(iou_threshold, "iou_threshold", 0, 1)
        task = Detection(self.input_shape)
        parts = self._decoded(lambda output: task.decode(output, score_threshold, iou_threshold), images, batch_size)
        return [found for part in parts for found in part]

    def _decoded(self, decode: Callable[[Float32], T], images: ArrayLike, batch_size: int) -> list[T]:
        """What ``decode`` makes of the output for each batch of raw images."""
        self._need_one_input()
        raw, parts = raw_images(images, self.input_shape), list[T]()

        def receive(start: int, outputs: list[Float32]) -> None:
            parts.append(decode(self.device.host(outputs[0])))

        self.each_output(raw, receive, whole(batch_size, "batch_size"))
        return parts

    def _gives_probabilities(self) -> bool:
        last = self.graph.outputs[0] - len(self.graph.input_shapes)
        return self.graph.nodes[last].layer.op in probing.PROBABILITY_OPS

    def evaluate(
        self,
        test: Dataset | tuple[ArrayLike, Any],
        loss: LossOfOutputs | None = None,
        loss_weights: Sequence[float] | None = None,
    ) -> dict[str, float]:
        """Mean loss and accuracy on a Dataset, or (raw images, labels); ``loss`` and its weights as in ``fit``.

        With masks also ``mean_iou``, with boxes ``map_50`` and ``map``, mAP@0.5 and mAP@0.5:0.95. Without penalties and
        auxiliary outputs. Of several outputs, each takes the labels; the measures are the first one's, the loss is that
        of all, and there are ``loss.NAME``, ``accuracy.NAME`` … of each besides.
        """
        dataset = as_dataset(test, self.classes)
        metrics, objective = self.metrics(dataset, loss, loss_weights)
        results = [metric.results() for metric in metrics]
        total = sum(weight * each["loss"] for weight, each in zip(objective.weights, results, strict=False))
        found = results[0] | {"loss": total}
        if len(results) > 1:
            for value, each in zip(self.graph.outputs, results, strict=True):
                found |= {f"{measure}.{self.graph.names[value]}": figure for measure, figure in each.items()}
        return found

    def metrics(
        self, dataset: Dataset, loss: LossOfOutputs | None = None, loss_weights: Sequence[float] | None = None
    ) -> tuple[list[Metrics], Objective]:
        """What the task adds up on a data set, for each output that is not auxiliary; and the losses and weights."""
        self._need_one_input()
        raw = raw_images(dataset.images, self.input_shape)
        task = task_for(self.task, dataset, self.input_shape)
        task.check(dataset, self.output_shape)
        objective, main = self.objective(task.loss() if loss is None else loss, loss_weights), len(self.graph.outputs)
        metrics = [task.metrics(part, self.device) for part in objective.losses[:main]]

        def receive(start: int, outputs: list[Float32]) -> None:
            for metric, output in zip(metrics, outputs, strict=True):
                metric.add(output, dataset.labels[start : start + len(output)])

        self.each_output(raw, receive)
        return metrics, objective

    def report(self, test: Dataset | tuple[ArrayLike, ArrayLike], top_k: Sequence[int] = (1,)) -> Report:
        """What a classifier did on a Dataset, or (raw images, labels), class by class; of several outputs, the first.

        Confusion matrix, precision, recall and F1; and for each k of ``top_k`` the share of images whose class is among
        the k highest scores. Raises ArgumentError where the model does not give one row of scores for each image.
        """
        self._need_one_input()
        if len(self.output_shape) != 1:
            raise ArgumentError(f"a report is of a classifier; this model's output is {self.output_shape}")
        dataset = as_dataset(test, self.classes)
        raw = raw_images(dataset.images, self.input_shape)
        scores = np.empty((len(raw), *self.output_shape), np.float32)

        def receive(start: int, outputs: list[Float32]) -> None:
            found = self.device.host(outputs[0]).reshape(-1, scores.shape[1])
            scores[start : start + len(found)] = found

        self.each_output(raw, receive)
        return Report.of(dataset.labels, scores, self.class_names, top_k)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, or their numbers where they have none."""
        count = task_of(self.task, self.input_shape).classes(self.output_shape[-1])
        return self.classes or tuple(map(str, range(count)))

    # -- looking inside -----------------------------------------------------------------------------------------------

    def activations(
        self, images: ArrayLike, names: Sequence[str] | None = None, batch_size: int = EVALUATION_BATCH
    ) -> dict[str, Float32]:
        """The outputs (N, …) of layers, by default all, by their names, as inference computes them from raw images.

        Raises ArgumentError, with the nearest name, where there is no such layer.
        """
        names = [node.name for node in self.graph.nodes] if names is None else list(dict.fromkeys(names))
        if not names:
            return {}
        x = self._normalized(images)
        return probing.activations(self.graph, self.store, self.device, x, names, whole(batch_size, "batch_size"))

    def class_gradients(self, images: ArrayLike, name: str, classes: ArrayLike) -> tuple[Float32, Float32]:
        """The output (N, …) of layer ``name`` for raw images, and by it the gradient of each image's class's score.

        ``classes``: a number for each image. The score is the logit, before a softmax or sigmoid at the end; all
        layers run as in inference, and nothing in the model changes. Raises ArgumentError where there is no such layer,
        or the scores do not depend on it.
        """
        x = self._normalized(images)
        return probing.class_gradients(
            self.graph, self.store, self.device, x, name, np.atleast_1d(np.asarray(classes, np.int64))
        )

    def _normalized(self, images: ArrayLike) -> Float32:
        """Raw images as the model's input, (N, H, W, C) or (N, 1, 1, C)."""
        self._need_one_input()
        raw = raw_images(images, self.input_shape)
        if not len(raw):
            raise ArgumentError("there are no images")
        with engine_lock:
            x = self.device.zeros((len(raw), *(1, 1, *self.input_shape)[-3:]))
            self.load_images(x, raw)
            return self.device.host(x)

    def _need_one_input(self) -> None:
        if len(self.graph.input_shapes) != 1:
            raise ArgumentError("this model has several inputs: use forward and train_step")

    # -- training -----------------------------------------------------------------------------------------------------

    def fit(
        self,
        train: Dataset | tuple[ArrayLike, Any],
        *,
        validation: Dataset | tuple[ArrayLike, Any] | None = None,
        optimizer: Optimizer | None = None,
        loss: LossOfOutputs | None = None,
        loss_weights: Sequence[float] | None = None,
        epochs: int = 3,
        batch_size: int = 64,
        seed: int = 0,
        schedule: Schedule | str | None = None,
        augment: Augmentation | None = None,
        callbacks: Sequence[Callable[[training.Event], bool | None]] = (),
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | str | None = None,
        resume: bool = False,
        accumulate: int = 1,
        ema: float | None = None,
        on_save_error: str = "warn",
        on_nan: str = "stop",
    ) -> training.History:
        """Trains on raw images; returns the history, one record for each epoch.

        train, validation: a Dataset, or (images, labels), whose labels say what the model's task is: classes of images,
        masks, or boxes. optimizer: SGD(0.02, momentum=0.9) by default. schedule: a
        name of ``numbacnn.schedules``, or the factor of the learning rate at (step, steps). callbacks: called with
        every event; one that returns True ends the training. checkpoint: a file that holds the whole state after every
        epoch, and every ``checkpoint_every`` batches, or so often where that is "90s", "5m" or "1h"; ``resume`` goes
        on from it where it exists. on_save_error: "warn" trains on where it cannot be written, "stop" raises.
        on_nan: "stop" raises NumbacnnError that names the layer where NaN or infinity appears, "skip" leaves out the
        batches whose loss or gradients are not finite, and counts them in the history. accumulate: batches
        whose mean gradient makes one update, fewer at the end of an epoch. ema: decay, such as 0.999, of an average of
        the weights over the updates; the model then holds the averages at the end of every epoch, where it is
        validated and saved, and when fit returns. augment: changes of the training images, such as "rotate=10, mixup"
        or ``[nc.augment.Rotate(10), nc.augment.Mixup()]``, see ``nc.augment``. The model keeps the training set's
        normalisation and class names, unless it has its own. loss, loss_weights: as in ``train_step``, by default the
        task's, cross-entropy or ``DetectionLoss``; of several outputs each takes the labels, and the accuracy is the
        first one's.
        """
        self._need_one_input()
        names = self.classes
        trainer = training.Trainer(
            self,
            as_dataset(train, names),
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            epochs=epochs,
            batch_size=batch_size,
            seed=seed,
            schedule=get_schedule(schedule),
            validation=None if validation is None else as_dataset(validation, names),
            checkpoint=checkpoint,
            checkpoint_every=checkpoint_every,
            accumulate=accumulate,
            ema=ema,
            on_save_error=on_save_error,
            on_nan=on_nan,
            augment=augment,
        )
        if resume:
            trainer.resume()
        with closing(trainer.run()) as events:
            for event in events:
                stop = [callback(event) for callback in callbacks]  # each gets the event, also behind one that stops
                if any(stop):
                    break
        return trainer.history

    # -- looking and keeping ------------------------------------------------------------------------------------------

    def summary(self, show: bool = True) -> Summary:
        """Shapes, parameters and FLOPs of every layer, as data; printed as a table unless ``show`` is False."""
        summary = summarize(self.graph, self.device.sizes)
        if show:
            import sys

            sys.stdout.write(f"{summary}\n")
        return summary

    def save(self, path: str | PathLike[str]) -> None:
        """Writes graph, weights, normalisation and class names to one safetensors file, whole or not at all."""
        files.save_model(self, path)

    @classmethod
    def _from_file(cls, content: files.ModelFile, device: Device) -> "Model":
        model = cls.__new__(cls)
        model._several_inputs = content.several_inputs
        model._several_outputs = content.several_outputs
        model._build(content.graph, device)
        model.classes, model.normalization, model.task = content.classes, content.normalization, content.task
        model.auxiliary_weight = content.auxiliary_weight
        model.store.set(content.arrays)
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {
            "graph": to_dict(self.graph),
            "arrays": {name: np.array(value) for name, value in self.store.arrays().items()},
            "random": self.store.random.tolist(),
            "device": (self.device.name, self.device.precision),
            "frozen": self.store.frozen,
            "auxiliary_weight": self.auxiliary_weight,
            "kept": (self._several_inputs, self._several_outputs, self.classes, self.normalization, self.task),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        import_custom_layers(state["graph"])
        self._build(from_dict(state["graph"]), get_device(*state["device"]))
        self.auxiliary_weight = state["auxiliary_weight"]
        self._several_inputs, self._several_outputs, self.classes, self.normalization, self.task = state["kept"]
        self.store.set(state["arrays"])
        self.store.set_random(*state["random"])
        self._set_frozen(state["frozen"])


class Sequential(Model):
    """A model whose layers follow each other, on images of ``input_shape`` (height, width, channels) or (features,)."""

    def __init__(
        self,
        layers: Sequence[Layer],
        input_shape: Sequence[int],
        *,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        x = start = Input(input_shape)
        for layer in layers:
            x = layer(x)
        super().__init__(start, x, seed=seed, device=device, precision=precision)


def load(
    path: str | PathLike[str],
    *,
    layers: Sequence[type[Layer]] = (),
    device: str = "cpu",
    precision: str = "fp32",
) -> Model:
    """The model that ``save`` wrote, on a device and in a precision as ``Model`` takes them.

    ``layers``: classes of your own in the model, where the modules that define them are not imported: reading a file
    imports none. Raises ModelFileError where the file is not a model, is damaged or newer, or a class is not known.
    """
    for layer in layers:
        if not (isinstance(layer, type) and issubclass(layer, Layer) and hasattr(layer, "op")):
            raise ArgumentError(f"layers: give classes of layers, not {layer!r}")
    return Model._from_file(files.read_model(path, layers), get_device(device, precision))


def as_dataset(data: Any, classes: Sequence[str] | None) -> Dataset:
    """A Dataset from itself or from (images, labels)."""
    if isinstance(data, Dataset):
        return data
    if not isinstance(data, tuple) or len(data) != 2:
        raise ArgumentError(f"give a Dataset or (images, labels), not {type(data).__name__}")
    return Dataset.from_arrays(np.asarray(data[0]), data[1], classes)


def _numbers(given: Any, what: str) -> NDArray[Any]:
    """An array of real numbers, or an ArgumentError."""
    if type(given) is np.ndarray and given.dtype == FLOAT32:
        return given
    try:
        array = np.asarray(given)
    except ValueError as error:
        raise ArgumentError(f"{what}: {error}") from None
    if not np.can_cast(array.dtype, np.float32, "same_kind"):
        raise ArgumentError(f"{what} is {array.dtype}; give real numbers")
    return array


def _list(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)
