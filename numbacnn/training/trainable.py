"""A predictor that can be trained and evaluated: what the training loop works on."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks.names import checks_arguments, checks_call
from numbacnn.data.chain import Augmentation
from numbacnn.data.dataset import Dataset, Images
from numbacnn.data.labels import MASKS, kind_of
from numbacnn.distributed import Communicator, Group
from numbacnn.engine.device import Device
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.geometry import as_image
from numbacnn.kernels.decision import LOSS_ROWS, SUM_GROUPS
from numbacnn.losses import Loss
from numbacnn.losses.base import Float64, LossValue, Weights
from numbacnn.optimizers import SGD, Optimizer, get_optimizer
from numbacnn.tasks import Task, task_for
from numbacnn.tasks.predictor import Float32, Inputs, Predictor
from numbacnn.tasks.results import Metrics, MetricState
from numbacnn.tasks.scores import Scores
from numbacnn.tasks.views import Averaging
from numbacnn.tasks.wanted import Wanted, wanted_metrics
from numbacnn.training.batch import TrainingBatch, total
from numbacnn.training.objective import LossOfOutputs, Objective, ignored_by, loss_input, make_objective
from numbacnn.training.penalties import Penalties

Data = Dataset | tuple[Inputs, Any] | Iterable[Any]  # raw images and labels, or batches of these


class TrainableModel(Predictor):
    """A predictor with losses.

    Attributes:
        auxiliary_weight: the default weight of the losses of auxiliary outputs.
        epochs: those that ``fit`` has trained; copies keep it, files do not.
    """

    def __init__(
        self, graph: Graph, device: Device, several_inputs: bool, several_outputs: bool, auxiliary_weight: float
    ) -> None:
        super().__init__(graph, device, several_inputs, several_outputs)
        self.auxiliary_weight, self.epochs = auxiliary_weight, 0
        self._own_optimizer: tuple[str, Optimizer] | None = None
        self._objective: tuple[tuple[object, ...], Objective] | None = None  # of the last step, after its arguments
        self._penalties = Penalties(graph.penalties(), self.store)
        self._sums: Float64 | None = None  # made when first used

    @checks_call
    def train_step(
        self,
        images: ArrayLike | Sequence[ArrayLike],
        labels: Any,
        optimizer: Optimizer | str,
        loss: LossOfOutputs = "cross_entropy",
        loss_weights: Weights | None = None,
    ) -> float:
        """Run forward, loss, backward and update on normalized float32 images (N, …); return the loss.

        The loss of several outputs is the weighted sum of theirs: ``loss`` and ``labels`` are one for all outputs or a
        list of one each, ``loss_weights`` is a number each, by default 1, and ``auxiliary_weight`` for auxiliary
        outputs. These follow the others; lists may leave them out, and then they get the first loss, the first labels
        and their default weight. The layers' penalties are part of the loss.
        """
        arrays = self.checked_inputs(images)
        objective = self.objective(loss, loss_weights)
        with engine_lock:
            batch = self.training_batch(len(arrays[0]), objective)
            self.upload(batch.inputs, arrays)
            value = batch.gradients(labels)
            (optimizer if isinstance(optimizer, Optimizer) else self.optimizer_for(optimizer)).step(self)
        return LossValue(value)

    def add_penalties(self) -> float:
        """Add the gradients of the layers' l1 and l2 to ``gradients``; return Σ l1·|w| + l2·w².

        For a custom training loop, between ``backward`` and the update; ``train_step`` and ``fit`` do this themselves.
        """
        with engine_lock:
            rows = self._step_sums()[LOSS_ROWS + len(self.graph.training_outputs) :]
            self._penalties.launch(rows)
            return total(self.device.host(rows))

    def objective(
        self, loss: LossOfOutputs, loss_weights: Weights | None = None, classes: Sequence[str] | None = None
    ) -> Objective:
        """Return the loss and the weight of each output, from the arguments of ``train_step`` and names of classes."""
        if loss_weights is not None or not isinstance(loss, str | Loss):
            return self._make_objective(loss, loss_weights, classes)
        key = self.graph, self.auxiliary_weight, loss, classes or self.classes
        if self._objective is None or not all(map(is_, self._objective[0], key)):
            self._objective = key, self._make_objective(loss, None, classes)
        return self._objective[1]

    def _make_objective(
        self, loss: LossOfOutputs, loss_weights: Weights | None, classes: Sequence[str] | None
    ) -> Objective:
        outputs, auxiliary = len(self.graph.outputs), len(self.graph.auxiliary)
        names = {"names": self.graph.output_names, "classes": classes or self.classes or ()}
        made = make_objective(loss, loss_weights, outputs, auxiliary, self.auxiliary_weight, **names)
        pairs = zip(self.graph.training_outputs, made.losses, strict=True)
        return replace(made, inputs=tuple(loss_input(self.graph, output, each) for output, each in pairs))

    def optimizer_for(self, given: Optimizer | str | None) -> Optimizer:
        """Return the optimizer of ``fit``; one by name, or the default, continues where the last ``fit`` ended."""
        if not isinstance(given, str | None):
            return get_optimizer(given)
        name = given or ""
        if self._own_optimizer is None or self._own_optimizer[0] != name:
            self._own_optimizer = name, SGD(0.02, momentum=0.9) if given is None else get_optimizer(given)
        return self._own_optimizer[1]

    def default_losses(self, task: Task) -> list[Loss]:
        """Return the task's loss of each output, auxiliary ones last."""
        graph = self.graph
        layers = map(graph.layer_of, graph.training_outputs)
        ends = [None if layer is None else layer.known_op for layer in layers]
        return [
            task.loss(graph.shapes[value][-1], end) for value, end in zip(graph.training_outputs, ends, strict=True)
        ]

    def training_batch(self, n: int, objective: Objective) -> TrainingBatch:
        """Return the buffers of a training step on ``n`` images, for loops that fill them under ``engine_lock``."""
        executor = self.training_executor(n, objective.inputs)
        return TrainingBatch(executor, n, *self.step_memory(objective))

    def step_memory(self, objective: Objective) -> tuple[Objective, Penalties, Float64]:
        """Return what ``TrainingBatch`` needs besides an executor and its images."""
        return objective, self._penalties, self._step_sums()

    def _step_sums(self) -> Float64:
        """Return the rows of partial sums of a training step, as in ``kernels.decision``."""
        if self._sums is None:
            rows = LOSS_ROWS + len(self.graph.training_outputs) + len(self._penalties)
            self._sums = self.device.zeros((rows, SUM_GROUPS), np.float64)
        return self._sums

    @checks_arguments
    def evaluate(
        self,
        test: Data | ArrayLike,
        labels: Any = None,
        loss: LossOfOutputs | None = None,
        loss_weights: Weights | None = None,
        *,
        metrics: Wanted = None,
        tta: Augmentation | None = None,
        communicator: Communicator | Group | None = None,
    ) -> dict[str, float]:
        """Return mean loss and accuracy on data as ``fit`` takes it, raw images and labels or a Dataset.

        ``loss``, ``loss_weights`` and ``metrics`` are as in ``fit``; the first two may follow a Dataset or a tuple.
        Images of a model with several inputs are a tuple, or a dict by name; then give ``loss`` by name.

        ``loss, accuracy = model.evaluate(test)`` assigns the values. Masks add ``mean_iou``; boxes add ``map_50`` and
        ``map``, mAP@0.5 and mAP@0.5:0.95. Penalties and auxiliary outputs are left out. Each of several outputs gets
        the labels: the loss is that of all, the other measures are those of the first, and ``loss.NAME``,
        ``accuracy.NAME`` … those of each.

        ``tta``, test-time augmentation, averages over views of each image, as in ``predict``: probabilities if the loss
        applies a softmax or sigmoid, otherwise the outputs that the loss reads.

        The ranks of a ``communicator`` of mpi4py share the batches; each gets the results, equal to those of one rank.
        """
        several = isinstance(test, tuple) and len(self.graph.input_shapes) > 1 and not isinstance(labels, str | Loss)
        if labels is not None and isinstance(test, Dataset | tuple) and not several:
            loss, loss_weights, labels = labels, loss_weights if loss is None else loss, None  # type: ignore[assignment]
        given = test if labels is None else (test, labels)
        dataset = self.dataset_of(given, loss)
        measured, objective = self.measure(dataset, loss, loss_weights, metrics, Group.of(communicator), tta)
        results = [each.results() for each in measured]
        loss_sum = sum(weight * each["loss"] for weight, each in zip(objective.weights, results, strict=False))
        found = results[0] | {"loss": loss_sum}
        if len(results) > 1:
            for value, each in zip(self.graph.outputs, results, strict=True):
                found |= {f"{name}.{self.graph.names[value]}": figure for name, figure in each.items()}
        return Scores(found)

    def dataset_of(
        self, given: Data | ArrayLike, loss: LossOfOutputs | None = None, classes: Sequence[str] | None = None
    ) -> Dataset:
        """Return what ``fit`` and ``evaluate`` take as a data set, with ``classes`` unless the model has its own."""
        outputs = len(self.graph.outputs)
        if outputs > 1 and isinstance(given, tuple) and len(given) == 2 and _is_of_outputs(given[1], outputs):
            raise ArgumentError(
                f"labels for each of {outputs} outputs: fit and evaluate give all outputs the same labels; pass one "
                "for each to train_step(images, [labels, …], optimizer, loss=[…]), batch by batch"
            )
        return Dataset.of(given, self.classes or classes, ignored_by(loss), self.graph.input_names)

    def check_inputs(self, dataset: Dataset) -> None:
        """Raise ArgumentError unless a data set has every input of the model, each in its shape."""
        names, shapes = self.graph.input_names, self.graph.input_shapes
        if len(dataset.inputs) != len(shapes):
            listed = ", ".join(names)
            raise ArgumentError(
                f"the data has {len(dataset.inputs)} inputs, and the model {len(shapes)}: {listed}; pass a tuple or a "
                "dict of arrays, or Dataset.from_arrays(…, others=[…])"
            )
        for name, shape, part in zip(names, shapes, dataset.inputs, strict=True):
            if part.shape[1:] != as_image(shape):
                raise ArgumentError(f"input {name!r} of shape {part.shape[1:]}; the model's is {shape}")

    @staticmethod
    def check_counted(dataset: Dataset, objective: Objective) -> None:
        """Raise ArgumentError if the losses ignore every label of a data set."""
        ignored, labels = objective.losses[0].ignore_index, dataset.labels
        if ignored is not None and (labels == ignored).all():
            raise ArgumentError(f"each of the {labels.size} labels is ignore_index={ignored}: none is left to count")

    def measure(
        self,
        dataset: Dataset,
        loss: LossOfOutputs | None = None,
        loss_weights: Weights | None = None,
        metrics: Wanted = None,
        group: Group | None = None,
        tta: Augmentation | None = None,
    ) -> tuple[list[Metrics], Objective]:
        """Return the task's metrics for each output that is not auxiliary, and the losses with their weights.

        The ranks of a group share the batches; each gets the metrics of all.
        """
        raw = self.adapted(dataset.inputs)
        task = task_for(self.task, dataset, self.input_shape)
        task.check(dataset, self.output_shape)
        objective = self.objective(self.default_losses(task) if loss is None else loss, loss_weights, dataset.classes)
        objective = objective.ignoring(dataset.ignore_index)
        for each in objective.losses:
            task.check_loss(each)
        wanted = wanted_metrics(metrics, task, task.classes(self.output_shape[-1]))
        values = objective.inputs[: objective.main]
        activations = [
            self.applied_activation(task.name, output) if value == output else loss.activation
            for value, output, loss in zip(values, self.graph.outputs, objective.losses, strict=False)
        ]

        def new_metrics() -> list[Metrics]:
            return [task.metrics(part, self.device, wanted) for part in objective.losses[: objective.main]]

        def add(measured: list[Metrics], outputs: list[Float32], start: int) -> None:
            for metric, output, activation in zip(measured, outputs, activations, strict=True):
                labels = np.asarray(dataset.labels[start : start + len(output)])
                metric.add(output, labels)
                if metric.needs_predictions:
                    metric.keep(_in_shape(self.predictions(output, task.name, activation), labels), labels)

        self.check_counted(dataset, objective)
        averaging = self.averaging(tta, values, [loss.activation for loss in objective.losses[: objective.main]])
        measured = new_metrics()
        if group is None or group.size == 1:
            self.each_output(
                raw, lambda start, outputs: add(measured, outputs, start), outputs=values, averaging=averaging
            )
        else:
            for states in self._measure_shared(raw, group, values, new_metrics, add, averaging):
                for metric, state in zip(measured, states, strict=True):
                    metric.merge(state)
        return measured, objective

    def _measure_shared(
        self,
        raw: Sequence[Images],
        group: Group,
        values: tuple[int, ...],
        new_metrics: Callable[[], list[Metrics]],
        add: Callable[[list[Metrics], list[Float32], int], None],
        averaging: Averaging | None,
    ) -> list[list[MetricState]]:
        """Measure this rank's batches; return the states of the metrics of each batch, of all ranks, in order."""
        with engine_lock:
            size = self.reserve_outputs(len(raw[0]), outputs=values)
        batches = -(-len(raw[0]) // size)
        first, last = (batches * rank // group.size * size for rank in (group.rank, group.rank + 1))
        states: list[list[MetricState]] = []

        def receive(start: int, outputs: list[Float32]) -> None:
            measured = new_metrics()  # of each batch their own, to be merged in the order of one rank
            add(measured, outputs, first + start)
            states.append([metric.state() for metric in measured])

        if first < min(last, len(raw[0])):
            self.each_output([part[first:last] for part in raw], receive, size, values, averaging)
        return [batch for rank in group.gather(states) for batch in rank]


def _is_of_outputs(labels: object, outputs: int) -> bool:
    """Return whether labels are an array for each output: in a mapping, or as many arrays."""
    if isinstance(labels, tuple | list) and len(labels) == outputs:
        return all(hasattr(part, "shape") and part.ndim for part in labels)
    return isinstance(labels, Mapping)


def _in_shape(predictions: Float32, labels: NDArray[Any]) -> Float32:
    """Return predictions N×H×W×C as (N, C), unless the labels are masks."""
    return predictions if kind_of(labels) == MASKS else predictions.reshape(len(predictions), -1)
