"""Pictures of what a classifier gets right and wrong."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from numbacnn.data.dataset import Dataset
from numbacnn.errors import ArgumentError
from numbacnn.geometry import whole
from numbacnn.metrics import Report
from numbacnn.model import Model
from numbacnn.plots.figures import SEQUENTIAL, figure, grid, plain, show_image
from numbacnn.plots.values import confident_mistakes

MOST_NUMBERED = 20  # classes whose cells have room for a number
MOST_NAMED = 120  # classes that all have a label
LONGEST_NAME = 24  # letters of a class's name


def confusion_matrix(report: Report, title: str = "Confusion matrix") -> Any:
    """``model.report(test)``: of each row's class, the share that was taken for each column's.

    Up to 20 classes the cells hold the number of images too. A class without images has an empty row.
    """
    counts, classes = report.confusion, [plain(name, LONGEST_NAME) for name in report.classes]
    n = len(classes)
    support = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    side = max(4.5, 0.5 * n if n <= MOST_NUMBERED else 0.13 * min(n, MOST_NAMED) + 2)
    longest = 0.07 * max(map(len, classes))
    drawing = figure(side + 1.4 + longest, side + 0.6 + longest)
    ax = drawing.subplots()
    shown = ax.imshow(shares, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    bar = drawing.colorbar(shown, ax=ax, shrink=0.7)
    bar.set_label("share of the true class's images")
    if n <= MOST_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            color = "black" if shares[row, column] > 0.5 else "white"
            ax.text(column, row, str(count), ha="center", va="center", fontsize=8, color=color)
    _label_classes(ax, classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    drawing.suptitle(f"{plain(title)}\naccuracy {100 * report.accuracy:.2f} % of {counts.sum():,} images")
    return drawing


def _label_classes(ax: Any, classes: Sequence[str]) -> None:
    """A tick for every class, or for every second, third, … where they are too many."""
    n = len(classes)
    places = range(0, n, -(-n // MOST_NAMED))
    size = 9 if n <= MOST_NUMBERED else 6
    names = [classes[i] for i in places]
    upright = n > MOST_NUMBERED or max(map(len, classes)) > 4
    ax.set_xticks(places, names, fontsize=size, rotation=90 if upright else 0)
    ax.set_yticks(places, names, fontsize=size)


def mistakes(model: Model, dataset: Dataset, count: int = 25) -> Any:
    """The images that the model is wrong about and surest of, with the true class and what it takes them for.

    Raises ArgumentError where it makes no mistake.
    """
    found = confident_mistakes(model, dataset, whole(count, "count"))
    if not len(found.indices):
        raise ArgumentError(f"the model makes no mistake on the {len(dataset):,} images: there is nothing to show")
    names = [plain(name, LONGEST_NAME) for name in model.class_names]
    side = max(1.6, 0.07 * (len("predicted ") + max(map(len, names))))  # inches that a caption needs
    told = f"The most confident mistakes: {len(found.indices)}, of {len(dataset):,} images"
    drawing, axes = grid(len(found.indices), 5, side, told, caption=0.6)
    for ax, index, predicted, probability in zip(axes, *found, strict=True):
        show_image(ax, dataset.images[index])
        true = names[dataset.labels[index]]
        told = f"image {index}, {100 * probability:.1f} %\ntrue {true}\npredicted {names[predicted]}"
        ax.set_title(told, fontsize=8)
    return drawing
