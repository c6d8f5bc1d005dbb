"""Checkpoints of a training: the two newest are kept, so that a crash or a damaged file loses one save at most."""

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

import numpy as np
from numpy.typing import NDArray

from numbacnn._checks import python_numbers, shown
from numbacnn.data.files import remove_leftovers
from numbacnn.engine.parameters import Arena
from numbacnn.errors import ArgumentError, ModelFileError
from numbacnn.saving import format as files

Arrays = Mapping[str, NDArray[np.float32]]
MAX_COUNT = (1 << 63) - 1
R = TypeVar("R")
SECONDS = {"s": 1, "m": 60, "h": 3600}


class Checkpoints:
    """The newest checkpoint of a training, at ``newest``, and the one before it, at ``previous``.

    If the process is killed or a write fails, at any instant, the last completed save is intact in one of the two.
    """

    def __init__(self, path: Path) -> None:
        self.newest = path
        self.previous = path.with_name(f"{path.stem}-previous{path.suffix}")
        self._keep = False  # whether the next save moves ``newest`` to ``previous``
        self._foreign = True  # whether a file at ``previous`` belongs to another training

    def save(self, arenas: Mapping[str, Arena], state: object) -> None:
        """Write a checkpoint. Raises OSError if that fails."""
        remove_leftovers(self.newest)
        files.save_checkpoint(self.newest, arenas, state, self.previous if self._keep else None)
        self._keep = True
        if self._foreign:
            self.previous.unlink(missing_ok=True)
            self._foreign = False

    def read(self) -> tuple[Path, Any, Arrays] | None:
        """Read the newest checkpoint that is intact: its file, state and arrays; None if there is no file.

        Warns if that is the previous one because the newest is damaged.

        Raises:
            ModelFileError: no file can be read.
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
            warnings.warn(f"{error}; continuing from the previous one, {self.previous.name}", stacklevel=2)
            return self.previous, *content
        self._keep = True
        return self.newest, *content


@dataclass(frozen=True)
class Interval:
    """A number of steps or a number of seconds between two saves; the other attribute is None."""

    steps: int | None = None
    seconds: int | None = None


def parse_interval(given: int | str) -> Interval:
    """Parse 500 or "500" (steps), "90s", "5m" or "1h". Raises ArgumentError for anything else."""
    match = re.fullmatch(r"(\d{1,15})([smh]?)", str(given))
    if isinstance(given, bool) or match is None or int(match[1]) == 0:
        raise ArgumentError(
            f"checkpoint_every={shown(given)}: use a whole number of steps, or a time such as 90s, 5m, 1h"
        )
    number, unit = int(match[1]), match[2]
    return Interval(seconds=number * SECONDS[unit]) if unit else Interval(steps=number)


def record_of(kind: type[R], form: Any) -> R:
    """Return a dataclass from a form in a checkpoint.

    Raises one of ``DAMAGE`` unless every field has its type: whole numbers, which are not negative, numbers, or
    mappings from names to numbers.
    """
    hints, found = get_type_hints(kind), {}
    for name, value in dict(form).items():
        if name not in hints:
            raise ValueError(f"unknown {name!r}")
        if hints[name] == Mapping[str, float]:
            found[name] = {key: _number(number, float) for key, number in value.items()}
        else:
            found[name] = _number(value, hints[name])
    return kind(**found)


def _number(value: Any, hint: object) -> Any:
    """Return a number of a form as one of its type, a float also where JSON has whole digits."""
    if hint is int:
        return count(value)
    if value is None and hint is not float:
        return None
    return float(value if isinstance(value, int | float) else "no number")


def count(value: object) -> int:
    """Return a number that counts something. Raises ValueError unless it is whole and not negative."""
    if not isinstance(value, int) or not 0 <= value <= MAX_COUNT:
        raise ValueError(f"{value!r} is not a count")
    return value


def describe(value: object) -> str:
    """Describe an object such as a loss or a schedule by a text that is the same in every process."""
    value = python_numbers(value)
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
