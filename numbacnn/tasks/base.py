"""The interface of a task: the meaning of a model's output, its loss, and its metrics."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

from numbacnn.data.dataset import Dataset
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.geometry import as_image
from numbacnn.losses.base import Loss
from numbacnn.metrics import Metric
from numbacnn.tasks.results import Metrics


class Task:
    """A task of a model whose images have ``input_shape``.

    Attributes:
        name: its name on the command line and in model files.
        labels: the kind of labels it learns from, as in ``Dataset.kind``.
        score: the key, in the result of ``evaluate``, of the measure that decides which epoch is best.
        score_name: the name of that measure in messages.
        measures: the metrics that ``fit`` and ``evaluate`` take by name, besides "top_k" of a classifier.
    """

    name: ClassVar[str]
    labels: ClassVar[str]
    score: ClassVar[str]
    score_name: ClassVar[str]
    measures: ClassVar[Mapping[str, Metric]]

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.input_shape = input_shape

    def outputs(self, classes: int) -> int:
        """Return the channels of the output of a model with that many classes, the inverse of ``classes``."""
        return classes

    def classes(self, outputs: int) -> int:
        """Return the classes of a model whose output has that many channels."""
        return outputs

    def loss(self, channels: int, end: str | None) -> Loss:
        """Return the default loss of an output with that many channels, of a graph that ends in the op ``end``."""
        raise NotImplementedError

    def metrics(self, loss: Loss, device: Device, wanted: Sequence[Metric] = ()) -> Metrics:
        """Return what ``evaluate`` accumulates, ``wanted`` included; in training it counts correct predictions."""
        raise NotImplementedError

    def check_output(self, shape: tuple[int, ...]) -> None:
        """Raise ArgumentError if a model whose output for one image has this shape cannot do the task."""

    def check_loss(self, loss: Loss) -> None:
        """Raise ArgumentError if a loss does not take the task's labels."""

    def check(self, dataset: Dataset, output_shape: tuple[int, ...]) -> None:
        """Raise ArgumentError if the data set does not fit a model with this output shape for one image."""
        self.check_output(output_shape)
        if dataset.kind != self.labels:
            raise ArgumentError(f"the model's task is to {self.name}, from {self.labels}; the data has {dataset.kind}")
        if dataset.images.shape[1:] != as_image(self.input_shape):
            h, w, c = dataset.images.shape[1:]
            channels_first = (
                "; pass channels last, images.transpose(0, 2, 3, 1)" if (w, c, h) == self.input_shape else ""
            )
            raise ArgumentError(
                f"images of shape {(h, w, c)} for a model whose input is {self.input_shape}{channels_first}"
            )
        outputs = output_shape[-1]
        if len(dataset.classes) > self.classes(outputs):
            regress = "; to regress, pass labels as floats" if outputs == 1 else ""
            raise ArgumentError(f"{len(dataset.classes)} classes for a model with {outputs} outputs{regress}")
