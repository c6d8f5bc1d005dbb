"""``numbacnn predict``."""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np

import numbacnn
from numbacnn.data import image_size, read_image, write_image, write_mask
from numbacnn.data.dataset import Images
from numbacnn.data.drawing import Picture, classified, detected, segmented
from numbacnn.data.fitting import Mask
from numbacnn.data.fonts import missing_characters, note_on_fonts
from numbacnn.data.palette import mask_colors
from numbacnn.detection import Detections
from numbacnn.errors import ArgumentError, DataError, NumbacnnError
from numbacnn.tasks import Detection, Regression, Segmentation, Tagging
from numbacnn.tasks.detection import SCORE_THRESHOLD
from numbacnn.tasks.rows import THRESHOLD

from . import render, shared
from .images import image_files, placement_of, read_intact_images

Rows = list[dict[str, Any]]
COLUMNS = {
    "classes": ("class", "probability"),
    "shares": ("class", "share"),
    "boxes": ("class", "score", "x0", "y0", "x1", "y1"),
    "tags": ("tag", "probability"),
    "values": ("output", "value"),
}
"""Columns of --csv after the image, by the key of a prediction."""


@click.command("predict")
@shared.model
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="IMAGE|DIR...")
@click.option("--top", type=click.IntRange(1), default=3, metavar="K", help="Number of classes to print per image.")
@click.option(
    "--score-threshold",
    type=click.FloatRange(0, 1),
    default=SCORE_THRESHOLD,
    metavar="F",
    help="Minimum score of boxes.",
)
@click.option("--out", help="Folder to write masks to, as PNG files.", **shared.DIR)
@click.option(
    "--save-pictures",
    "pictures",
    help="Folder to write a PNG file for each image to, with its classes, mask or boxes drawn.",
    **shared.DIR,
)
@shared.polarity
@click.option("--tta", metavar="SPEC", help=shared.TTA)
@shared.imports
@shared.threads
@shared.device
@click.option("--csv", "as_csv", is_flag=True, help="Print a table of comma-separated values instead of text.")
@shared.json
@shared.debug
def command(
    model: Path,
    images: tuple[Path, ...],
    top: int,
    score_threshold: float,
    out: Path | None,
    pictures: Path | None,
    polarity: str,
    tta: str | None,
    threads: int | None,
    device: str | None,
    as_csv: bool,
    as_json: bool,
) -> None:
    """Predict classes, masks, boxes, tags or numbers of image files.

    MODEL is a model file or the folder of a run. Each IMAGE is a file such as a PNG or JPEG, of any size, and DIR a
    folder whose images, also in subfolders, are read. A classifier prints the most probable classes, a segmentation
    model the fraction of pixels of each class (and writes masks with --out), a detector the boxes x0, y0, x1, y1 in
    pixels of the IMAGE, a model of tags those of a probability of at least a half, and a model for regression its
    numbers. Files that cannot be read are named at the end, and the
    exit code is then 1.

    \b
    Examples:
      numbacnn predict runs/digits seven.png
      numbacnn predict runs/photos new-photos --best --csv
      numbacnn predict runs/cells cells --out masks --save-pictures overlays
    """
    if as_csv and as_json:
        raise click.UsageError("use --csv or --json, not both.")
    with shared.engine(threads):
        network = shared.load(model, device=device or "cpu")
        if out is not None and network.task != Segmentation.name:
            raise click.UsageError("--out is for the masks of a segmentation model.")
        if tta is not None:
            network.check_tta(tta)
        if pictures is not None and network.task == Regression.name:
            raise click.UsageError("--save-pictures draws classes, masks or boxes; this model predicts numbers.")
        names = image_files(images)
        mask_files, picture_files = _files_in(out, names), _files_in(pictures, names)
        intact, pixels, damaged = read_intact_images(network, list(names), polarity)
        if network.task == Segmentation.name:
            found, drawn = _segment(network, pixels, intact, mask_files)
        elif network.task == Detection.name:
            found, drawn = _detect(network, pixels, intact, score_threshold)
        elif network.task == Regression.name:
            found, drawn = _regress(network, model, pixels, tta), []
        else:
            found, drawn = _classify(network, model, pixels, intact, top, tta)
            if network.task == Tagging.name:
                found = [_tags(row) for row in found]
        _draw(network, drawn, picture_files)
    predictions = [
        {"image": str(path), **row} | ({"picture": str(picture_files[path])} if pictures else {})
        for path, row in zip(intact, found, strict=True)
    ]
    if as_json:
        render.as_json({"model": str(model), "predictions": predictions})
    elif as_csv:
        _print_csv(predictions)
    else:
        _print(predictions)
    if damaged:
        raise DataError(f"{len(damaged)} of {len(names)} files cannot be read: {'; '.join(map(str, damaged))}")


def _files_in(folder: Path | None, names: Mapping[Path, Path]) -> dict[Path, Path]:
    """Name a PNG file in a folder for each image; raises ArgumentError if one exists or has the name of another."""
    if folder is None:
        return {}
    files = {image: folder / name.with_suffix(".png") for image, name in names.items()}
    taken = set[Path]()
    for file in files.values():
        if file in taken or file.exists():
            problem = "would be that of two images" if file in taken else "exists already"
            raise ArgumentError(f"{file}: {problem}; nothing was written")
        taken.add(file)
    return files


# -- printing ---------------------------------------------------------------------------------------------------------


def _print(predictions: Rows) -> None:
    """Print a line per image, or per box, then the names of the files that were written."""
    rows = []
    for each in predictions:
        if "boxes" in each:
            lines = [[*_cells([item], "score"), ", ".join(f"{x:.1f}" for x in item["box"])] for item in each["boxes"]]
            rows += [[each["image"], *line] for line in lines or [["nothing found"]]]
        elif "values" in each:
            rows.append([each["image"], *(_number(item) for item in each["values"])])
        elif "tags" in each:
            rows.append([each["image"], *(_cells(each["tags"], "probability", "tag") or ["no tag"])])
        else:
            cells = _cells(each["classes"], "probability") if "classes" in each else _cells(each["shares"], "share")
            rows.append([each["image"], *cells])
    render.table(rows)
    for kind in ("mask", "picture"):
        for each in predictions:
            if kind in each:
                render.text(each[kind])


def _cells(items: Rows, value: str, name: str = "class") -> list[str]:
    return [f"{item[name]} {render.percent(item[value])}" for item in items]


def _number(item: dict[str, Any]) -> str:
    return f"{'' if isinstance(item['output'], int) else item['output'] + ' '}{item['value']:.6g}"


def _print_csv(predictions: Rows) -> None:
    """Print a row for each class or box of an image, in the order of the other formats."""
    text = io.StringIO()
    key = next(key for key in COLUMNS if key in predictions[0])
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image", *COLUMNS[key]))
    for each in predictions:
        for item in each[key] or [{}]:  # a row without values for an image without boxes
            values = item | dict(zip(COLUMNS["boxes"][2:], item.get("box", ()), strict=False))
            rows.writerow((each["image"], *(values.get(column, "") for column in COLUMNS[key])))
    render.lines(text.getvalue().rstrip("\n"))


# -- predictions, and what is drawn of each image ----------------------------------------------------------------------

Prediction = (
    list[tuple[str, float]] | Mask | Detections
)  # classes with probabilities, a mask of the input's size, boxes
Drawn = list[tuple[Path, Prediction]]


def _classify(
    model: numbacnn.Model, path: Path, pixels: Images, images: Sequence[Path], top: int, tta: str | None
) -> tuple[Rows, Drawn]:
    """Return the ``top`` most probable classes of each image."""
    probabilities = model.predict(pixels, tta=tta)
    if probabilities.ndim != 2 or not np.isfinite(probabilities).all():
        raise NumbacnnError(f"{path}: no class probabilities; not a classifier, or its weights are damaged")
    order = np.argsort(-probabilities, axis=1, kind="stable")
    order = order if model.task == Tagging.name else order[:, :top]
    found = [
        [(model.class_names[i], float(row[i])) for i in best] for row, best in zip(probabilities, order, strict=True)
    ]
    rows = [{"classes": [{"class": name, "probability": value} for name, value in best]} for best in found]
    return rows, list(zip(images, found, strict=True))


def _tags(row: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of an image, those of a probability of at least a half."""
    likely = [item for item in row["classes"] if item["probability"] >= THRESHOLD]
    return {"tags": [{"tag": item["class"], "probability": item["probability"]} for item in likely]}


def _regress(model: numbacnn.Model, path: Path, pixels: Images, tta: str | None) -> Rows:
    """Return the numbers of each image."""
    values = model.predict(pixels, tta=tta)
    if not np.isfinite(values).all():
        raise NumbacnnError(f"{path}: a predicted number is not finite; the weights are damaged, or training diverged")
    outputs = model.classes or range(values.shape[1])
    pairs = (zip(outputs, row.tolist(), strict=True) for row in values)
    return [{"values": [{"output": output, "value": value} for output, value in row]} for row in pairs]


def _segment(
    model: numbacnn.Model, pixels: Images, images: Sequence[Path], files: Mapping[Path, Path]
) -> tuple[Rows, Drawn]:
    """Return the fraction of pixels of each class found, in descending order; write masks in the images' sizes."""
    names = model.class_names
    if files and len(names) > 256:
        raise ArgumentError(f"a PNG mask holds at most 256 classes; the model has {len(names)}")
    rows, colors, masks = [], mask_colors(len(names)), model.segment(pixels)
    for image, mask in zip(images, masks, strict=True):
        shares = np.bincount(mask.reshape(-1), minlength=len(names)) / mask.size
        order = [i for i in np.argsort(-shares, kind="stable") if shares[i]]
        row: dict[str, Any] = {"shares": [{"class": names[i], "share": float(shares[i])} for i in order]}
        if image in files:
            files[image].parent.mkdir(parents=True, exist_ok=True)
            write_mask(files[image], placement_of(model, image).restored_mask(mask), colors)
            row["mask"] = str(files[image])
        rows.append(row)
    return rows, list(zip(images, masks, strict=True))


def _detect(
    model: numbacnn.Model, pixels: Images, images: Sequence[Path], score_threshold: float
) -> tuple[Rows, Drawn]:
    """Return boxes in pixels of the image files, in descending order of their scores."""
    rows, drawn = Rows(), Drawn()
    for image, found in zip(images, model.detect(pixels, score_threshold), strict=True):
        boxes = placement_of(model, image).restored_boxes(found.boxes.astype(np.float64))
        columns = zip(found.classes, found.scores.tolist(), boxes.tolist(), strict=True)
        rows.append({"boxes": [{"class": model.class_names[i], "score": score, "box": b} for i, score, b in columns]})
        drawn.append((image, found._replace(boxes=boxes.astype(np.float32))))
    return rows, drawn


def _draw(model: numbacnn.Model, drawn: Drawn, files: Mapping[Path, Path]) -> None:
    """Write the picture of each image that has a file."""
    if files and (missing := missing_characters(model.class_names)):
        render.notes([note_on_fonts(missing)])
    for image, prediction in drawn:
        if image in files:
            files[image].parent.mkdir(parents=True, exist_ok=True)
            write_image(files[image], _picture(model, image, prediction))


def _picture(model: numbacnn.Model, file: Path, prediction: Prediction) -> Picture:
    """Draw a prediction on its image file."""
    trained = model.normalization and model.normalization.images
    image, _ = read_image(file, *image_size(file), 3, white=trained.white if trained else None)
    if isinstance(prediction, list):
        return classified(image, prediction)
    if isinstance(prediction, Detections):
        return detected(image, prediction, model.class_names)
    return segmented(image, placement_of(model, file).restored_mask(prediction), model.class_names)
