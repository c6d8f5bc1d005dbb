"""The source of an option's value: the command line, an environment variable, or a line of a file."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from numbacnn._checks import did_you_mean
from numbacnn.errors import ArgumentError
from numbacnn.runs.settings import line_of

PREFIX = "NUMBACNN"
OF_THE_LIBRARY = ("NUMBACNN_CACHE_DIR", "NUMBACNN_VECTOR_WIDTH", "NUMBACNN_CUDA_SYNC")
FILES = "files"  # in ctx.meta: the configuration file of each option that has its value from one


def variables(command: click.Command, prefix: str = PREFIX) -> Iterator[str]:
    """Yield the names of the environment variables that set options of a command and its subcommands."""
    for parameter in command.params:
        if parameter.name:
            yield f"{prefix}_{parameter.name.upper()}"
    for name, child in getattr(command, "commands", {}).items():
        yield from variables(child, f"{prefix}_{name.upper().replace('-', '_')}")


def check_variables(ctx: click.Context) -> Iterator[str]:
    """Yield a note for each variable that resembles one of the invoked command or of the library, but sets nothing.

    Others may be of a project that uses this one, or of a system that makes them up: Kubernetes calls the address of a
    service numbacnn-server NUMBACNN_SERVER_PORT. Raises UsageError, with the nearest name, for a variable that begins
    like those of the invoked command.
    """
    others = {name for name in os.environ if name.startswith(f"{PREFIX}_")} - {*OF_THE_LIBRARY}
    invoked = ctx.invoked_subcommand or ""
    command = ctx.command.get_command(ctx, invoked) if others and isinstance(ctx.command, click.Group) else None
    if command is None:
        return
    start = f"{PREFIX}_{invoked.upper().replace('-', '_')}"
    known = {*variables(command, start), *OF_THE_LIBRARY}
    for name in sorted(others - known):
        message = f"environment variable {name} sets nothing"
        if name.startswith(f"{start}_"):
            raise click.UsageError(f"{message}; {did_you_mean(name, known)}unset it.", ctx)
        whole = name.replace(PREFIX, start, 1)  # without the command
        if whole in known or get_close_matches(name, known, cutoff=0.9):
            yield f"{message}; {did_you_mean(whole if whole in known else name, known)}".rstrip()


def source_of(ctx: click.Context, parameter: click.Parameter) -> str:
    """Return where the value of a parameter comes from, such as "--epochs" or "epochs (train.toml, line 3)"."""
    name = parameter.name or ""
    source = ctx.get_parameter_source(name)
    files: Mapping[str, Path] = ctx.meta.get(FILES, {})
    if source == ParameterSource.ENVIRONMENT:
        return f"{ctx.auto_envvar_prefix}_{name.upper()}"
    if source == ParameterSource.DEFAULT_MAP and name in files:
        key = name.replace("_", "-")
        return f"{key} ({line_of(files[name], key)})"
    return parameter.opts[0] if parameter.opts else name


def bad_value(error: click.BadParameter) -> str:
    """Return the message of a value that click rejects, with its source."""
    if error.ctx is None or error.param is None or isinstance(error, click.MissingParameter):
        return error.format_message()
    return f"Invalid value for {source_of(error.ctx, error.param)}: {error.message}"


@contextmanager
def named(ctx: click.Context, values: Mapping[str, Any]) -> Iterator[None]:
    """Begin an ArgumentError of the block with the source of the value that it is about."""
    try:
        yield
    except ArgumentError as error:
        for parameter in ctx.command.params:
            name, value = parameter.name or "", values.get(parameter.name or "")
            if value is not None and _is_about(str(error), name, value):
                raise type(error)(f"{source_of(ctx, parameter)}: {error}") from None
        raise


def _is_about(message: str, name: str, value: object) -> bool:
    return bool(re.search(rf"\b{name}=", message)) or (isinstance(value, str) and repr(value) in message)
