"""Choosing by name, with the nearest known name in the error."""

from collections.abc import Mapping
from difflib import get_close_matches
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
