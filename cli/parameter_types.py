"""Types of options and arguments, besides those of click."""

import click

from numbacnn._checks import brief
from numbacnn.errors import ArgumentError
from numbacnn.runs.settings import parse_size
from numbacnn.saving.checkpoints import parse_interval


class ImageShape(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click
    """The shape of one image, 32x32x3, or a number of features."""

    name = "size"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Return height, width and channels, or the number of features."""
        parts = str(value).split("x")
        if not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is not a shape; write 32x32x3", param, ctx)
        return tuple(map(int, parts))


class Interval(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click
    """A number of steps, 500, or a time: 90s, 5m, 1h."""

    name = "interval"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Return the number of steps, or the time unchanged."""
        try:
            parse_interval(value)
        except ArgumentError as error:
            self.fail(str(error), param, ctx)
        return int(value) if str(value).isdecimal() else value


class Size(click.ParamType):  # type: ignore[type-arg]  # generic in later versions of click
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
