"""``numbacnn train``."""

import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from numbacnn._checks import choose
from numbacnn.data import NAMES
from numbacnn.errors import ArgumentError
from numbacnn.models import MODELS
from numbacnn.optimizers import OPTIMIZERS
from numbacnn.runs.run import (
    CHANGEABLE,
    DATA_DEFAULTS,
    DEFAULTS,
    OPTIMIZER_DEFAULTS,
    RECIPES,
    TASK_DEFAULTS,
    Run,
    RunFolder,
    Settings,
    read_config,
    with_optimizer,
)
from numbacnn.saving.checkpoints import parse_interval
from numbacnn.schedules import SCHEDULES
from numbacnn.tasks import TASKS
from numbacnn.training.trainer import ON_NAN, ON_SAVE_ERROR

from . import render
from .options import debug_option, device_option, engine, json_option, precision_option, threads_option

F = TypeVar("F", bound=Callable[..., Any])


class TrainCommand(click.Command):
    """Takes defaults from files: ``--config`` before ``--recipe``, or a resumed run's own configuration."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Reads the arguments twice: first for the file, then with its values as defaults."""
        ctx.meta["command"] = render.command("train", *args)
        if not ctx.resilient_parsing:
            first = click.Context(self, ctx.parent, ctx.info_name)
            super().parse_args(first, list(args))
            # As text, so that 3.7 epochs are refused as on the command line.
            tables = [with_optimizer(read_config(path), first.params["optimizer"]) for path in _config_paths(first)]
            ctx.default_map = {name: str(value) for table in tables for name, value in table.items()}
        return super().parse_args(ctx, args)


def _config_paths(ctx: click.Context) -> list[Path]:
    """The files of options; of two that give one, the later counts."""
    config, recipe = ctx.params["config"], ctx.params["recipe"]
    if not ctx.params["resume"]:
        return [*([choose("recipe", recipe, RECIPES)] if recipe else []), *([config] if config else [])]
    if ctx.params["out"] is None:
        raise click.UsageError("--resume needs --out, the folder of the run.", ctx)
    for name in ("config", "recipe"):
        if ctx.params[name] is not None:
            raise click.UsageError(f"--resume takes the run's own configuration; leave out --{name}.", ctx)
    folder = RunFolder(ctx.params["out"])
    folder.need_run()
    return [folder.config]


def _setting(flag: str, text: str, **kind: Any) -> Callable[[F], F]:
    """An option whose default ``Settings.resolve`` fills in; the help says which."""
    name = flag.partition("/")[0].strip("-").replace("-", "_")
    tables = (TASK_DEFAULTS | DATA_DEFAULTS | OPTIMIZER_DEFAULTS).items()
    defaults = [f"{table[name]} for {key}" for key, table in tables if name in table]
    if name in DEFAULTS:
        defaults.append(f"else {DEFAULTS[name]}" if defaults else str(DEFAULTS[name]))
    suffix = f"  [default: {', '.join(defaults)}]" if defaults else ""
    return click.option(flag, default=None, help=text + suffix, **kind)


class IntervalType(click.ParamType):  # type: ignore[type-arg]  # which is generic in later versions
    """Steps, 500, or a time: 90s, 5m, 1h."""

    name = "interval"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """The number of steps, or the time as it was given."""
        try:
            parse_interval(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
        return int(value) if str(value).isdecimal() else value


def _names(known: Iterable[str]) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    """Shell completion from names that are not the only possible values."""
    return lambda _, __, start: [name for name in known if name.startswith(start)]


@click.command("train", cls=TrainCommand)
@_setting("--task", "What the model is for.", type=click.Choice(list(TASKS)))
@_setting("--data", f"{', '.join(NAMES)}, or a folder.", metavar="NAME|DIR", shell_complete=_names(NAMES))
@_setting("--model", f"{', '.join(MODELS)}.", metavar="NAME", shell_complete=_names(MODELS))
@_setting("--epochs", "Times through the training part.", type=click.IntRange(1), metavar="N")
@_setting("--batch-size", "Images of one batch.", type=click.IntRange(1), metavar="N")
@_setting("--lr", "Learning rate.", type=click.FloatRange(0), metavar="F")
@_setting("--optimizer", "How gradients become updates.", type=click.Choice(list(OPTIMIZERS)))
@_setting("--momentum", "Of sgd, rmsprop and muon.", type=click.FloatRange(0, 1, max_open=True), metavar="F")
@_setting("--nesterov/--no-nesterov", "Nesterov's form of the momentum of sgd and muon.")
@_setting("--betas", "Of adam, adamw and lamb, such as 0.7,0.9.", metavar="F,F")
@_setting("--weight-decay", "L2; decoupled in adamw, lamb, muon.", type=click.FloatRange(0), metavar="F")
@_setting("--clip-norm", "Largest norm of a gradient.", type=click.FloatRange(0, min_open=True), metavar="F")
@_setting("--accumulate", "Batches of one update.", type=click.IntRange(1), metavar="N")
@_setting("--schedule", "Of the learning rate.", type=click.Choice(list(SCHEDULES)))
@_setting("--warmup", "Share of the training before it, with a rising rate.", type=click.FloatRange(0, 1), metavar="F")
@_setting("--ema", "Decay, as 0.999, of averaged weights.", type=click.FloatRange(0, 1, max_open=True), metavar="F")
@_setting("--weights", "Weights to start from: a model file, a run's folder or a state dict.", metavar="FILE")
@_setting("--freeze", "Parameters that stay as they are, such as 'features.*'; several with commas.", metavar="PATTERN")
@_setting(
    "--classes", "Outputs of the model; weights that then do not fit start afresh.", type=click.IntRange(1), metavar="N"
)
@_setting(
    "--size", "Pixels of a side of scenes, else 64, or of a folder's images.", type=click.IntRange(1), metavar="N"
)
@_setting(
    "--scenes",
    "How many to train on, else 8,000, of a named set to segment or detect.",
    type=click.IntRange(1),
    metavar="N",
)
@_setting("--augment", "Changes of the training images, such as 'rotate=10, translate=2'.", metavar="SPEC")
@_setting("--seed", "Draws weights, order and split.", type=click.IntRange(0, 2**63 - 1), metavar="N")
@_setting("--validation", "Share to hold out; 0: none.", type=click.FloatRange(0, 1, max_open=True), metavar="F")
@_setting("--patience", "Stop after N epochs without a better validation.", type=click.IntRange(1), metavar="N")
@_setting(
    "--checkpoint-every", "Also checkpoint every N batches, or so often: 90s, 5m.", type=IntervalType(), metavar="N"
)
@_setting("--on-save-error", "Where a file cannot be written: go on, or end.", type=click.Choice(list(ON_SAVE_ERROR)))
@_setting("--on-nan", "Of a batch with NaN or infinity in loss or gradients.", type=click.Choice(list(ON_NAN)))
@threads_option
@device_option
@precision_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run's folder.  [default: runs/…]")
@click.option("--resume", is_flag=True, help="Go on with the run in --out; needs no other option.")
@click.option(
    "--recipe",
    help=f"Settings that go together: {', '.join(RECIPES)}; other options go before.",
    metavar="NAME",
    shell_complete=_names(RECIPES),
)
@click.option("--config", type=click.Path(path_type=Path), metavar="FILE", help="TOML file of these options.")
@json_option
@click.option("--quiet", "-q", is_flag=True, help="No progress.")
@debug_option
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

    Without options: LeNet-5, on the digits that come with numbacnn. With --task segment or detect: a U-Net, or a
    detector on a grid, on scenes of digits or a folder of images with masks or boxes. All goes into the run's folder:
    config.toml, metrics.csv, checkpoint.safetensors, model.safetensors (the last epoch's weights), best.safetensors
    (those of the best validation), and record.toml, which verify checks.
    """
    settings = Settings.resolve(given)
    folder = RunFolder.fresh(settings) if out is None else RunFolder(out)
    if resume:
        _need_same_run(ctx, settings, folder)
    else:
        folder.need_vacant()
    with engine(settings.threads, quiet):
        progress = render.download_progress(quiet)
        run = Run(settings, folder, resume=resume, progress=progress, command=ctx.meta["command"])
        render.notes(run.notes)
        stopped_by = _train(run, quiet)
        if stopped_by is not None:
            ctx.exit(128 + stopped_by)
        results = run.results()
    if as_json:
        render.as_json(results)
    else:
        render.trained(results, str(folder.model), str(folder.best))


def _need_same_run(ctx: click.Context, settings: Settings, folder: RunFolder) -> None:
    """Raises ArgumentError where an option or a variable would make the resumed run another one."""
    before = {name.replace("_", "-"): value for name, value in read_config(folder.config).items()}
    for key, value in settings.table().items():
        source = ctx.get_parameter_source(key.replace("-", "_"))
        given = source in (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
        if given and key not in CHANGEABLE and value != before.get(key):
            started = f"with {key} {before[key]}" if key in before else f"without {key}"
            raise ArgumentError(f"{folder.path} was started {started}, not {value}; choose another --out")


def _train(run: Run, quiet: bool) -> int | None:
    """Trains to the end (None), or to a signal: then its number, when the state is saved."""
    trainer = run.trainer
    images = len(trainer.dataset)
    done = trainer.position.epoch * images + trainer.position.images
    with (
        render.TrainingProgress(images, done, quiet, trainer.task.score_name) as progress,
        Interruption() as interruption,
    ):
        for event in run.events():
            progress(event)
            if interruption.came is not None:
                trainer.save()
                break
    if interruption.came is not None:
        render.interrupted(str(run.folder.path), trainer.position.epoch, trainer.position.step)
    return interruption.came


class Interruption:
    """While it lasts, a first SIGINT (Ctrl-C) or SIGTERM only asks for an end, so that training stops where its state
    is consistent; a second one ends the process at once, in a compiler or in the midst of a save too."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    came: int | None = None  # the number of the first

    def __enter__(self) -> "Interruption":
        self._before: dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():  # elsewhere Python has no signals
            self._before = {number: signal.signal(number, self._ask) for number in self.SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, _: FrameType | None) -> None:
        for each in self.SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        self.came = number
        render.stopping()
