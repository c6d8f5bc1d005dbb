"""``numbacnn summary``."""

from dataclasses import asdict

import click

from . import render, shared


@click.command("summary")
@click.argument("model", metavar="MODEL|NAME")
@shared.imports
@shared.json
@shared.debug
def command(model: str, as_json: bool) -> None:
    """Show a model's layers: shapes, parameters, FLOPs, memory.

    MODEL is a model file or the folder of a run, NAME an architecture.
    """
    summary = shared.open_model(model).summary(show=False)
    if as_json:
        render.as_json({"model": model, **asdict(summary)})
    else:
        render.text(str(summary))
