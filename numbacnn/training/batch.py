"""The buffers of a training step, and the launches between its inputs and its gradients."""

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from numbacnn.engine.device import Device
from numbacnn.engine.executor import Executor
from numbacnn.engine.graph import Node
from numbacnn.kernels.decision import LOSS_ROWS
from numbacnn.losses.base import Float32, Float64, Target, differentiate
from numbacnn.training.objective import Objective
from numbacnn.training.penalties import Penalties

PENALTIES = "the penalties on the weights"


class TrainingBatch:
    """The buffers of a training step on ``n`` images, from its inputs to the gradients.

    Attributes:
        inputs: the arrays to write a batch to.
        outputs: of every output, auxiliary ones last, N×H×W×C.
        sums: the rows of partial sums that ``kernels.decision`` describes.
    """

    def __init__(self, executor: Executor, n: int, objective: Objective, penalties: Penalties, sums: Float64) -> None:
        self.executor, self.n, self.objective, self.penalties, self.sums = executor, n, objective, penalties, sums
        self.binding = executor.bind(n)
        self.inputs, self.outputs = self.binding.inputs, self.binding.outputs

    def resized(self, n: int) -> "TrainingBatch":
        """Return the buffers of a step on ``n`` images, at most as many as the executor's, in the same memory."""
        return TrainingBatch(self.executor, n, self.objective, self.penalties, self.sums)

    def targets(self, labels: ArrayLike | Sequence[ArrayLike]) -> list[Target]:
        """Check and convert the labels of a batch to the target of each output."""
        return self.objective.targets(labels, [output.shape for output in self.outputs])

    def run(self, targets: Sequence[Target]) -> None:
        """Run forward, losses, backward and penalties on the arrays in ``inputs``."""
        self.executor.forward(self.n)
        self.launch_losses(targets)
        self.executor.backward(self.n)
        self.launch_penalties()

    def launch_losses(
        self, targets: Sequence[Target], label_sums: Float64 | None = None, totals: Sequence[float] | None = None
    ) -> None:
        """Launch the loss of each output and its gradient.

        label_sums: as in ``differentiate``; totals: what to divide the sum of each output's loss by, if that counts
        more than this batch.
        """
        objective, device = self.objective, self.executor.device
        for i, (dy, y) in enumerate(zip(self.binding.output_gradients, self.outputs, strict=True)):
            scratch, sums = self.executor.pixel_losses[: math.prod(y.shape[:-1])], self.sums[LOSS_ROWS + i]
            loss, weight = objective.losses[i], objective.weights[i]
            total = None if totals is None else totals[i]
            differentiate(loss, weight, device, sums, scratch, dy, y, targets[i], label_sums, total)

    def launch_penalties(self) -> None:
        """Launch the penalties on the weights and their gradients."""
        self.penalties.launch(self.sums[LOSS_ROWS + len(self.outputs) :])

    def loss(self) -> float:
        """Return the sum of the losses and penalties that were launched last."""
        return total(self.executor.device.host(self.sums)[LOSS_ROWS:])

    def gradients(self, labels: ArrayLike | Sequence[ArrayLike]) -> float:
        """Compute the gradients of the arrays in ``inputs``; return the loss, penalties included."""
        self.run(self.targets(labels))
        return self.loss()

    def find_bad_number(self, labels: ArrayLike | Sequence[ArrayLike]) -> str:
        """Repeat the step layer by layer to the first number that is NaN or infinite; return where it is."""
        device = self.executor.device
        if not _is_finite(device, self.inputs):
            return "the input"
        if layer := _first_bad(device, self.executor.watch_forward(self.n)):
            return f"the output of {layer}"
        self.launch_losses(self.targets(labels))
        losses = device.host(self.sums)[LOSS_ROWS : LOSS_ROWS + len(self.outputs)]
        if not np.isfinite(losses).all() or not _is_finite(device, self.binding.output_gradients):
            return "the loss, or its gradient, of finite outputs"
        if layer := _first_bad(device, self.executor.watch_backward(self.n)):
            return f"the gradients of {layer}"
        return PENALTIES


def total(rows: Float64) -> float:
    """Sum rows of partial sums, row by row."""
    result = 0.0
    for value in rows.sum(axis=1).tolist():
        result += value
    return result


def _first_bad(device: Device, layers: Iterable[tuple[Node, list[Float32]]]) -> str | None:
    found = next((node for node, arrays in layers if not _is_finite(device, arrays)), None)
    return None if found is None else f'{type(found.layer).__name__} "{found.name}"'


def _is_finite(device: Device, arrays: Iterable[Float32]) -> bool:
    return all(np.isfinite(device.host(array)).all() for array in arrays)
