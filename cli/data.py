"""``numbacnn data``."""

from dataclasses import replace
from pathlib import Path

import click

from numbacnn import data as data_sets
from numbacnn.data.augment import get_augmentation
from numbacnn.data.fonts import missing_characters, note_on_fonts
from numbacnn.data.labels import CLASSES
from numbacnn.errors import DataError
from numbacnn.runs.settings import DEFAULTS, Settings
from numbacnn.tasks import TASKS

from . import complete, render, shared
from .progress import download_progress


@click.group("data", no_args_is_help=False)
@shared.debug
def command() -> None:
    """List, download, verify and preview data sets."""


@command.command("list")
@shared.debug
def list_command() -> None:
    """List the named data sets and their state."""
    render.table([(name, _state(name)) for name in data_sets.NAMES])


def _state(name: str) -> str:
    states = {state for _, state in data_sets.verify(name)}
    if states == {"ok"}:
        return "available"
    return "damaged" if "damaged" in states else "not downloaded"


@command.command("preview")
@click.option(
    "--data",
    default=DEFAULTS["data"],
    metavar="NAME|DIR",
    help="Data set; its training set is shown.",
    shell_complete=complete.data,
)
@click.option(
    "--task", type=click.Choice(list(TASKS)), help="Task that the labels are for.  [default: as a folder needs]"
)
@click.option("--augment", metavar="SPEC", help="Augmentation, in the form of train --augment.")
@click.option("--seed", type=click.IntRange(0, 2**63 - 1), default=0, metavar="N", help="Seed of the augmentation.")
@click.option("--columns", type=click.IntRange(1, 100), default=10, metavar="N", help="Number of images.")
@click.option("--rows", type=click.IntRange(1, 100), default=6, metavar="N", help="Number of epochs.")
@click.option("--out", default=Path("preview.png"), help="PNG or JPEG file.", **shared.FILE)
@shared.debug
def preview_command(
    data: str, task: str | None, augment: str | None, seed: int, columns: int, rows: int, out: Path
) -> None:
    """Draw training images, augmented as in training.

    The first row shows the images unchanged; with --augment, each further row shows them as they are in one epoch.
    Masks and boxes are drawn below each row.
    """
    chain, settings = get_augmentation(augment), Settings.resolve({"data": data, "task": task})
    if TASKS[settings.task].labels != CLASSES and data in data_sets.NAMES:
        settings = replace(settings, scenes=columns)
    with shared.engine(None):
        train, _, _ = settings.load_data(download_progress())
        picture = data_sets.preview(train, chain, seed=seed, columns=columns, rows=rows)
    data_sets.write_image(out, picture)
    if missing := missing_characters(train.classes):
        render.notes([note_on_fonts(missing)])
    render.text(str(out))


@command.command("download")
@click.argument("name", shell_complete=complete.data_sets)
@shared.debug
def download_command(name: str) -> None:
    """Download the missing files of data set NAME.

    Training on a data set downloads it automatically.
    """
    render.text(str(data_sets.download(name, progress=download_progress())))


@command.command("verify")
@click.argument("name", shell_complete=complete.data_sets)
@shared.debug
def verify_command(name: str) -> None:
    """Compare the files of data set NAME with their checksums."""
    states = data_sets.verify(name)
    render.table(states)
    wrong = sum(state != "ok" for _, state in states)
    if wrong:
        raise DataError(f"{name}: {wrong} of {len(states)} files missing or damaged: numbacnn data download {name}")
