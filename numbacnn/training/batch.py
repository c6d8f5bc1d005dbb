"""The buffers of a training step, and the model that they belong to."""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.data.dataset import Dataset
from numbacnn.data.normalization import Normalization
from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph import Graph, Node
from numbacnn.engine.parameters import Parameters
from numbacnn.losses import Loss, differentiate
from numbacnn.training.objective import Objective
from numbacnn.training.penalties import Penalties

Float32 = NDArray[np.float32]
LossOfOutputs = str | Loss | Sequence[str | Loss]


class TrainingBatch:
    """The buffers of one training step, between the input's arrival and the optimiser's update."""

    def __init__(self, executor: Executor, n: int, objective: Objective, penalties: Penalties) -> None:
        self.executor, self._n, self.objective, self.penalties = executor, n, objective, penalties
        self.binding = executor.bind(n)
        self.inputs = self.binding.inputs
        self.output = self.binding.outputs[0]

    def gradients(self, labels: ArrayLike | Sequence[ArrayLike]) -> float:
        """Runs forward, losses and backward on what lies in ``inputs``; returns the loss, penalties included."""
        self.executor.forward(self._n)
        value = self._losses(labels)
        self.executor.backward(self._n)
        return value + self.penalties.add()

    def _losses(self, labels: ArrayLike | Sequence[ArrayLike]) -> float:
        """The losses of the outputs, and their gradients."""
        outputs, objective = self.binding.outputs, self.objective
        targets = objective.targets(labels, [output.shape for output in outputs])
        value = 0.0
        for i, (dy, y) in enumerate(zip(self.binding.output_gradients, outputs, strict=True)):
            losses = self.executor.pixel_losses[: math.prod(y.shape[:-1])]
            loss, weight = objective.losses[i], objective.weights[i]
            value += differentiate(loss, weight, self.executor.device, losses, dy, y, targets[i])
        return value

    def find_bad_number(self, labels: ArrayLike | Sequence[ArrayLike]) -> str:
        """Runs the step again, layer by layer, to the first number that is NaN or infinite; says where that is."""
        device = self.executor.device
        if not _finite(device, self.binding.inputs):
            return "the input"
        if layer := _first_bad(device, self.executor.watch_forward(self._n)):
            return f"the output of {layer}"
        if not math.isfinite(self._losses(labels)) or not _finite(device, self.binding.output_gradients):
            return "the loss, or its gradient, of finite outputs"
        if layer := _first_bad(device, self.executor.watch_backward(self._n)):
            return f"the gradients of {layer}"
        return "the penalties on the weights"


def _first_bad(device: Device, layers: Iterable[tuple[Node, list[Float32]]]) -> str | None:
    found = next((node for node, arrays in layers if not _finite(device, arrays)), None)
    return None if found is None else f'{type(found.layer).__name__} "{found.name}"'


def _finite(device: Device, arrays: Iterable[Float32]) -> bool:
    return all(np.isfinite(device.host(array)).all() for array in arrays)


class TrainableModel(Protocol):
    """What the loop trains: a Model."""

    graph: Graph
    store: Parameters
    device: Device
    classes: tuple[str, ...] | None
    normalization: Normalization | None
    task: str | None

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one image."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the output for one image."""

    def objective(self, loss: LossOfOutputs, loss_weights: Sequence[float] | None) -> Objective:
        """The loss and the weight of each output."""

    def training_batch(self, n: int, objective: Objective) -> TrainingBatch:
        """The buffers of a step on ``n`` images."""

    def load_images(self, target: Float32, images: NDArray[Any]) -> None:
        """Writes raw images, normalised, to an input."""

    def input_factors(self, images: NDArray[Any]) -> tuple[Float32, Float32]:
        """What raw images n×H×W×C are multiplied by for that, and what is added: for each number of a row, W·C."""

    def reserve_outputs(self, images: int) -> int:
        """Makes the buffers that ``evaluate`` takes for so many images; returns the size of its batches."""

    def evaluate(
        self, test: Dataset, loss: LossOfOutputs | None, loss_weights: Sequence[float] | None
    ) -> dict[str, float]:
        """Loss, accuracy, and the task's own score."""
