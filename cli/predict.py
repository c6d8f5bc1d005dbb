"""``numbacnn predict``."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

import numbacnn
from numbacnn.data import image_size, match_polarity, read_image, resize_nearest, write_mask
from numbacnn.data.palette import mask_colors
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.runs.run import model_file
from numbacnn.tasks import Classification, Detection, Segmentation
from numbacnn.tasks.detection import SCORE_THRESHOLD

from . import render
from .options import debug_option, device_option, engine, import_option, json_option, model_argument, threads_option

Rows = list[dict[str, Any]]


@click.command("predict")
@model_argument
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1), default=3, metavar="K", help="How many classes a classifier tells.")
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=SCORE_THRESHOLD,
    metavar="F",
    help="Smallest score at which a detection is reported.",
)
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="A folder for a segmenter's masks, as PNG.")
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
    score_threshold: float,
    out: Path | None,
    polarity: str,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Tell what images show.

    MODEL is a model file or a run's folder, each IMAGE a file such as PNG or JPEG, of any size. A classifier tells the
    likeliest classes, a segmenter the share of each class (and writes masks with --out), a detector boxes x0, y0, x1,
    y1, in pixels of the IMAGE.
    """
    with engine(threads):
        network = numbacnn.load(model_file(model), device=device or "cpu")
        if out is not None and network.task != Segmentation.name:
            raise click.UsageError("--out is for the masks of a model that segments.")
        files = _mask_files(images, out)
        pixels = read_images(network, images, polarity)
        tell: dict[str, Callable[[], Rows]] = {
            Classification.name: lambda: _classes(network, model, pixels, top),
            Segmentation.name: lambda: _shares(network, pixels, images, files),
            Detection.name: lambda: _boxes(network, pixels, images, score_threshold),
        }
        found = tell[network.task or Classification.name]()
    predictions = [{"image": str(path), **row} for path, row in zip(images, found, strict=True)]
    if as_json:
        render.as_json({"model": str(model), "predictions": predictions})
    else:
        render.predictions(predictions)


def _classes(model: numbacnn.Model, path: Path, pixels: NDArray[np.uint8], top: int) -> Rows:
    probabilities = model.predict(pixels)
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise NumbacnnError(f"{path}: gives no class probabilities; it is no classifier, or its weights are damaged")
    return [{"classes": _best(row, model.class_names, top)} for row in probabilities]


def _best(row: NDArray[np.float32], classes: tuple[str, ...], top: int) -> Rows:
    order = np.argsort(-row, kind="stable")[:top]
    return [{"class": classes[i], "probability": float(row[i])} for i in order]


def _mask_files(images: Sequence[Path], out: Path | None) -> list[Path | None]:
    """Where the mask of each image goes. Raises ArgumentError where a file is there already, or of two images."""
    files = [None if out is None else out / f"{image.stem}.png" for image in images]
    for file in files:
        if file is not None and (file.exists() or files.count(file) > 1):
            problem = "exists" if file.exists() else "would be of two images"
            raise ArgumentError(f"{file}: {problem}; nothing is written")
    return files


def _shares(
    model: numbacnn.Model, pixels: NDArray[np.uint8], images: Sequence[Path], files: Sequence[Path | None]
) -> Rows:
    """The share of each class that is there, the largest first; and the masks' files, of their images' sizes."""
    names = model.class_names
    if any(files) and len(names) > 256:
        raise ArgumentError(f"a PNG mask numbers 256 classes; the model has {len(names)}")
    rows, colors = [], mask_colors(len(names))
    for image, mask, file in zip(images, model.segment(pixels), files, strict=True):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_mask(file, resize_nearest(mask, image_size(image)), colors)
        shares = np.bincount(mask.reshape(-1), minlength=len(names)) / mask.size
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i]]
        row: dict[str, Any] = {"shares": [{"class": names[i], "share": float(shares[i])} for i in order]}
        rows.append(row if file is None else row | {"mask": str(file)})
    return rows


def _boxes(model: numbacnn.Model, pixels: NDArray[np.uint8], images: Sequence[Path], score_threshold: float) -> Rows:
    """Boxes in pixels of the image files, the surest first."""
    height, width, _ = model.input_shape
    rows = []
    for image, found in zip(images, model.detect(pixels, score_threshold), strict=True):
        h, w = image_size(image)
        edges = (found.boxes * np.array([w / width, h / height] * 2)).tolist()
        columns = zip(found.classes, found.scores.tolist(), edges, strict=True)
        boxes = [{"class": model.class_names[i], "score": score, "box": box} for i, score, box in columns]
        rows.append({"boxes": boxes})
    return rows


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
