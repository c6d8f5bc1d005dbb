"""Plots of predicted masks and boxes."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import whole
from numbacnn._checks.names import checks_call
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, MASKS, Labels, checked_labels, kind_of
from numbacnn.data.palette import class_colors, luminance, mask_colors
from numbacnn.detection import Detections, unpack
from numbacnn.errors import ArgumentError
from numbacnn.model import Model
from numbacnn.plots.classification import MAX_NAME
from numbacnn.plots.figures import check_dataset, check_model, evenly, grid, plain, readable, show_image
from numbacnn.tasks import Detection, Segmentation

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

SIDE = 1.9  # inches of an image
MAX_LEGEND = 24  # classes
KINDS = {Segmentation.name: MASKS, Detection.name: BOXES}  # of labels, by task
WRONG_TASK = "predictions shows a segmentation model or a detector; use mistakes for a classifier"


@checks_call
def predictions(model: Model, images: NDArray[Any], labels: Labels | None = None) -> "Figure":
    """Show the predicted masks or boxes of raw images (N, H, W, C), next to the true ``labels`` if they are given.

    For a segmentation model, a row per image: the image, the true mask, the predicted mask and the wrong pixels. For a
    detector, each image with the predicted boxes, their classes and scores, and the true boxes as dashed lines, in the
    colors of their classes.

    Raises:
        ArgumentError: the model is neither.
    """
    check_model(model, "predictions")
    kind = KINDS.get(model.task or "")
    if kind is None:
        raise ArgumentError(WRONG_TASK)
    images = model.raw_images(images)
    labels = None if labels is None else checked_labels(labels, images)
    if labels is not None and kind_of(labels) != kind:
        raise ArgumentError(f"predictions: the labels are {kind_of(labels)}, not {kind}")
    if kind == MASKS:
        return _masks(images, None if labels is None else np.asarray(labels), model.segment(images), model.class_names)
    return _boxes(images, labels, model.detect(images), model.class_names)


@checks_call
def evenly_chosen(dataset: Dataset, count: int) -> Dataset:
    """Sample ``count`` images evenly. Raises ArgumentError if the labels are neither masks nor boxes."""
    check_dataset(dataset, "evenly_chosen")
    if dataset.kind not in (MASKS, BOXES):
        raise ArgumentError(WRONG_TASK)
    return dataset.subset(evenly(len(dataset), whole(count, "count")))


def _masks(images: NDArray[Any], truth: NDArray[Any] | None, found: NDArray[Any], names: Sequence[str]) -> "Figure":
    columns = 2 if truth is None else 4
    figure, axes = grid(len(images) * columns, columns, SIDE, "Segmentation", caption=0.25)
    colors = mask_colors(len(names))
    for i, mask in enumerate(found):
        row = axes[i * columns : (i + 1) * columns]
        show_image(row[0], images[i])
        row[0].set_title(f"image {i + 1}", fontsize=8)
        predicted = row[1 if truth is None else 2]
        predicted.imshow(colors[mask], interpolation="nearest")
        predicted.set_title("predicted", fontsize=8)
        if truth is not None:
            wrong = mask != truth[i]
            row[1].imshow(colors[truth[i]], interpolation="nearest")
            row[1].set_title("true", fontsize=8)
            row[3].imshow(wrong, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            row[3].set_title(f"wrong: {100 * wrong.mean():.1f} % of pixels", fontsize=8)
    present = np.unique(found if truth is None else np.concatenate([found, truth.astype(found.dtype)]))
    _add_legend(figure, [(plain(names[i], MAX_NAME), colors[i] / 255) for i in present[:MAX_LEGEND]])
    return readable(figure)


def _add_legend(
    figure: "Figure", entries: Sequence[tuple[str, NDArray[np.float64]]], lines: "Sequence[Line2D]" = ()
) -> None:
    """List classes, and the meaning of lines, below the figure."""
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=name) for name, color in entries]
    handles = [*lines, *patches]
    longest = max((len(name) for name, _ in entries), default=0)
    ncols = min(len(handles), 6 if longest <= 12 else 2)
    figure.legend(handles=handles, loc="outside lower center", ncols=ncols, fontsize=8)


def _boxes(images: NDArray[Any], truth: Labels | None, found: Sequence[Detections], names: Sequence[str]) -> "Figure":
    from matplotlib.lines import Line2D

    figure, axes = grid(len(images), 3, 2.4, "Detection", caption=0.3)
    colors, present = class_colors(len(names)) / 255, set[int]()
    true_boxes = [None] * len(images) if truth is None else list(unpack(truth))
    for i, (ax, detections, rows) in enumerate(zip(axes, found, true_boxes, strict=True)):
        show_image(ax, images[i])
        ax.set_title(f"image {i + 1}", fontsize=8)
        for row in [] if rows is None else rows:
            _outline(ax, row[:4], colors[int(row[4])], 2.2, "--")
            present.add(int(row[4]))
        for box, label, score in zip(*detections, strict=True):
            _outline(ax, box, colors[label], 1.3)
            text = f"{plain(names[label], MAX_NAME)} {100 * score:.0f}"
            _annotate(ax, box, text, colors[label], *images.shape[1:3])
            present.add(int(label))
    lines = [Line2D([], [], color="black", label="predicted: class, score in %")]
    if truth is not None:
        lines.append(Line2D([], [], color="black", linestyle="--", linewidth=2.2, label="true"))
    shown = sorted(present)[:MAX_LEGEND]
    _add_legend(figure, [(plain(names[i], MAX_NAME), colors[i]) for i in shown], lines)
    return readable(figure)


def _annotate(
    ax: "Axes", box: NDArray[np.float32], text: str, color: NDArray[np.float64], height: int, width: int
) -> None:
    """Write ``text`` above the box, or inside at the top of the image; to its left in the image's right half."""
    right, inside = box[0] + box[2] > width, box[1] < 0.08 * height
    ax.text(
        box[2 if right else 0] - 0.5,
        box[1] - 0.5,
        text,
        fontsize=7,
        color="black" if luminance(color) > 0.5 else "white",
        ha="right" if right else "left",
        va="top" if inside else "bottom",
        bbox={"facecolor": color, "pad": 0.8, "lw": 0},
    )


def _outline(ax: "Axes", box: NDArray[np.float32], color: NDArray[np.float64], width: float, style: str = "-") -> None:
    """Draw a box. matplotlib's whole numbers are the centers of pixels, ours their upper left corners."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    corner, size = (x0 - 0.5, y0 - 0.5), (x1 - x0, y1 - y0)
    ax.add_patch(Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=width, linestyle=style))
