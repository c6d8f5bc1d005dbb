"""Random data of any task, to run a model without any of its own."""

import numpy as np

from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, CLASSES, MASKS, TAGS
from numbacnn.geometry import Shape
from numbacnn.tasks import task_of


def random_dataset(task: str | None, input_shape: Shape, outputs: int, count: int) -> Dataset:
    """Draw raw images, with labels for a model of the task, by default classification, and its output channels."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, *input_shape), np.uint8)
    kind = task_of(task, input_shape).labels
    if kind == BOXES:
        height, width, _ = input_shape
        box = np.array([[width / 4, height / 4, width / 2, height / 2, 0]], np.float32)
        return Dataset.from_arrays(images, [box] * count)
    if kind == TAGS:
        return Dataset.from_arrays(images, draw.integers(0, 2, (count, outputs)).astype(np.uint8))
    if kind in (CLASSES, MASKS):
        shape = (count,) if kind == CLASSES else images.shape[:3]
        names = [str(number) for number in range(outputs)]
        return Dataset.from_arrays(images, draw.integers(0, outputs, shape), names)
    return Dataset.from_arrays(images, draw.standard_normal((count, outputs)))
