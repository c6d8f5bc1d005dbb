"""``numbacnn predict``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import numbacnn
from numbacnn.data import match_polarity, read_image
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.runs import model_file

from . import render
from .options import debug_option, device_option, engine, import_option, json_option, model_argument, threads_option


@click.command("predict")
@model_argument
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1), default=3, metavar="K", help="How many classes to tell.")
@click.option(
    "--polarity",
    type=click.Choice(["auto", "keep"]),
    default="auto",
    help="auto: a grey image on a bright ground is inverted for a model that was trained on dark grounds, as MNIST's.",
)
@import_option
@threads_option
@device_option
@json_option
@debug_option
def command(
    model: Path,
    images: tuple[Path, ...],
    top: int,
    polarity: str,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Tell what images show.

    MODEL is a model file or a run's folder, each IMAGE a file such as PNG or JPEG, of any size.
    """
    with engine(threads):
        network = numbacnn.load(model_file(model), device=device or "cpu")
        pixels = read_images(network, images, polarity)
        probabilities = network.predict(pixels)
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise NumbacnnError(f"{model}: gives no class probabilities; it is no classifier, or its weights are damaged")
    best = [_best(row, network.class_names, top) for row in probabilities]
    if as_json:
        predictions = [{"image": str(path), "classes": row} for path, row in zip(images, best, strict=True)]
        render.as_json({"model": str(model), "predictions": predictions})
    else:
        render.predictions([str(path) for path in images], best)


def read_images(model: numbacnn.Model, paths: Sequence[Path], polarity: str = "auto") -> NDArray[np.uint8]:
    """Image files as the model takes them, (N, H, W, C); says what had to be changed.

    Raises:
        ArgumentError: the model's input is no image.
        DataError: a file is missing, or no image.
    """
    if len(model.input_shape) != 3 or model.input_shape[2] not in (1, 3):
        raise ArgumentError(f"the model's input is {model.input_shape}, which no image file can be")
    notes: list[str] = []
    invert = polarity == "auto" and _on_dark(model)
    pixels = np.stack([_read(path, model.input_shape, invert, notes) for path in paths])
    render.notes(notes)
    return pixels


def _on_dark(model: numbacnn.Model) -> bool:
    """Whether a grey model was trained on images that are mostly dark."""
    return model.input_shape[2] == 1 and model.normalization is not None and model.normalization.mean[0] < 0.5


def _read(path: Path, shape: tuple[int, ...], invert: bool, notes: list[str]) -> NDArray[np.uint8]:
    """The image as the model takes it; ``notes`` gets a line for each change."""
    height, width, channels = shape
    image, note = read_image(path, height, width, channels)
    if note:
        notes.append(note)
    matched = match_polarity(image) if invert else image
    if matched is not image:
        notes.append(f"{path}: inverted, since the model was trained on dark grounds (--polarity keep leaves it)")
    return matched


def _best(row: NDArray[np.float32], classes: tuple[str, ...], top: int) -> list[dict[str, Any]]:
    order = np.argsort(-row, kind="stable")[:top]
    return [{"class": classes[i], "probability": float(row[i])} for i in order]
