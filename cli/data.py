"""``numbacnn data``."""

import click

from numbacnn import data as data_sets
from numbacnn.errors import DataError

from . import render
from .options import debug_option


@click.group("data", no_args_is_help=False)
@debug_option
def command() -> None:
    """List, download or verify data sets."""


@command.command("list")
@debug_option
def list_command() -> None:
    """Tell which there are, and whether their files are here."""
    render.table([(name, _state(name)) for name in data_sets.NAMES])


def _state(name: str) -> str:
    states = {state for _, state in data_sets.verify(name)}
    if states == {"ok"}:
        return "here"
    return "damaged" if "damaged" in states else "not downloaded"


@command.command("download")
@click.argument("name")
@debug_option
def download_command(name: str) -> None:
    """Fetch the files of data set NAME that are not here; train does so by itself."""
    render.text(str(data_sets.download(name, progress=render.download_progress())))


@command.command("verify")
@click.argument("name")
@debug_option
def verify_command(name: str) -> None:
    """Compare the files of data set NAME with their checksums."""
    states = data_sets.verify(name)
    render.table(states)
    wrong = sum(state != "ok" for _, state in states)
    if wrong:
        raise DataError(f"{name}: {wrong} of {len(states)} files missing or damaged: numbacnn data download {name}")
