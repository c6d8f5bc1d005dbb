"""The progress of a training on standard error: a bar on a terminal or in a notebook, and a line for each epoch."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from numbacnn.training.events import EpochEnd, EpochRecord, Event, StepEnd

if TYPE_CHECKING:
    from tqdm import tqdm

    from numbacnn.training.trainer import Trainer

BAR = "{desc} {percentage:3.0f}%|{bar}| {rate_noinv_fmt}{postfix}, {remaining} left"


@contextmanager
def shown_progress(wanted: bool | None) -> "Iterator[TrainingProgress | None]":
    """Yield what shows the events of a training and the compilation of kernels, or None if nothing is to be shown.

    ``wanted`` is by default whether standard error is a terminal or in a notebook. Something appears at once.
    """
    live = sys.stderr.isatty() or _is_notebook()
    if not (live if wanted is None else wanted):
        yield None
        return
    from numbacnn.kernels.jit import add_compile_listener

    show = TrainingProgress(live)
    remove = add_compile_listener(show.compiling)
    try:
        yield show
    finally:
        remove()
        show.close()


class TrainingProgress:
    """A callback that shows the events of a training. If ``live``, a bar is updated in place."""

    def __init__(self, live: bool) -> None:
        self._live, self._compiled = live, 0
        self._bar: tqdm[NoReturn] | None = None
        self._first, self._score = 0, ""
        self._line("preparing the data …")

    def begin(self, trainer: "Trainer") -> None:
        """Show the empty bar of a training."""
        position, images = trainer.position, len(trainer.dataset)
        self._first, self._score = trainer.last - trainer.epochs, trainer.task.score_name
        if not self._live:
            return
        from tqdm import tqdm

        self._line("")
        tqdm.monitor_interval = 0  # no monitor thread
        self._bar = tqdm(
            total=images * trainer.epochs,
            initial=images * (position.epoch - self._first) + position.images,
            desc=f"epoch {position.epoch + 1}/{trainer.last}",
            unit=" images",
            unit_scale=True,
            bar_format=BAR,
            file=sys.stderr,
            dynamic_ncols=True,
            leave=False,
        )

    def compiling(self, kernel: str, done: bool) -> None:
        """Show the kernel that is being compiled; called before and after each compilation."""
        self._compiled += not done
        text = f"compiling kernel {self._compiled} (first run only): {kernel.lstrip('_')} …"
        if self._bar is None:
            self._line("" if done else text)
        elif not done:
            self._bar.set_description_str(text)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, EpochEnd):
            self._print(self._summary(event.record, event))
        elif self._bar is not None:
            self._step(self._bar, event)

    def close(self) -> None:
        """Remove the bar."""
        self._line("")
        if self._bar is not None:
            self._bar.close()

    def _step(self, bar: "tqdm[NoReturn]", event: StepEnd) -> None:
        bar.set_description_str(f"epoch {event.epoch}/{event.epochs}", refresh=False)
        bar.set_postfix_str(", ".join(_measures(event.loss, event.accuracy)), refresh=False)
        bar.update(event.images)

    def _summary(self, r: EpochRecord, event: EpochEnd) -> str:
        parts = [f"epoch {r.epoch}/{event.epochs}: loss {r.loss:.4f}", *_measures(r.loss, r.accuracy)[1:]]
        if r.validation_loss is not None:
            parts.append(f"validation loss {r.validation_loss:.4f}")
        if r.score is not None:
            parts.append(f"validation {self._score} {100 * r.score:.2f} %{' (best)' if event.best else ''}")
        if r.skipped:
            parts.append(f"{r.skipped} batches skipped because of NaN or infinity")
        return ", ".join([*parts, f"{r.seconds:.1f} s"])

    def _print(self, line: str) -> None:
        if self._bar is None:
            sys.stderr.write(f"{line}\n")
        else:
            self._bar.write(line, file=sys.stderr)

    def _line(self, text: str) -> None:
        """Replace the line of a terminal or notebook."""
        if self._live and self._bar is None:
            sys.stderr.write(f"\r{text:<79}\r{text}")
            sys.stderr.flush()


def _measures(loss: float, accuracy: float) -> list[str]:
    return [f"loss {loss:.4f}"] + ([f"accuracy {100 * accuracy:.2f} %"] if math.isfinite(accuracy) else [])


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return type(found).__name__ == "ZMQInteractiveShell"
