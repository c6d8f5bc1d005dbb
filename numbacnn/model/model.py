"""A network that trains, evaluates and is saved."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from numbers import Real
from os import PathLike
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import ArrayLike

from numbacnn._checks import check_takes, choose, flag, format_shape, number, one_of, path_of, shown
from numbacnn._checks.names import checks_arguments, checks_call
from numbacnn._checks.text import for_output
from numbacnn.data.augment import Augmentation
from numbacnn.distributed import Communicator, Group
from numbacnn.engine.device import Device, get_device
from numbacnn.engine.graph import Graph, Tensor
from numbacnn.engine.graph_format import from_dict, import_custom_layers, to_dict
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.inspection import activations as inspection
from numbacnn.inspection.drawing import Drawing, draw, model_html
from numbacnn.inspection.summary import Summary, summarize
from numbacnn.layers import Layer
from numbacnn.layers.convolution import MODEL_ALGORITHMS, WindowLayer
from numbacnn.losses.base import Weights
from numbacnn.optimizers import Optimizer
from numbacnn.saving import format as files
from numbacnn.saving.pretrained import LoadedWeights, load_weights
from numbacnn.schedules import Schedule, get_schedule
from numbacnn.tasks import task_of
from numbacnn.tasks.predictor import EVALUATION_BATCH, Float32
from numbacnn.tasks.wanted import Wanted
from numbacnn.training.objective import LossOfOutputs
from numbacnn.training.progress import TrainingProgress, shown_progress
from numbacnn.training.trainable import Data, TrainableModel
from numbacnn.training.trainer import Event, History, Trainer

Callback: TypeAlias = Callable[[Event], bool | None]


ARRAYS_INSTEAD = "model.set_parameters takes arrays by name, and model.save(path) writes them"


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
        callbacks: Callback | Sequence[Callback] | None = (),
        checkpoint: str | PathLike[str] | None = None,
        checkpoint_every: int | str | None = None,
        resume: bool = False,
        accumulate: int = 1,
        ema: float | None = None,
        on_save_error: str = "warn",
        on_nan: str = "stop",
        initial_epoch: int | None = None,
        drop_last: bool = False,
        metrics: Wanted = None,
        monitor: str | None = None,
        shards: int | None = None,
        sync_batch_norm: bool = False,
        communicator: Communicator | Group | None = None,
        progress: bool | None = None,
    ) -> History:
        """Train on raw images; return the history, with an entry for each epoch.

        The model keeps the training set's normalization and class names, unless it has its own.

        Epochs count on from one call to the next, in ``model.epochs``: three calls of ``fit(epochs=1)`` draw the order
        of images, augmentation and dropout of ``fit(epochs=3)``. An optimizer continues too, as the same object or the
        same name. Schedule and moving average begin again in each call.

        Args:
            train: images, followed by ``labels``, as ``nc.data.Dataset.from_arrays`` takes them, or both in a tuple;
                a Dataset; or batches (images, labels), such as a PyTorch DataLoader, which are read once, into memory.
                The images of a model with several inputs are a tuple of arrays, or a dict by the inputs' names. The
                labels determine the task: classes, masks, or boxes.
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
            callbacks: a function or several, called with every event; training stops if one returns True.
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
            metrics: what to measure besides loss and accuracy after every epoch, on the validation data, or without it
                on the training set: names such as "f1" or "top_5", functions of (targets, predictions) that return a
                number, or a mapping from names to functions (docs/training.md). The history has the values.
            monitor: the measure of the validation data that decides which epoch is best, and when ``EarlyStopping``
                ends the training: a metric, or "loss"; by default accuracy, mean IoU, mAP@0.5 or R².
            shards: cut each batch into this number of parts, and add their gradients in a fixed order, so that the
                result does not depend on the number of ranks (docs/distributed.md).
            sync_batch_norm: with shards, batch normalization is over the whole batch, as without them; by default each
                shard has its own mean and variance.
            communicator: of mpi4py, such as MPI.COMM_WORLD: all its ranks call fit with the same arguments, and share
                the shards, by default 16. Rank 0 shows progress and writes the checkpoint; callbacks run on all ranks.
            progress: show a progress bar on standard error; by default only on a terminal and in a notebook.
        """
        group = Group.of(communicator)
        with group.reporting(), shown_progress(progress if group.is_first else False) as show:
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
                metrics=metrics,
                monitor=monitor,
                shards=shards,
                sync_batch_norm=sync_batch_norm,
                communicator=group,
            )

    def _fit(
        self,
        train: Data | ArrayLike,
        show: TrainingProgress | None,
        validation: Data | float | None,
        loss: LossOfOutputs | None,
        callbacks: Callback | Sequence[Callback] | None,
        resume: bool,
        **options: Any,
    ) -> History:
        listed = _checked_callbacks(callbacks)
        dataset, held_out = self.dataset_of(train, loss), None
        if isinstance(validation, Real):
            fraction = number(validation, "validation", 0, 1, below=True, above=True)
            dataset, held_out = dataset.split(fraction, options["seed"])
        elif validation is not None:
            held_out = self.dataset_of(validation, loss, dataset.classes)
        trainer = Trainer(self, dataset, validation=held_out, loss=loss, **options)
        if flag(resume, "resume"):
            trainer.resume()
        agrees = bool(listed)  # those of the caller, which every rank has
        if show is not None:
            show.begin(trainer)
            listed = [show, *listed]
        with closing(trainer.run()) as events:
            for event in events:
                stop = [_is_true(callback(event)) for callback in listed]  # every callback gets the event
                if agrees and trainer.group.any(any(stop)):
                    break
        return trainer.history

    # -- transfer learning --------------------------------------------------------------------------------------------

    @checks_call
    def load_weights(self, path: str | PathLike[str], strict: bool = True, ignore: Sequence[str] = ()) -> LoadedWeights:
        """Write a safetensors file's tensors into the parameters and the state of the same names.

        The file is a PyTorch state dict, whose layouts are permuted (docs/pretrained.md), or a model file; float32, or
        cast from float16 or float64. Tensors whose names match one of the patterns ``ignore`` are left out. Raises
        ModelFileError, and writes nothing, if a tensor is missing, has another shape or type, or belongs to no layer.
        With ``strict=False`` only tensors that fit are written; the result names these and the others.
        """
        file = path_of(path, "load_weights", ARRAYS_INSTEAD)
        with engine_lock:
            return load_weights(self.graph, self.store, file, strict, ignore)

    @checks_call
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
        kept = {name: array for name, array in self.store.copies().items() if name.rpartition(".")[0] not in heads}
        model.store.set(kept)
        model.set_frozen(self.store.frozen)
        model.normalization, model.task = self.normalization, self.task
        return model

    # -- inspection ---------------------------------------------------------------------------------------------------

    @checks_call
    def activations(
        self, images: ArrayLike, names: Sequence[str] | None = None, batch_size: int = EVALUATION_BATCH
    ) -> dict[str, Float32]:
        """Return the outputs (N, …) of layers by name, by default of all, as inference computes them from raw images.

        Raises ArgumentError, with the nearest name, if a layer does not exist.
        """
        return inspection.activations(self, images, names, batch_size)

    @checks_call
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
            print(summary)
        return summary

    @checks_arguments
    def plot(self, compact: bool = False) -> Drawing:
        """Draw the graph as an SVG image: a notebook shows it, and ``save`` writes it to a file.

        Every layer is a box with its name, kind and output shape. With ``compact``, activations, normalizations and
        reshaping have no boxes, and layers no names.
        """
        return draw(self.graph, flag(compact, "compact"))

    def _repr_html_(self) -> str:
        return model_html(repr(self).partition("\n")[0], self.graph, self.summary(show=False))

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers in the order of the graph."""
        return tuple(node.layer for node in self.graph.nodes)

    def __len__(self) -> int:
        """The number of layers."""
        return len(self.graph.nodes)

    def __iter__(self) -> Iterator[Layer]:
        """Iterate over ``layers``."""
        return iter(self.layers)

    def __getitem__(self, index: int | str) -> Layer:
        """Return a layer by its index in ``layers``, or by its name. Raises ArgumentError if a name is unknown."""
        if isinstance(index, slice):
            raise ArgumentError("a model cannot be cut: model.activations(images, names) has the outputs of its layers")
        if isinstance(index, str):
            return choose("layer", index, {node.name: node.layer for node in self.graph.nodes})
        return self.layers[index]

    def _parts(self) -> list[str]:
        graph = vars(self).get("graph")  # there is none while a copy is made
        return [] if graph is None else [node.name for node in graph.nodes]

    if not TYPE_CHECKING:  # a type checker rejects unknown attributes

        def __getattr__(self, name: str) -> Layer:
            """Return the layer of a name."""
            is_layer = not name.startswith("_") and name in self._parts()
            return self[name] if is_layer else super().__getattr__(name)

    def __repr__(self) -> str:
        lines = [f"  {n.name}: {type(n.layer).__name__} → {format_shape(n.shape)}" for n in self.graph.nodes]
        return for_output("\n".join([f"{type(self).__name__} of {format_shape(self.input_shape)}", *lines]))

    # -- copies and files ---------------------------------------------------------------------------------------------

    @checks_call
    def to(self, device: str, precision: str = "fp32") -> "Model":
        """Move the model to a device, as ``Model`` takes it and its precision; return the model itself.

        An optimizer that has made updates serves the model of before: make a new one.
        """
        get_device(device, precision)  # raises an error before anything changes
        self.__setstate__(self.__getstate__() | {"device": (device, precision)})
        return self

    @checks_call
    def use_algorithm(self, algorithm: str) -> "Model":
        """Give all convolutions this algorithm, as ``Conv2D`` takes it; return the model itself.

        "auto" is the fastest for batches, "latency" for one image at a time; "direct" keeps NaN to its windows.
        An optimizer that has made updates serves the model of before: make a new one.
        """
        one_of(algorithm, "algorithm", MODEL_ALGORITHMS)
        state = self.__getstate__()
        for item, node in zip(state["graph"]["nodes"], self.graph.nodes, strict=True):
            if isinstance(node.layer, WindowLayer) and "algorithm" in item["attributes"]:
                item["attributes"]["algorithm"] = algorithm
        self.__setstate__(state)
        return self

    @checks_call
    def save(self, path: str | PathLike[str]) -> None:
        """Write graph, weights, normalization and class names to one safetensors file, completely or not at all.

        Raises ArgumentError if the name is that of another format, such as model.onnx.
        """
        files.save_model(self, path_of(path, "save", ARRAYS_INSTEAD))

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
            "arrays": self.store.copies(),
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


def _checked_callbacks(callbacks: Callback | Sequence[Callback] | None) -> list[Callback]:
    """Return callbacks as a list. Raises ArgumentError if one is not a function of events."""
    listed = list(callbacks) if isinstance(callbacks, Sequence) else [] if callbacks is None else [callbacks]
    for callback in listed:
        if isinstance(callback, type) or not callable(callback):
            raise ArgumentError(
                f"callbacks: pass functions of events, such as nc.EarlyStopping(3), not {shown(callback)}"
            )
        instead = "pass one of an event, which may return True to end the training"
        check_takes(callback, "event", "callbacks", instead)
    return listed


def _is_true(answer: object) -> bool:
    """Return whether a callback asks to end the training. Raises ArgumentError if it returns an array."""
    try:
        return bool(answer)
    except ValueError:
        raise ArgumentError(f"a callback returned {shown(answer)}: return True to end the training, or None") from None


def _listed(tensors: Tensor | Sequence[Tensor]) -> list[Tensor]:
    listed = list(tensors) if isinstance(tensors, Sequence) else [tensors]
    for tensor in listed:
        if not isinstance(tensor, Tensor):
            wrong = f"{type(tensor).__name__} is not a symbolic tensor"
            raise ArgumentError(f"Model: {wrong}; pass an Input and what layers return for it, (x, nc.ReLU()(x))")
    return listed
