"""The command line: ``numbacnn`` and its commands, one file each.

Exit codes: 0 success, 1 failure, 2 usage error, 130 and 143 stopped by SIGINT and SIGTERM. Imports in this folder are
relative: in the source tree it is called ``cli``, and it is installed as ``numbacnn.cli``.
"""

import os
import sys
import warnings
from collections.abc import Sequence

import click

import numbacnn

from . import bench, data, export, info, plot, predict, render, shared, sources, summary, train, verify
from . import eval as evaluate


@click.group(
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
    sources.check_variables(ctx)


for _command in (train, evaluate, predict, plot, summary, export, verify, bench, data, info):
    commands.add_command(_command.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    render.replace_unencodable()
    state = shared.State()
    message = "stopped"
    with warnings.catch_warnings():
        warnings.showwarning = render.warning
        try:
            result = commands.main(given or ["--help"], prog_name="numbacnn", standalone_mode=False, obj=state)
            sys.stdout.flush()
            code = result if isinstance(result, int) else 0
        except BaseException as error:
            code, message = _failure(error, state.debug)
    if code and not state.answered and (state.as_json or "--json" in given):
        render.as_json({"error": message, "exit_code": code})
    return code


def _failure(error: BaseException, debug: bool) -> tuple[int, str]:
    """Print an error as one line; return the exit code and the line."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, BrokenPipeError):  # whoever reads our output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
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
        return f"{message} See {error.ctx.command_path if error.ctx else 'numbacnn'} --help"
    if isinstance(error, numbacnn.errors.DivergedError):
        skip = ", or skip such batches with --on-nan skip" if error.skippable else ""
        return f"{error.problem}; lower --lr, or give a --clip-norm{skip}"
    if isinstance(error, numbacnn.NumbacnnError):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error)
    return f"unexpected {type(error).__name__}: {error}; add --debug for the traceback, and please report it"
