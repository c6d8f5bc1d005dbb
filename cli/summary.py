"""``numbacnn summary``."""

from dataclasses import asdict

import click

from . import architecture, render, shared


@click.command("summary")
@shared.model_or_name
@architecture.options
@shared.imports
@shared.json
@shared.debug
def command(
    model: str, options: tuple[str, ...], input_shape: tuple[int, ...] | None, classes: int | None, as_json: bool
) -> None:
    """Show a model's layers: shapes, parameters, FLOPs, memory.

    MODEL is a model file or the folder of a run, NAME an architecture.
    """
    network = architecture.open_model(model, options, input_shape=input_shape, classes=classes)
    summary = network.summary(show=False)
    if as_json:
        render.as_json({"model": model, **asdict(summary)})
    else:
        render.lines(str(summary))
