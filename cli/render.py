"""Printing: results go to standard output, everything else to standard error."""

import errno
import json
import math
import os
import shlex
import sys
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import zip_longest
from subprocess import list2cmdline
from typing import Any, TextIO, cast

import click
import numpy as np

from numbacnn._checks.text import HANDLER, messages
from numbacnn.errors import escaped
from numbacnn.tasks import Tagging


@contextmanager
def streams() -> Iterator[None]:
    """Give the block streams that it can write to: messages that cannot be written are dropped, results are not.

    Substitutes are printed for characters that the terminal's encoding lacks. A stream that is closed is the null
    device, so that no file takes its number.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, this one
    before = sys.stdout, sys.stderr
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # until the process ends
    sys.stderr = cast(TextIO, messages())
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in before:
            _empty(stream)


def _empty(stream: TextIO | None) -> None:
    """Flush a stream; drop what cannot be written, so that Python does not fail on it when it exits."""
    if stream is None or stream.closed:
        return
    try:
        stream.flush()
    except OSError:
        with suppress(OSError):
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, stream.fileno())
            os.close(null)
            stream.flush()


# -- standard output --------------------------------------------------------------------------------------------------


def text(line: str) -> None:
    """Print a line of the result. Raises OSError if standard output cannot be written."""
    lines(escaped(line))


def lines(several: str) -> None:
    """Print lines of the result."""
    with _output():
        sys.stdout.write(f"{escaped(several, keep_lines=True)}\n")


def flush() -> None:
    """Flush standard output. Raises OSError if it cannot be written."""
    with _output():
        sys.stdout.flush()


@contextmanager
def _output() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        if os.name == "nt" and error.errno == errno.EINVAL:  # a closed pipe there
            raise BrokenPipeError from None
        raise OSError(error.errno, error.strerror, "standard output") from None


def as_json(value: dict[str, Any]) -> None:
    """Print the result as one JSON object, in ASCII if the stream cannot encode it, or it would control a terminal."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None:
        ctx.find_root().obj.answered = True
    printed = json.dumps(_with_nulls(value), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        printed.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
        plain = escaped(printed, keep_lines=True) == printed
    except UnicodeEncodeError:
        plain = False
    lines(printed if plain else json.dumps(_with_nulls(value), indent=2, allow_nan=False))


def _with_nulls(value: object) -> object:
    """Return a value as JSON, with None for NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {str(name): _with_nulls(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _with_nulls(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: Sequence[Sequence[str]], left: Container[int] | None = None) -> None:
    """Print rows of cells. The columns ``left``, by default all, are left-aligned, the others right-aligned."""
    rows = [[escaped(cell) for cell in cells] for cells in rows]
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for cells in rows:
        table_row(cells, widths, left)


def table_row(cells: Sequence[str], widths: Sequence[int], left: Container[int] | None = None) -> None:
    """Print one row of a ``table`` with known column widths."""
    padded = [
        cell.ljust(width) if left is None or i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(map(escaped, cells), widths, strict=False))
    ]
    text("  ".join(padded).rstrip())


# -- standard error ---------------------------------------------------------------------------------------------------


def log(line: str) -> None:
    """Print a line that is not part of the result. What cannot be written is dropped."""
    messages().write(f"{escaped(line)}\n")


def error(line: str) -> None:
    """Print the one line of a failure."""
    log(f"error: {' '.join(line.split())}")


def notes(lines: Iterable[str]) -> None:
    """Print remarks on the result, one line each."""
    for line in lines:
        log(f"note: {line}")


def warning(message: Warning | str) -> None:
    """Print a warning without its source location."""
    log(f"warning: {' '.join(str(message).split())}")


def warnings_once() -> Callable[..., None]:
    """Return a replacement of ``warnings.showwarning`` that prints each message once, wherever it comes from."""
    printed = set[str]()

    def show(message: Warning | str, *_: object, **__: object) -> None:
        if str(message) not in printed:
            printed.add(str(message))
            warning(message)

    return show


# -- formats ----------------------------------------------------------------------------------------------------------


def command(*words: str) -> str:
    """Format a command of numbacnn that can be pasted into a shell."""
    return shell_line("numbacnn", *words)


def shell_line(*words: str) -> str:
    """Format a program and its arguments for the system's shell."""
    return list2cmdline(words) if os.name == "nt" else shlex.join(words)


def percent(fraction: float) -> str:
    """Format 0.9871 as 98.71 %."""
    return f"{100 * fraction:.2f} %"


def size(count: int) -> str:
    """Format a number of bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def scores(result: dict[str, Any], metrics: Sequence[str] = ()) -> tuple[str, str]:
    """Format an evaluation: the name of the task's main score, and its value followed by the others and ``metrics``."""
    others = [f"loss {result['loss']:.4f}", *(f"{name} {result[name]:.4f}" for name in metrics)]
    if "mean_iou" in result:
        name, first = "mean IoU", [percent(result["mean_iou"]), f"pixel accuracy {percent(result['accuracy'])}"]
    elif "map_50" in result:
        name, first = "mAP@0.5", [percent(result["map_50"]), f"mAP@0.5:0.95 {percent(result['map'])}"]
    elif "r2" in result:
        name, first = "R²", [f"{result['r2']:.4f}", f"mean absolute error {result['mae']:.4g}"]
        others = [each for each in others if not each.startswith(("mae ", "r2 "))]
    elif result.get("task") == Tagging.name:
        name, first = "accuracy", [f"{percent(result['accuracy'])} of tags"]
    else:
        correct = f"{round(result['accuracy'] * result['images']):,} of {result['images']:,}"
        name, first = "accuracy", [f"{percent(result['accuracy'])} ({correct})"]
    return name, ", ".join([*first, *others])
