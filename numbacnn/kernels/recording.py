"""Launches written down instead of run, on any device: what an executor replays in every step.

A launch through Python takes longer than many kernels: it finds out what is always the same, the code for the types of
the arguments, and the arguments. A recording does so once.
"""

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple, Protocol

Launch = tuple[Callable[..., None], tuple[Any, ...]]


class Launchable(Protocol):
    """A compiled kernel of some device, ready to be called."""

    def __call__(self, *arguments: Any) -> None:
        """Runs the kernel, or records the launch."""

    def recorded(self, *arguments: Any) -> Launch:
        """What to call instead, and with what."""


class Record(NamedTuple):
    """Launches, (function, arguments) each: calling the functions runs them. First those of ``prepare``."""

    preparations: list[Launch]
    launches: list[Launch]


class _Tape(NamedTuple):
    """What was recorded so far, by one thread."""

    thread: int
    preparations: list[Launch]
    launches: list[Launch]


_tape: _Tape | None = None


def run(launches: Sequence[Launch]) -> None:
    """Runs recorded launches, in order."""
    for launch, arguments in launches:
        launch(*arguments)


def record(work: Callable[[], None]) -> Record:
    """The launches of ``work``, which do not run now. The caller holds the engine's lock."""
    global _tape
    _tape = _Tape(threading.get_ident(), [], [])
    try:
        work()
        return Record(_tape.preparations, _tape.launches)
    finally:
        _tape = None


def tape() -> list[Launch] | None:
    """Where a kernel that is called writes its launch down, or None where it is to run."""
    return _tape.launches if _tape is not None and _tape.thread == threading.get_ident() else None


def recordable(function: Callable[..., None]) -> Callable[..., None]:
    """A launcher in plain Python whose call is recorded as one launch. It may call kernels."""

    @wraps(function)
    def launch(*arguments: Any) -> None:
        launches = tape()
        if launches is None:
            function(*arguments)
        else:
            launches.append((function, arguments))

    return launch


def prepare(kernel: Launchable, *arguments: Any) -> None:
    """Launches a kernel that reads parameters, or what was prepared before, alone. A recording keeps it apart, so that
    inference may run it after a change of the parameters only; its outputs are ``Scratch`` of "prepared"."""
    if tape() is not None:
        _tape.preparations.append(kernel.recorded(*arguments))  # type: ignore[union-attr]
    else:
        kernel(*arguments)


def launch(kernel: Launchable, *arguments: Any) -> None:
    """Launches a kernel: ``prepare``'s other, for what has to run every time."""
    kernel(*arguments)
