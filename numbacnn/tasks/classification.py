"""Classification: one class for each image."""

from collections.abc import Sequence
from functools import partial

from numbacnn import metrics
from numbacnn.data.labels import CLASSES
from numbacnn.engine.device import Device
from numbacnn.losses import BinaryCrossEntropy, CrossEntropy
from numbacnn.losses.base import Loss
from numbacnn.metrics import Metric
from numbacnn.tasks.base import Task
from numbacnn.tasks.results import Metrics, named


class Classification(Task):
    """The maximum of the output is at the image's class; a single output is the score of the second of two classes."""

    name, labels, score, score_name = "classify", CLASSES, "accuracy", "accuracy"
    measures = named(
        "accuracy",
        precision=metrics.precision,
        recall=metrics.recall,
        f1=metrics.f1,
        auc=metrics.auc,
        top_5=partial(metrics.top_k_accuracy, k=5),
    )

    def classes(self, outputs: int) -> int:
        """Return the number of outputs, and two for a single one."""
        return max(outputs, 2)

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return cross-entropy, binary if there is a single output or a sigmoid at the end."""
        return BinaryCrossEntropy() if channels == 1 or end == "sigmoid" else CrossEntropy()

    def metrics(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> Metrics:
        """Return loss and accuracy."""
        return Metrics(loss, device, wanted)
