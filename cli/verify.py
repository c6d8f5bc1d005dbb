"""``numbacnn verify``."""

from pathlib import Path

import click

from numbacnn.errors import NumbacnnError
from numbacnn.runs.verify import verify_run

from . import complete, render, shared
from .progress import download_progress


@click.command("verify")
@click.argument("run", type=click.Path(path_type=Path), shell_complete=complete.run)
@click.option("--data", metavar="DIR", help="Folder of the run's data, if it has moved.")
@shared.threads
@shared.json
@shared.debug
def command(run: Path, data: str | None, threads: int | None, as_json: bool) -> None:
    """Verify a run against its provenance.

    Compares the checksums of the files in the folder RUN and of its data, and the scores of its weights, with those in
    its provenance.toml. Exits with 1 if anything differs.
    """
    with shared.engine(threads):
        found = verify_run(run, download_progress(), data)
    render.notes(found.notes)
    differences = found.differences
    if as_json:
        checks = [check._asdict() for check in found.checks]
        render.as_json({"run": str(run), "ok": not differences, "checks": checks, "notes": found.notes})
    else:
        render.table(found.checks)
    if differences:
        raise NumbacnnError(f"{run} differs from its provenance: {'; '.join(differences)}")
