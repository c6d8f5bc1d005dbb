"""Progress on standard error: a line that is updated in place on a terminal, a few plain lines elsewhere."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from numbacnn.data.remote import Progress
from numbacnn.training.progress import TrainingProgress
from numbacnn.training.trainer import Event, Trainer

from .render import command, log, size

ERASE_LINE = "\r\x1b[K"


def status(line: str = "") -> None:
    """Replace the status line of a terminal; does nothing elsewhere."""
    if sys.stderr.isatty():
        sys.stderr.write(ERASE_LINE + line)
        sys.stderr.flush()


class CompileLine:
    """Shows the kernel that is being compiled; off a terminal, prints one line for all of them."""

    def __init__(self, quiet: bool) -> None:
        self._silent = quiet

    def __call__(self, kernel: str, done: bool) -> None:
        """Called before and after each compilation."""
        if self._silent:
            return
        if sys.stderr.isatty():
            status("" if done else f"compiling kernels (first run only): {kernel.lstrip('_')} …")
        else:
            log("compiling kernels (first run only) …")
            self._silent = True


def download_progress(quiet: bool = False) -> Progress:
    """Return a callback that shows downloads; off a terminal, it prints one line per file."""
    announced = set[str]()

    def progress(name: str, received: int, total: int | None) -> None:
        if sys.stderr.isatty():
            of_total = f" of {size(total)}" if total else ""
            status(f"downloading {name}: {size(received)}{of_total}" + ("\n" if received == total else ""))
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
