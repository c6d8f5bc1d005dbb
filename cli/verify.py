"""``numbacnn verify``."""

from pathlib import Path

import click

from numbacnn.errors import NumbacnnError
from numbacnn.runs.verify import verify_run

from . import render
from .options import debug_option, engine, json_option, threads_option


@click.command("verify")
@click.argument("run", type=click.Path(path_type=Path))
@threads_option
@json_option
@debug_option
def command(run: Path, threads: int | None, as_json: bool) -> None:
    """Check a run against its record.

    The checksums of the files in the folder RUN and of its data, and the accuracy that its weights reach. Ends with 1,
    and one line, where something differs.
    """
    with engine(threads):
        found = verify_run(run, render.download_progress())
    render.notes(found.notes)
    differences = found.differences
    if as_json:
        checks = [check._asdict() for check in found.checks]
        render.as_json({"run": str(run), "ok": not differences, "checks": checks, "notes": found.notes})
    else:
        render.table(found.checks)
    if differences:
        raise NumbacnnError(f"{run} is not what its record says: {'; '.join(differences)}")
