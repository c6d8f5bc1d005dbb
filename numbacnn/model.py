"""Model, Sequential and load: a network that trains, evaluates and is saved."""

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numbacnn._checks import format_shape, number
from numbacnn._checks.names import checks_arguments
from numbacnn._checks.text import for_output
from numbacnn.data.augment import Augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.graph import Graph, Input, Tensor
from numbacnn.engine.graph_format import from_dict, import_custom_layers, to_dict
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.inspection import activations as inspection
from numbacnn.inspection.summary import Summary, summarize
from numbacnn.layers import Layer
from numbacnn.losses.base import Weights
from numbacnn.optimizers import Optimizer
from numbacnn.saving import format as files
from numbacnn.saving.pretrained import LoadedWeights, load_weights
from numbacnn.schedules import Schedule, get_schedule
from numbacnn.tasks import task_of
from numbacnn.tasks.predictor import EVALUATION_BATCH, Float32
from numbacnn.training.objective import LossOfOutputs, ignored_by
from numbacnn.training.progress import TrainingProgress, shown_progress
from numbacnn.training.trainable import Data, TrainableModel
from numbacnn.training.trainer import Event, History, Trainer


class Model(TrainableModel):
    """A network: the graph from ``inputs`` to ``outputs``, its parameters, and how raw images become its input.

    ``seed`` draws the initial parameters, each from the seed and its own name. ``device`` is "cpu", "cuda" or
    "reference". ``precision`` is what convolutions and dense layers round the operands of their products to: "fp32", or
    on "cuda", for the tensor cores, "tf32" or "bf16" (docs/cuda.md).

    ``auxiliary`` are outputs in training only, which follow the others and whose losses have the weight
    ``auxiliary_weight`` unless ``loss_weights`` says otherwise (Szegedy et al. 2015, section 5). Inference leaves out
    what only they need.

    ``classes`` are the names of the classes, ``normalization`` is applied to raw images, and ``task`` is "classify",
    "segment", "detect", "tag" or "regress". ``fit`` sets those that are None from the data, and the model's file keeps
    them.
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
        graph = Graph(_listed(inputs), _listed(outputs), _listed(auxiliary))
        several = not isinstance(inputs, Tensor), not isinstance(outputs, Tensor)
        weight = number(auxiliary_weight, "auxiliary_weight", 0)
        super().__init__(graph, get_device(device, precision), *several, weight)
        self.store.initialize(seed)

    @checks_arguments
    def fit(
        self,
        train: Data | ArrayLike,
        labels: Any = None,
        *,
        validation: Data | float | None = None,
        optimizer: Optimizer | str | None = None,
        loss: LossOfOutputs | None = None,
        loss_weights: Weights | None = None,
        epochs: int = 3,
        batch_size: int = 64,
        seed: int = 0,
        schedule: Schedule | str | None = None,
        augment: Augmentation | None = None,
        callbacks: Sequence[Callable[[Event], bool | None]] = (),
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | str | None = None,
        resume: bool = False,
        accumulate: int = 1,
        ema: float | None = None,
        on_save_error: str = "warn",
        on_nan: str = "stop",
        initial_epoch: int | None = None,
        drop_last: bool = False,
        progress: bool | None = None,
    ) -> History:
        """Train on raw images; return the history, with an entry for each epoch.

        The model keeps the training set's normalization and class names, unless it has its own.

        Epochs count on from one call to the next, in ``model.epochs``: three calls of ``fit(epochs=1)`` draw the order
        of images, augmentation and dropout of ``fit(epochs=3)``. An optimizer goes on too, the same object or the same
        name. Schedule and moving average begin again in each call.

        Args:
            train: images, followed by ``labels``, as ``nc.data.Dataset.from_arrays`` takes them, or both in a tuple;
                a Dataset; or batches (images, labels), such as a PyTorch DataLoader, which are read once, into memory.
                The labels determine the task: classes, masks, or boxes.
            labels: those of the images ``train``.
            validation: data of the same kind, evaluated after every epoch; or the fraction of ``train`` to hold out.
            optimizer: an optimizer, or a name such as "adam"; by default SGD(0.02, momentum=0.9).
            loss: as in ``train_step``, by default the task's: cross-entropy, or ``DetectionLoss``. Each of several
                outputs gets the labels, and the accuracy is that of the first.
            loss_weights: as in ``train_step``.
            epochs: passes over the training set; with ``initial_epoch``, the number of the last one.
            batch_size: images per step; the last batch of an epoch may be smaller, unless ``drop_last`` omits it.
            seed: determines the order of images, augmentation and dropout.
            schedule: a name from ``numbacnn.schedules``, or a function (step, steps) → factor of the learning rate.
            augment: random changes of the training images, such as "rotate=10, mixup" or
                ``[nc.augment.Rotate(10), nc.augment.Mixup()]``: see ``nc.augment``.
            callbacks: called with every event; training stops if one returns True.
            checkpoint: a file that holds the complete state after every epoch.
            checkpoint_every: interval at which it is also written: a number of steps, or a time such as "5m" or "1h".
            resume: continue from the checkpoint if it exists.
            accumulate: number of batches whose mean gradient makes one update; fewer at the end of an epoch.
            ema: decay, such as 0.999, of a moving average of the weights. At the end of every epoch, when it is
                validated and saved, and when fit returns, the model holds the averages.
            on_save_error: "warn" continues if the checkpoint cannot be written, "stop" raises.
            on_nan: "stop" raises NumbacnnError with the layer in which NaN or infinity appears first; "skip" drops the
                batches whose loss or gradients are not finite, and counts them in the history.
            initial_epoch: number of epochs, and steps of the schedule, that count as done, as in Keras; by default
                ``model.epochs``, and the schedule is at its beginning.
            drop_last: omit a smaller last batch, such as one of a single image, which has no variance for BatchNorm.
            progress: show a progress bar on standard error; by default only on a terminal and in a notebook.
        """
        with shown_progress(progress) as show:
            return self._fit(
                train if labels is None else (train, labels),
                show,
                validation=validation,
                loss=loss,
                callbacks=callbacks,
                resume=resume,
                schedule=get_schedule(schedule),
                optimizer=optimizer,
                loss_weights=loss_weights,
                epochs=epochs,
                batch_size=batch_size,
                seed=seed,
                checkpoint=checkpoint,
                checkpoint_every=checkpoint_every,
                accumulate=accumulate,
                ema=ema,
                on_save_error=on_save_error,
                on_nan=on_nan,
                augment=augment,
                initial_epoch=initial_epoch,
                drop_last=drop_last,
            )

    def _fit(
        self,
        train: Data | ArrayLike,
        show: TrainingProgress | None,
        validation: Data | float | None,
        loss: LossOfOutputs | None,
        callbacks: Sequence[Callable[[Event], bool | None]],
        resume: bool,
        **options: Any,
    ) -> History:
        self.check_one_input()
        dataset, held_out = Dataset.of(train, self.classes, ignored_by(loss)), None
        if isinstance(validation, Real):
            dataset, held_out = dataset.split(float(validation), options["seed"])
        elif validation is not None:
            held_out = Dataset.of(validation, self.classes or dataset.classes, ignored_by(loss))
        trainer = Trainer(self, dataset, validation=held_out, loss=loss, **options)
        if resume:
            trainer.resume()
        if show is not None:
            show.begin(trainer)
            callbacks = [show, *callbacks]
        with closing(trainer.run()) as events:
            for event in events:
                stop = [callback(event) for callback in callbacks]  # every callback gets the event
                if any(stop):
                    break
        return trainer.history

    # -- transfer learning --------------------------------------------------------------------------------------------

    def load_weights(self, path: str | PathLike[str], strict: bool = True, ignore: Sequence[str] = ()) -> LoadedWeights:
        """Write a safetensors file's tensors into the parameters and the state of the same names.

        The file is a PyTorch state dict, whose layouts are permuted (docs/pretrained.md), or a model file; float32, or
        cast from float16 or float64. Tensors whose names match one of the patterns ``ignore`` are left out. Raises
        ModelFileError, and writes nothing, if a tensor is missing, has the wrong shape, or belongs to no layer. With
        ``strict=False`` only tensors that fit are written; the result names these and the others.
        """
        with engine_lock:
            return load_weights(self.graph, self.store, path, strict, ignore)

    def replace_head(self, classes: int, *, seed: int = 0) -> "Model":
        """Return a model for another number of classes, with these weights except for a newly drawn last layer.

        Auxiliary outputs get new layers too. Frozen parameters and the normalization are kept, names of classes are
        not; this model does not change. Raises ArgumentError unless the last layer with weights is a Dense or Conv2D.
        """
        outputs = task_of(self.task, self.input_shape).outputs(classes)
        model = type(self).__new__(type(self))
        options = self.several_inputs, self.several_outputs, self.auxiliary_weight
        TrainableModel.__init__(model, self.graph.with_heads(outputs), self.device, *options)
        model.store.initialize(seed)
        heads = {self.graph.head(value) for value in self.graph.training_outputs}
        kept = {name: array for name, array in self.store.arrays().items() if name.rpartition(".")[0] not in heads}
        model.store.set(kept)
        model.set_frozen(self.store.frozen)
        model.normalization, model.task = self.normalization, self.task
        return model

    # -- inspection ---------------------------------------------------------------------------------------------------

    def activations(
        self, images: ArrayLike, names: Sequence[str] | None = None, batch_size: int = EVALUATION_BATCH
    ) -> dict[str, Float32]:
        """Return the outputs (N, …) of layers by name, by default of all, as inference computes them from raw images.

        Raises ArgumentError, with the nearest name, if a layer does not exist.
        """
        return inspection.activations(self, images, names, batch_size)

    def class_gradients(self, images: ArrayLike, name: str, classes: ArrayLike) -> tuple[Float32, Float32]:
        """Return the output (N, …) of a layer for raw images, and the gradient of a class score with respect to it.

        ``classes`` is the number of a class for each image; its score is the logit, before a softmax or sigmoid at the
        end. All layers run as in inference, and the model does not change. Raises ArgumentError if there is no such
        layer, or the scores do not depend on it.
        """
        return inspection.class_gradients(self, images, name, classes)

    @checks_arguments
    def summary(self, show: bool = True) -> Summary:
        """Return shapes, parameters and FLOPs of every layer as data; print them as a table unless ``show=False``."""
        summary = summarize(self.graph, self.device.sizes)
        if show:
            sys.stdout.write(f"{summary}\n")
        return summary

    @property
    def layers(self) -> list[Layer]:
        """The layers in the order of the graph."""
        return [node.layer for node in self.graph.nodes]

    def __repr__(self) -> str:
        lines = [f"  {n.name}: {type(n.layer).__name__} → {format_shape(n.shape)}" for n in self.graph.nodes]
        return for_output("\n".join([f"{type(self).__name__} of {format_shape(self.input_shape)}", *lines]))

    # -- copies and files ---------------------------------------------------------------------------------------------

    def to(self, device: str, precision: str = "fp32") -> "Model":
        """Move the model to a device, as ``Model`` takes it and its precision; return the model itself.

        An optimizer that has made updates serves the model of before: make a new one.
        """
        get_device(device, precision)  # raises an error before anything changes
        self.__setstate__(self.__getstate__() | {"device": (device, precision)})
        return self

    def save(self, path: str | PathLike[str]) -> None:
        """Write graph, weights, normalization and class names to one safetensors file, completely or not at all.

        Raises ArgumentError if the name is that of another format, such as model.onnx.
        """
        files.save_model(self, path)

    @classmethod
    def from_content(cls, content: files.ModelFile, device: Device) -> "Model":
        """Return the model with the content of a file."""
        model = cls.__new__(cls)
        several = content.several_inputs, content.several_outputs
        TrainableModel.__init__(model, content.graph, device, *several, content.auxiliary_weight)
        model.classes, model.normalization, model.task = content.classes, content.normalization, content.task
        model.store.set(content.arrays)
        model.set_frozen(content.frozen)
        return model

    def __getstate__(self) -> dict[str, Any]:
        return {
            "graph": to_dict(self.graph),
            "arrays": {name: np.array(value) for name, value in self.store.arrays().items()},
            "random": self.store.random.tolist(),
            "device": (self.device.name, self.device.precision),
            "frozen": self.store.frozen,
            "epochs": self.epochs,
            "options": (self.several_inputs, self.several_outputs, self.auxiliary_weight),
            "data": (self.classes, self.normalization, self.task),
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        import_custom_layers(state["graph"])
        TrainableModel.__init__(self, from_dict(state["graph"]), get_device(*state["device"]), *state["options"])
        self.classes, self.normalization, self.task = state["data"]
        self.epochs = state["epochs"]
        self.store.set(state["arrays"])
        self.store.set_random(*state["random"])
        self.set_frozen(state["frozen"])


class Sequential(Model):
    """A model whose layers follow each other, on images of ``input_shape`` (height, width, channels) or (features,).

    Without ``input_shape`` the list begins with an ``Input``.
    """

    def __init__(
        self,
        layers: Sequence[Layer | Tensor] = (),
        input_shape: Sequence[int] | None = None,
        *,
        seed: int = 0,
        device: str = "cpu",
        precision: str = "fp32",
    ) -> None:
        start, rest = _start(layers, input_shape)
        x = start
        for layer in rest:
            x = layer(x)
        super().__init__(start, x, seed=seed, device=device, precision=precision)


def _start(layers: Sequence[Layer | Tensor], input_shape: Sequence[int] | None) -> tuple[Tensor, list[Layer]]:
    """Return the input of a chain of layers, and the layers after it."""
    if not isinstance(layers, Sequence) or not layers:
        given = f"layers={layers!r}"
        raise ArgumentError(f"{given}: give a list, such as nc.Sequential([nc.Flatten(), nc.Dense(10)], (28, 28, 1))")
    first = layers[0]
    if isinstance(first, Tensor) and input_shape is not None:
        raise ArgumentError("the layers begin with an Input, which has the shape: leave input_shape out")
    if not isinstance(first, Tensor) and input_shape is None:
        raise ArgumentError("input_shape is missing: give (height, width, channels), or an Input before the layers")
    start = first if isinstance(first, Tensor) else Input(input_shape or ())
    rest = [layer for layer in layers if layer is not start]
    for layer in rest:
        if not isinstance(layer, Layer):
            raise ArgumentError(f"layers: {layer!r} is not a layer such as nc.Dense(10)")
    return start, [layer for layer in rest if isinstance(layer, Layer)]


READERS: dict[str, Callable[[Path], files.ModelFile]] = {}  # of other formats, by the suffix of the file


@checks_arguments
def load(
    path: str | PathLike[str],
    *,
    layers: Sequence[type[Layer]] = (),
    device: str = "cpu",
    precision: str = "fp32",
) -> Model:
    """Return the model that ``save`` wrote, or the network of a file that ends in .onnx.

    ``device`` and ``precision`` are as in ``Model``; ``nc.onnx.load`` has more about ONNX.

    Reading a file imports no modules: ``layers`` are the custom layer classes of the model, unless the modules that
    define them are imported already. Raises ModelFileError if the file is not a model, is damaged or newer than this
    version, or a class is unknown.
    """
    for layer in layers:
        if not (isinstance(layer, type) and issubclass(layer, Layer) and hasattr(layer, "op")):
            raise ArgumentError(f"layers: give classes of layers, not {layer!r}")
    read = READERS.get(Path(path).suffix)
    content = files.read_model(path, layers) if read is None else read(Path(path))
    return Model.from_content(content, get_device(device, precision))


def _listed(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    return [tensors] if isinstance(tensors, Tensor) else list(tensors)
