"""``numbacnn train``."""

import shlex
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from numbacnn._checks import brief, choose
from numbacnn.data import NAMES
from numbacnn.data.fitting import FITS
from numbacnn.data.store import CACHES
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
    parse_size,
    read_config,
)
from numbacnn.runs.small_sets import POWERS
from numbacnn.saving.checkpoints import parse_interval
from numbacnn.schedules import SCHEDULES
from numbacnn.tasks import TASKS
from numbacnn.training.trainer import ON_NAN, ON_SAVE_ERROR

from . import complete, progress, render, shared, sources

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


class IntervalType(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click
    """A number of steps, 500, or a time: 90s, 5m, 1h."""

    name = "interval"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number of steps, or the time unchanged."""
        try:
            parse_interval(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
        return int(value) if str(value).isdecimal() else value


class SizeType(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click
    """Height and width: 224, or 168x224."""

    name = "N|HxW"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the side of a square as a number, anything else as HEIGHTxWIDTH."""
        try:
            size = parse_size(value)
        except ArgumentError as error:
            self.fail(brief(error), param, ctx)
        assert size is not None
        return size[0] if str(value).isdecimal() else f"{size[0]}x{size[1]}"


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
@_setting("--weight-decay", "Weight decay: an L2 penalty, or decoupled from it, as in adamw.", **NOT_NEGATIVE)
@_setting("--clip-norm", "Maximum norm of the gradient.", type=click.FloatRange(0, min_open=True), metavar="F")
@_setting("--drop-last", "Omit the last batch of an epoch if it is smaller.", is_flag=True)
@_setting("--accumulate", "Batches to accumulate gradients over per update.", **shared.COUNT)
@_setting("--schedule", "Learning rate schedule.", type=click.Choice(list(SCHEDULES)))
@_setting("--warmup", "Fraction of training with linear warmup.", type=click.FloatRange(0, 1), metavar="F")
@_setting("--ema", "Decay of an exponential moving average of the weights, e.g. 0.999.", **FRACTION)
@_setting(
    "--weights",
    "Initial weights: a model file, the folder of a run or a state dict.",
    metavar="FILE",
    shell_complete=complete.model,
)
@_setting("--freeze", "Parameters not to train, e.g. 'features.*'; several separated by commas.", metavar="PATTERN")
@_setting("--classes", "Number of classes; weights of another shape start from new values.", **shared.COUNT)
@_setting(
    "--size",
    "Side of scenes (default 64), or size to scale a folder's images to, in pixels: 224, or HEIGHTxWIDTH. By default, "
    "photographs get 224 on their longer side, or 128 to segment or detect, and smaller images the size of the first.",
    type=SizeType(),
)
@_setting(
    "--fit",
    "How images of another aspect ratio get the size. Photographs of several are cropped by default, or letterboxed to "
    "segment or detect; other images are stretched.",
    type=click.Choice(FITS),
)
@_setting(
    "--cache",
    "Where a folder's decoded images are kept; auto is the disk if they take over a third of the available memory.",
    type=click.Choice(CACHES),
)
@_setting("--scenes", "Number of training scenes to make of a named data set (default 8,000).", **shared.COUNT)
@_setting("--ignore-index", "Value in masks that does not count.  [default: 255, if larger than the classes]", **VALUE)
@_setting(
    "--class-weights",
    "Weights of classes in the loss by their frequency f: equal, sqrt (1/√f) or balanced (1/f).  "
    "[default: sqrt for a folder of masks, otherwise equal]",
    type=click.Choice(["equal", *POWERS]),
)
@_setting("--skip-damaged", "Leave out files that cannot be decoded.", is_flag=True)
@_setting("--augment", "Augmentation of the training images, e.g. 'rotate=10, translate=2'.", metavar="SPEC")
@_setting("--seed", "Seed of weights, batches and validation split.", type=click.IntRange(0, 2**63 - 1), metavar="N")
@_setting("--validation", "Fraction of the training set to validate on; 0 for none.", **FRACTION)
@_setting("--patience", "Stop after N epochs without a better validation score.", **shared.COUNT)
@_setting("--log", "Also log for TensorBoard, or with an installed tracker.", type=click.Choice(LOGS))
@_setting("--checkpoint-every", "Also checkpoint every N batches, or 90s, or 5m.", type=IntervalType(), metavar="N")
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
    **given: Any,
) -> None:
    """Train a model.

    By default, trains LeNet-5 on the bundled digits. With --task segment or detect, trains a U-Net or a grid detector
    on generated scenes of digits, or on a folder of images with masks or boxes.

    For a folder of photographs or of a few masks, the defaults of model, size, batch size and epochs follow from the
    images; a note states them.

    The folder of the run gets config.toml, metrics.csv, checkpoint.safetensors, model.safetensors (the weights of the
    last epoch), best.safetensors (those of the best epoch by validation), and provenance.toml, which verify checks.
    """
    with sources.named(ctx, given):
        settings = Settings.resolve(given)
    folder = RunFolder.new(settings) if out is None else RunFolder(out)
    if resume:
        _require_same_run(ctx, settings, folder)
    else:
        folder.require_vacant()
    with shared.engine(settings.threads, quiet):
        downloads = progress.download_progress(quiet)
        with sources.named(ctx, given):
            run = Run(settings, folder, resume=resume, progress=downloads, command=ctx.meta["command"])
        if not quiet:
            render.log(f"data: {run.found}")
        for describe in (photographs.describe_defaults, small_sets.describe_defaults):
            if (line := describe(given, settings.data, settings.task)) and not resume:
                render.notes([line])
        render.notes(run.notes)
        stopped_by = _train(run, quiet)
        if stopped_by is not None:
            ctx.exit(128 + stopped_by)
        results = run.results()
    if as_json:
        render.as_json(results)
    else:
        _print_results(results, folder, settings.log)
    run.check_saved()


def _print_results(results: dict[str, Any], folder: RunFolder, log: str | None) -> None:
    """Print the test scores of the last and the best weights, their files, and a command to try next."""
    best, last = results["best"], len(results["epochs"])
    score, values = render.scores(results["test"])
    rows = [(f"test {score}", f"{values}; last epoch ({last})", str(folder.model))]
    if best and best["epoch"] != last:
        rows.append(("", f"{render.scores(best['test'])[1]}; best epoch ({best['epoch']})", str(folder.best)))
    render.table(rows)
    if log == "tensorboard":
        render.text(f"log:  {shlex.join([log, '--logdir', results['run']])}")
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


def _train(run: Run, quiet: bool) -> int | None:
    """Train to the end and return None, or until a signal, whose number is returned once the state is saved."""
    trainer = run.trainer
    with progress.training_progress(trainer, quiet) as show, Interruption() as interruption:
        for event in run.events():
            show(event)
            if interruption.received is not None:
                trainer.save()
                break
    if interruption.received is not None:
        progress.interrupted(str(run.folder.path), trainer.position.epoch, trainer.position.step)
    return interruption.received


class Interruption:
    """A context in which a first SIGINT (Ctrl-C) or SIGTERM only sets ``received``, to stop training between steps.

    A second one ends the process immediately, even in a compiler or during a save.
    """

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    received: int | None = None  # number of the first signal

    def __enter__(self) -> "Interruption":
        self._handlers: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # Python allows signal handlers nowhere else
            self._handlers = {number: signal.signal(number, self._handle) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def _handle(self, number: int, _: FrameType | None) -> None:
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.received = number
        progress.stopping()
