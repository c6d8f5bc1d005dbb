"""What a task is: what a model's output means, against which labels, and how well it does."""

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.dataset import Dataset
from numbacnn.engine.device import Device
from numbacnn.errors import ArgumentError
from numbacnn.losses import Loss
from numbacnn.metrics import Metrics

Float32 = NDArray[np.float32]


class Task:
    """A task of a model whose images are of ``input_shape``. All that depends on the task is asked of it.

    Attributes:
        name: as the command line and the model file have it.
        labels: the kind of labels it learns from, as ``Dataset.kind``.
        score: the key, in what ``evaluate`` gives, of the number that tells the best epoch.
        score_name: that number's name in a sentence.
    """

    name: ClassVar[str]
    labels: ClassVar[str]
    score: ClassVar[str]
    score_name: ClassVar[str]

    def __init__(self, input_shape: tuple[int, ...]) -> None:
        self.input_shape = input_shape

    def outputs(self, classes: int) -> int:
        """Channels of the output of a model of so many classes; ``classes`` is its inverse."""
        return classes

    def classes(self, outputs: int) -> int:
        """Classes of a model whose output has so many channels."""
        return outputs

    def loss(self) -> Loss:
        """The loss that models are trained with, unless another is given."""
        raise NotImplementedError

    def metrics(self, loss: Loss, device: Device) -> Metrics:
        """What adds up how well a model does, batch after batch."""
        raise NotImplementedError

    def count_correct(self, output: Float32, labels: NDArray[Any], loss: Loss) -> tuple[int, int]:
        """How many of a batch's predictions name the right class, and how many count. output: N×H×W×C."""
        raise NotImplementedError

    def launch_count_correct(
        self, loop_kernels: Any, partial: Any, output: Any, labels: Any, target: Any, loss: Loss
    ) -> None:
        """Launches what counts them on a device, see ``kernels.cuda.labels``; target: what ``loss`` makes of labels."""
        raise NotImplementedError

    def check_output(self, shape: tuple[int, ...]) -> None:
        """ArgumentError where a model whose output for one image is of ``shape`` cannot do this."""

    def check(self, dataset: Dataset, output_shape: tuple[int, ...]) -> None:
        """ArgumentError where the data set does not fit a model of these shapes."""
        self.check_output(output_shape)
        if dataset.kind != self.labels:
            raise ArgumentError(f"the model's task is to {self.name}, from {self.labels}; the data has {dataset.kind}")
        if dataset.images.shape[1:] != self.input_shape:
            raise ArgumentError(f"images of {dataset.images.shape[1:]} for a model whose input is {self.input_shape}")
        outputs = output_shape[-1]
        if len(dataset.classes) > self.classes(outputs):
            raise ArgumentError(f"{len(dataset.classes)} classes for a model of {outputs} outputs")
