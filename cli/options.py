"""What several commands share: their options, and how they start the engine."""

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

import numbacnn
from numbacnn import models
from numbacnn._checks import brief
from numbacnn.engine.device import PRECISIONS
from numbacnn.errors import ArgumentError
from numbacnn.runs.run import model_file

from . import render

MAX_THREADS = 1024


@dataclass
class State:
    """What ``main`` learns from a command."""

    debug: bool = False


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, State):
        ctx.obj.debug = True


debug_option = click.option(
    "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_set_debug, help="Show tracebacks."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
model_argument = click.argument("model", type=click.Path(path_type=Path))
import_option = click.option(
    "--import",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=lambda _, __, names: _import(names),
    metavar="MODULE",
    help="A Python module to import first: where layers of your own are. Files import none.",
)
device_option = click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to compute.  [default: cpu]")
precision_option = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="What a GPU's products of convolutions and dense layers are rounded to.  [default: fp32]",
)
threads_option = click.option(
    "--threads", type=click.IntRange(1, MAX_THREADS), metavar="N", help="CPU threads.  [default: all cores]"
)


def _import(names: Sequence[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module of the user's raises
            raise ArgumentError(f"--import {name}: {brief(error)}") from error


def means_file(model: str) -> bool:
    """Whether MODEL|NAME is a model file or a run's folder, not the name of an architecture."""
    path = Path(model)
    return model not in models.MODELS and (path.exists() or len(path.parts) > 1 or path.suffix == ".safetensors")


def open_model(model: str, device: str = "cpu", precision: str = "fp32", **options: Any) -> numbacnn.Model:
    """The model of a file or of a run's folder, or else an architecture, built with the options."""
    if means_file(model):
        return numbacnn.load(model_file(Path(model)), device=device, precision=precision)
    return models.make(model, device=device, precision=precision, **options)


@contextmanager
def engine(threads: int | None, quiet: bool = False) -> Iterator[None]:
    """Sets the number of threads, and tells of kernels that compile meanwhile."""
    if threads is not None:
        if "numba" not in sys.modules:  # only then can the limit still be raised
            os.environ["NUMBA_NUM_THREADS"] = str(threads)
        numbacnn.set_num_threads(threads)
    from numbacnn.kernels.jit import add_compile_listener

    remove = add_compile_listener(render.CompileLine(quiet))
    try:
        yield
    finally:
        remove()
