"""Settings of a training run: the options, their defaults, and the TOML files that hold them."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from numbacnn import data as data_sets
from numbacnn._checks import brief, choose
from numbacnn.data.augment import get_augmentation
from numbacnn.data.dataset import Dataset
from numbacnn.data.files import reject_pipe
from numbacnn.data.fitting import FITS
from numbacnn.data.folder import kind_of_folder, of_training
from numbacnn.data.remote import Progress
from numbacnn.data.store import CACHES
from numbacnn.data.text import decode, readable
from numbacnn.distributed import Shards
from numbacnn.errors import ArgumentError, DataError
from numbacnn.optimizers import OPTIMIZERS, Optimizer
from numbacnn.runs.photographs import photograph_defaults
from numbacnn.runs.small_sets import POWERS, folder_defaults
from numbacnn.schedules import Schedule, Warmup, get_schedule
from numbacnn.tasks import TASKS, Classification, Detection, Segmentation
from numbacnn.tasks.views import Views

DATA_DEFAULTS: dict[str, dict[str, Any]] = {"digits": {"epochs": 20}}  # an epoch of 1,437 images has few steps
TASK_DEFAULTS: dict[str, dict[str, Any]] = {
    "segment": {"model": "unet_small", "epochs": 5, "optimizer": "adamw", "lr": 0.004, "warmup": 0.1},
    "detect": {"model": "grid_detector", "epochs": 6, "optimizer": "adamw", "lr": 0.003, "warmup": 0.1},
    "tag": {"epochs": 5},
    "regress": {"epochs": 5, "optimizer": "adamw", "lr": 0.002, "warmup": 0.1},
}
OPTIMIZER_OPTIONS = ("momentum", "nesterov", "betas")  # arguments of some of the optimizers
MAX_CONFIG_BYTES = 1 << 15  # parsing time grows with the square of a hostile file's size,
MAX_DOTS = 200  # and with the depth of a dotted key
MAX_WRITTEN_BYTES = 1 << 13  # of options; a run's provenance holds more besides them
_STRING = re.compile(r'"(?:[^"\\\n]|\\.)*"' + r"|'[^'\n]*'")
RECIPES = {path.stem: path for path in sorted((Path(__file__).parent / "recipes").glob("*.toml"))}
"""Configuration files that come with numbacnn, by name."""
CHANGEABLE = (
    *("data", "cache", "epochs", "patience", "checkpoint-every", "on-save-error", "on-nan"),
    *("threads", "device", "precision", "log", "tta"),
)
"""Keys of a configuration that may change when its run is resumed. A change of any other would make another run."""


@dataclass(frozen=True)
class Settings:
    """Options of a training run; None if an option is not used. ``Settings.resolve`` fills in all the defaults."""

    task: str = Classification.name
    data: str = "digits"
    model: str = "lenet5"
    epochs: int = 3
    batch_size: int = 16
    lr: float = 0.01
    optimizer: str = "sgd"
    weight_decay: float = 0.0
    schedule: str = "cosine"
    seed: int = 0
    device: str = "cpu"
    precision: str = "fp32"
    validation: float = 0.1
    on_save_error: str = "warn"
    on_nan: str = "stop"
    momentum: float | None = None
    nesterov: bool | None = None
    betas: str | None = None
    loss: str | None = None
    clip_norm: float | None = None
    warmup: float | None = None
    accumulate: int | None = None
    shards: int | None = None
    sync_batch_norm: bool | None = None
    drop_last: bool | None = None
    ema: float | None = None
    weights: str | None = None
    freeze: str | None = None
    classes: int | None = None
    size: int | str | None = None
    fit: str | None = None
    cache: str | None = None
    scenes: int | None = None
    ignore_index: int | None = None
    class_weights: str | None = None
    label_smoothing: float | None = None
    skip_damaged: bool | None = None
    augment: str | None = None
    tta: str | None = None
    patience: int | None = None
    metrics: str | None = None
    monitor: str | None = None
    checkpoint_every: int | str | None = None
    threads: int | None = None
    log: str | None = None

    @classmethod
    def resolve(cls, options: Mapping[str, Any]) -> "Settings":
        """Fill in the defaults, some of which depend on the task, the data set or the optimizer.

        An option that is None gets its default.

        Raises:
            ArgumentError: a value is not valid, or options contradict each other.
        """
        chosen = {name: value for name, value in options.items() if value is not None}
        data = chosen.get("data", DEFAULTS["data"])
        task = chosen["task"] = chosen.get("task") or _task_of(data)
        by_task = dict(DATA_DEFAULTS.get(data, {}) if task == DEFAULTS["task"] else TASK_DEFAULTS.get(task, {}))
        choose("task", task, TASKS)
        by_task |= {**photograph_defaults(data, task), **folder_defaults(data, task, chosen.get("loss"))}
        optimizer = chosen.get("optimizer", by_task.get("optimizer", DEFAULTS["optimizer"]))
        if optimizer != by_task.get("optimizer"):
            by_task.pop("lr", None)  # it suits the task's own optimizer
        known = choose("optimizer", optimizer, OPTIMIZERS).defaults()
        settings = cls(**OPTIMIZER_DEFAULTS[optimizer] | by_task | {"optimizer": optimizer} | chosen)
        parse_size(settings.size)
        for name in OPTIMIZER_OPTIONS:
            if getattr(settings, name) is not None and name not in known:
                raise ArgumentError(f"{optimizer} has no {name}; leave it out")
        if settings.class_weights not in (None, "equal", *POWERS):
            raise ArgumentError(f"class-weights={settings.class_weights!r}: use equal, {' or '.join(POWERS)}")
        if settings.loss is not None and settings.task == Detection.name:
            raise ArgumentError("a detector has a loss of its own; leave loss out")
        settings.make_optimizer()  # checks its arguments
        if settings.shards is not None:
            Shards(settings.shards)
        elif settings.sync_batch_norm:
            raise ArgumentError("sync-batch-norm is for shards: without them, batch normalization is over the batch")
        get_augmentation(settings.augment)
        settings.check_tta()
        validated = {
            "patience": settings.patience,
            "plateau": settings.schedule == "plateau",
            "monitor": settings.monitor,
        }
        for name, used in validated.items():
            if used and not settings.validation:
                raise ArgumentError(f"{name} needs validation data: use --validation 0.1, or another share above 0")
        return settings

    def check_tta(self) -> None:
        """Raise ArgumentError if the test-time augmentation is not valid, or not for the task."""
        if self.tta is None:
            return
        if self.task in (Segmentation.name, Detection.name):
            raise ArgumentError(
                f"tta is for models that give one row of numbers for each image; a model to {self.task} gives a map"
            )
        Views(self.tta)

    def table(self) -> dict[str, Any]:
        """Return the options under their names in a configuration file, with absolute paths."""
        table = {name.replace("_", "-"): value for name, value in asdict(self).items() if value is not None}
        if self.data not in data_sets.NAMES and Path(self.data).is_dir():
            table["data"] = str(Path(self.data).resolve())
        if self.weights is not None:
            table["weights"] = str(Path(self.weights).resolve())
        return table

    def toml(self) -> bytes:
        """Return the content of a configuration file with these options."""
        import tomli_w

        return tomli_w.dumps(self.table()).encode()

    def require_storable(self) -> None:
        """Raise ArgumentError if a configuration file with these options could not be read again."""
        self.require_utf_8()
        content = self.toml()
        if len(content) > MAX_WRITTEN_BYTES:
            longest = max(self.table().items(), key=lambda item: len(str(item[1])))[0]
            size = f"the options of the run take {len(content):,} bytes, more than {MAX_WRITTEN_BYTES:,}"
            raise ArgumentError(f"{size}; shorten {longest}, for instance by patterns such as 'features.*'")
        parse_toml(content, "the options of the run")

    def require_utf_8(self) -> None:
        """Raise ArgumentError if a path cannot be written to a configuration file."""
        for name, value in self.table().items():
            if isinstance(value, str) and value != value.encode("utf-8", "replace").decode():
                raise ArgumentError(f"{name}: {readable(value)} is not UTF-8; rename the folder, or make a link to it")

    def make_optimizer(self) -> Optimizer:
        """Return a new optimizer."""
        options: dict[str, Any] = {"weight_decay": self.weight_decay, "clip_norm": self.clip_norm}
        options |= {name: getattr(self, name) for name in OPTIMIZER_OPTIONS if getattr(self, name) is not None}
        if self.betas is not None:
            options["betas"] = _floats("betas", self.betas)
        return OPTIMIZERS[self.optimizer](learning_rate=self.lr, **options)

    def make_schedule(self) -> Schedule:
        """Return the learning rate schedule, after its warmup if there is one."""
        schedule = get_schedule(self.schedule)
        return Warmup(schedule, self.warmup) if self.warmup else schedule

    @property
    def metric_names(self) -> list[str]:
        """The metrics, which are separated by commas."""
        return names_in(self.metrics)

    def load_data(self, progress: Progress | None = None) -> tuple[Dataset, Dataset | None, Dataset]:
        """Load the training set, the validation set if a folder has one, and the test set."""
        splits = data_sets.load_splits(
            self.data,
            labels=TASKS[self.task].labels,
            size=parse_size(self.size),
            scenes=self.scenes,
            skip_damaged=bool(self.skip_damaged),
            ignore_index=self.ignore_index,
            fit=self.fit or FITS[0],
            image_cache=self.cache or CACHES[0],
            progress=progress,
        )
        train, test = of_training(splits, self.data), splits.test
        assert test is not None
        return train, splits.validation, test


def names_in(text: str | None) -> list[str]:
    """Return the names in a list that is separated by commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def require_data(name: str) -> None:
    """Raise DataError if the data of a run is no longer where it was."""
    if name not in data_sets.NAMES and not Path(name).exists():
        raise DataError(f"{name}: no such folder; if the data of the run has moved, add --data DIR")


def _task_of(data: str) -> str:
    """Return the task that a folder's labels are for, or the default task of a named data set."""
    if data in data_sets.NAMES or not Path(data).is_dir():
        return Classification.name
    kind = kind_of_folder(data)
    return next(name for name, task in TASKS.items() if task.labels == kind)


DEFAULTS = {field.name: field.default for field in fields(Settings) if field.default is not None}


def _optimizer_defaults(kind: type[Optimizer]) -> dict[str, Any]:
    """Return the settings that depend on the optimizer, except those that have the general default."""
    known = kind.defaults()
    settings = {"lr": known["learning_rate"]}
    settings |= {name: known[name] for name in ("weight_decay", "momentum", "nesterov") if name in known}
    return {name: value for name, value in settings.items() if value != DEFAULTS.get(name)}


OPTIMIZER_DEFAULTS = {name: _optimizer_defaults(kind) for name, kind in OPTIMIZERS.items()}


def parse_size(given: int | str | None) -> tuple[int, int] | None:
    """Return height and width of 224, "224" or "168x224". Raises ArgumentError for anything else."""
    if given is None:
        return None
    match = re.fullmatch(r"([1-9]\d{0,4})(?:[x×]([1-9]\d{0,4}))?", str(given))
    if match is None:
        raise ArgumentError(f"size={given!r}: use a number of pixels, 224, or HEIGHTxWIDTH, 168x224")
    return int(match[1]), int(match[2] or match[1])


def _floats(name: str, text: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, str(text).split(",")))
    except ValueError:
        raise ArgumentError(f"{name}={text!r}: use numbers separated by commas") from None


def read_config(path: Path) -> dict[str, Any]:
    """Read the options in a configuration file, under their names in ``Settings``.

    Raises:
        ArgumentError: the file is missing or not TOML, a key is unknown (with the nearest name), or a value is a table.
    """
    known = {field.name.replace("_", "-"): field.name for field in fields(Settings)}
    options = {}
    for key, value in read_toml(path).items():
        try:
            name = choose("key", key, known)
        except ArgumentError as error:
            raise ArgumentError(f"{line_of(path, key)}: {error}") from None
        if not isinstance(value, str | int | float):
            raise ArgumentError(f"{line_of(path, key)}: {key} is a {type(value).__name__}; use a single value")
        options[name] = value
    return options


def line_of(path: Path, key: str) -> str:
    """Return a configuration file with the line of a key, as "train.toml, line 3"; the file alone if it has none."""
    lines = path.read_text("utf-8").splitlines()
    pattern = re.compile(rf"""\s*["']?{re.escape(key)}["']?\s*=""")
    found = [number for number, line in enumerate(lines, 1) if pattern.match(line)]
    return f"{path}, line {found[0]}" if found else str(path)


def options_for(optimizer: str | None, options: dict[str, Any]) -> dict[str, Any]:
    """Return a file's options, without those tuned for its own optimizer if ``optimizer`` is another one."""
    if optimizer is None or options.get("optimizer", optimizer) == optimizer:
        return options
    return {name: value for name, value in options.items() if name not in (*OPTIMIZER_OPTIONS, "lr", "optimizer")}


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file. Raises ArgumentError if it is missing, too large or not valid, DataError if it is a pipe."""
    reject_pipe(path)
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise ArgumentError(f"{path}: cannot be read ({error.strerror})") from None
    return parse_toml(content, path)


def parse_toml(content: bytes, name: object) -> dict[str, Any]:
    """Parse the content of a TOML file. Raises ArgumentError, with ``name``, if it is too large or not valid."""
    if len(content) > MAX_CONFIG_BYTES:
        raise ArgumentError(f"{name}: larger than {MAX_CONFIG_BYTES:,} bytes, too large for a configuration file")
    try:
        text = decode(content)
        # Dots in a string are not those of a key; strings of several lines are not recognized here.
        keys = text if '"""' in text or "'''" in text else _STRING.sub("", text)
        if not any(line.count(".") > MAX_DOTS for line in keys.splitlines()):
            return tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArgumentError(f"{name}: not a TOML file ({brief(error)})") from None
    raise ArgumentError(f"{name}: a line has more than {MAX_DOTS} dots; this is not a configuration file")
