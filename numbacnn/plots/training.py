"""Pictures of a training: its curves, and how large gradients are layer by layer."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from numbacnn.errors import ArgumentError
from numbacnn.plots.figures import BLUE, GREEN, VERMILION, figure, plain
from numbacnn.training.trainer import History


def training_curves(history: History, title: str = "Training") -> Any:
    """Loss, accuracy and learning rate over the epochs; of the training batches, and of the validation part if any.

    Of a model that segments or detects also its mean IoU, or its mAP@0.5, on the validation part.

    Raises ArgumentError where the history has no epoch.
    """
    if not history.epochs:
        raise ArgumentError("there is no epoch to draw: the training has not come to the end of one")
    epochs = [record.epoch for record in history.epochs]
    drawing = figure(12, 3.8)
    loss, accuracy, rate = drawing.subplots(1, 3)
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
        _line(accuracy, epochs, scores, GREEN, "^", "validation: mean IoU or mAP")
    loss.legend()
    accuracy.legend()
    _line(rate, epochs, [r.learning_rate for r in history.epochs], "black", "o", "learning rate")
    rate.set_ylabel("learning rate at the epoch's end")
    for ax in (loss, accuracy, rate):
        ax.set_xlabel("epoch")
        ax.set_xlim(epochs[0] - 0.5, epochs[-1] + 0.5)
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
        ax.grid(alpha=0.3)
    drawing.suptitle(plain(title))
    return drawing


def _line(ax: Any, epochs: Sequence[int], values: Sequence[float], color: str, marker: str, label: str) -> None:
    ax.plot(epochs, values, color=color, marker=marker if len(epochs) <= 50 else None, markersize=4, label=label)


def gradient_norms(norms: Mapping[str, float], title: str = "Norm of the gradient, layer by layer") -> Any:
    """``layer_gradient_norms``: a point for each layer on a logarithmic axis, the first layer on top.

    Layers without a gradient, such as frozen ones, and those that are not finite, say so in words.
    """
    if not norms:
        raise ArgumentError("no layer of the model has parameters: there are no gradients to draw")
    drawing = figure(8, 0.24 * len(norms) + 1.6)
    ax = drawing.subplots()
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
            told = "0: frozen, or no way to the loss" if norm == 0 else f"{norm}"
            ax.text(0.02, i, told, transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=VERMILION)
    ax.set_yticks(range(len(norms)), [plain(name) for name in norms], fontsize=8)
    ax.set_ylim(len(norms) - 0.4, -0.6)
    ax.set_xlabel("√Σ g² over the layer's parameters")
    ax.grid(alpha=0.3)
    drawing.suptitle(plain(title))
    return drawing
