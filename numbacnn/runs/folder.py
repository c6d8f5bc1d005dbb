"""The folder of a run: its files, and how they are found, written and read."""

import csv
import io
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from datetime import datetime
from itertools import count
from pathlib import Path

from numbacnn._checks import brief
from numbacnn._checks.version import __version__
from numbacnn.data.files import create_file, make_folders, write_file
from numbacnn.engine.graph_format import DAMAGE
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.runs.settings import Settings
from numbacnn.training.trainer import EpochRecord, History

COLUMNS = [field.name for field in fields(EpochRecord) if field.name != "metrics"]
"""The columns of metrics.csv, followed by those of the metrics that the run measures."""


class RunFolder:
    """Paths of the files of a run. Each file is written completely or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.csv"
        self.checkpoint = path / "checkpoint.safetensors"
        self.model = path / "model.safetensors"
        self.best = path / "best.safetensors"
        self.provenance = path / "provenance.toml"
        self.outputs = (self.config, self.metrics, self.model, self.best)

    @classmethod
    def new(cls, settings: Settings) -> "RunFolder":
        """Make an empty folder with an unused name below ``runs``, so that no other run gets the name."""
        data = re.sub(r"[^\w.-]+", "-", Path(settings.data).resolve().name) or "data"
        stem = f"{settings.model}-{data}-{datetime.now():%Y%m%d-%H%M%S}"
        runs = Path("runs")
        make_folders(runs)
        for number in count(1):
            path = runs / (stem if number == 1 else f"{stem}-{number}")
            with suppress(FileExistsError):
                make_folders(path, exist_ok=False)
                break
        return cls(path)

    def remove_empty(self) -> None:
        """Remove the folder that ``new`` made, and ``runs``, if they are empty: the run did not begin."""
        with suppress(OSError):
            self.path.rmdir()
            self.path.parent.rmdir()

    @property
    def resume_hint(self) -> str:
        """The command that resumes the run, as the end of an error message."""
        return f"resume it: numbacnn train --out {self.path} --resume"

    def require_vacant(self) -> None:
        """Raise ArgumentError if the folder exists and is not empty, or is a file."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ArgumentError(f"{self.path} is a file; choose another folder for the run")
        if self.config.exists():
            raise ArgumentError(f"{self.path} already holds a run; add --resume to continue it, or change --out")
        if any(self.path.iterdir()):
            raise ArgumentError(f"{self.path} holds files that are not a run's; change --out")

    def require_run(self) -> None:
        """Raise ArgumentError if the folder does not hold a run."""
        if not self.config.is_file():
            raise ArgumentError(f"{self.path} holds no run to resume; leave out --resume to start one there")
        if not self.config.read_bytes().strip():
            raise ArgumentError(f"{self.config} is empty: the run was stopped before it began; delete {self.path}")

    def claim(self, settings: Settings) -> None:
        """Create the folder of a new run with its ``config.toml``, which exists with its whole content or not at all.

        Raises ArgumentError if another run took the folder since ``require_vacant``.
        """
        make_folders(self.path)
        try:
            create_file(self.config, self._config(settings))
        except FileExistsError:
            self.require_vacant()

    def write_config(self, settings: Settings) -> None:
        """Write the settings to ``config.toml``."""
        write_file(self.config, self._config(settings))

    def _config(self, settings: Settings) -> bytes:
        head = f"# numbacnn {__version__}; to repeat this run: numbacnn train --config {self.config.name}\n"
        return head.encode() + settings.toml()

    def write_metrics(self, history: History) -> None:
        """Write one row per epoch to ``metrics.csv``."""
        text = io.StringIO()
        records = [record.numbers() for record in history.epochs]
        columns = dict.fromkeys([*COLUMNS, *(name for record in records for name in record)])
        rows = csv.DictWriter(text, list(columns), lineterminator="\n")
        rows.writeheader()
        rows.writerows(records)
        write_file(self.metrics, text.getvalue().encode())

    def read_metrics(self) -> History:
        """Read the history that ``write_metrics`` wrote.

        Raises:
            ModelFileError: the folder holds no run, no epoch is complete yet, or the file is corrupted.
        """
        if not self.config.is_file():
            raise ModelFileError(f"{self.path} is not the folder of a run: it has no {self.config.name}")
        if not self.metrics.is_file():
            raise ModelFileError(f"{self.path} has no metrics: no epoch is complete; {self.resume_hint}")
        try:
            rows = list(csv.DictReader(io.StringIO(self.metrics.read_text("utf-8"))))
            return History([_epoch_record(row) for row in rows])
        except (*DAMAGE, OSError, csv.Error) as error:
            raise ModelFileError(f"{self.metrics}: damaged ({brief(repr(error))})") from None


def _epoch_record(row: Mapping[str, str]) -> EpochRecord:
    numbers = {name: float(row[name]) if row[name] else None for name in COLUMNS}
    counts = {name: int(row[name]) for name in ("epoch", "skipped")}
    metrics = {
        name.removeprefix("validation_").removeprefix("training_"): float(value)
        for name, value in row.items()
        if name not in COLUMNS and value
    }
    return EpochRecord(**numbers | counts, metrics=metrics)  # type: ignore[arg-type]  # an empty cell was None


def model_file(path: Path) -> Path:
    """Return the model file at ``path``: a file as it is, or the last epoch's weights of a run's folder.

    Raises:
        ModelFileError: a folder has no model file.
    """
    if not path.is_dir():
        return path
    folder = RunFolder(path)
    if folder.model.is_file():
        return folder.model
    if folder.config.is_file():
        raise ModelFileError(f"{path} has no model: no epoch is complete; {folder.resume_hint}")
    raise ModelFileError(f"{path}: a folder without {folder.model.name}; use a run's folder or a model file")


def best_file(path: Path) -> Path:
    """Return the file of the best epoch's weights in a run's folder.

    Raises:
        ModelFileError: ``path`` is not the folder of a run, or the run has no such file.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise ModelFileError(f"{path} is not the folder of a run, of which the best weights could be taken")
    if not folder.best.is_file():
        raise ModelFileError(f"{path} has no {folder.best.name}: no epoch had a validation score")
    return folder.best


def run_of(path: Path) -> RunFolder | None:
    """Return the run that a folder, or a file in a folder, belongs to; None if there is none."""
    folder = RunFolder(path if path.is_dir() else path.parent)
    return folder if folder.config.is_file() else None
