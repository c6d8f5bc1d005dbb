"""A predictor that can be trained and evaluated: what the training loop works on."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from operator import is_
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from numbacnn._checks.names import checks_arguments, checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.engine.device import Device
from numbacnn.engine.graph import Graph
from numbacnn.engine.locks import engine_lock
from numbacnn.errors import ArgumentError
from numbacnn.kernels.decision import LOSS_ROWS, SUM_GROUPS
from numbacnn.losses import Loss
from numbacnn.losses.base import Float64, Weights
from numbacnn.metrics import Metrics
from numbacnn.optimizers import SGD, Optimizer, get_optimizer
from numbacnn.tasks import Task, task_for
from numbacnn.tasks.predictor import Float32, Predictor
from numbacnn.training.batch import TrainingBatch, total
from numbacnn.training.objective import LossOfOutputs, Objective, ignored_by, loss_input, make_objective
from numbacnn.training.penalties import Penalties

Data = Dataset | tuple[ArrayLike, Any] | Iterable[Any]  # raw images and labels, or batches of these


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
        self._objective: tuple[tuple[object, ...], Objective] | None = None  # that of the last steps, and for what
        self._penalties = Penalties(graph.penalties(), self.store)
        self._sums: Float64 | None = None  # made when first used

    @checks_call
    def train_step(
        self,
        images: ArrayLike | Sequence[ArrayLike],
        labels: Any,
        optimizer: Optimizer,
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
            optimizer.step(self)
        return value

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

    def optimizer(self, given: Optimizer | str | None) -> Optimizer:
        """Return the optimizer that ``fit`` uses; one by name, or the default, goes on as the last ``fit`` left it."""
        if isinstance(given, Optimizer):
            return given
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
        return TrainingBatch(executor, n, objective, self._penalties, self._step_sums())

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
    ) -> dict[str, float]:
        """Return mean loss and accuracy on data as ``fit`` takes it, raw images and labels or a Dataset.

        ``loss`` and ``loss_weights`` are as in ``fit``; after a Dataset or a tuple they may come second and third.
        Masks add ``mean_iou``; boxes add ``map_50`` and ``map``, mAP@0.5 and mAP@0.5:0.95. Penalties and auxiliary
        outputs are left out. Each of several outputs gets the labels: the loss is that of all, the other measures are
        those of the first, and ``loss.NAME``, ``accuracy.NAME`` … those of each.
        """
        if labels is not None and isinstance(test, Dataset | tuple):
            loss, loss_weights, labels = labels, loss_weights if loss is None else loss, None  # type: ignore[assignment]
        given = test if labels is None else (test, labels)
        metrics, objective = self.measure(Dataset.of(given, self.classes, ignored_by(loss)), loss, loss_weights)
        results = [metric.results() for metric in metrics]
        loss_sum = sum(weight * each["loss"] for weight, each in zip(objective.weights, results, strict=False))
        found = results[0] | {"loss": loss_sum}
        if len(results) > 1:
            for value, each in zip(self.graph.outputs, results, strict=True):
                found |= {f"{name}.{self.graph.names[value]}": figure for name, figure in each.items()}
        return found

    @staticmethod
    def check_counted(dataset: Dataset, objective: Objective) -> None:
        """Raise ArgumentError if the losses ignore every label of a data set."""
        ignored, labels = objective.losses[0].ignore_index, dataset.labels
        if ignored is not None and (labels == ignored).all():
            raise ArgumentError(f"each of the {labels.size} labels is ignore_index={ignored}: none is left to count")

    def measure(
        self, dataset: Dataset, loss: LossOfOutputs | None = None, loss_weights: Weights | None = None
    ) -> tuple[list[Metrics], Objective]:
        """Return the task's metrics for each output that is not auxiliary, and the losses with their weights."""
        raw = self.raw_images(dataset.images)
        task = task_for(self.task, dataset, self.input_shape)
        task.check(dataset, self.output_shape)
        objective = self.objective(self.default_losses(task) if loss is None else loss, loss_weights, dataset.classes)
        objective = objective.ignoring(dataset.ignore_index)
        metrics = [task.metrics(part, self.device) for part in objective.losses[: objective.main]]

        def receive(start: int, outputs: list[Float32]) -> None:
            for metric, output in zip(metrics, outputs, strict=True):
                metric.add(output, dataset.labels[start : start + len(output)])

        self.check_counted(dataset, objective)
        self.each_output(raw, receive, outputs=objective.inputs[: objective.main])
        return metrics, objective
