"""Plots of what layers have learned and respond to: filters, feature maps, Grad-CAM."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from numbacnn._checks import choose, listed, whole
from numbacnn._checks.names import checks_call
from numbacnn.data.normalization import raw_images
from numbacnn.errors import ArgumentError
from numbacnn.model import Model
from numbacnn.plots.figures import DIVERGING, check_model, evenly, grid, new_figure, plain, readable, show_image
from numbacnn.plots.values import class_activation_map, default_layer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

MAX_FILTERS = 64
MAX_LAYERS = 12
DARKEST = 0.3  # gray of the darkest pixels under a map, of white


@checks_call
def filters(model: Model, layer: str | None = None) -> "Figure":
    """Show the weights of a convolution, by default the first, on one scale.

    With three input channels each filter is a color image in which zero is mid-gray; otherwise there is a row per
    filter with an image per input channel. Large layers are sampled evenly.

    Raises:
        ArgumentError: the layer is not a convolution.
    """
    check_model(model, "filters")
    weights = {
        name.rpartition(".")[0]: array
        for name, array in model.parameters.items()
        if name.endswith(".weight") and array.ndim == 4
    }
    if not weights:
        raise ArgumentError("the model has no convolution: there are no filters to show")
    name = next(iter(weights)) if layer is None else layer
    w = choose("convolution", name, weights)
    r, s, c, k = w.shape
    largest = float(np.abs(w).max()) or 1.0
    if c in (1, 3):
        shown = evenly(k, MAX_FILTERS)
        tiles = [(f"{i}", w[..., i]) for i in shown]
        columns, what = 8, _selection(len(shown), k, "filter")
    else:
        shown, channels = evenly(k, 8), evenly(c, 8)
        tiles = [(f"{i}, channel {j}", w[:, :, j : j + 1, i]) for i in shown for j in channels]
        columns = len(channels)
        what = f"{_selection(len(shown), k, 'filter')} (rows), {_selection(columns, c, 'channel')} (columns)"
    figure, axes = grid(len(tiles), columns, 1.1, f"{plain(name)}: {what}, {r}×{s}", caption=0.2)
    for ax, (label, tile) in zip(axes, tiles, strict=True):
        if tile.shape[2] == 3:
            ax.imshow(0.5 + tile / (2 * largest), interpolation="nearest")
        else:
            image = ax.imshow(tile[..., 0], cmap=DIVERGING, vmin=-largest, vmax=largest, interpolation="nearest")
        ax.set_title(label, fontsize=7)
    if c == 3:
        figure.supxlabel(f"gray is 0; full colors are ±{largest:.2g}", fontsize=9)
    else:
        figure.colorbar(image, ax=axes, shrink=0.7, label="weight")
    return figure


def _selection(shown: int, total: int, noun: str) -> str:
    counted = f"{total} {noun}{'s' * (total > 1)}"
    return counted if shown == total else f"{shown} of {counted}"


@checks_call
def feature_maps(model: Model, image: ArrayLike, layers: Sequence[str] | None = None, channels: int = 8) -> "Figure":
    """Show the feature maps of one raw image: a row per layer, with the maps of its first channels.

    ``layers`` are by default at most 12 of those with maps, evenly over the model. Each map is scaled to its own range,
    dark for its minimum and bright for its maximum.

    Raises:
        ArgumentError: a layer does not exist (with the nearest name) or has no maps.
    """
    check_model(model, "feature_maps")
    maps = {node.name: node.shape for node in model.graph.nodes if len(node.shape) == 3 and node.shape[:2] != (1, 1)}
    if layers is None:
        layers = [list(maps)[i] for i in evenly(len(maps), MAX_LAYERS)] if maps else []
    names = listed(layers, "layers", str)
    found = model.activations(image, names)
    flat = [name for name in names if name not in maps]
    if flat or not found:
        nothing = "layers names no layer" if maps else "no layer of the model has maps"
        raise ArgumentError(f'layer "{flat[0]}" has no maps' if flat else nothing)
    raw = raw_images(image, model.input_shape)
    width = min(whole(channels, "channels"), max(maps[name][2] for name in found))
    figure = new_figure(1.1 * (width + 1) + 1.8, 1.15 * len(found) + 0.6)
    axes = figure.subplots(len(found), width + 1, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    show_image(axes[0, 0], raw[0])
    axes[0, 0].set_title("input", fontsize=8)
    for row, (name, values) in zip(axes, found.items(), strict=True):
        h, w, c = maps[name]
        label = f"{plain(name)}\n{h}×{w}×{c}"
        row[1].text(-0.15, 0.5, label, transform=row[1].transAxes, ha="right", va="center", fontsize=8)
        for i in range(min(width, c)):
            row[i + 1].imshow(values[0, ..., i], cmap="viridis", interpolation="nearest")
    figure.suptitle(f"Feature maps of {_selection(len(found), len(maps), 'layer')}, first channels")
    return figure


@checks_call
def grad_cam(model: Model, image: ArrayLike, class_number: int | None = None, layer: str | None = None) -> "Figure":
    """Show Grad-CAM of one raw image: the evidence for a class, by default the predicted one, over the image.

    See ``class_activation_map`` for the method and the errors.
    """
    check_model(model, "grad_cam")
    raw = raw_images(image, model.input_shape)
    if len(raw) != 1:
        raise ArgumentError(f"Grad-CAM shows one image; {len(raw)} are given")
    probabilities = model.predict(raw)[0].reshape(-1, model.output_shape[-1]).mean(axis=0)
    chosen = int(probabilities.argmax()) if class_number is None else whole(class_number, "class_number", 0)
    name = default_layer(model) if layer is None else layer
    heat = class_activation_map(model, raw, [chosen], name)[0]
    names = model.class_names
    figure = new_figure(8.4, 4.2)
    left, right = figure.subplots(1, 2)
    show_image(left, raw[0])
    right.imshow(_light_gray(raw[0]), cmap="gray", vmin=0, vmax=1, interpolation="nearest")  # the map has all colors
    left.set_axis_off()
    right.set_axis_off()
    overlay = _overlay(right, heat, raw.shape[1:3])
    figure.colorbar(overlay, ax=right, shrink=0.8, label="evidence, relative to its maximum")
    best = plain(names[probabilities.argmax()])
    left.set_title(f"predicted: {best}, {100 * probabilities.max():.1f} %", fontsize=9)
    none = "" if heat.any() else ": none"
    right.set_title(f"evidence for {plain(names[chosen])} in {plain(name)}{none}", fontsize=9)
    figure.suptitle("Grad-CAM")
    return readable(figure)


def _light_gray(image: NDArray[Any]) -> NDArray[np.float64]:
    """Return an image (H, W, C) as light grays (H, W), from its darkest to its brightest: maps show on them."""
    gray = image.mean(axis=2, dtype=np.float64)
    low, high = np.percentile(gray, (1, 99))
    relative: NDArray[np.float64] = ((gray - low) / ((high - low) or 1.0)).clip(0, 1)
    return DARKEST + (1 - DARKEST) * relative


def _overlay(ax: "Axes", heat: NDArray[np.float32], size: tuple[int, int]) -> "AxesImage":
    """Stretch the map over an image of ``size`` (height, width); larger values are more opaque."""
    relative = heat / (heat.max() or 1.0)
    extent = (-0.5, size[1] - 0.5, size[0] - 0.5, -0.5)
    return ax.imshow(
        relative,
        cmap="viridis",
        vmin=0,
        vmax=1,
        alpha=0.85 * np.sqrt(relative),
        extent=extent,
        interpolation="bilinear",
    )
