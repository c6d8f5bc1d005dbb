"""Pictures of what layers have learned and see: filters, feature maps, Grad-CAM."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose
from numbacnn.data.normalization import raw_images
from numbacnn.errors import ArgumentError
from numbacnn.model import Model
from numbacnn.plots.figures import DIVERGING, evenly, figure, grid, plain, show_image
from numbacnn.plots.values import class_activation_map, last_maps

MOST_FILTERS = 64
MOST_LAYERS = 12


def filters(model: Model, layer: str | None = None) -> Any:
    """The weights of a convolution, by default the first: a picture for each filter, or filter and input channel.

    With three input channels a filter is a colour picture, its zero middle grey; else a row for each filter with a
    picture for each channel, all on one scale. Raises ArgumentError where the layer is no convolution.
    """
    windows = {
        name.rpartition(".")[0]: array
        for name, array in model.parameters.items()
        if name.endswith(".weight") and array.ndim == 4
    }
    if not windows:
        raise ArgumentError("the model has no convolution: there are no filters to show")
    name = next(iter(windows)) if layer is None else layer
    w = choose("convolution", name, windows)
    r, s, c, k = w.shape
    largest = float(np.abs(w).max()) or 1.0
    if c in (1, 3):
        few = evenly(k, MOST_FILTERS)
        tiles = [(f"{i}", w[..., i]) for i in few]
        columns, told = 8, _part(len(few), k, "filter")
    else:
        few, deep = evenly(k, 8), evenly(c, 8)
        tiles = [(f"{i}, channel {j}", w[:, :, j : j + 1, i]) for i in few for j in deep]
        columns = len(deep)
        told = f"{_part(len(few), k, 'filter')} (rows), {_part(len(deep), c, 'channel')} (columns)"
    title = f"{plain(name)}: {told}, {r}×{s}"
    drawing, axes = grid(len(tiles), columns, 1.1, title, caption=0.2)
    for ax, (label, tile) in zip(axes, tiles, strict=True):
        if tile.shape[2] == 3:
            ax.imshow(0.5 + tile / (2 * largest), interpolation="nearest")
        else:
            shown = ax.imshow(tile[..., 0], cmap=DIVERGING, vmin=-largest, vmax=largest, interpolation="nearest")
        ax.set_title(label, fontsize=7)
    if c == 3:
        drawing.supxlabel(f"grey is 0; full colours are ±{largest:.2g}", fontsize=9)
    else:
        drawing.colorbar(shown, ax=axes, shrink=0.7, label="weight")
    return drawing


def _part(some: int, whole: int, what: str) -> str:
    counted = f"{whole} {what}{'s' * (whole > 1)}"
    return counted if some == whole else f"{some} of {counted}"


def feature_maps(model: Model, image: ArrayLike, layers: Sequence[str] | None = None, channels: int = 8) -> Any:
    """What layers make of one raw image: a row for each layer, with the maps of its first channels.

    ``layers``: by default up to 12 of those that have maps, evenly over the model. Each map spans its own range, from
    dark (least) to bright. Raises ArgumentError where a layer does not exist (with the nearest name) or has no maps.
    """
    maps = {node.name: node.shape for node in model.graph.nodes if len(node.shape) == 3 and node.shape[:2] != (1, 1)}
    if layers is None:
        layers = [list(maps)[i] for i in evenly(len(maps), MOST_LAYERS)] if maps else []
    found = model.activations(image, layers)
    flat = [name for name in layers if name not in maps]
    if flat or not maps:
        raise ArgumentError(f'layer "{flat[0]}" has no maps' if flat else "no layer of the model has maps")
    raw = raw_images(image, model.input_shape)
    width = min(channels, max(maps[name][2] for name in found))
    drawing = figure(1.1 * (width + 1) + 1.8, 1.15 * len(found) + 0.6)
    axes = drawing.subplots(len(found), width + 1, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    show_image(axes[0, 0], raw[0])
    axes[0, 0].set_title("the image", fontsize=8)
    for row, (name, values) in zip(axes, found.items(), strict=True):
        h, w, c = maps[name]
        label = f"{plain(name)}\n{h}×{w}×{c}"
        row[1].text(-0.15, 0.5, label, transform=row[1].transAxes, ha="right", va="center", fontsize=8)
        for i in range(min(width, c)):
            row[i + 1].imshow(values[0, ..., i], cmap="viridis", interpolation="nearest")
    drawing.suptitle(f"Feature maps of {_part(len(found), len(maps), 'layer')}, first channels")
    return drawing


def grad_cam(model: Model, image: ArrayLike, of_class: int | None = None, layer: str | None = None) -> Any:
    """Where in a raw image the evidence for a class lies, by default the predicted one: the image, and the map on it.

    ``class_activation_map`` has the method and the errors.
    """
    raw = raw_images(image, model.input_shape)
    if len(raw) != 1:
        raise ArgumentError(f"Grad-CAM is drawn of one image, not {len(raw)}")
    probabilities = model.predict(raw)[0].reshape(-1, model.output_shape[-1]).mean(axis=0)
    chosen = int(probabilities.argmax()) if of_class is None else of_class
    name = last_maps(model) if layer is None else layer
    heat = class_activation_map(model, raw, [chosen], name)[0]
    names = model.class_names
    drawing = figure(8.4, 4.2)
    left, right = drawing.subplots(1, 2)
    show_image(left, raw[0])
    show_image(right, raw[0].mean(axis=2, keepdims=True))  # grey, so that all colours are the map's
    left.set_axis_off()
    right.set_axis_off()
    shown = _overlay(right, heat, raw.shape[1:3])
    drawing.colorbar(shown, ax=right, shrink=0.8, label="evidence, relative to the most")
    best = plain(names[probabilities.argmax()])
    left.set_title(f"predicted: {best}, {100 * probabilities.max():.1f} %", fontsize=9)
    nothing = "" if heat.any() else ": none"
    right.set_title(f"evidence for {plain(names[chosen])} in {plain(name)}{nothing}", fontsize=9)
    drawing.suptitle("Grad-CAM")
    return drawing


def _overlay(ax: Any, heat: NDArray[np.float32], size: tuple[int, int]) -> Any:
    """The map, stretched over an image of this height and width, the more opaque the larger."""
    relative = heat / (heat.max() or 1.0)
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    return ax.imshow(
        relative, cmap="viridis", vmin=0, vmax=1, alpha=0.8 * relative, extent=extent, interpolation="bilinear"
    )
