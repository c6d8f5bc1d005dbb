"""The command line: ``numbacnn`` and its commands, one file each.

Exit codes: 0 success, 1 failure, 2 usage error, 130 and 143 stopped by SIGINT and SIGTERM. Imports in this folder are
relative: in the source tree it is called ``cli``, and it is installed as ``numbacnn.cli``.
"""

import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module

import click

import numbacnn

from . import render, shared, sources

NAMES = (
    *("train", "eval", "predict", "serve", "plot", "summary"),
    *("export", "verify", "bench", "data", "info", "warm-up"),
)


class Commands(click.Group):
    """The commands, of which each is imported when it is used: a training does without the others."""

    @property
    def commands(self) -> dict[str, click.Command]:  # an attribute of other groups
        """All commands by name."""
        return {name: _command(name) for name in NAMES}

    @commands.setter
    def commands(self, given: object) -> None:
        """Do nothing: click assigns the commands that it is given, none."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names in alphabetical order."""
        return sorted(NAMES)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command; None if there is none of this name."""
        return _command(cmd_name) if cmd_name in NAMES else None


def _command(name: str) -> click.Command:
    command: click.Command = import_module(f".{name.replace('-', '_')}", __name__).command
    return command


@click.group(
    cls=Commands,
    context_settings={
        "auto_envvar_prefix": sources.PREFIX,
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
    no_args_is_help=False,
    epilog="Environment variables set options too: NUMBACNN_TRAIN_EPOCHS=5 is train --epochs 5.",
)
@click.version_option(numbacnn.__version__, prog_name="numbacnn", message="%(prog)s %(version)s")
@shared.debug
@click.pass_context
def commands(ctx: click.Context) -> None:
    """Train, evaluate and run convolutional networks. To get started: numbacnn train."""
    render.notes(sources.check_variables(ctx))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    state = shared.State()
    message = "stopped"
    with render.streams(), warnings.catch_warnings():
        warnings.showwarning = render.warnings_once()
        try:
            result = commands.main(given or ["--help"], prog_name="numbacnn", standalone_mode=False, obj=state)
            render.flush()
            code = result if isinstance(result, int) else 0
        except BaseException as error:
            code, message = _failure(error, state.debug)
            if state.group is not None:
                state.group.fail(message)
        if code and not state.answered and (state.as_json or "--json" in given):
            with suppress(OSError):  # of standard output, which the failure is perhaps about
                render.as_json({"error": message, "exit_code": code})
    return code


def _failure(error: BaseException, debug: bool) -> tuple[int, str]:
    """Print an error as one line; return the exit code and the line."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, BrokenPipeError):  # whoever reads our output is gone
        return 1, ""
    interrupted = isinstance(error, KeyboardInterrupt | click.Abort)
    if debug and not interrupted:
        raise error
    line = "interrupted" if interrupted else _line(error)
    render.error(line)
    return (130 if interrupted else 2 if isinstance(error, click.UsageError) else 1), line


def _line(error: BaseException) -> str:
    """Return the message of an error."""
    if isinstance(error, click.UsageError):
        message = sources.bad_value(error) if isinstance(error, click.BadParameter) else error.format_message()
        end = "" if message.endswith((".", "?", "!")) else "."
        return f"{message}{end} See {error.ctx.command_path if error.ctx else 'numbacnn'} --help"
    if isinstance(error, numbacnn.errors.DivergedError):
        skip = ", or skip such batches with --on-nan skip" if error.skippable else ""
        return f"{error.problem}; lower --lr, or set --clip-norm{skip}"
    if isinstance(error, numbacnn.errors.DeviceMemoryError):
        return f"{error}; use a smaller --size or --batch-size, or fewer --classes"
    if isinstance(error, numbacnn.NumbacnnError):
        return str(error)
    if isinstance(error, MemoryError):
        return f"there is not enough memory ({error}); use a smaller --size or --batch-size, or fewer --classes"
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"unexpected {type(error).__name__}: {error}; add --debug for the traceback, and please report it"
