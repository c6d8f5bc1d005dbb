"""``numbacnn eval``."""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np

import numbacnn
from numbacnn import data as data_sets
from numbacnn.data import Dataset
from numbacnn.data.labels import CLASSES, TAGS, VALUES, renumbered
from numbacnn.errors import DataError, ModelFileError, NumbacnnError
from numbacnn.metrics import Report
from numbacnn.runs.folder import run_of
from numbacnn.runs.settings import DEFAULTS, names_in, read_config, require_data
from numbacnn.tasks import task_of
from numbacnn.tasks.predictor import EVALUATION_BATCH

from . import ranks, render, shared
from .images import with_polarity
from .progress import download_progress

MAX_MATRIX = 20  # classes of a confusion matrix that fits a terminal


@click.command("eval")
@shared.model
@shared.data
@click.option(
    "--ignore-index", help="Pixel value of masks that loss and scores ignore.", type=click.IntRange(0), metavar="N"
)
@click.option("--skip-damaged", is_flag=True, help="Leave out files that cannot be decoded.")
@shared.polarity
@click.option("--tta", metavar="SPEC", help=f"{shared.TTA}  [default: that of the model's run; '' for none]")
@shared.imports
@click.option(
    "--report",
    is_flag=True,
    help="Also print scores per class: precision, recall, F1 and the confusion matrix; IoU; or average precision. "
    "Of each tag: precision, recall and F1; of each number: mean absolute error and R².",
)
@click.option("--metrics", metavar="NAMES", help=shared.METRICS)
@click.option("--top-k", type=click.IntRange(1), metavar="K", help="Also print the top-K accuracy of a classifier.")
@shared.threads
@shared.device
@shared.json
@shared.debug
@click.pass_context
def command(
    ctx: click.Context,
    /,
    model: Path,
    data: str | None,
    ignore_index: int | None,
    skip_damaged: bool,
    polarity: str,
    tta: str | None,
    report: bool,
    metrics: str | None,
    top_k: int | None,
    threads: int | None,
    device: str | None,
    as_json: bool,
) -> None:
    """Evaluate a model on the test set.

    MODEL is a model file or the folder of a run. Prints the loss and the accuracy of a classifier, the mean IoU of a
    segmentation model, the mAP of a detector, the accuracy of tags, or the mean absolute error and R² of a regression.
    Started by mpiexec, all ranks share the images.

    \b
    Examples:
      numbacnn eval runs/digits --report
      numbacnn eval model.safetensors --data photos --json
    """
    group = ranks.connected(ctx)
    source = TestData.of(model, data, ignore_index, skip_damaged, tta)
    with shared.engine(ranks.threads(group, threads)):
        network = shared.load(model, device=device or "cpu")
        classifies = task_of(network.task, network.input_shape).labels == CLASSES
        if top_k and not classifies:
            raise click.UsageError(f"--top-k is for classifiers; the task of this model is {network.task}.")
        if source.tta is not None:
            network.check_tta(source.tta)
        test = load_test_set(network, source, polarity)
        network.evaluate(test.subset(np.arange(min(len(test), EVALUATION_BATCH))))  # compiles the kernels
        start = time.perf_counter()
        measured = network.evaluate(test, source.loss, metrics=names_in(metrics), tta=source.tta, communicator=group)
        rate = len(test) / (time.perf_counter() - start)
        rows = None
        if report and not classifies:
            rows = network.measure(test, tta=source.tta)[0][0].class_rows(network.class_names)
        found = None
        if classifies and (report or top_k):
            found = network.report(test, top_k=[top_k] if top_k else [], tta=source.tta)
    if not math.isfinite(measured["loss"]):
        raise NumbacnnError(f"{model}: the loss is {measured['loss']}; the weights are damaged, or training diverged")
    result = {"model": str(model), "data": source.name, "images": len(test), **measured, "images_per_second": rate}
    if as_json:
        details = found.to_dict() if found else {}
        if found and not report:
            details = {"top_k": details["top_k"]}
        render.as_json(result | ({"classes": rows} if rows else details))
        return
    score, values = render.scores(result | {"task": network.task}, names_in(metrics))
    render.text(f"{score} {values}, {rate:,.0f} images/s: {model} on the test set of {source.name}")
    if rows:
        _print_class_rows(rows)
    if found:
        for k, accuracy in found.top_k.items():
            render.text(f"top-{k} accuracy: {render.percent(accuracy)}")
        if report:
            print_report(found)


def _print_class_rows(rows: Sequence[dict[str, str | float | None]]) -> None:
    """Print a table of the scores of each class; a score that is undefined is empty."""

    def cell(name: str, value: str | float | None) -> str:
        if value is None or isinstance(value, str):
            return value or ""
        if name in ("mae", "r2"):
            return f"{value:.4g}"
        return f"{value:,}" if isinstance(value, int) else render.percent(value)

    render.text("")
    render.table([list(rows[0]), *([cell(*item) for item in row.items()] for row in rows)], left=(0,))


def print_report(report: Report) -> None:
    """Print the scores of each class, and the confusion matrix or its largest entries."""
    percent = render.percent
    rows = [
        [name, percent(precision), percent(recall), percent(f1), f"{support:,}"]
        for name, precision, recall, f1, support in zip(report.classes, *report.per_class, strict=True)
    ]
    rows.append(["mean of classes", *map(percent, report.mean), f"{report.confusion.sum():,}"])
    render.text("")
    render.table([["class", "precision", "recall", "F1", "images"], *rows], left=(0,))
    render.text("")
    if len(report.classes) <= MAX_MATRIX:
        counts = zip(report.classes, report.confusion.tolist(), strict=True)
        matrix = [[name, *map(str, row)] for name, row in counts]
        render.table([["true \\ predicted", *report.classes], *matrix], left=(0,))
    else:
        mistakes = [[true, predicted, f"{count:,}"] for true, predicted, count in report.most_confused(MAX_MATRIX)]
        render.text(f"most frequent mistakes (at most {MAX_MATRIX}; --json has the whole confusion matrix)")
        render.table([["true", "predicted", "images"], *mistakes])


class TestData(NamedTuple):
    """A data set whose test set is used: its name or folder, and how it is read."""

    name: str
    ignore_index: int | None = None
    skip_damaged: bool = False
    loss: str | None = None  # of the run
    tta: str | None = None

    @classmethod
    def of(
        cls,
        model: Path,
        data: str | None,
        ignore_index: int | None = None,
        skip_damaged: bool = False,
        tta: str | None = None,
    ) -> "TestData":
        """Return the data set given, or else that of the run that a model belongs to, read as the run does.

        Raises:
            ModelFileError: the model does not exist.
            UsageError: no data set is given, and the model does not belong to a run.
            DataError: the data of the run is no longer there.
        """
        if not model.exists():
            raise ModelFileError(f"{model}: no such file or folder")
        run = run_of(model)
        if run is None:
            if data is None:
                raise click.UsageError(f"{model} does not belong to a run; add --data.")
            return cls(data, ignore_index, skip_damaged, tta=tta)
        run.require_run()
        options = read_config(run.config)
        name = data or str(options.get("data", DEFAULTS["data"]))
        require_data(name)
        ignored = options.get("ignore_index") if ignore_index is None else ignore_index
        skips = skip_damaged or bool(options.get("skip_damaged"))
        return cls(name, ignored, skips, options.get("loss"), options.get("tta") if tta is None else tta)


def load_test_set(model: numbacnn.Model, source: TestData, polarity: str) -> Dataset:
    """Load the test set of a data set in the form of a model's input; prints how it was changed.

    Its labels are numbered as in the model, and files are read in its size and with its channels.
    """
    task = task_of(model.task, model.input_shape)
    whole_images, named = task.labels == CLASSES, source.name in data_sets.NAMES
    height, width, channels = model.input_shape if len(model.input_shape) == 3 else (None, None, None)
    trained = model.normalization and model.normalization.images
    as_trained = {"fit": trained.fit, "white": trained.white} if trained else {}
    splits = data_sets.load_splits(
        source.name,
        labels=task.labels,
        size=None if height is None or width is None or (named and whole_images) else (height, width),
        channels=channels if channels in (1, 3) else None,
        scenes=1 if named and not whole_images else None,  # the training set is not used
        skip_damaged=source.skip_damaged,
        ignore_index=source.ignore_index,
        progress=download_progress(),
        **as_trained,  # type: ignore[arg-type]
    )
    test = splits.test
    assert test is not None
    numbered = with_classes_of(model, test)
    render.notes(numbered.notes)
    return replace(numbered, images=with_polarity(model, numbered.images, polarity))


def with_classes_of(model: numbacnn.Model, dataset: Dataset) -> Dataset:
    """Number the labels as the model numbers its classes: by class name, or unchanged if the data has no names.

    Raises:
        DataError: the model does not have one of the data's classes.
    """
    known = model.class_names
    if dataset.kind in (TAGS, VALUES):
        unnamed = dataset.kind == VALUES and not model.classes  # of arrays, whose columns have no names
        return _in_order(len(known), dataset) if unnamed else _with_columns_of(known, dataset)
    unknown = [name for name in dataset.classes if name not in known]
    if not unknown:
        numbers = [known.index(name) for name in dataset.classes]
        labels = renumbered(dataset.labels, numbers, dataset.ignore_index)
        return replace(dataset, labels=labels, classes=known)
    if dataset.classes != tuple(map(str, range(len(dataset.classes)))):
        raise DataError(f"the model has no class {unknown[0]!r}; its classes are {', '.join(known)}")
    if len(dataset.classes) > len(known):
        raise DataError(f"labels reach {len(dataset.classes) - 1}, but the model's last class is {len(known) - 1}")
    return dataset


def _in_order(count: int, dataset: Dataset) -> Dataset:
    """Take the columns of numbers for a model's outputs without names. Raises DataError if there are more or fewer."""
    columns = ", ".join(dataset.classes)
    if len(dataset.classes) != count:
        raise DataError(
            f"the data has {len(dataset.classes)} columns of numbers, {columns}; the model's outputs: {count}"
        )
    note = f"the model's outputs have no names; they are compared with the columns in their order: {columns}"
    return replace(dataset, notes=(*dataset.notes, *([note] if count > 1 else [])))


def _with_columns_of(names: Sequence[str], dataset: Dataset) -> Dataset:
    """Order the columns of tags or numbers as the model does. Raises DataError if the model has others.

    A tag that no image has may be missing.
    """
    unknown = [name for name in dataset.classes if name not in names]
    missing = [name for name in names if name not in dataset.classes]
    if unknown or (missing and dataset.kind == VALUES):
        raise DataError(f"the data has {', '.join(dataset.classes)}, but the model {', '.join(names)}")
    labels = np.zeros((len(dataset), len(names)), dataset.labels.dtype)
    labels[:, [names.index(name) for name in dataset.classes]] = dataset.labels
    return replace(dataset, labels=labels, classes=tuple(names))
