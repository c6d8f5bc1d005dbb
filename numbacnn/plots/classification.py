"""Plots of what a classifier gets right and wrong."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from numbacnn._checks import check_instance
from numbacnn._checks.names import checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.errors import ArgumentError
from numbacnn.metrics import Report
from numbacnn.model import Model
from numbacnn.plots.figures import SEQUENTIAL, grid, new_figure, plain, readable, show_image
from numbacnn.plots.values import confident_mistakes

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MAX_NUMBERED = 20  # classes whose cells have room for a number
MAX_LABELED = 120  # classes with a tick label each
MAX_NAME = 24  # characters of a class name


@checks_call
def confusion_matrix(report: Report, title: str = "Confusion matrix") -> "Figure":
    """Plot ``model.report(test).confusion``: in each row, how the images of one true class were predicted.

    Colors are fractions of the row. With at most 20 classes, cells also hold the number of images.
    """
    check_instance(report, Report, "confusion_matrix", "model.report(dataset)")
    counts, classes = report.confusion, [plain(name, MAX_NAME) for name in report.classes]
    n = len(classes)
    support = counts.sum(axis=1, keepdims=True)
    fractions = np.divide(counts, support, out=np.zeros(counts.shape), where=support > 0)
    side = max(4.5, 0.5 * n if n <= MAX_NUMBERED else 0.13 * min(n, MAX_LABELED) + 2)
    longest = 0.07 * max(map(len, classes))
    figure = new_figure(side + 1.4 + longest, side + 0.6 + longest)
    ax = figure.subplots()
    image = ax.imshow(fractions, cmap=SEQUENTIAL, vmin=0, vmax=1, interpolation="nearest")
    bar = figure.colorbar(image, ax=ax, shrink=0.7)
    bar.set_label("fraction of the true class's images")
    if n <= MAX_NUMBERED:
        for (row, column), count in np.ndenumerate(counts):
            color = "black" if fractions[row, column] > 0.5 else "white"
            ax.text(column, row, str(count), ha="center", va="center", fontsize=8, color=color)
    _label_classes(ax, classes)
    ax.set_xlabel("predicted class")
    ax.set_ylabel("true class")
    figure.suptitle(f"{plain(title)}\naccuracy {100 * report.accuracy:.2f} % of {counts.sum():,} images")
    return readable(figure)


def _label_classes(ax: "Axes", classes: Sequence[str]) -> None:
    """Label every class, or every second, third, … if there are too many."""
    n = len(classes)
    ticks = range(0, n, -(-n // MAX_LABELED))
    size = 9 if n <= MAX_NUMBERED else 6
    names = [classes[i] for i in ticks]
    vertical = n > MAX_NUMBERED or max(map(len, classes)) > 4
    ax.set_xticks(ticks, names, fontsize=size, rotation=90 if vertical else 0)
    ax.set_yticks(ticks, names, fontsize=size)


@checks_call
def mistakes(model: Model, dataset: Dataset, count: int = 25) -> "Figure":
    """Show the misclassified images with the highest predicted probabilities, their true and their predicted classes.

    Raises:
        ArgumentError: the model makes no mistake.
    """
    found = confident_mistakes(model, dataset, count)
    if not len(found.indices):
        raise ArgumentError(f"the model makes no mistake on the {len(dataset):,} images: there is nothing to show")
    names = [plain(name, MAX_NAME) for name in model.class_names]
    side = max(1.6, 0.07 * (len("predicted ") + max(map(len, names))))  # inches that a caption needs
    title = f"The {len(found.indices)} most confident mistakes on {len(dataset):,} images"
    figure, axes = grid(len(found.indices), 5, side, title, caption=0.6)
    for ax, index, predicted, probability in zip(axes, *found, strict=True):
        show_image(ax, dataset.images[index])
        true = names[dataset.labels[index]]
        caption = f"image {index}, {100 * probability:.1f} %\ntrue {true}\npredicted {names[predicted]}"
        ax.set_title(caption, fontsize=8)
    return readable(figure)
