"""Options that several commands share, and the start of the engine."""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

import numbacnn
from numbacnn import models
from numbacnn._checks import brief
from numbacnn.distributed import Group
from numbacnn.engine.device import DEVICES, PRECISIONS
from numbacnn.errors import ArgumentError
from numbacnn.runs.folder import best_file, model_file
from numbacnn.training.trainer import MAX_COUNT

from . import complete
from .progress import CompileLine

Command = TypeVar("Command", bound=Callable[..., Any])
PathOrName = TypeVar("PathOrName", Path, str)

MAX_THREADS = 1024
COUNT: dict[str, Any] = {"type": click.IntRange(1, MAX_COUNT), "metavar": "N"}
METRICS = "Other scores to measure, separated by commas: precision, recall, f1, and for a classifier auc and top_5."
TTA = "Test-time augmentation: average predictions over all views of each image, e.g. 'crop=1, hflip'."
FILE: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "FILE"}
DIR: dict[str, Any] = {"type": click.Path(path_type=Path), "metavar": "DIR"}


@dataclass
class State:
    """State of one call of the command line: whether a failure shows its traceback, and whether it is JSON.

    ``answered`` says that a JSON object has been printed; ``group`` are the ranks that share the work, if any.
    """

    debug: bool = False
    as_json: bool = False
    answered: bool = False
    group: Group | None = None


def _set_debug(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    if value and isinstance(ctx.obj, State):
        ctx.obj.debug = True


def _set_json(ctx: click.Context, _: click.Parameter, value: bool) -> bool:
    if isinstance(ctx.obj, State):
        ctx.obj.as_json = value
    return value


def _set_best(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["best"] = value


def _set_no_limits(ctx: click.Context, _: click.Parameter, value: bool) -> None:
    ctx.meta["limits"] = not value


def of_best(ctx: click.Context, _: click.Parameter, value: PathOrName) -> PathOrName:
    """Return the argument MODEL, or with ``--best`` the file of the best weights of that run."""
    if not ctx.meta.get("best") or ctx.resilient_parsing:
        return value
    return type(value)(best_file(Path(value)))


def _import(_: click.Context, __: click.Parameter, names: Sequence[str]) -> None:
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            raise ArgumentError(f"--import {name}: {brief(error)}") from error


debug = click.option(
    "--debug", is_flag=True, is_eager=True, expose_value=False, callback=_set_debug, help="Show tracebacks."
)
json = click.option(
    "--json",
    "as_json",
    is_flag=True,
    is_eager=True,
    callback=_set_json,
    help="Print one JSON object instead of text, also if the command fails; NaN and infinities are null.",
)
best = click.option(
    "--best",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_best,
    help="Take the weights of the run's best epoch by validation, instead of the last epoch's.",
)
model_or_name = click.argument(
    "model", metavar="MODEL|NAME", callback=of_best, shell_complete=complete.model_or_name, type=str
)
data = click.option(
    "--data",
    metavar="NAME|DIR",
    help="Data set; its test set is used.  [default: the data set of the model's run]",
    shell_complete=complete.data,
)
polarity = click.option(
    "--polarity",
    type=click.Choice(["keep", "invert", "auto"]),
    default="keep",
    help="Gray images: keep or invert them. auto: invert those with a bright background, if the model was trained on "
    "digits or mnist, whose strokes are light on dark.",
)
_imports = click.option(
    "--import",
    multiple=True,
    is_eager=True,
    expose_value=False,
    callback=_import,
    metavar="MODULE",
    help="Import a Python module that defines custom layers. Repeatable.",
)
_no_limits = click.option(
    "--no-limits",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_set_no_limits,
    help="Load a model that needs much more time or memory than its weights suggest; for files that you trust.",
)
device = click.option(
    "--device",
    type=click.Choice(DEVICES),
    help="Device to run on; reference is NumPy and plain Python, for debugging.  [default: cpu]",
)
precision = click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    help="Precision of the inputs of convolutions and dense layers, on a GPU.  [default: fp32]",
)
threads = click.option(
    "--threads",
    type=click.IntRange(1, MAX_THREADS),
    metavar="N",
    help="Number of CPU threads.  [default: all cores]",
)


def is_file_name(model: str) -> bool:
    """Return whether MODEL|NAME is a model file or a run's folder, and not the name of an architecture."""
    path = Path(model)
    named = path.suffix in (".safetensors", ".onnx")
    return model not in models.MODELS and (path.exists() or len(path.parts) > 1 or named)


def load(model: Path, device: str = "cpu", precision: str = "fp32") -> numbacnn.Model:
    """Load the model of a file or a run's folder, within the limits for files of unknown origin unless waived."""
    limits = click.get_current_context().meta.get("limits", True)
    return numbacnn.load(model_file(model), device=device, precision=precision, limits=limits)


def imports(command: Command) -> Command:
    """Add ``--import`` and ``--no-limits``."""
    return _imports(_no_limits(command))


def open_model(model: str, device: str = "cpu", precision: str = "fp32", **options: Any) -> numbacnn.Model:
    """Load the model of a file or a run's folder, or build an architecture with ``options``."""
    if is_file_name(model):
        return load(Path(model), device, precision)
    return models.make(model, device=device, precision=precision, **options)


def model(command: Command) -> Command:
    """Add the argument MODEL, a model file or the folder of a run, and ``--best``."""
    kind = click.Path(path_type=Path)
    return click.argument("model", type=kind, callback=of_best, shell_complete=complete.model)(best(command))


@contextmanager
def engine(threads: int | None, quiet: bool = False) -> Iterator[CompileLine]:
    """Set the number of threads, and report the kernels that compile in the block by the line that is yielded."""
    if threads is not None:
        if "numba" not in sys.modules:  # the limit cannot be raised later
            os.environ["NUMBA_NUM_THREADS"] = str(threads)
        numbacnn.set_num_threads(threads)
    from numbacnn.kernels.jit import add_compile_listener

    line = CompileLine(quiet)
    remove = add_compile_listener(line)
    try:
        yield line
    finally:
        remove()
