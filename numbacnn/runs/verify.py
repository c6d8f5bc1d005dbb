"""Verify a run against its provenance: its files, its data, and the score of its weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numbacnn._checks import brief
from numbacnn.data.remote import Progress
from numbacnn.engine.graph_format import DAMAGE
from numbacnn.errors import ArgumentError
from numbacnn.model import load
from numbacnn.runs.folder import RunFolder
from numbacnn.runs.provenance import changes, data_digest, file_digests, processor, versions
from numbacnn.runs.settings import Settings, read_toml, require_data
from numbacnn.tasks import TASKS


class Check(NamedTuple):
    """The result of one check: ``state`` is "ok", or how the item differs from the provenance."""

    what: str
    state: str


@dataclass
class Verification:
    """Results of all checks; ``notes`` list versions and hardware that differ, which may change the last bits."""

    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[str]:
        """The checks that failed, one phrase each."""
        return [f"{what}: {state}" for what, state in self.checks if state != "ok"]


def verify_run(path: Path, progress: Progress | None = None, data: str | None = None) -> Verification:
    """Compare a run's files, data and score with its provenance. Weights are not evaluated if a file has changed.

    ``data`` is the folder where the data is now, if it has moved.

    Raises:
        ArgumentError: the folder has no provenance of a complete training, or a damaged one.
        DataError: the data cannot be loaded.
    """
    folder = RunFolder(path)
    if not folder.provenance.is_file():
        raise ArgumentError(f"{path}: has no {folder.provenance.name}; use the folder of a completed run")
    provenance = read_toml(folder.provenance)
    if "results" not in provenance:
        raise ArgumentError(f"{path}: training is not complete; {folder.resume_hint}")
    try:
        return _verify(folder, provenance, progress, data)
    except DAMAGE as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{folder.provenance}: damaged ({brief(repr(error))})") from None


def _verify(folder: RunFolder, provenance: dict[str, Any], progress: Progress | None, data: str | None) -> Verification:
    found, files = Verification(), file_digests(folder.outputs)
    for name, digest in provenance["files"].items():
        state = "ok" if files.get(name) == digest else "changed" if name in files else "missing"
        found.checks.append(Check(name, state))
    options = {name.replace("-", "_"): value for name, value in provenance["settings"].items()}
    settings = Settings.resolve(options | ({"data": data} if data else {}))
    require_data(settings.data)
    train, validation, test = settings.load_data(progress)
    for name, dataset in (("train", train), ("validation", validation), ("test", test)):
        if dataset is None:
            continue
        state = "ok" if data_digest(dataset) == provenance["data"][name] else "changed"
        found.checks.append(Check(f"{name} data", state))
    if not found.differences:
        task = TASKS[settings.task]
        for file, name in ((folder.model, "test"), (folder.best, "best")):
            if name in provenance["results"]:
                expected = provenance["results"][name][task.score]
                measured = load(file).evaluate(test, settings.loss, tta=settings.tta)[task.score]
                state = "ok" if measured == expected else f"{measured!r} instead of {expected!r}"
                found.checks.append(Check(f"{task.score_name} of {file.name}", state))
    found.notes += changes(provenance, {"versions": versions(), "processor": processor()})
    return found
