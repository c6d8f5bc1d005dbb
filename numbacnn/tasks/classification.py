"""Classification: one class for each image."""

from typing import Any

from numpy.typing import NDArray

from numbacnn.data.labels import CLASSES
from numbacnn.engine.device import Device
from numbacnn.losses import CrossEntropy
from numbacnn.losses.base import Float32, Float64, Loss
from numbacnn.metrics import Metrics, count_correct
from numbacnn.tasks.base import Task


class Classification(Task):
    """The maximum of the output is at the image's class."""

    name, labels, score, score_name = "classify", CLASSES, "accuracy", "accuracy"

    def loss(self) -> Loss:
        """Return cross-entropy."""
        return CrossEntropy()

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """Return loss and accuracy."""
        return Metrics(loss, device)

    def count_correct(
        self, kernels: Any, partial: Float64, output: Float32, labels: NDArray[Any], target: NDArray[Any], loss: Loss
    ) -> None:
        """Count maxima at the label."""
        count_correct(kernels, partial, output, labels, loss.ignore_index)
