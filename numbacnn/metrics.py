"""Loss and accuracy over the batches of an evaluation or an epoch."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.device import Device
from numbacnn.losses import Loss


class Metrics:
    """Sums the loss and the hits of batch after batch."""

    def __init__(self, loss: Loss, device: Device) -> None:
        self._loss, self._device = loss, device
        self.total, self.weight, self.hits, self.count = 0.0, 0.0, 0, 0

    def add(self, output: NDArray[np.float32], labels: NDArray[Any]) -> None:
        """Counts in a batch's output (n, H, W, C) and its labels."""
        losses = np.empty(output[..., 0].size, np.float32)
        target = self._loss.target(labels, output.shape)
        self._loss.launch(self._device.kernels, losses, np.empty_like(output), output, target, 1.0)
        self.total += float(losses.sum(dtype=np.float64))
        self.weight += self._loss.weight(target)
        self.hits += hits(output, labels)
        self.count += len(losses)

    @property
    def loss(self) -> float:
        """Mean loss so far; 0 where nothing counted."""
        return self.total / self.weight if self.weight else 0.0

    @property
    def accuracy(self) -> float:
        """Share of all predictions whose largest output is the label's."""
        return self.hits / self.count


def hits(output: NDArray[np.float32], labels: NDArray[Any]) -> int:
    """How many of the predictions (…, C) have their largest value at the label, or at the largest of probabilities."""
    if np.issubdtype(labels.dtype, np.floating) and labels.size == output.size:
        labels = np.reshape(labels, output.shape).argmax(axis=-1)
    return int(np.count_nonzero(output.argmax(axis=-1).reshape(-1) == np.reshape(labels, -1)))
