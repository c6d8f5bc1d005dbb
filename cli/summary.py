"""``numbacnn summary``."""

from dataclasses import asdict

import click

from . import render
from .options import debug_option, import_option, json_option, open_model


@click.command("summary")
@click.argument("model", metavar="MODEL|NAME")
@import_option
@json_option
@debug_option
def command(model: str, as_json: bool) -> None:
    """Show a model's layers: shapes, parameters, FLOPs, memory.

    MODEL is a model file or the folder of a run, NAME an architecture.
    """
    summary = open_model(model).summary(show=False)
    if as_json:
        render.as_json({"model": model, **asdict(summary)})
    else:
        render.text(str(summary))
