"""``numbacnn warm-up``."""

import time
from typing import Any

import click
import numpy as np

import numbacnn
from numbacnn.data import Dataset
from numbacnn.data.labels import BOXES, CLASSES, MASKS, TAGS
from numbacnn.errors import NumbacnnError
from numbacnn.optimizers import OPTIMIZERS
from numbacnn.tasks import task_of

from . import architecture, complete, render, shared


@click.command("warm-up")
@click.argument("model", metavar="[MODEL|NAME]", default="lenet5", shell_complete=complete.model_or_name)
@architecture.options
@click.option(
    "--batch-size", default=8, help="Images per step, on which the choice of algorithms depends.", **shared.COUNT
)
@click.option("--optimizer", type=click.Choice(list(OPTIMIZERS)), default="sgd", help="Optimizer of the training.")
@click.option("--inference", is_flag=True, help="Compile only what evaluation and prediction need.")
@shared.threads
@shared.imports
@shared.json
@shared.debug
def command(
    model: str,
    options: tuple[str, ...],
    input_shape: tuple[int, ...] | None,
    classes: int | None,
    batch_size: int,
    optimizer: str,
    inference: bool,
    threads: int | None,
    as_json: bool,
) -> None:
    """Compile ahead what training and inference of a model need.

    The kernels are kept in the cache folder (NUMBACNN_CACHE_DIR), so that a container image has them before its first
    start. Runs one training step, an evaluation and a prediction on random images; no model file is changed.
    """
    from numbacnn.kernels.disk_cache import cache_folder, cache_root, cache_size, cached_functions

    if cache_folder() is None:  # a warning has said why
        raise NumbacnnError(f"{cache_root()} cannot keep compiled kernels: warm-up would be of no use")
    before, start = cached_functions(), time.perf_counter()
    with shared.engine(threads):
        network = architecture.open_model(model, options, input_shape=input_shape, classes=classes)
        _run(network, batch_size, optimizer, not inference)
    report = {
        "model": model,
        "kernels": cached_functions() - before,
        "seconds": time.perf_counter() - start,
        "cache": {"folder": str(cache_root()), "bytes": cache_size()},
    }
    if as_json:
        render.as_json(report)
    else:
        render.text(_line(report))


def _line(report: dict[str, Any]) -> str:
    folder = report["cache"]["folder"]
    if not report["kernels"]:
        return f"{report['model']}: all kernels were compiled before, in {folder}"
    return f"{report['model']}: compiled {report['kernels']} kernels in {report['seconds']:.1f} s, in {folder}"


def _run(network: numbacnn.Model, batch: int, optimizer: str, training: bool) -> None:
    images = _images(network, batch)
    if training:
        network.fit(images, optimizer=optimizer, epochs=1, batch_size=batch, progress=False)
    network.evaluate(images)
    predict = network.detect if images.kind == BOXES else network.predict
    predict(images.images[:1])


def _images(network: numbacnn.Model, count: int) -> Dataset:
    """Draw raw images with labels of the model's task."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (count, *network.input_shape), np.uint8)
    kind, outputs = task_of(network.task, network.input_shape).labels, network.output_shape[-1]
    if kind == BOXES:
        height, width, _ = network.input_shape
        box = np.array([[width / 4, height / 4, width / 2, height / 2, 0]], np.float32)
        return Dataset.from_arrays(images, [box] * count)
    if kind == TAGS:
        return Dataset.from_arrays(images, draw.integers(0, 2, (count, outputs)).astype(np.uint8))
    if kind in (CLASSES, MASKS):
        shape = (count,) if kind == CLASSES else images.shape[:3]
        names = [str(number) for number in range(outputs)]
        return Dataset.from_arrays(images, draw.integers(0, outputs, shape), names)
    return Dataset.from_arrays(images, draw.standard_normal((count, outputs)))
