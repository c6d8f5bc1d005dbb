"""``numbacnn predict``."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import numbacnn
from numbacnn.data import write_mask
from numbacnn.data.dataset import Images
from numbacnn.data.palette import mask_colors
from numbacnn.errors import ArgumentError, DataError, NumbacnnError
from numbacnn.runs.folder import model_file
from numbacnn.tasks import Detection, Segmentation
from numbacnn.tasks.detection import SCORE_THRESHOLD

from . import render, shared
from .images import placement_of, read_sound_images

Rows = list[dict[str, Any]]


@click.command("predict")
@shared.model
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE...")
@click.option("--top", type=click.IntRange(1), default=3, metavar="K", help="Number of classes to print per image.")
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=SCORE_THRESHOLD,
    metavar="F",
    help="Minimum score of boxes.",
)
@click.option("--out", help="Folder to write masks to, as PNG files.", **shared.DIR)
@shared.polarity
@shared.imports
@shared.threads
@shared.device
@shared.json
@shared.debug
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
    """Predict classes, masks or boxes of image files.

    MODEL is a model file or the folder of a run. Each IMAGE is a file such as a PNG or JPEG, of any size. A classifier
    prints the most probable classes, a segmentation model the fraction of pixels of each class (and writes masks with
    --out), a detector the boxes x0, y0, x1, y1 in pixels of the IMAGE. Files that cannot be read are named at the end,
    and the exit code is then 1.
    """
    with shared.engine(threads):
        network = numbacnn.load(model_file(model), device=device or "cpu")
        if out is not None and network.task != Segmentation.name:
            raise click.UsageError("--out is for the masks of a segmentation model.")
        sound, pixels, damaged = read_sound_images(network, images, polarity)
        mask_files = _mask_files(sound, out)
        if network.task == Segmentation.name:
            found = _segment(network, pixels, sound, mask_files)
        elif network.task == Detection.name:
            found = _detect(network, pixels, sound, score_threshold)
        else:
            found = _classify(network, model, pixels, top)
    predictions = [{"image": str(path), **row} for path, row in zip(sound, found, strict=True)]
    if as_json:
        render.as_json({"model": str(model), "predictions": predictions})
    else:
        _print(predictions)
    if damaged:
        raise DataError(f"{len(damaged)} of {len(images)} files cannot be read: {'; '.join(map(str, damaged))}")


def _print(predictions: Rows) -> None:
    """Print a line per image, or per box, then the names of the mask files."""
    rows = []
    for each in predictions:
        if "boxes" in each:
            lines = [[*_cells([item], "score"), ", ".join(f"{x:.1f}" for x in item["box"])] for item in each["boxes"]]
            rows += [[each["image"], *line] for line in lines or [["nothing found"]]]
        else:
            cells = _cells(each["classes"], "probability") if "classes" in each else _cells(each["shares"], "share")
            rows.append([each["image"], *cells])
    render.table(rows)
    for each in predictions:
        if "mask" in each:
            render.text(each["mask"])


def _cells(items: Rows, value: str) -> list[str]:
    return [f"{item['class']} {render.percent(item[value])}" for item in items]


def _classify(model: numbacnn.Model, path: Path, pixels: Images, top: int) -> Rows:
    """Return the ``top`` most probable classes of each image."""
    probabilities = model.predict(pixels)
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise NumbacnnError(f"{path}: no class probabilities; not a classifier, or its weights are damaged")
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :top]
    return [
        {"classes": [{"class": model.class_names[i], "probability": float(row[i])} for i in best]}
        for row, best in zip(probabilities, order, strict=True)
    ]


def _mask_files(images: Sequence[Path], out: Path | None) -> list[Path | None]:
    """Name a mask file for each image. Raises ArgumentError if one exists already or has the name of another."""
    files = [None if out is None else out / f"{image.stem}.png" for image in images]
    for file in files:
        if file is not None and (file.exists() or files.count(file) > 1):
            problem = "exists already" if file.exists() else "would hold the masks of two images"
            raise ArgumentError(f"{file}: {problem}; nothing was written")
    return files


def _segment(model: numbacnn.Model, pixels: Images, images: Sequence[Path], files: Sequence[Path | None]) -> Rows:
    """Return the fraction of pixels of each class found, in descending order; write masks in the images' sizes."""
    names = model.class_names
    if any(files) and len(names) > 256:
        raise ArgumentError(f"a PNG mask holds at most 256 classes; the model has {len(names)}")
    rows, colors = [], mask_colors(len(names))
    for image, mask, file in zip(images, model.segment(pixels), files, strict=True):
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_mask(file, placement_of(model, image).restored_mask(mask), colors)
        shares = np.bincount(mask.reshape(-1), minlength=len(names)) / mask.size
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i]]
        row: dict[str, Any] = {"shares": [{"class": names[i], "share": float(shares[i])} for i in order]}
        rows.append(row if file is None else row | {"mask": str(file)})
    return rows


def _detect(model: numbacnn.Model, pixels: Images, images: Sequence[Path], score_threshold: float) -> Rows:
    """Return boxes in pixels of the image files, in descending order of their scores."""
    rows = []
    for image, found in zip(images, model.detect(pixels, score_threshold), strict=True):
        boxes = placement_of(model, image).restored_boxes(found.boxes.astype(np.float64)).tolist()
        columns = zip(found.classes, found.scores.tolist(), boxes, strict=True)
        rows.append({"boxes": [{"class": model.class_names[i], "score": score, "box": b} for i, score, b in columns]})
    return rows
