"""Runs: what a training was asked to do, and the folder that holds what came of it."""

import csv
import io
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, dataclass, fields
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from numbacnn import data as data_sets
from numbacnn import models
from numbacnn._checks import brief, choose
from numbacnn.data.augment import get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.files import remove_leftovers, replacing
from numbacnn.data.remote import Progress
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.model import Model, load
from numbacnn.optimizers import OPTIMIZERS, Optimizer
from numbacnn.runs.provenance import conditions, file_digests, write_record
from numbacnn.saving.format import read_normalization
from numbacnn.schedules import Schedule, Warmup, get_schedule
from numbacnn.tasks import TASKS, Classification
from numbacnn.training.trainer import EpochEnd, EpochRecord, Event, History, Trainer

DEFAULTS: dict[str, Any] = {
    "task": Classification.name,
    "data": "digits",
    "model": "lenet5",
    "epochs": 3,
    "batch_size": 16,
    "lr": 0.01,
    "optimizer": "sgd",
    "weight_decay": 0.0,
    "schedule": "cosine",
    "seed": 0,
    "device": "cpu",
    "precision": "fp32",
    "validation": 0.1,
    "on_save_error": "warn",
    "on_nan": "stop",
}
DATA_DEFAULTS: dict[str, dict[str, Any]] = {"digits": {"epochs": 20}}  # 1,437 images make few steps in an epoch
TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "segment": {"model": "unet_small", "epochs": 5, "optimizer": "adamw", "lr": 0.004, "warmup": 0.1},
    "detect": {"model": "grid_detector", "epochs": 6, "optimizer": "adamw", "lr": 0.003, "warmup": 0.1},
}
OPTIMIZER_DEFAULTS: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": False},
    "adam": {"lr": 0.001},
    "adamw": {"lr": 0.001, "weight_decay": 0.01},
    "rmsprop": {"lr": 0.001},
    "lamb": {"lr": 0.005, "weight_decay": 0.01},
    "muon": {"lr": 0.02, "momentum": 0.95, "nesterov": True},
}
OF_SOME_OPTIMIZERS = ("momentum", "nesterov", "betas")
MOST_CONFIG_BYTES = 1 << 14  # reading TOML takes time that grows with the square of a hostile file,
MOST_DOTS = 200  # and with the depth of a dotted key
RECIPES = {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
"""Configuration files that come with numbacnn, by name."""
CHANGEABLE = ("epochs", "patience", "checkpoint-every", "on-save-error", "on-nan", "threads", "device", "precision")
"""Keys of a run's configuration that may change when it is resumed; the others would make it another run."""


@dataclass(frozen=True)
class Settings:
    """What a run was asked to do, with every default filled in; None where an option does not apply."""

    task: str
    data: str
    model: str
    epochs: int
    batch_size: int
    lr: float
    optimizer: str
    weight_decay: float
    schedule: str
    seed: int
    device: str
    precision: str
    validation: float
    on_save_error: str
    on_nan: str
    momentum: float | None = None
    nesterov: bool | None = None
    betas: str | None = None
    clip_norm: float | None = None
    warmup: float | None = None
    accumulate: int | None = None
    ema: float | None = None
    weights: str | None = None
    freeze: str | None = None
    classes: int | None = None
    size: int | None = None
    scenes: int | None = None
    augment: str | None = None
    patience: int | None = None
    checkpoint_every: int | str | None = None
    threads: int | None = None

    @classmethod
    def resolve(cls, given: Mapping[str, Any]) -> "Settings":
        """Fills in the defaults, some of which depend on task, data set or optimiser; None is as good as not given.

        Raises:
            ArgumentError: options that do not go together.
        """
        chosen = {name: value for name, value in given.items() if value is not None}
        task, data = chosen.get("task", DEFAULTS["task"]), chosen.get("data", DEFAULTS["data"])
        by_task = dict(DATA_DEFAULTS.get(data, {}) if task == DEFAULTS["task"] else TASK_DEFAULTS.get(task, {}))
        optimizer = chosen.get("optimizer", by_task.get("optimizer", DEFAULTS["optimizer"]))
        if optimizer != by_task.get("optimizer"):
            by_task.pop("lr", None)  # which is the other optimiser's
        settings = cls(**DEFAULTS | OPTIMIZER_DEFAULTS.get(optimizer, {}) | by_task | {"optimizer": optimizer} | chosen)
        choose("task", task, TASKS)
        known = {field.name for field in fields(choose("optimizer", optimizer, OPTIMIZERS))}
        for name in OF_SOME_OPTIMIZERS:
            if getattr(settings, name) is not None and name not in known:
                raise ArgumentError(f"{optimizer} has no {name}; leave it out")
        settings.make_optimizer()  # refuses what it cannot take
        get_augmentation(settings.augment)
        for name, watches in (("patience", settings.patience), ("plateau", settings.schedule == "plateau")):
            if watches and not settings.validation:
                raise ArgumentError(f"{name} needs a validation share above 0 to watch")
        return settings

    def table(self) -> dict[str, Any]:
        """The settings under their names in a configuration file; folders by their absolute path."""
        table = {name.replace("_", "-"): value for name, value in asdict(self).items() if value is not None}
        if self.data not in data_sets.NAMES and Path(self.data).is_dir():
            table["data"] = str(Path(self.data).resolve())
        if self.weights is not None:
            table["weights"] = str(Path(self.weights).resolve())
        return table

    def make_optimizer(self) -> Optimizer:
        """A fresh optimiser."""
        options: dict[str, Any] = {"weight_decay": self.weight_decay, "clip_norm": self.clip_norm}
        options |= {name: getattr(self, name) for name in OF_SOME_OPTIMIZERS if getattr(self, name) is not None}
        if self.betas is not None:
            options["betas"] = _numbers("betas", self.betas)
        return OPTIMIZERS[self.optimizer](learning_rate=self.lr, **options)

    def make_schedule(self) -> Schedule:
        """The schedule, behind its warm-up."""
        schedule = get_schedule(self.schedule)
        return Warmup(schedule, self.warmup) if self.warmup else schedule


def _numbers(name: str, text: str) -> tuple[float, ...]:
    """The numbers in a text, between commas."""
    try:
        return tuple(map(float, str(text).split(",")))
    except ValueError:
        raise ArgumentError(f"{name}={text!r}: give numbers with commas between them") from None


def read_config(path: Path) -> dict[str, Any]:
    """The options in a configuration file, by their names in Python.

    Raises:
        ArgumentError: the file is missing or not TOML, or a key is not known (with the nearest name).
    """
    table = read_toml(path)
    known = {field.name.replace("_", "-"): field.name for field in fields(Settings)}
    try:
        options = {choose("key", key, known): value for key, value in table.items()}
    except ArgumentError as error:
        raise ArgumentError(f"{path}: {error}") from None
    for name, value in options.items():
        if not isinstance(value, str | int | float):
            raise ArgumentError(f"{path}: {name.replace('_', '-')} is a {type(value).__name__}; give one value")
    return options


def with_optimizer(options: dict[str, Any], optimizer: str | None) -> dict[str, Any]:
    """A file's options where ``optimizer``, if not None, was chosen beside it: without what was meant for another."""
    if optimizer is None or options.get("optimizer", optimizer) == optimizer:
        return options
    return {name: value for name, value in options.items() if name not in (*OF_SOME_OPTIMIZERS, "lr", "optimizer")}


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file's content. Raises ArgumentError where it is missing, too large or no TOML."""
    try:
        with path.open("rb") as file:
            content = file.read(MOST_CONFIG_BYTES + 1)
        if len(content) > MOST_CONFIG_BYTES:
            raise ArgumentError(f"{path}: larger than {MOST_CONFIG_BYTES:,} bytes; no configuration")
        if any(line.count(b".") > MOST_DOTS for line in content.splitlines()):
            raise ArgumentError(f"{path}: more than {MOST_DOTS} dots in a line; no configuration")
        return tomllib.loads(content.decode("utf-8"))
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from None
    except (ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"{path}: not a TOML file ({brief(error)})") from None


class RunFolder:
    """Where a run keeps its files: each is written whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config = path / "config.toml"
        self.metrics = path / "metrics.csv"
        self.checkpoint = path / "checkpoint.safetensors"
        self.model = path / "model.safetensors"
        self.best = path / "best.safetensors"
        self.record = path / "record.toml"
        self.written = (self.config, self.metrics, self.model, self.best)  # beside the checkpoint

    @classmethod
    def fresh(cls, settings: Settings) -> "RunFolder":
        """A name under ``runs`` that is not taken; nothing is made yet."""
        data = re.sub(r"[^\w.-]+", "-", Path(settings.data).resolve().name) or "data"
        stem = f"{settings.model}-{data}-{datetime.now():%Y%m%d-%H%M%S}"
        names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, 1 << 20))
        return cls(next(path for name in names if not (path := Path("runs") / name).exists()))

    def need_vacant(self) -> None:
        """Raises ArgumentError where the folder exists and is not empty, or is a file."""
        if not self.path.exists():
            return
        if not self.path.is_dir():
            raise ArgumentError(f"{self.path}: a file stands there; choose another folder for the run")
        if self.config.exists():
            raise ArgumentError(f"{self.path} already holds a run; go on with --resume, or choose another --out")
        if any(self.path.iterdir()):
            raise ArgumentError(f"{self.path} holds other files and no run; choose another --out")

    def need_run(self) -> None:
        """Raises ArgumentError where the folder holds no run."""
        if not self.config.is_file():
            raise ArgumentError(f"{self.path} holds no run to resume; leave out --resume to start one there")

    def claim(self) -> None:
        """Makes the folder of a new run. Raises ArgumentError where another one took it since ``need_vacant``."""
        self.path.mkdir(parents=True, exist_ok=True)
        try:
            self.config.touch(exist_ok=False)
        except FileExistsError:
            self.need_vacant()

    def write_config(self, settings: Settings) -> None:
        """Writes the configuration."""
        import tomli_w

        head = f"# numbacnn {_version()}; another run like this one: numbacnn train --config {self.config.name}\n"
        _write(self.config, head + tomli_w.dumps(settings.table()))

    def write_metrics(self, history: History) -> None:
        """Writes a row for every epoch so far."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(field.name for field in fields(EpochRecord))
        rows.writerows(astuple(record) for record in history.epochs)
        _write(self.metrics, text.getvalue())

    def read_metrics(self) -> History:
        """The rows that ``write_metrics`` wrote.

        Raises:
            ModelFileError: the folder holds no run, or one without an epoch, or the file is damaged.
        """
        if not self.config.is_file():
            raise ModelFileError(f"{self.path} is not the folder of a run: it has no {self.config.name}")
        if not self.metrics.is_file():
            raise ModelFileError(
                f"{self.path} has no metrics yet: its training has not come to the end of an epoch; "
                f"go on: numbacnn train --out {self.path} --resume"
            )
        try:
            rows = list(csv.DictReader(io.StringIO(self.metrics.read_text("utf-8"))))
            return History([_record(row) for row in rows])
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"{self.metrics}: damaged ({error!r})") from None


def _record(row: Mapping[str, str]) -> EpochRecord:
    numbers = {field.name: float(row[field.name]) if row[field.name] else None for field in fields(EpochRecord)}
    counts = {name: int(row[name]) for name in ("epoch", "skipped")}
    return EpochRecord(**numbers | counts)  # type: ignore[arg-type]  # None where it was None


def model_file(path: Path) -> Path:
    """The model file that a path means: itself, or the last epoch's weights of a run's folder.

    Raises:
        ModelFileError: there is none.
    """
    if not path.is_dir():
        return path
    folder = RunFolder(path)
    if folder.model.is_file():
        return folder.model
    if folder.config.is_file():
        raise ModelFileError(
            f"{path}: its training has not come to the end of an epoch; go on: numbacnn train --out {path} --resume"
        )
    raise ModelFileError(f"{path}: a folder without a {folder.model.name}; give a run's folder or a model file")


def run_of(path: Path) -> RunFolder | None:
    """The folder of the run that a model belongs to: the path itself, or the one around a file; None without a run."""
    folder = RunFolder(path if path.is_dir() else path.parent)
    return folder if folder.config.is_file() else None


class Run:
    """One training in its folder. Making it loads the data and checks everything; ``events`` is the first to write.

    Attributes:
        notes: what the data's reader did to it, and which weights did not fit, a line each.
        trainer: the training loop, with ``history`` and ``position``.
    """

    def __init__(
        self,
        settings: Settings,
        folder: RunFolder,
        *,
        resume: bool = False,
        progress: Progress | None = None,
        command: str = "",
    ) -> None:
        self.settings, self.folder = settings, folder
        train, self.test = load_data(settings, progress)
        self._conditions = conditions(command, settings.table(), train, self.test)
        self.notes = [*train.notes, *self.test.notes]
        validation: Dataset | None = None
        if settings.validation:
            train, validation = train.split(settings.validation, settings.seed)
        self.model: Model = models.make(
            settings.model,
            input_shape=train.images.shape[1:],
            classes=settings.classes or len(train.classes),
            seed=settings.seed,
            device=settings.device,
            precision=settings.precision,
        )
        if settings.weights is not None and not resume:  # where it is resumed, the checkpoint holds all
            self._load_weights(model_file(Path(settings.weights)))
        for pattern in (settings.freeze or "").split(","):
            if pattern.strip():
                self.model.freeze(pattern.strip())
        self.trainer = Trainer(
            self.model,
            train,
            optimizer=settings.make_optimizer(),
            epochs=settings.epochs,
            batch_size=settings.batch_size,
            seed=settings.seed,
            schedule=settings.make_schedule(),
            validation=validation,
            checkpoint=folder.checkpoint,
            checkpoint_every=settings.checkpoint_every,
            accumulate=settings.accumulate or 1,
            ema=settings.ema,
            on_save_error=settings.on_save_error,
            on_nan=settings.on_nan,
            augment=settings.augment,
        )
        self._resumed = resume
        self._best_is_kept = True
        if resume:
            self.trainer.resume()

    def _load_weights(self, file: Path) -> None:
        """Weights to start from. With ``classes`` given, those of another shape, the head, are left as drawn."""
        found = self.model.load_weights(file, strict=self.settings.classes is None)
        if found.missing or found.unexpected:
            self.model.load_weights(file)  # says which
        if found.misshapen:
            self.notes.append(f"{file}: {', '.join(found.misshapen)} are of another shape and start afresh")
        self.model.normalization = read_normalization(file)

    def events(self) -> Iterator[Event]:
        """Trains; the folder is up to date at every event. Ends early when patience does."""
        if not self._resumed:
            self.folder.claim()
        for file in self.folder.written:
            remove_leftovers(file)
        self.folder.write_config(self.settings)
        self._record(self._conditions)
        self._keep()  # what a killed run had no time to write
        if self._out_of_patience():
            return
        for event in self.trainer.run():
            if isinstance(event, EpochEnd):
                self._keep()
            yield event
            if isinstance(event, EpochEnd) and self._out_of_patience():
                return

    def _keep(self) -> None:
        history = self.trainer.history
        if not history.epochs:
            return
        with self.trainer.saving(self.folder.metrics):
            self.folder.write_metrics(history)
        if self.trainer.position.step == 0:  # the weights are those at the end of an epoch
            self._keep_model(self.folder.model)
            if history.since_best == 0:
                self._best_is_kept = self._keep_model(self.folder.best)

    def _keep_model(self, file: Path) -> bool:
        """Whether it could be written; if not, what was there before still is."""
        written = False
        with self.trainer.saving(file):
            self.model.save(file)
            written = True
        return written

    def _out_of_patience(self) -> bool:
        patience, waited = self.settings.patience, self.trainer.history.since_best
        return patience is not None and waited is not None and waited >= patience

    def results(self) -> dict[str, Any]:
        """What came of it, of JSON's own types: the test part under the last weights, and under the best ones.

        The run's record then has it too, with the checksums of its files.
        """
        history = self.trainer.history
        best = history.best if self._best_is_kept else None
        found: dict[str, Any] = {
            "run": str(self.folder.path),
            "task": self.settings.task,
            "model": self.settings.model,
            "data": self.settings.data,
            "parameters": self.model.store.count,
            "epochs": [asdict(record) for record in history.epochs],
            "test": self._tested(self.model),
            "best": best
            and {
                "epoch": best.epoch,
                "validation_accuracy": best.validation_accuracy,
                "validation_score": best.score,
                "test": self._tested(
                    load(self.folder.best, device=self.settings.device, precision=self.settings.precision)
                ),
            },
        }
        measured = {"test": found["test"]} | ({"best": found["best"]["test"]} if found["best"] else {})
        files = file_digests(self.folder.written)
        self._record(self._conditions | {"files": files, "results": measured})
        return found

    def _record(self, found: dict[str, Any]) -> None:
        with self.trainer.saving(self.folder.record):
            write_record(self.folder.record, found)

    def _tested(self, model: Model) -> dict[str, Any]:
        return {"images": len(self.test), **model.evaluate(self.test)}


def load_data(settings: Settings, progress: Progress | None = None) -> tuple[Dataset, Dataset]:
    """The training and the test part of a run's data."""
    size = None if settings.size is None else (settings.size, settings.size)
    labels = TASKS[settings.task].labels
    return data_sets.load(settings.data, labels=labels, size=size, scenes=settings.scenes, progress=progress)


def _write(path: Path, text: str) -> None:
    with replacing(path) as file:
        file.write(text.encode())


def _version() -> str:
    try:
        return version("numbacnn")
    except PackageNotFoundError:  # run from a source tree that is not installed
        return "from source"
