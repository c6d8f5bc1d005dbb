"""The progress of a training on standard error: a bar on a terminal or in a notebook, and a line for each epoch."""

import math
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from numbacnn._checks import flag
from numbacnn._checks.text import messages
from numbacnn.errors import escaped
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
    live = messages().isatty() or _is_notebook()
    if not (live if wanted is None else flag(wanted, "progress")):
        yield None
        return
    from numbacnn.kernels.jit import add_compile_listener

    with TrainingProgress(live) as show:
        show.line("preparing the data …")
        remove = add_compile_listener(show.compiling)
        try:
            yield show
        finally:
            remove()


class TrainingProgress:
    """A callback that shows the events of a training. If ``live``, a bar is updated in place from the first step on."""

    def __init__(self, live: bool) -> None:
        from numbacnn.training.compilations import CompileCount

        self._live, self._compilations = live, CompileCount()
        self._bar: tqdm[NoReturn] | None = None

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        self.line("")
        if self._bar is not None:
            self._bar.close()

    def begin(self, trainer: "Trainer") -> None:
        """Note how much is to be trained, and how much is done."""
        if self._live:
            self._compilations.begin(trainer)
        position, images = trainer.position, len(trainer.dataset)
        done = position.epoch - (trainer.last - trainer.epochs)
        self._total, self._initial = images * trainer.epochs, images * done + position.images
        self._score, self._monitor = trainer.task.score_name, trainer.history.monitor

    def compiling(self, kernel: str, done: bool) -> None:
        """Show the kernel that is being compiled; called before and after each compilation."""
        if done or not self._live:
            self.line("")
            return
        text = f"compiling {self._compilations.next()} (first run only): {kernel.lstrip('_')} …"
        if self._bar is None:
            self.line(text)
        else:
            self._bar.set_description_str(text)

    def __call__(self, event: Event) -> None:
        """Show an event."""
        if isinstance(event, EpochEnd):
            self._print(self._summary(event.record, event))
        elif self._live:
            self._step(event)

    def line(self, text: str) -> None:
        """Replace the line of a terminal or notebook, before there is a bar."""
        if self._live and self._bar is None:
            stream = messages()
            stream.write(f"\r{'':79}\r{text}")
            stream.flush()

    def _step(self, event: StepEnd) -> None:
        if self._bar is None:
            self.line("")
            self._bar = self._make_bar()
        self._bar.set_description_str(f"epoch {event.epoch}/{event.epochs}", refresh=False)
        self._bar.set_postfix_str(", ".join(_measures(event.loss, event.accuracy)), refresh=False)
        self._bar.update(event.images)

    def _make_bar(self) -> "tqdm[NoReturn]":
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no monitor thread
        return tqdm(
            total=self._total,
            initial=self._initial,
            unit=" images",
            unit_scale=True,
            bar_format=BAR,
            file=messages(),
            dynamic_ncols=True,
            leave=False,
        )

    def _summary(self, r: EpochRecord, event: EpochEnd) -> str:
        parts = _measures(r.loss, r.accuracy) + [
            f"{name} {text}{' (best)' if event.best and monitor == self._monitor else ''}"
            for monitor, name, text in self._measured(r)
        ]
        if r.skipped:
            parts.append(f"{r.skipped} batches skipped because of NaN or infinity")
        parts += [f"{r.images_per_second:,.0f} images/s", f"{duration(r.seconds * (event.epochs - r.epoch))} left"]
        return f"epoch {r.epoch}/{event.epochs}: {', '.join(parts)}"

    def _measured(self, r: EpochRecord) -> list[tuple[str | None, str, str]]:
        """Return the measures after an epoch: their names as ``monitor``, their names in the line, and their values."""
        found: list[tuple[str | None, str, str]] = []
        if r.score is not None:
            found.append((None, self._score, f"{100 * r.score:.2f} %"))
        if r.validation_loss is not None and (r.score is None or self._monitor == "loss"):
            found.append(("loss", "loss", f"{r.validation_loss:.4f}"))
        found += [(name, name, f"{value:.4g}") for name, value in r.metrics.items()]
        return [(monitor, f"{r.measured_on} {name}", text) for monitor, name, text in found]

    def _print(self, line: str) -> None:
        if self._bar is None:
            messages().write(f"{escaped(line)}\n")
        else:
            self._bar.write(escaped(line), file=messages())


def duration(seconds: float) -> str:
    """Format seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _measures(loss: float, accuracy: float) -> list[str]:
    return [f"loss {loss:.4f}"] + ([f"accuracy {100 * accuracy:.2f} %"] if math.isfinite(accuracy) else [])


def _is_notebook() -> bool:
    shell = sys.modules.get("IPython")
    found = None if shell is None else shell.get_ipython()
    return type(found).__name__ == "ZMQInteractiveShell"
