"""Checkpoints that outlive what stops a training: the two newest are kept, and one that is damaged is passed over."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from numbacnn.data.files import remove_leftovers
from numbacnn.engine.parameters import Arena
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.saving import format as files

Arrays = Mapping[str, NDArray[np.float32]]
SECONDS = {"s": 1, "m": 60, "h": 3600}


class Checkpoints:
    """The newest checkpoint of a training, at ``newest``, and the one before it, at ``previous``.

    Of a kill, or of a write that fails, at any instant, one of the two stays whole: that of the last completed save.
    """

    def __init__(self, path: Path) -> None:
        self.newest = path
        self.previous = path.with_name(f"{path.stem}-previous{path.suffix}")
        self._keep = False  # what lies at ``newest``, when the next one takes its place
        self._foreign = True  # what lies at ``previous`` is of another training, if there is anything

    def save(self, arenas: Mapping[str, Arena], state: Any) -> None:
        """Writes a checkpoint; raises OSError where it cannot."""
        remove_leftovers(self.newest)
        files.save_checkpoint(self.newest, arenas, state, self.previous if self._keep else None)
        self._keep = True
        if self._foreign:
            self.previous.unlink(missing_ok=True)
            self._foreign = False

    def read(self) -> tuple[Path, Any, Arrays] | None:
        """File, state and arrays of the newest that can be read, None where there is no file.

        Warns where that is the previous one. Raises ModelFileError where none of the files can be read.
        """
        if not self.newest.exists() and not self.previous.exists():
            return None
        self._foreign = False
        if not self.newest.exists():  # a save was stopped between its two renames
            return self.previous, *files.read_checkpoint(self.previous)
        try:
            content = files.read_checkpoint(self.newest)
        except ModelFileError as error:
            if not self.previous.exists():
                raise
            content = files.read_checkpoint(self.previous)
            warnings.warn(f"{error}; going on from the one before, {self.previous.name}", stacklevel=2)
            return self.previous, *content
        self._keep = True
        return self.newest, *content


@dataclass(frozen=True)
class Interval:
    """How often something is done: every so many steps, or seconds; the other is None."""

    steps: int | None = None
    seconds: int | None = None


def parse_interval(given: int | str) -> Interval:
    """500 or "500" steps, "90s", "5m" or "1h". Raises ArgumentError for anything else."""
    match = re.fullmatch(r"(\d{1,15})([smh]?)", str(given))
    if isinstance(given, bool) or match is None or int(match[1]) == 0:
        raise ArgumentError(f"checkpoint_every={given!r}: give a whole number of steps, or a time such as 90s, 5m, 1h")
    number, unit = int(match[1]), match[2]
    return Interval(seconds=number * SECONDS[unit]) if unit else Interval(steps=number)


def describe(value: Any) -> str:
    """A specification, as a loss or a schedule is one, in words that are the same in every process."""
    if hasattr(value, "__qualname__"):
        return str(value.__qualname__)
    if isinstance(value, float):
        return repr(float(value))
    if value is None or isinstance(value, str | int):
        return repr(value)
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{key}: {describe(part)}' for key, part in value.items())}}}"
    if isinstance(value, Sequence):
        return f"[{', '.join(map(describe, value))}]"
    name = type(value).__qualname__
    if is_dataclass(value):
        options = [f"{field.name}={describe(getattr(value, field.name))}" for field in fields(value) if field.init]
        return f"{name}({', '.join(options)})"
    options = [f"{key}={describe(part)}" for key, part in getattr(value, "__dict__", {}).items()]
    return f"{name}({', '.join(options)})"
