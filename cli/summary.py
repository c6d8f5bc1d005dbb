"""``numbacnn summary``."""

from dataclasses import asdict
from pathlib import Path

import click

import numbacnn
from numbacnn import models
from numbacnn.runs import model_file

from . import render
from .options import debug_option, import_option, json_option


@click.command("summary")
@click.argument("model", metavar="MODEL|NAME")
@import_option
@json_option
@debug_option
def command(model: str, as_json: bool) -> None:
    """Show a model's layers.

    Shapes, parameters, FLOPs and memory of MODEL, a model file or a run's folder, or of an architecture by NAME.
    """
    network = numbacnn.load(model_file(Path(model))) if _means_file(model) else models.make(model)
    summary = network.summary(show=False)
    if as_json:
        render.as_json({"model": model, **asdict(summary)})
    else:
        render.text(str(summary))


def _means_file(model: str) -> bool:
    path = Path(model)
    return model not in models.MODELS and (path.exists() or len(path.parts) > 1 or path.suffix == ".safetensors")
