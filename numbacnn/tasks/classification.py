"""Classification: a class of each image."""

from typing import Any

from numpy.typing import NDArray

from numbacnn.data.labels import CLASSES
from numbacnn.device import Device
from numbacnn.losses import CrossEntropy, Loss
from numbacnn.metrics import Metrics, hits
from numbacnn.tasks.base import Float32, Task


class Classification(Task):
    """The output's largest number is the image's class."""

    name, labels, score, score_name = "classify", CLASSES, "accuracy", "accuracy"

    def loss(self) -> Loss:
        """Cross-entropy."""
        return CrossEntropy()

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """Loss and accuracy."""
        return Metrics(loss, device)

    def hits(self, output: Float32, labels: NDArray[Any], loss: Loss) -> tuple[int, int]:
        """See ``Task``."""
        return hits(output, labels, loss.ignore_index)
