"""Progress on standard error: a line that is updated in place on a terminal, a few plain lines elsewhere."""

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn

from numbacnn.data.remote import Progress
from numbacnn.training.trainer import EpochEnd, Event, StepEnd

from .render import command, duration, log, percent, size

if TYPE_CHECKING:
    from tqdm import tqdm

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


class TrainingProgress:
    """Shows the events of a training: a bar on a terminal, and a line per epoch. Use it as a context manager.

    Args:
        images: images per epoch.
        done: images that earlier runs of a resumed training have seen.
        quiet: show nothing.
        score: name of the task's main score.
    """

    def __init__(self, images: int, done: int, quiet: bool, score: str) -> None:
        self._images, self._done, self._score = images, done, score
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        if self._quiet:
            return
        if isinstance(event, EpochEnd):
            self._epoch(event)
        elif self._terminal:
            self._step(event)

    def _step(self, event: StepEnd) -> None:
        if self._bar is None:
            self._bar = self._make_bar(self._images * event.epochs)
        self._bar.set_description_str(f"epoch {event.epoch}/{event.epochs}", refresh=False)
        self._bar.set_postfix_str(f"loss {event.loss:.4f}, accuracy {percent(event.accuracy)}", refresh=False)
        self._bar.update(event.images)

    def _make_bar(self, total: int) -> "tqdm[NoReturn]":
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no monitor thread
        return tqdm(
            total=total,
            initial=self._done,
            unit=" images",
            unit_scale=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {rate_noinv_fmt}{postfix}, {remaining} left",
            file=sys.stderr,
            dynamic_ncols=True,
            leave=False,
        )

    def _epoch(self, event: EpochEnd) -> None:
        r = event.record
        parts = [f"loss {r.loss:.4f}", f"accuracy {percent(r.accuracy)}"]
        if r.validation_accuracy is not None:
            parts.append(f"validation {self._score} {percent(r.score or 0)}{' (best)' if event.best else ''}")
        if r.skipped:
            parts.append(f"{r.skipped} batches skipped because of NaN or infinity")
        parts += [f"{r.images_per_second:,.0f} images/s", f"{duration(r.seconds * (event.epochs - r.epoch))} left"]
        line = f"epoch {r.epoch}/{event.epochs}: {', '.join(parts)}"
        if self._bar is None:
            log(line)
        else:
            self._bar.write(line, file=sys.stderr)
