"""Printing: results go to standard output, everything else to standard error."""

import json
import math
import shlex
import sys
from collections.abc import Container, Iterable, Sequence
from itertools import zip_longest
from typing import Any

import click
import numpy as np

from numbacnn._checks.text import HANDLER


def replace_unencodable() -> None:
    """Print substitutes for characters that the terminal's encoding lacks."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


# -- standard output --------------------------------------------------------------------------------------------------


def text(line: str) -> None:
    """Print a line of the result."""
    sys.stdout.write(f"{line}\n")


def as_json(value: dict[str, Any]) -> None:
    """Print the result as one JSON object, in ASCII if the stream cannot encode it."""
    ctx = click.get_current_context(silent=True)
    if ctx is not None:
        ctx.find_root().obj.answered = True
    printed = json.dumps(_with_nulls(value), indent=2, ensure_ascii=False, allow_nan=False)
    try:
        printed.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        printed = json.dumps(_with_nulls(value), indent=2, allow_nan=False)
    text(printed)


def _with_nulls(value: object) -> object:
    """Return a value in JSON's types, with None for NaN and infinities, which JSON lacks."""
    if isinstance(value, dict):
        return {str(name): _with_nulls(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_with_nulls(each) for each in value]
    if isinstance(value, np.ndarray | np.generic):
        return _with_nulls(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def table(rows: Sequence[Sequence[str]], left: Container[int] | None = None) -> None:
    """Print rows of cells. The columns ``left``, by default all, are left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for cells in rows:
        table_row(cells, widths, left)


def table_row(cells: Sequence[str], widths: Sequence[int], left: Container[int] | None = None) -> None:
    """Print one row of a ``table`` with known column widths."""
    padded = [
        cell.ljust(width) if left is None or i in left else cell.rjust(width)
        for i, (cell, width) in enumerate(zip(cells, widths, strict=False))
    ]
    text("  ".join(padded).rstrip())


# -- standard error ---------------------------------------------------------------------------------------------------


def log(line: str) -> None:
    """Print a line that is not part of the result."""
    sys.stderr.write(f"{line}\n")


def error(line: str) -> None:
    """Print the one line of a failure."""
    log(f"error: {' '.join(line.split())}")


def notes(lines: Iterable[str]) -> None:
    """Print remarks on the result, one line each."""
    for line in lines:
        log(f"note: {line}")


def warning(message: Warning | str, *_: object, **__: object) -> None:
    """Print a warning without its source location; replaces ``warnings.showwarning``."""
    log(f"warning: {' '.join(str(message).split())}")


# -- formats ----------------------------------------------------------------------------------------------------------


def command(*words: str) -> str:
    """Format a command that can be pasted into a shell."""
    return shlex.join(["numbacnn", *words])


def percent(fraction: float) -> str:
    """Format 0.9871 as 98.71 %."""
    return f"{100 * fraction:.2f} %"


def size(count: int) -> str:
    """Format a number of bytes in MiB."""
    return f"{count / 2**20:.1f} MiB"


def scores(result: dict[str, Any]) -> tuple[str, str]:
    """Format an evaluation: the name of the task's main score, and its value followed by the other scores."""
    loss = f"loss {result['loss']:.4f}"
    if "mean_iou" in result:
        return "mean IoU", f"{percent(result['mean_iou'])}, pixel accuracy {percent(result['accuracy'])}, {loss}"
    if "map_50" in result:
        return "mAP@0.5", f"{percent(result['map_50'])}, mAP@0.5:0.95 {percent(result['map'])}, {loss}"
    correct = round(result["accuracy"] * result["images"])
    return "accuracy", f"{percent(result['accuracy'])} ({correct:,} of {result['images']:,}), {loss}"
