"""What a model may be for: to classify images, to segment them, or to detect objects in them. A file for each.

Everything that depends on it (loss, metrics, what an output means) is asked of the ``Task``.
"""

from collections.abc import Mapping

from numbacnn._checks import choose
from numbacnn.data.dataset import Dataset
from numbacnn.tasks.base import Task
from numbacnn.tasks.classification import Classification
from numbacnn.tasks.detection import Detection
from numbacnn.tasks.segmentation import Segmentation

TASKS: Mapping[str, type[Task]] = {kind.name: kind for kind in (Classification, Segmentation, Detection)}


def task_of(name: str | None, input_shape: tuple[int, ...]) -> Task:
    """The task called ``name``, by default to classify. Raises ArgumentError with the nearest name."""
    return choose("task", name or Classification.name, TASKS)(input_shape)


def task_for(name: str | None, dataset: Dataset, input_shape: tuple[int, ...]) -> Task:
    """The task called ``name``, or where a model has none yet, that which the data set's labels are for."""
    if name is not None:
        return task_of(name, input_shape)
    return next(kind for kind in TASKS.values() if kind.labels == dataset.kind)(input_shape)


__all__ = ["TASKS", "Classification", "Detection", "Segmentation", "Task", "task_for", "task_of"]
