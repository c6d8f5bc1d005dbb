"""Whether a run still is what its record says: its files, its data, and how well its weights do."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from numbacnn._checks import brief
from numbacnn.data.remote import Progress
from numbacnn.engine.graph_format import DAMAGE
from numbacnn.errors import ArgumentError
from numbacnn.model import load
from numbacnn.runs.provenance import data_digest, file_digests, processor, versions
from numbacnn.runs.run import RunFolder, Settings, load_data, read_toml
from numbacnn.tasks import TASKS


class Check(NamedTuple):
    """One thing that a record tells of: "ok", or how it differs."""

    what: str
    state: str


@dataclass
class Verification:
    """What was checked; and what the run was made with that is other here, which may change the last bits."""

    checks: list[Check] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def differences(self) -> list[str]:
        """What is not as recorded, a phrase each."""
        return [f"{what}: {state}" for what, state in self.checks if state != "ok"]

    def add(self, what: str, state: str) -> None:
        """One more check."""
        self.checks.append(Check(what, state))


def verify_run(path: Path, progress: Progress | None = None) -> Verification:
    """Compares a run's files, data and accuracy with its record; the weights of changed files are not evaluated.

    Raises:
        ArgumentError: the folder holds no record of a whole training, or a damaged one.
        DataError: the data cannot be loaded.
    """
    folder = RunFolder(path)
    if not folder.record.is_file():
        raise ArgumentError(f"{path}: holds no {folder.record.name}; give the folder of a run that came to its end")
    record = read_toml(folder.record)
    if "results" not in record:
        raise ArgumentError(f"{path}: its training has not come to its end: numbacnn train --out {path} --resume")
    try:
        return _verify(folder, record, progress)
    except DAMAGE as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{folder.record}: damaged ({brief(repr(error))})") from None


def _verify(folder: RunFolder, record: dict[str, Any], progress: Progress | None) -> Verification:
    verification = Verification()
    found = file_digests(folder.written)
    for name, recorded in record["files"].items():
        state = "ok" if found.get(name) == recorded else "changed" if name in found else "missing"
        verification.add(name, state)
    settings = Settings.resolve({name.replace("-", "_"): value for name, value in record["settings"].items()})
    train, test = load_data(settings, progress)
    for name, dataset in (("train", train), ("test", test)):
        verification.add(f"{name} data", "ok" if data_digest(dataset) == record["data"][name] else "changed")
    if not verification.differences:
        for file, name in ((folder.model, "test"), (folder.best, "best")):
            if name in record["results"]:
                task = TASKS[settings.task]
                recorded, measured = record["results"][name][task.score], load(file).evaluate(test)[task.score]
                state = "ok" if measured == recorded else f"{measured!r}, not the recorded {recorded!r}"
                verification.add(f"{task.score_name} of {file.name}", state)
    for what, then, now in (
        ("versions", record["versions"], versions()),
        ("processor", record["processor"], processor()),
    ):
        verification.notes += [
            f"{what}: {key} was {brief(then[key], 60)}, is {brief(now[key], 60)}"
            for key in now
            if key in then and then[key] != now[key]
        ]
    return verification
