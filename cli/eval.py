"""``numbacnn eval``."""

import math
import time
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

import numbacnn
from numbacnn import data as data_sets
from numbacnn.data import Dataset
from numbacnn.data.labels import CLASSES, renumbered
from numbacnn.errors import DataError, ModelFileError, NumbacnnError
from numbacnn.model import EVALUATION_BATCH
from numbacnn.runs.run import DEFAULTS, model_file, read_config, run_of
from numbacnn.tasks import task_of

from . import render
from .options import debug_option, device_option, engine, import_option, json_option, model_argument, threads_option


@click.command("eval")
@model_argument
@click.option("--data", metavar="NAME|DIR", help="Its test part is used.  [default: the data of the model's run]")
@import_option
@click.option(
    "--report",
    is_flag=True,
    help="Also class by class: precision, recall and F1 and the confusion matrix; IoU; or average precision.",
)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Also how often the class is among the K likeliest.")
@threads_option
@device_option
@json_option
@debug_option
def command(
    model: Path,
    data: str | None,
    report: bool,
    top_k: int | None,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Measure loss and accuracy; of a segmenter also mean IoU, of a detector mAP.

    MODEL is a model file or a run's folder; it is measured on the test part of a data set.
    """
    name = data or data_of_run(model)
    with engine(threads):
        network = numbacnn.load(model_file(model), device=device or "cpu")
        classifies = task_of(network.task, network.input_shape).labels == CLASSES
        if top_k and not classifies:
            raise click.UsageError(f"--top-k is of classifiers; this model's task is to {network.task}.")
        test = test_part(network, name)
        network.evaluate(test.subset(np.arange(min(len(test), EVALUATION_BATCH))))  # compiles
        start = time.perf_counter()
        measured = network.evaluate(test)
        seconds = time.perf_counter() - start
        rows = network.metrics(test)[0][0].class_rows(network.class_names) if report and not classifies else None
        found = network.report(test, [top_k] if top_k else []) if classifies and (report or top_k) else None
    if not math.isfinite(measured["loss"]):
        raise NumbacnnError(f"{model}: its loss is {measured['loss']}; its weights are damaged, or training diverged")
    rate = len(test) / seconds
    result = {"model": str(model), "data": name, "images": len(test), **measured, "images_per_second": rate}
    if as_json:
        shown = found.to_dict() if found else {}
        whole = shown if report else {name: shown[name] for name in ("top_k",) if top_k}
        render.as_json(result | ({"classes": rows} if rows else whole))
        return
    measure, came_to = render.measured(result)
    render.text(f"{measure} {came_to}, {rate:,.0f} images/s: {model} on the test part of {name}")
    if rows:
        render.class_rows(rows)
    if found:
        render.report(found, whole=report)


def test_part(model: numbacnn.Model, name: str) -> Dataset:
    """The test part of a data set, its labels counted as the model counts its classes; says what its reader changed."""
    task = task_of(model.task, model.input_shape)
    plain, height, width = task.labels == CLASSES, *model.input_shape[:2]
    _, loaded = data_sets.load(
        name,
        labels=task.labels,
        size=None if plain else (height, width),
        scenes=None if plain or name not in data_sets.NAMES else 1,  # of the training part, which is not needed
        progress=render.download_progress(),
    )
    test = with_classes_of(model, loaded)
    render.notes(loaded.notes)
    return test


def data_of_run(model: Path) -> str:
    """The data set of the run that a model belongs to. Raises ModelFileError or UsageError where there is none."""
    if not model.exists():
        raise ModelFileError(f"{model}: there is no such file or folder")
    run = run_of(model)
    if run is None:
        raise click.UsageError(f"{model} belongs to no run; add --data.")
    return str(read_config(run.config).get("data", DEFAULTS["data"]))


def with_classes_of(model: numbacnn.Model, dataset: Dataset) -> Dataset:
    """The data set, its labels counted as the model counts its classes: by name, else by number if they have no names.

    Raises:
        DataError: a class of the data is none of the model's.
    """
    known = model.class_names
    outputs = len(known)
    unknown = [name for name in dataset.classes if name not in known]
    if unknown and dataset.classes == tuple(map(str, range(len(dataset.classes)))):
        if len(dataset.classes) > outputs:
            raise DataError(
                f"the labels of the data go to {len(dataset.classes) - 1}, those of the model to {outputs - 1}"
            )
        return dataset
    if unknown:
        raise DataError(f"class {unknown[0]!r} of the data is none of the model's: {', '.join(known)}")
    numbers = [known.index(name) for name in dataset.classes]
    return replace(dataset, labels=renumbered(dataset.labels, numbers), classes=known)
