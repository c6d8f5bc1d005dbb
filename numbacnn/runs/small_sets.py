"""Defaults of a training to segment, tag or regress from a folder: few images in enough steps, and rare classes."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from numbacnn import data as data_sets
from numbacnn.data.dataset import Dataset
from numbacnn.data.folder import fingerprint, survey
from numbacnn.data.labels import class_numbers
from numbacnn.losses import CrossEntropy, Focal, get_loss
from numbacnn.runs.photographs import photograph_defaults
from numbacnn.tasks import TASKS, Regression, Segmentation, Tagging

STEPS, MIN_EPOCHS = 300, 5  # fewer steps end in a prediction of background everywhere
BATCHES = {64: 4, 256: 8}  # batch sizes up to these numbers of images; larger sets have the general default
POWERS = {"sqrt": 0.5, "balanced": 1.0}
"""Class weights by name: 1 / frequency to this power."""


def folder_defaults(data: str, task: str, loss: str | None = None) -> Mapping[str, Any]:
    """Return the settings that a folder has by default, which depend on the number of its training images.

    They have class weights only if the loss takes them. Photographs to tag or regress have defaults of their own.
    """
    rows = task in (Tagging.name, Regression.name)
    if not (rows or task == Segmentation.name) or data in data_sets.NAMES or not Path(data).is_dir():
        return {}
    found = _defaults(str(Path(data).resolve()), task, fingerprint(data))
    if rows:
        return {"epochs": found["epochs"]} if "epochs" not in photograph_defaults(data, task) else {}
    weighted = isinstance(get_loss(loss or CrossEntropy.name), CrossEntropy | Focal)
    return found if weighted else {name: value for name, value in found.items() if name != "class_weights"}


def describe_defaults(options: Mapping[str, Any], data: str, task: str) -> str | None:
    """Return one line on the defaults that were used, unlike ``options``; None if there are none."""
    found = folder_defaults(data, task, options.get("loss"))
    used = [f"--{name.replace('_', '-')} {value}" for name, value in found.items() if options.get(name) is None]
    return f"chosen for this number of training images: {' '.join(used)}" if used else None


def class_weights(dataset: Dataset, name: str) -> list[float]:
    """Return a weight for each class, by its frequency among labels; their mean over labels is 1.

    ``name`` is a key of ``POWERS``. Classes without labels have the weight 0.
    """
    counts = np.bincount(
        class_numbers(dataset.labels, dataset.ignore_index).astype(np.int64), minlength=len(dataset.classes)
    )
    frequencies = counts / max(counts.sum(), 1)
    weights = np.divide(1, frequencies ** POWERS[name], out=np.zeros(len(counts)), where=counts > 0)
    return [float(weight) for weight in weights / (weights * frequencies).sum()]


@lru_cache(maxsize=8)
def _defaults(data: str, task: str, content: int) -> Mapping[str, Any]:
    """Return the defaults for a folder, whose ``content`` is a fingerprint."""
    found = survey(data, TASKS[task].labels)
    images = found.training_images if found else 0
    sizes = BATCHES.items() if task == Segmentation.name else ()
    batch = next((size for most, size in sizes if images <= most), 16)
    steps = -(-max(images, 1) // batch)  # in an epoch
    return {"batch_size": batch, "epochs": max(-(-STEPS // steps), MIN_EPOCHS), "class_weights": "sqrt"}
