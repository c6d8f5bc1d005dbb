"""``numbacnn data``."""

from pathlib import Path

import click

from numbacnn import data as data_sets
from numbacnn.data.augment import get_augmentation
from numbacnn.data.labels import CLASSES
from numbacnn.errors import DataError
from numbacnn.runs.run import DEFAULTS
from numbacnn.tasks import TASKS

from . import render
from .options import debug_option, engine


@click.group("data", no_args_is_help=False)
@debug_option
def command() -> None:
    """List, download, verify or look at data sets."""


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


@command.command("preview")
@click.option("--data", default=DEFAULTS["data"], metavar="NAME|DIR", help="Its training part is shown.")
@click.option(
    "--task",
    type=click.Choice(list(TASKS)),
    default=DEFAULTS["task"],
    help="To segment and detect, marks are shown too.",
)
@click.option("--augment", metavar="SPEC", help="Changes of the images, as train --augment takes them.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, metavar="N", help="Draws the changes.")
@click.option("--columns", type=click.IntRange(1, 100), default=10, metavar="N", help="How many images.")
@click.option("--rows", type=click.IntRange(1, 100), default=6, metavar="N", help="How many epochs of each.")
@click.option(
    "--out", type=click.Path(path_type=Path), default=Path("preview.png"), metavar="FILE", help="PNG or JPEG file."
)
@debug_option
def preview_command(data: str, task: str, augment: str | None, seed: int, columns: int, rows: int, out: Path) -> None:
    """Make a picture of the training images.

    The first row shows them as they are; with --augment, each row below shows them as an epoch of a training would.
    Masks and boxes follow, a row each.
    """
    chain, labels = get_augmentation(augment), TASKS[task].labels
    scenes = columns if labels != CLASSES and data in data_sets.NAMES else None
    with engine(None):
        train, _ = data_sets.load(data, labels=labels, scenes=scenes, progress=render.download_progress())
        picture = data_sets.preview(train, chain, seed=seed, columns=columns, rows=rows)
    data_sets.write_image(out, picture)
    render.text(str(out))


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
