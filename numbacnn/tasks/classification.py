"""Classification: a class of each image."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.labels import CLASSES
from numbacnn.engine.device import Device
from numbacnn.losses import CrossEntropy, Loss, ignored_label
from numbacnn.metrics import Metrics, count_correct
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

    def count_correct(self, output: Float32, labels: NDArray[Any], loss: Loss) -> tuple[int, int]:
        """See ``Task``."""
        return count_correct(output, labels, loss.ignore_index)

    def launch_count_correct(
        self, loop_kernels: Any, partial: Any, output: Any, labels: Any, target: Any, loss: Loss
    ) -> None:
        """See ``Task``."""
        if labels.dtype == np.int64:
            loop_kernels.count_correct(partial, output, labels.reshape(-1), ignored_label(loss.ignore_index))
        else:
            loop_kernels.count_correct_top1(partial, output, labels.reshape(output.shape))
