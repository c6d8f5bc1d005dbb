"""The argument MODEL|NAME, a model file or an architecture, and the options of an architecture."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

import numbacnn
from numbacnn import models
from numbacnn._checks import choose
from numbacnn.errors import ArgumentError

from . import shared
from .parameter_types import ImageShape

Command = TypeVar("Command", bound=Callable[..., Any])


def options(command: Command) -> Command:
    """Add ``input_shape``, ``classes`` and ``options``."""
    default = "[default: the architecture's]"
    for option in (
        click.option("--classes", help=f"Number of classes.  {default}", **shared.COUNT),
        click.option("--input-shape", type=ImageShape(), metavar="HxWxC", help=f"Shape of one image.  {default}"),
        click.option(
            "--option",
            "options",
            multiple=True,
            metavar="NAME=VALUE",
            help="Option of the architecture, e.g. stem=cifar. Repeatable.",
        ),
    ):
        command = option(command)
    return command


def open_model(model: str, options: Sequence[str], **given: Any) -> numbacnn.Model:
    """Load a model file, or build an architecture with its options; an argument that is None is left out.

    Raises:
        ArgumentError: an option does not exist or has a wrong value, or a file is given a shape.
    """
    given = {name: value for name, value in given.items() if value is not None}
    if shared.is_file_name(model):
        if given.keys() - {"device", "precision"} or options:
            raise ArgumentError(f"{model} is a file with its own shapes: leave out --input-shape, --classes, --option")
        return shared.open_model(model, **given)
    function = choose("model", model, models.MODELS)
    known = {
        name: type(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    for option in options:
        name, _, value = option.partition("=")
        if not known:
            raise ArgumentError(f"--option {option}: {model} has no options")
        given[name] = _parse(option, value, choose(f"option of {model}", name, known))
    return shared.open_model(model, **given)


def _parse(option: str, text: str, kind: type) -> bool | int | float | str:
    """Convert the text to the type of the option's default."""
    try:
        return {"true": True, "false": False}[text.lower()] if kind is bool else kind(text)
    except (KeyError, ValueError):
        expected = "true or false" if kind is bool else f"a value of type {kind.__name__}"
        raise ArgumentError(f"--option {option}: use {expected}") from None
