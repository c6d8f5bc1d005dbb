"""Checks of arguments. Every error names the argument, its value, and what to give instead."""

import errno
import inspect
import math
import operator
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar

from numbacnn._checks.frameworks import STRINGS
from numbacnn.errors import ArgumentError

T = TypeVar("T")
SHORT = 16  # elements of an argument such as a shape
LONGEST = 80  # characters of a value in an error
LARGEST = 3.4e38  # about the largest number in float32, which kernels compute in


def python_numbers(value: Any, arrays: bool = False) -> Any:
    """Return a NumPy scalar as Python's number, also those in a few tuples or lists; other values unchanged.

    With ``arrays``, a short row of integers is a tuple.
    """
    kind = type(value)
    if hasattr(kind, "dtype") and hasattr(kind, "item"):  # of NumPy, without importing it
        if value.ndim == 0:
            return value.item()
        row = arrays and value.ndim == 1 and len(value) <= SHORT and getattr(value.dtype, "kind", "") in "iu"
        return tuple(value.tolist()) if row else value
    if kind in (tuple, list) and len(value) <= SHORT:
        return kind(python_numbers(each) for each in value)
    return value


def shown(value: object) -> str:
    """Return ``repr(value)``, or a few words about a value whose repr fails, does not fit a line or has an address."""
    kind, shape = type(value).__name__, getattr(value, "shape", None)
    try:
        text = repr(value)
    except Exception:  # of an integer of more than 4,300 digits, or of a class with a fault
        return f"{kind} of {len(value)}" if isinstance(value, list | tuple | set | dict) else kind
    if len(text) <= LONGEST and "\n" not in text and " at 0x" not in text:
        return text
    if isinstance(value, str):
        return f"{value[:LONGEST]!r} …"
    if isinstance(shape, tuple):
        return f"{kind} of shape {shape}"
    return f"{kind} of {len(value)}" if isinstance(value, list | tuple | set | dict) else kind


def path_of(value: object, owner: str, instead: str = "pass the name of a file or folder, as text or a Path") -> Path:
    """Return a path given as text or as a path. Raises ArgumentError for anything else, and if no file can have it."""
    try:
        path = Path(value) if isinstance(value, str | PathLike) else None
    except TypeError:  # it is bytes
        path = None
    if path is None:
        raise ArgumentError(f"{owner}: {type(value).__name__} is not a path; {instead}")
    try:
        path.lstat()
    except ValueError:  # a NUL, or half a surrogate pair
        raise ArgumentError(f"{owner}: {shown(str(path))} has a character that no file name can have") from None
    except OSError as error:  # most others say more when the file is opened
        if error.errno == errno.ENAMETOOLONG:
            raise ArgumentError(f"{owner}: {shown(str(path))} is too long for the name of a file") from None
    return path


def whole(value: object, name: str, minimum: int = 1, maximum: int | None = None) -> int:
    """Return ``value`` as an int of 64 bits. Raises ArgumentError unless it is from ``minimum`` to ``maximum``."""
    try:
        number = int(operator.index(value))  # type: ignore[arg-type]
    except TypeError:
        number = minimum - 1
    if maximum is not None and number > maximum:
        raise ArgumentError(f"{name} is above {maximum:,}: pass a smaller number")
    if number >= 1 << 64:
        rounded = f"{number:.4g}" if number < 1 << 1000 else "…"
        raise ArgumentError(f"{name}={rounded}: pass a whole number of at most 64 bits")
    if number < minimum:
        raise ArgumentError(f"{name}={shown(value)}: pass a whole number of at least {minimum}")
    return number


def flag(value: object, name: str) -> bool:
    """Return ``value`` as a bool. Raises ArgumentError unless it is True, False, 1 or 0."""
    if isinstance(value, Real) and value in (0, 1):
        return bool(value)
    raise ArgumentError(f"{name}={shown(value)}: pass True or False")


def _real(value: object) -> float:
    """Return a real number as a float, the largest if it is larger; NaN for anything else."""
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:  # a huge integer or fraction
        return math.copysign(sys.float_info.max, 1 if value > 0 else -1)  # type: ignore[operator]


def number(
    value: object, name: str, minimum: float, maximum: float = LARGEST, below: bool = False, above: bool = False
) -> float:
    """Return ``value`` as a float. Raises ArgumentError unless it is in [minimum, maximum], by default in float32.

    ``below`` excludes the maximum itself, ``above`` the minimum.
    """
    found = _real(python_numbers(value))
    if minimum <= found <= maximum and not (below and found == maximum) and not (above and found == minimum):
        return found
    lower = f"{'above' if above else 'of at least'} {minimum:g}"
    is_open = maximum == LARGEST and not LARGEST < found < math.inf
    upper = "" if is_open else f" and {'below' if below else 'at most'} {maximum:g}"
    raise ArgumentError(f"{name}={shown(value)}: pass a number {lower}{upper}")


def pair(value: int | Sequence[int], name: str, minimum: int = 1, maximum: int | None = None) -> tuple[int, int]:
    """Return one integer twice, or the two given. Raises ArgumentError unless they are from minimum to ``maximum``."""
    values = value if type(value) is tuple else tuple(value) if isinstance(value, Sequence) else (value, value)
    try:
        height, width = (whole(v, name, minimum) for v in values)
    except ValueError:
        raise ArgumentError(
            f"{name}={shown(value)}: pass one integer, or two (height, width), of at least {minimum}"
        ) from None
    if maximum is not None and max(height, width) > maximum:
        raise ArgumentError(f"{name}={shown(value)}: pass at most {maximum:,}")
    return height, width


def by_key(name: str, given: Mapping[Any, T], names: Sequence[str] = ()) -> list[T]:
    """Return the values of a mapping in the order of its keys, which are numbers from 0, or some of ``names``.

    Raises ArgumentError if a key is neither, or is missing before the last one.
    """
    numbers = dict(zip(names, range(len(names)), strict=True))
    found: dict[int, T] = {}
    for key, value in given.items():
        if isinstance(key, str):
            found[choose(f"key of {name},", key, numbers)] = value
        else:
            found[whole(key, f"a key of {name}", 0)] = value
    missing = [number for number in range(max(found, default=-1) + 1) if number not in found]
    if missing or len(found) < len(given):
        problem = f"has nothing for {missing[0]}" if missing else "names one of them twice"
        raise ArgumentError(f"{name}={dict(given)} {problem}; pass each number from 0 once")
    return [found[number] for number in range(len(found))]


def check_instance(value: object, kind: type, owner: str, instead: str) -> None:
    """Raise ArgumentError, with what to use ``instead``, unless a value is of the class ``kind``."""
    if not isinstance(value, kind):
        raise ArgumentError(f"{owner}: {type(value).__name__} is not a {kind.__name__}; use {instead}")


def check_takes(function: Callable[..., Any], parameters: str, owner: str, instead: str) -> None:
    """Raise ArgumentError if a function's signature is known, and a call with these parameters does not fit it."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # of a function of a compiled module
        return
    try:
        signature.bind(*parameters.split(", "))
    except TypeError:
        raise ArgumentError(f"{owner}: a function of {brief(signature)}; {instead}") from None


def listed(values: object, name: str, kind: type[T]) -> list[T]:
    """Return one value of the class ``kind``, or several, as a list. Raises ArgumentError for anything else."""
    values = python_numbers(values, arrays=True)
    found = [values] if isinstance(values, kind) else list(values) if isinstance(values, Iterable) else None
    if found is None or not all(isinstance(value, kind) for value in found):
        raise ArgumentError(f"{name}={shown(values)}: pass one {kind.__name__}, or a list of them")
    return found


def one_of(value: str, name: str, choices: Sequence[str]) -> str:
    """Return ``value``. Raises ArgumentError unless it is one of the choices."""
    if not isinstance(value, str):
        raise ArgumentError(f"{name}={shown(value)}: pass one of {', '.join(choices)}")
    if value in choices:
        return value
    *others, last = (f'"{choice}"' for choice in choices)
    meant = f"that is {STRINGS[value]!r} here; " if value in STRINGS and STRINGS[value] in choices else ""
    raise ArgumentError(f"{name}={shown(value)}: {meant}choose {', '.join(others)} or {last}")


def choose(kind: str, name: str, known: Mapping[str, T]) -> T:
    """Return ``known[name]``. Raises ArgumentError with the nearest and all known names."""
    if isinstance(name, str) and name in known:
        return known[name]
    raise ArgumentError(f"unknown {kind} {shown(name)}; {did_you_mean(name, known)}known: {', '.join(known)}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return "did you mean 'the nearest known name'? ", or nothing if none is near."""
    if not isinstance(name, str):
        return ""
    listed = {other.lower(): other for other in known}
    if STRINGS.get(name) in listed.values():
        return f"that is {STRINGS[name]!r} here; "
    near = get_close_matches(name.lower(), listed, n=1)
    return f"did you mean {listed[near[0]]!r}? " if near else ""


def matching(subject: str, pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that a pattern such as "features.*" or "*.bias" matches (fnmatch).

    Raises ArgumentError with the nearest names if there are none; ``subject`` says whose pattern it is.
    """
    if not isinstance(pattern, str):
        raise ArgumentError(f'{subject} {shown(pattern)}: pass a name such as "conv2d_1.*"')
    listed = list(names)
    found = [name for name in listed if fnmatchcase(name, pattern)]
    if found:
        return found
    near = get_close_matches(pattern, listed, n=3, cutoff=0.4) or listed[:3]
    more = "" if len(listed) == len(near) else f" … ({len(listed)} in all)"
    raise ArgumentError(f"{subject} {shown(pattern)} matches no parameter; there are {', '.join(near)}{more}")


def brief(message: object, maximum: int = 300) -> str:
    """Return text that may come from a damaged file as one short printable line, for an error message."""
    line = " ".join(str(message).split()) or type(message).__name__
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown if len(shown) <= maximum else f"{shown[:maximum]} …"


def format_shape(shape: Iterable[int]) -> str:
    """Format a shape as 28×28×1."""
    return "×".join(map(str, shape))
