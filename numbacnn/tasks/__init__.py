"""Tasks of a model: to classify, segment or tag images, to detect objects in them, or to regress numbers.

Everything that depends on the task, such as the loss, the metrics and the meaning of an output, is defined by ``Task``.
"""

from collections.abc import Mapping

from numbacnn._checks import choose
from numbacnn.data.dataset import Dataset
from numbacnn.tasks.base import Task
from numbacnn.tasks.classification import Classification
from numbacnn.tasks.detection import Detection
from numbacnn.tasks.rows import Regression, Tagging
from numbacnn.tasks.segmentation import Segmentation

TASKS: Mapping[str, type[Task]] = {
    kind.name: kind for kind in (Classification, Segmentation, Detection, Tagging, Regression)
}


def task_of(name: str | None, input_shape: tuple[int, ...]) -> Task:
    """Return the task called ``name``, by default classification. Raises ArgumentError with the nearest name."""
    return choose("task", name or Classification.name, TASKS)(input_shape)


def task_for(name: str | None, dataset: Dataset, input_shape: tuple[int, ...]) -> Task:
    """Return the task called ``name``, or for None the task that learns from the data set's kind of labels."""
    if name is not None:
        return task_of(name, input_shape)
    return next(kind for kind in TASKS.values() if kind.labels == dataset.kind)(input_shape)


__all__ = [
    "TASKS",
    "Classification",
    "Detection",
    "Regression",
    "Segmentation",
    "Tagging",
    "Task",
    "task_for",
    "task_of",
]
