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

from . import bench, data, info, plot, predict, render, shared, summary, train, verify
from . import eval as evaluate


@click.group(
    context_settings={
        "auto_envvar_prefix": "NUMBACNN",
        "help_option_names": ["-h", "--help"],
        "show_default": True,
    },
    no_args_is_help=False,
    epilog="Environment variables set options too: NUMBACNN_TRAIN_EPOCHS=5 is train --epochs 5.",
)
@click.version_option(numbacnn.__version__, prog_name="numbacnn", message="%(prog)s %(version)s")
@shared.debug
def commands() -> None:
    """Train, evaluate and run convolutional networks. To get started: numbacnn train."""


for _command in (train, evaluate, predict, plot, summary, verify, bench, data, info):
    commands.add_command(_command.command)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    render.replace_unencodable()
    state = shared.State()
    with warnings.catch_warnings():
        warnings.showwarning = render.warning
        try:
            code = commands.main(given or ["--help"], prog_name="numbacnn", standalone_mode=False, obj=state)
            sys.stdout.flush()
            return code if isinstance(code, int) else 0
        except BaseException as error:
            return _failure(error, state.debug)


def _failure(error: BaseException, debug: bool) -> int:
    """Print an error as one line, and return the exit code."""
    if isinstance(error, SystemExit):
        raise error
    if isinstance(error, KeyboardInterrupt | click.Abort):
        render.error("interrupted")
        return 130
    if isinstance(error, BrokenPipeError):  # whoever reads our output is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    if debug:
        raise error
    if isinstance(error, click.UsageError):
        command = error.ctx.command_path if error.ctx else "numbacnn"
        render.error(f"{error.format_message()} See {command} --help")
        return 2
    if isinstance(error, numbacnn.NumbacnnError):
        render.error(str(error))
    elif isinstance(error, OSError):
        render.error(f"{error.filename}: {error.strerror}" if error.filename else str(error))
    else:
        render.error(f"unexpected {type(error).__name__}: {error}; add --debug for the traceback, and please report it")
    return 1
