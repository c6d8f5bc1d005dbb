"""Recorded launches, on any device: an executor replays them in every step.

A launch through Python takes longer than many kernels: it looks up the arguments, and the compiled code for their
types, each time. A recording looks them up once.
"""

import threading
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, NamedTuple, Protocol

Launch = tuple[Callable[..., None], tuple[Any, ...]]  # a function and its arguments


class Launchable(Protocol):
    """A kernel of some device, ready to be called."""

    def __call__(self, *arguments: Any) -> None:
        """Run the kernel, or record the launch."""

    def recorded(self, *arguments: Any) -> Launch:
        """The launch of the kernel, without running it."""


class Recording(NamedTuple):
    """Recorded launches: those of ``prepare``, which run first, and the others."""

    preparations: list[Launch]
    launches: list[Launch]


class _Tape(NamedTuple):
    """The recording that a thread is making."""

    thread: int
    preparations: list[Launch]
    launches: list[Launch]


_tape: _Tape | None = None


def run(launches: Sequence[Launch]) -> None:
    """Run recorded launches in order."""
    for launch, arguments in launches:
        launch(*arguments)


def record(work: Callable[[], None]) -> Recording:
    """Record the launches of ``work`` without running them. The caller holds the engine lock."""
    global _tape
    _tape = _Tape(threading.get_ident(), [], [])
    try:
        work()
        return Recording(_tape.preparations, _tape.launches)
    finally:
        _tape = None


def _own_tape() -> _Tape | None:
    """The recording of this thread. The global is read once, since another thread may end its recording meanwhile."""
    current = _tape
    return current if current is not None and current.thread == threading.get_ident() else None


def tape() -> list[Launch] | None:
    """The list to which a called kernel appends its launch, or None if it is to run."""
    current = _own_tape()
    return None if current is None else current.launches


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
    """Launch a kernel that reads only parameters, or the outputs of such kernels.

    A recording keeps it apart, so that inference runs it only after the parameters have changed. Its outputs are
    scratch of the kind "prepared".
    """
    current = _own_tape()
    if current is not None:
        current.preparations.append(kernel.recorded(*arguments))
    else:
        kernel(*arguments)


def launch(kernel: Launchable, *arguments: Any) -> None:
    """Launch a kernel that must run every time; the alternative to ``prepare``."""
    kernel(*arguments)
