"""``numbacnn train``."""

import signal
import threading
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.core import ParameterSource

from numbacnn._checks import choose
from numbacnn.data import NAMES
from numbacnn.data.fitting import FITS
from numbacnn.data.store import CACHES
from numbacnn.distributed import DEFAULT_SHARDS
from numbacnn.errors import ArgumentError
from numbacnn.logs import LOGS
from numbacnn.losses import LOSSES
from numbacnn.models import MODELS
from numbacnn.optimizers import OPTIMIZERS
from numbacnn.runs import photographs, small_sets
from numbacnn.runs.folder import RunFolder
from numbacnn.runs.run import Run
from numbacnn.runs.settings import (
    CHANGEABLE,
    DATA_DEFAULTS,
    DEFAULTS,
    OPTIMIZER_DEFAULTS,
    RECIPES,
    TASK_DEFAULTS,
    Settings,
    options_for,
    read_config,
)
from numbacnn.runs.small_sets import POWERS
from numbacnn.schedules import SCHEDULES
from numbacnn.tasks import TASKS
from numbacnn.training.trainer import ON_NAN, ON_SAVE_ERROR

from . import complete, progress, ranks, render, shared, sources
from .parameter_types import Interval, Size

if TYPE_CHECKING:
    from numbacnn.serve.dashboard import Dashboard

F = TypeVar("F", bound=Callable[..., Any])


class TrainCommand(click.Command):
    """Takes defaults from ``--config`` and ``--recipe``, or from the configuration of the run to resume."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments twice: first to find the files, then with the options in them as defaults."""
        ctx.meta["command"] = render.command("train", *args)
        if not ctx.resilient_parsing:
            first = click.Context(self, ctx.parent, ctx.info_name)
            super().parse_args(first, list(args))
            # As text, so that epochs = 3.7 is rejected as it is on the command line.
            paths = _config_paths(first)
            tables = [options_for(first.params["optimizer"], read_config(path)) for path in paths]
            ctx.default_map = {name: str(value) for table in tables for name, value in table.items()}
            ctx.meta[sources.FILES] = {name: path for path, table in zip(paths, tables, strict=True) for name in table}
        return super().parse_args(ctx, args)


def _config_paths(ctx: click.Context) -> list[Path]:
    """Return the configuration files, in ascending order of precedence."""
    config, recipe = ctx.params["config"], ctx.params["recipe"]
    if not ctx.params["resume"]:
        return [*([choose("recipe", recipe, RECIPES)] if recipe else []), *([config] if config else [])]
    if ctx.params["out"] is None:
        raise click.UsageError("--resume needs --out, the folder of the run.", ctx)
    for name in ("config", "recipe"):
        if ctx.params[name] is not None:
            raise click.UsageError(f"--resume uses the run's own configuration; leave out --{name}.", ctx)
    folder = RunFolder(ctx.params["out"])
    folder.require_run()
    return [folder.config]


def _setting(flag: str, text: str, **kind: Any) -> Callable[[F], F]:
    """Make an option whose default ``Settings.resolve`` fills in, and which the help shows."""
    name = flag.partition("/")[0].strip("-").replace("-", "_")
    tables = (TASK_DEFAULTS | DATA_DEFAULTS | OPTIMIZER_DEFAULTS).items()
    defaults = [f"{table[name]} for {key}" for key, table in tables if name in table]
    if name in DEFAULTS:
        defaults.append(f"otherwise {DEFAULTS[name]}" if defaults else str(DEFAULTS[name]))
    suffix = f"  [default: {', '.join(defaults)}]" if defaults else ""
    return click.option(flag, default=None, help=text + suffix, **kind)


def _optimizers_with(argument: str) -> str:
    """List the optimizers that have an argument."""
    *names, last = [name for name, kind in OPTIMIZERS.items() if argument in kind.defaults()]
    return f"{', '.join(names)} and {last}"


FRACTION = {"type": click.FloatRange(0, 1, max_open=True), "metavar": "F"}
VALUE = {"type": click.IntRange(0), "metavar": "N"}
NOT_NEGATIVE = {"type": click.FloatRange(0), "metavar": "F"}


@click.command("train", cls=TrainCommand)
@_setting("--task", "Task to train for.", type=click.Choice(list(TASKS)))
@_setting("--data", f"Data set: {', '.join(NAMES)}, or a folder.", metavar="NAME|DIR", shell_complete=complete.data)
@_setting("--model", f"Architecture: {', '.join(MODELS)}.", metavar="NAME", shell_complete=complete.names(MODELS))
@_setting("--epochs", "Number of passes over the training set.", **shared.COUNT)
@_setting("--batch-size", "Images per batch.", **shared.COUNT)
@_setting("--lr", "Learning rate, before the schedule scales it.", **NOT_NEGATIVE)
@_setting("--optimizer", "Optimizer.", type=click.Choice(list(OPTIMIZERS)))
@_setting("--loss", "Loss.  [default: that of the task]", type=click.Choice(list(LOSSES)))
@_setting("--momentum", f"Momentum of {_optimizers_with('momentum')}.", **FRACTION)
@_setting("--nesterov/--no-nesterov", f"Use Nesterov momentum in {_optimizers_with('nesterov')}.")
@_setting("--betas", f"Betas of {_optimizers_with('betas')}, e.g. 0.9,0.999.", metavar="F,F")
@_setting(
    "--weight-decay", "Weight decay: an L2 penalty, which is decoupled from the gradient in adamw.", **NOT_NEGATIVE
)
@_setting("--clip-norm", "Maximum norm of the gradient.", type=click.FloatRange(0, min_open=True), metavar="F")
@_setting("--drop-last", "Omit the last batch of an epoch if it is smaller.", is_flag=True)
@_setting("--accumulate", "Number of batches whose gradients make one update.", **shared.COUNT)
@_setting(
    "--shards",
    "Parts of each batch, whose gradients are added in a fixed order, so that weights do not depend on the number of "
    f"ranks.  [default: {DEFAULT_SHARDS} with several ranks]",
    **shared.COUNT,
)
@_setting(
    "--sync-batch-norm", "With --shards, batch normalization is over the whole batch, not each shard.", is_flag=True
)
@_setting("--schedule", "Learning rate schedule.", type=click.Choice(list(SCHEDULES)))
@_setting("--warmup", "Fraction of training with linear warmup.", type=click.FloatRange(0, 1), metavar="F")
@_setting("--ema", "Decay of an exponential moving average of the weights, e.g. 0.999.", **FRACTION)
@_setting(
    "--weights",
    "Initial weights for the architecture of --model: a model file, the folder of a run, a state dict or an ONNX file.",
    metavar="FILE",
    shell_complete=complete.model,
)
@_setting("--freeze", "Parameters not to train, e.g. 'features.*'; several separated by commas.", metavar="PATTERN")
@_setting(
    "--classes",
    "Number of classes, by default the data set's. With --weights, layers of another shape start untrained.",
    **shared.COUNT,
)
@_setting(
    "--size",
    "Side of scenes (default 64), or size to scale a folder's images to, in pixels: 224, or HEIGHTxWIDTH. By default, "
    "photographs get 224 on their longer side, or 128 to segment or detect, and smaller images the size of the first.",
    type=Size(),
)
@_setting(
    "--fit",
    "How an image of another aspect ratio is resized: stretched, cropped at its center, or padded with black "
    "(letterbox). By default, photographs of different aspect ratios are cropped, or letterboxed to segment or detect, "
    "and other images stretched.",
    type=click.Choice(FITS),
)
@_setting(
    "--cache",
    "Where a folder's decoded images are kept; auto is the disk if they take over a third of the available memory.",
    type=click.Choice(CACHES),
)
@_setting(
    "--scenes",
    "Number of scenes to generate from a named data set to segment or detect (default 8,000).",
    **shared.COUNT,
)
@_setting(
    "--ignore-index",
    "Pixel value of masks that loss and scores ignore.  [default: 255, if larger than the classes]",
    **VALUE,
)
@_setting(
    "--class-weights",
    "Weights of classes in the loss by their frequency f: equal, sqrt (1/√f) or balanced (1/f).  "
    "[default: sqrt for a folder of masks, otherwise equal]",
    type=click.Choice(["equal", *POWERS]),
)
@_setting("--label-smoothing", "Share of the target that all classes get in equal parts, e.g. 0.1.", **FRACTION)
@_setting("--skip-damaged", "Leave out files that cannot be decoded.", is_flag=True)
@_setting("--augment", "Augmentation of the training images, e.g. 'rotate=10, translate=2'.", metavar="SPEC")
@_setting("--tta", f"{shared.TTA} Validation after each epoch does not use it.", metavar="SPEC")
@_setting("--seed", "Seed of weights, batches and validation split.", type=click.IntRange(0, 2**63 - 1), metavar="N")
@_setting("--validation", "Fraction of the training set to validate on; 0 for none.", **FRACTION)
@_setting("--patience", "Stop after N epochs without a better validation score.", **shared.COUNT)
@_setting("--metrics", shared.METRICS, metavar="NAMES")
@_setting(
    "--monitor",
    "Validation score that decides which epoch is best: loss, or one of --metrics.  [default: accuracy, mean IoU or "
    "mAP@0.5]",
    metavar="NAME",
)
@_setting("--log", "Also log for TensorBoard, or with an installed tracker.", type=click.Choice(LOGS))
@_setting(
    "--checkpoint-every",
    "Write the checkpoint every N batches, or every 90s or 5m, besides after each epoch.",
    type=Interval(),
    metavar="N",
)
@_setting("--on-save-error", "What to do if a file cannot be written.", type=click.Choice(list(ON_SAVE_ERROR)))
@_setting("--on-nan", "What to do with a batch that gives NaN or infinity.", type=click.Choice(list(ON_NAN)))
@shared.threads
@shared.device
@shared.precision
@click.option("--out", help="Folder of the run.  [default: runs/…]", shell_complete=complete.run, **shared.DIR)
@click.option("--resume", is_flag=True, help="Resume the run in --out with its own configuration.")
@click.option(
    "--recipe",
    help=f"Predefined options, which others override: {', '.join(RECIPES)}.",
    metavar="NAME",
    shell_complete=complete.names(RECIPES),
)
@click.option("--config", help="TOML file with these options.", **shared.FILE)
@shared.json
@click.option("--quiet", "-q", is_flag=True, help="Do not show progress.")
@click.option("--dashboard", is_flag=True, help="Serve a page with curves, filters and mistakes while training.")
@click.option(
    "--dashboard-port", type=click.IntRange(0, 65535), default=8701, metavar="N", help="Its port; 0 is any free one."
)
@shared.debug
@click.pass_context
def command(
    ctx: click.Context,
    /,
    out: Path | None,
    resume: bool,
    recipe: str | None,
    config: Path | None,
    as_json: bool,
    quiet: bool,
    dashboard: bool,
    dashboard_port: int,
    **given: Any,
) -> None:
    """Train a model.

    By default, trains LeNet-5 on the bundled digits. With --task segment or detect, trains a U-Net or a grid detector
    on generated scenes of digits, or on a folder of images with masks or boxes. A folder with a CSV file of several
    tags, or of numbers, for each image trains a network to tag or to regress.

    For a folder of photographs or of a few masks, the defaults of model, size, batch size and epochs follow from the
    images; a note states them.

    Started by mpiexec, all ranks train one model, bit for bit the same as one rank with these --shards (see
    docs/distributed.md).

    The folder of the run gets config.toml, metrics.csv, checkpoint.safetensors, model.safetensors (the weights of the
    last epoch), best.safetensors (those of the best epoch by validation), and provenance.toml, which verify checks.

    \b
    Examples:
      numbacnn train --epochs 5 --out runs/digits
      numbacnn train --data photos --augment "hflip, rotate=10" --out runs/photos
      numbacnn train --task segment --data cells --out runs/cells
      numbacnn train --out runs/digits --resume --epochs 10
    """
    group = ranks.connected(ctx)
    quiet = quiet or not group.is_first
    if group.size > 1 and given["shards"] is None:
        given["shards"] = DEFAULT_SHARDS
    with sources.named(ctx, given):
        settings = Settings.resolve(given)
    settings.require_storable()
    made = RunFolder.new(settings) if out is None and group.is_first else None
    if made is not None:
        ctx.call_on_close(made.remove_empty)
    folder = group.broadcast(RunFolder(out) if out is not None else made)
    assert folder is not None  # rank 0 has made one
    if resume:
        _require_same_run(ctx, settings, folder)
    elif group.is_first:
        folder.require_vacant()
    with shared.engine(ranks.threads(group, settings.threads), quiet) as compiling:
        downloads = progress.download_progress(quiet)
        with sources.named(ctx, given):
            run = Run(settings, folder, resume=resume, progress=downloads, command=ctx.meta["command"], group=group)
        if not quiet:
            render.log(f"data: {run.found}")
        for describe in (photographs.describe_defaults, small_sets.describe_defaults):
            if (line := describe(given, settings.data, settings.task)) and not resume:
                render.notes([line])
        render.notes(run.notes)
        compiling.begin(run.trainer)
        with _dashboard(run, dashboard_port) if dashboard and group.is_first else nullcontext() as page:
            stopped_by = _train(run, quiet, page)
        if stopped_by is not None:
            ctx.exit(128 + stopped_by)
        results = run.results()
    if as_json:
        render.as_json(results)
    else:
        _print_results(results, folder, settings)
    run.check_saved()


def _print_results(results: dict[str, Any], folder: RunFolder, settings: Settings) -> None:
    """Print the test scores of the last and the best weights, their files, and a command to try next."""
    best, last = results["best"], len(results["epochs"])
    log, metrics = settings.log, settings.metric_names
    task = {"task": results["task"]}
    score, values = render.scores(results["test"] | task, metrics)
    rows = [(f"test {score}", f"{values}; last epoch ({last})", str(folder.model))]
    if best and best["epoch"] != last:
        rows.append(
            ("", f"{render.scores(best['test'] | task, metrics)[1]}; best epoch ({best['epoch']})", str(folder.best))
        )
    render.table(rows)
    if log == "tensorboard":
        render.text(f"log:  {render.shell_line(log, '--logdir', results['run'])}")
    render.text(f"next: {render.command('predict', results['run'], 'IMAGE.png')}")


def _require_same_run(ctx: click.Context, settings: Settings, folder: RunFolder) -> None:
    """Raise ArgumentError if an option or an environment variable would make the resumed run another one."""
    before = {name.replace("_", "-"): value for name, value in read_config(folder.config).items()}
    for key, value in settings.table().items():
        source = ctx.get_parameter_source(key.replace("-", "_"))
        given = source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
        if given and key not in CHANGEABLE and value != before.get(key):
            started = f"with {key} {before[key]}" if key in before else f"without {key}"
            raise ArgumentError(f"{folder.path} was started {started}, not {value}; change --out to start another run")


def _dashboard(run: Run, port: int) -> "Dashboard":
    """Return the page of a training, not served yet; prints its address."""
    from numbacnn.serve.dashboard import Dashboard

    trainer = run.trainer
    rate = partial(getattr, trainer.update, "learning_rate")
    page = Dashboard(run.model, trainer.validation, port=port, learning_rate=rate, name=run.folder.path.name)
    render.log(f"dashboard: {page.url}")
    return page


def _train(run: Run, quiet: bool, page: "Dashboard | None" = None) -> int | None:
    """Train to the end and return None, or until a signal, whose number is returned once the state is saved."""
    trainer = run.trainer
    with progress.training_progress(trainer, quiet) as show, Interruption(trainer.group.size) as interruption:
        for event in run.events():
            show(event)
            if page is not None:
                page(event)
            if trainer.stops(interruption.received is not None, event):
                trainer.save()
                break
        received = next(filter(None, trainer.group.gather(interruption.received)), None)
    if received is not None:
        progress.interrupted(str(run.folder.path), trainer.position.epoch, trainer.position.step)
    return received


class Interruption:
    """A context in which a first SIGINT (Ctrl-C) or SIGTERM only sets ``received``, to stop training between steps.

    A second one ends the process immediately, even in a compiler or during a save, unless it is one of several ranks.
    """

    SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name))

    received: int | None = None  # number of the first signal

    def __init__(self, ranks: int = 1) -> None:
        self._ranks = ranks

    def __enter__(self) -> "Interruption":
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers nowhere else
            self._handlers = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if self._ranks > 1:  # mpiexec and the terminal may both send it; one to mpiexec again ends all ranks
            self.received = self.received or number
            return
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.received = number
        progress.stopping()
