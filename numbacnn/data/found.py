"""One line on what a data set holds, to print before a training."""

from collections.abc import Mapping

import numpy as np

from numbacnn._checks import format_shape
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, MASKS, class_numbers

MAX_NAMED = 12  # classes


def describe(parts: Mapping[str, Dataset | None]) -> str:
    """Describe data sets by name: images, their size, and the classes with the counts of the first set."""
    sets = {name: part for name, part in parts.items() if part is not None}
    first = next(iter(sets.values()))
    counts = ", ".join(f"{len(part):,} {name}" for name, part in sets.items())
    return f"{counts} images, {format_shape(first.images.shape[1:])}, {_classes(first)}"


def _classes(dataset: Dataset) -> str:
    """Describe the classes with their images, boxes or fractions of pixels."""
    counts = np.zeros(len(dataset.classes), np.int64)
    for labels in np.array_split(dataset.labels, max(1, dataset.labels.size >> 22)):  # not all masks as int64 at once
        numbers = class_numbers(labels, dataset.ignore_index).astype(np.int64)
        counts += np.bincount(numbers, minlength=len(counts))
    total = max(int(counts.sum()), 1)
    shown = [f"{100 * n / total:.1f} %" if dataset.kind == MASKS else f"{n:,}" for n in counts[:MAX_NAMED]]
    named = ", ".join(f"{name} ({count})" for name, count in zip(dataset.classes, shown, strict=False))
    more = f" and {len(counts) - MAX_NAMED} more" if len(counts) > MAX_NAMED else ""
    what = f"{total:,} boxes of " if dataset.kind == BOXES else ""
    plural = "class" if len(counts) == 1 else "classes"
    return f"{what}{len(counts)} {plural}: {named}{more}"
