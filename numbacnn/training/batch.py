"""The buffers of a training step, and the model that they belong to."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph import Node
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
