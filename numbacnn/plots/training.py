"""Plots of a training: its curves, and the gradient norm of each layer."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from numbacnn._checks import check_instance
from numbacnn._checks.arrays import real_array
from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError
from numbacnn.plots.figures import BLUE, GREEN, VERMILION, new_figure, plain
from numbacnn.training.trainer import History

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@checks_call
def training_curves(history: History, title: str = "Training") -> "Figure":
    """Plot loss, accuracy and learning rate over the epochs, for the training batches and the validation set.

    For segmentation models and detectors, also plots the mean IoU or the mAP@0.5 on the validation set.

    Raises:
        ArgumentError: the history has no epoch.
    """
    check_instance(history, History, "training_curves", "what model.fit returns")
    if not history.epochs:
        raise ArgumentError("there is nothing to plot: the training has not completed an epoch")
    epochs = [record.epoch for record in history.epochs]
    figure = new_figure(12, 3.8)
    loss, accuracy, rate = figure.subplots(1, 3)
    for ax, name, of in ((loss, "loss", "loss"), (accuracy, "accuracy (%)", "accuracy")):
        scale = 100 if of == "accuracy" else 1
        _line(ax, epochs, [scale * getattr(r, of) for r in history.epochs], BLUE, "o", "training")
        validation = [getattr(r, f"validation_{of}") for r in history.epochs]
        if any(value is not None for value in validation):
            values = [math.nan if value is None else scale * value for value in validation]
            _line(ax, epochs, values, VERMILION, "s", "validation")
        ax.set_ylabel(name)
    scores = [math.nan if r.validation_score is None else 100 * r.validation_score for r in history.epochs]
    if not all(map(math.isnan, scores)):
        _line(accuracy, epochs, scores, GREEN, "^", "mean IoU or mAP@0.5")
    for ax in (loss, accuracy):  # above the axes, where it covers no line
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=8, frameon=False)
    _line(rate, epochs, [r.learning_rate for r in history.epochs], "black", "o", "learning rate")
    rate.set_ylabel("learning rate at the end of the epoch")
    for ax in (loss, accuracy, rate):
        ax.set_xlabel("epoch")
        ax.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.grid(alpha=0.3)
    figure.suptitle(plain(title))
    return figure


def _line(ax: "Axes", epochs: Sequence[int], values: Sequence[float], color: str, marker: str, label: str) -> None:
    ax.plot(epochs, values, color=color, marker=marker if len(epochs) <= 50 else None, markersize=4, label=label)


@checks_call
def gradient_norms(norms: Mapping[str, float], title: str = "Gradient norms by layer") -> "Figure":
    """Plot the result of ``layer_gradient_norms``: a point per layer on a logarithmic axis, the first layer on top.

    A norm of zero, as of frozen layers, or one that is not finite is written as text.
    """
    check_instance(norms, Mapping, "gradient_norms", "what layer_gradient_norms returns")
    real_array([*norms.values()], "norms")
    if not norms:
        raise ArgumentError("no layer of the model has parameters: there are no gradients to plot")
    figure = new_figure(8, 0.24 * len(norms) + 1.6)
    ax = figure.subplots()
    drawn = {i: norm for i, norm in enumerate(norms.values()) if norm > 0 and math.isfinite(norm)}
    if drawn:
        ax.set_xscale("log")
        ax.plot(list(drawn.values()), list(drawn), "o", color=BLUE, linestyle="none")
        low, high = min(drawn.values()), max(drawn.values())
        ax.set_xlim(low / 3, high * 10)  # room for the numbers
    for i, norm in enumerate(norms.values()):
        if i in drawn:
            ax.annotate(f"{norm:.2g}", (norm, i), (8, 0), textcoords="offset points", va="center", fontsize=8)
        else:
            text = "0: frozen, or without effect on the loss" if norm == 0 else f"{norm}"
            ax.text(0.02, i, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=VERMILION)
    ax.set_yticks(range(len(norms)), [plain(name) for name in norms], fontsize=8)
    ax.set_ylim(len(norms) - 0.4, -0.6)
    ax.set_xlabel("L2 norm of the gradient of the layer's parameters")
    ax.grid(alpha=0.3)
    figure.suptitle(plain(title))
    return figure
