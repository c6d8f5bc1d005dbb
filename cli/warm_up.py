"""``numbacnn warm-up``."""

import time
from typing import Any

import click

import numbacnn
from numbacnn.data.labels import BOXES
from numbacnn.errors import NumbacnnError
from numbacnn.optimizers import OPTIMIZERS
from numbacnn.tasks.random_data import random_dataset

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
    from numbacnn.kernels.jit import add_compile_listener

    if cache_folder() is None:  # a warning has said why
        raise NumbacnnError(f"{cache_root()} cannot keep compiled kernels: warm-up would be of no use")
    compiled, before, start = list[str](), cached_functions(), time.perf_counter()
    with shared.engine(threads):
        network = architecture.open_model(model, options, input_shape=input_shape, classes=classes)
        remove = add_compile_listener(lambda name, done: compiled.append(name) if done else None)
        try:
            _run(network, batch_size, optimizer, not inference)
        finally:
            remove()
    kept = cached_functions() - before
    if compiled and not kept:
        raise NumbacnnError(f"{cache_root()} cannot keep compiled kernels: {len(compiled)} were compiled for nothing")
    report = {
        "model": model,
        "kernels": kept,
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
    return f"{report['model']}: compiled {report['kernels']} functions in {report['seconds']:.1f} s, in {folder}"


def _run(network: numbacnn.Model, batch: int, optimizer: str, training: bool) -> None:
    images = random_dataset(network.task, network.input_shape, network.output_shape[-1], batch)
    if training:
        network.fit(images, optimizer=optimizer, epochs=1, batch_size=batch, progress=False)
    network.evaluate(images)
    predict = network.detect if images.kind == BOXES else network.predict
    predict(images.images[:1])
