"""Pictures of what a model that segments or detects makes of images."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, MASKS
from numbacnn.data.palette import mask_colors
from numbacnn.detection import Detections, unpack
from numbacnn.errors import ArgumentError
from numbacnn.model import Model
from numbacnn.plots.classification import LONGEST_NAME
from numbacnn.plots.figures import evenly, grid, plain, show_image
from numbacnn.tasks import Detection, Segmentation

TRUE, FOUND = "#56B4E9", "#E69F00"  # Okabe and Ito's, for lines on dark and on bright images
SIDE = 1.9  # inches of an image
MOST_IN_LEGEND = 24


def predictions(model: Model, images: NDArray[Any], labels: NDArray[Any] | None = None) -> Any:
    """What a model that segments or detects makes of raw images (N, H, W, C), beside what ``labels``, if given, say.

    To segment: a row for each image, of the image, the true mask, the predicted one, and the pixels that are wrong. To
    detect: each image with the boxes found, their classes and scores, and the true boxes in dashed lines. Raises
    ArgumentError where the model does neither.
    """
    if model.task == Segmentation.name:
        return _masks(images, labels, model.segment(images), model.class_names)
    if model.task == Detection.name:
        return _boxes(images, labels, model.detect(images), model.class_names)
    raise ArgumentError("predictions are of a model that segments or detects; see mistakes for one that classifies")


def evenly_chosen(dataset: Dataset, count: int) -> Dataset:
    """``count`` images with masks or boxes, spread evenly over a data set. Raises ArgumentError without such labels."""
    if dataset.kind not in (MASKS, BOXES):
        raise ArgumentError("predictions are of a model that segments or detects; see mistakes for one that classifies")
    return dataset.subset(evenly(len(dataset), count))


def _masks(images: NDArray[Any], truth: NDArray[Any] | None, found: NDArray[Any], names: Sequence[str]) -> Any:
    columns = 2 if truth is None else 4
    drawing, axes = grid(len(images) * columns, columns, SIDE, "Segmentation", caption=0.25)
    colors = mask_colors(len(names))
    for i, mask in enumerate(found):
        row = axes[i * columns : (i + 1) * columns]
        show_image(row[0], images[i])
        row[0].set_title(f"image {i + 1}", fontsize=8)
        row[-1 if truth is None else 2].imshow(colors[mask], interpolation="nearest")
        row[-1 if truth is None else 2].set_title("predicted", fontsize=8)
        if truth is not None:
            wrong = mask != truth[i]
            row[1].imshow(colors[truth[i]], interpolation="nearest")
            row[1].set_title("true", fontsize=8)
            row[3].imshow(wrong, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            row[3].set_title(f"wrong: {100 * wrong.mean():.1f} % of pixels", fontsize=8)
    there = np.unique(found if truth is None else np.concatenate([found, truth.astype(found.dtype)]))
    _legend(drawing, [(plain(names[i], LONGEST_NAME), colors[i] / 255) for i in there[:MOST_IN_LEGEND]])
    return drawing


def _legend(drawing: Any, entries: Sequence[tuple[str, Any]]) -> None:
    from matplotlib.patches import Patch

    patches = [Patch(facecolor=color, edgecolor="black", linewidth=0.5, label=name) for name, color in entries]
    drawing.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 6), fontsize=8)


def _boxes(images: NDArray[Any], truth: NDArray[Any] | None, found: Sequence[Detections], names: Sequence[str]) -> Any:
    from matplotlib.lines import Line2D

    drawing, axes = grid(len(images), 3, 2.4, "Detection", caption=0.3)
    true_rows = [None] * len(images) if truth is None else list(unpack(truth))
    for i, (ax, detections, rows) in enumerate(zip(axes, found, true_rows, strict=True)):
        show_image(ax, images[i])
        ax.set_title(f"image {i + 1}", fontsize=8)
        for row in [] if rows is None else rows:
            _outline(ax, row[:4], TRUE, linestyle="--", linewidth=2.2)
        for box, label, score in zip(*detections, strict=True):
            _outline(ax, box, FOUND, linewidth=1.3)
            _name(ax, box, f"{plain(names[label], LONGEST_NAME)} {100 * score:.0f}", *images.shape[1:3])
    lines = [Line2D([], [], color=FOUND, label="found: class, score in %")]
    if truth is not None:
        lines.append(Line2D([], [], color=TRUE, linestyle="--", linewidth=2.2, label="true"))
    drawing.legend(handles=lines, loc="outside lower center", ncols=2, fontsize=8)
    return drawing


def _name(ax: Any, box: NDArray[np.float32], told: str, height: int, width: int) -> None:
    """Above the box; inside it where that would reach out of the picture, and to the left from the right half on."""
    right, inside = box[0] + box[2] > width, box[1] < 0.08 * height
    ax.text(
        box[2 if right else 0] - 0.5,
        box[1] - 0.5,
        told,
        fontsize=7,
        color="black",
        ha="right" if right else "left",
        va="top" if inside else "bottom",
        bbox={"facecolor": FOUND, "pad": 0.8, "lw": 0},
    )


def _outline(ax: Any, box: NDArray[np.float32], color: str, **line: Any) -> None:
    """Edges lie half a pixel up and left in pictures, whose whole numbers are pixels' middles."""
    from matplotlib.patches import Rectangle

    x0, y0, x1, y1 = box
    ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, edgecolor=color, **line))
