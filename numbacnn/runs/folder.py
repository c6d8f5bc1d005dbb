"""The folder of a run: its files, and how they are found, written and read."""

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import astuple, fields
from datetime import datetime
from importlib.metadata import version
from itertools import count
from pathlib import Path

from numbacnn.data.files import write_file
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.runs.settings import Settings
from numbacnn.training.trainer import EpochRecord, History


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
        """Choose an unused name below ``runs``. Creates nothing."""
        data = re.sub(r"[^\w.-]+", "-", Path(settings.data).resolve().name) or "data"
        stem = f"{settings.model}-{data}-{datetime.now():%Y%m%d-%H%M%S}"
        paths = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in count(1))
        return cls(next(path for path in paths if not path.exists()))

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

    def claim(self) -> None:
        """Create the folder of a new run. Raises ArgumentError if another run took it since ``require_vacant``."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.config.touch(exist_ok=False)
        except FileExistsError:
            self.require_vacant()

    def write_config(self, settings: Settings) -> None:
        """Write the settings to ``config.toml``."""
        import tomli_w

        head = f"# numbacnn {version('numbacnn')}; to repeat this run: numbacnn train --config {self.config.name}\n"
        write_file(self.config, (head + tomli_w.dumps(settings.table())).encode())

    def write_metrics(self, history: History) -> None:
        """Write one row per epoch to ``metrics.csv``."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(field.name for field in fields(EpochRecord))
        rows.writerows(astuple(record) for record in history.epochs)
        write_file(self.metrics, text.getvalue().encode())

    def read_metrics(self) -> History:
        """Read the history that ``write_metrics`` wrote.

        Raises:
            ModelFileError: the folder holds no run, no epoch is complete yet, or the file is damaged.
        """
        if not self.config.is_file():
            raise ModelFileError(f"{self.path} is not the folder of a run: it has no {self.config.name}")
        if not self.metrics.is_file():
            raise ModelFileError(f"{self.path} has no metrics: no epoch is complete; {self.resume_hint}")
        try:
            rows = list(csv.DictReader(io.StringIO(self.metrics.read_text("utf-8"))))
            return History([_epoch_record(row) for row in rows])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self.metrics}: damaged ({error!r})") from None


def _epoch_record(row: Mapping[str, str]) -> EpochRecord:
    numbers = {field.name: float(row[field.name]) if row[field.name] else None for field in fields(EpochRecord)}
    counts = {name: int(row[name]) for name in ("epoch", "skipped")}
    return EpochRecord(**numbers | counts)  # type: ignore[arg-type]  # an empty cell was None


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
    raise ModelFileError(f"{path}: a folder without {folder.model.name}; give a run's folder or a model file")


def best_file(path: Path) -> Path:
    """Return the file of the best epoch's weights in a run's folder.

    Raises:
        ModelFileError: ``path`` is not the folder of a run, or the run has no such file.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        raise ModelFileError(f"{path} is not the folder of a run, of which the best weights could be taken")
    if not folder.best.is_file():
        raise ModelFileError(f"{path} has no {folder.best.name}: no epoch was validated")
    return folder.best


def run_of(path: Path) -> RunFolder | None:
    """Return the run that a folder, or a file in a folder, belongs to; None if there is none."""
    folder = RunFolder(path if path.is_dir() else path.parent)
    return folder if folder.config.is_file() else None
