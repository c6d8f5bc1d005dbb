"""Progress on standard error: a line that is updated in place on a terminal, a few plain lines elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from numbacnn.data.remote import Progress
from numbacnn.errors import escaped
from numbacnn.training.progress import TrainingProgress
from numbacnn.training.trainer import Event, Trainer

from .render import command, log, size

if TYPE_CHECKING:
    from numbacnn.training.compilations import CompileCount

ERASE_LINE = "\r\x1b[K"


def status(line: str = "") -> None:
    """Replace the status line of a terminal; does nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(ERASE_LINE + escaped(line))
        sys.stderr.flush()


class CompileLine:
    """Shows the kernel that is being compiled; off a terminal, prints one line for all of them.

    From ``begin`` on it numbers them.
    """

    def __init__(self, quiet: bool) -> None:
        self._silent = quiet
        self._count: CompileCount | None = None

    def begin(self, trainer: Trainer) -> None:
        """Count the kernels of a training that has not begun to run."""
        from numbacnn.training.compilations import CompileCount

        if not self._silent and sys.stderr.isatty():
            self._count = CompileCount()
            self._count.begin(trainer)

    def __call__(self, kernel: str, done: bool) -> None:
        """Called before and after each compilation."""
        if self._silent:
            return
        if sys.stderr.isatty():
            number = "" if done else "kernels" if self._count is None else self._count.next()
            status("" if done else f"compiling {number} (first run only): {kernel.lstrip('_')} …")
        else:
            log("compiling kernels (first run only) …")
            self._silent = True


def download_progress(quiet: bool = False) -> Progress:
    """Return a callback that shows downloads; off a terminal, it prints one line per file."""
    announced = set[str]()

    def progress(name: str, received: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of_total = f" of {size(total)}" if total else ""
            status(f"downloading {name}: {size(received)}{of_total}")
            if received == total:
                sys.stderr.write("\n")
        elif name not in announced:
            announced.add(name)
            log(f"downloading {name} …")

    return (lambda *_: None) if quiet else progress


def stopping() -> None:
    """Answer a first Ctrl-C or SIGTERM. Called by a signal handler, so it bypasses the streams' buffers."""
    with suppress(OSError):  # the terminal may be closed
        os.write(2, b"\nstopping after this step; press Ctrl-C again to stop immediately\n")


def interrupted(folder: str, epochs: int, steps: int) -> None:
    """Report how far an interrupted training came, and how to resume it."""
    resume = command("train", "--out", folder, "--resume")
    log(f"interrupted after {epochs} epochs and {steps} steps; resume with: {resume}")


@contextmanager
def training_progress(trainer: Trainer, quiet: bool) -> Iterator[Callable[[Event], None]]:
    """Yield a function that shows the events of a training: a bar on a terminal, and a line per epoch."""
    if quiet:
        yield lambda event: None
        return
    with TrainingProgress(sys.stderr.isatty()) as show:
        show.begin(trainer)
        yield show
