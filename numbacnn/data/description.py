"""A one-line description of a data set, printed before a training."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import format_shape
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, MASKS, TAGS, VALUES, class_numbers

MAX_NAMED = 12  # classes


def describe(splits: Mapping[str, Dataset | None]) -> str:
    """Describe data sets by name: images, their size, and the classes with the counts of the first set."""
    sets = {name: split for name, split in splits.items() if split is not None}
    first = next(iter(sets.values()))
    counts = ", ".join(f"{len(split):,} {name}" for name, split in sets.items())
    return f"{counts} images, {format_shape(first.images.shape[1:])}, {_classes(first)}"


def _classes(dataset: Dataset) -> str:
    """Describe the classes with their images, boxes or fractions of pixels, or the range of numbers."""
    if dataset.kind == VALUES:
        return _numbers(dataset)
    counts = np.asarray(dataset.labels).sum(axis=0, dtype=np.int64) if dataset.kind == TAGS else _counts(dataset)
    total = max(int(counts.sum()), 1)
    shown = [f"{100 * n / total:.1f} %" if dataset.kind == MASKS else f"{n:,}" for n in counts[:MAX_NAMED]]
    named = ", ".join(f"{name} ({count})" for name, count in zip(dataset.classes, shown, strict=False))
    more = f" and {len(counts) - MAX_NAMED} more" if len(counts) > MAX_NAMED else ""
    what = f"{total:,} boxes of " if dataset.kind == BOXES else ""
    noun = "tag" if dataset.kind == TAGS else "class"
    plural = noun if len(counts) == 1 else {"tag": "tags", "class": "classes"}[noun]
    return f"{what}{len(counts)} {plural}: {named}{more}"


def _counts(dataset: Dataset) -> NDArray[np.int64]:
    """Count the labels of each class."""
    counts = np.zeros(len(dataset.classes), np.int64)
    step = max(1, len(dataset) // max(1, dataset.labels.size >> 22))  # not all masks as int64 at once
    for labels in (dataset.labels[start : start + step] for start in range(0, len(dataset), step)):
        numbers = class_numbers(labels, dataset.ignore_index).astype(np.int64)
        counts += np.bincount(numbers, minlength=len(counts))
    return counts


def _numbers(dataset: Dataset) -> str:
    """Describe the numbers to regress by their names and ranges."""
    labels = np.asarray(dataset.labels)
    names = dataset.classes or tuple(map(str, range(labels.shape[1])))
    ranges = [
        f"{name} ({low:.4g} to {high:.4g})"
        for name, low, high in zip(names[:MAX_NAMED], labels.min(axis=0), labels.max(axis=0), strict=False)
    ]
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return f"{len(names)} {'number' if len(names) == 1 else 'numbers'}: {', '.join(ranges)}{more}"
