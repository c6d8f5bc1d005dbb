"""Choosing by name or by pattern, with the nearest known names in the error; and words of others in our messages."""

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import TypeVar

from numbacnn.errors import ArgumentError

T = TypeVar("T")


def choose(what: str, name: str, known: Mapping[str, T]) -> T:
    """``known[name]``, or an ArgumentError that names the nearest and all the known ones."""
    if name in known:
        return known[name]
    near = get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ArgumentError(f"unknown {what} {name!r}; {hint}known: {', '.join(known)}")


def matching(what: str, pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern of fnmatch's form matches ("features.*", "*.bias").

    Raises:
        ArgumentError: it matches none; the nearest names are told.
    """
    listed = list(names)
    found = [name for name in listed if fnmatchcase(name, pattern)]
    if found:
        return found
    near = get_close_matches(pattern, listed, n=3, cutoff=0.4) or listed[:3]
    more = "" if len(listed) == len(near) else f" … ({len(listed)} in all)"
    raise ArgumentError(f"{what} {pattern!r} matches no parameter; there are {', '.join(near)}{more}")


def brief(message: object, most: int = 300) -> str:
    """What a damaged file may have put into a message, as the short printable line that an error of ours is."""
    line = " ".join(str(message).split()) or type(message).__name__
    shown = "".join(character if character.isprintable() else "?" for character in line)
    return shown if len(shown) <= most else f"{shown[:most]} …"
