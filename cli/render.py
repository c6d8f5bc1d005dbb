"""All that the command line prints: results on standard output, everything else on standard error."""

import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import zip_longest
from typing import Any

from numbacnn.data.remote import Progress
from numbacnn.metrics import Report
from numbacnn.training.trainer import EpochEnd, Event, StepEnd

ERASE_LINE = "\r\x1b[K"


def be_robust() -> None:
    """Characters that a terminal's encoding lacks become question marks instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")


def text(line: str) -> None:
    """A line of the result."""
    sys.stdout.write(f"{line}\n")


def as_json(value: Any) -> None:
    """The result as one JSON object."""
    text(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells, left-aligned."""
    widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
    for row in rows:
        text("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip())


def numbers(rows: Sequence[Sequence[str]]) -> None:
    """Rows of cells: the first column left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *rest in rows:
        cells = [cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True)]
        text("  ".join([first.ljust(widths[0]), *cells]))


def error(message: str) -> None:
    """The one line of a failure."""
    _aside(f"error: {' '.join(message.split())}")


def notes(messages: Iterable[str]) -> None:
    """What the user should know beside the result, a line each."""
    for message in messages:
        _aside(f"note: {message}")


def warning(message: Warning | str, *_: Any, **__: Any) -> None:
    """Takes the place of ``warnings.showwarning``: a line without its place in the source."""
    _aside(f"warning: {' '.join(str(message).split())}")


def stopping() -> None:
    """Answers a first Ctrl-C or SIGTERM; called by a signal handler, so past the streams' buffers."""
    with suppress(OSError):  # the terminal may be closed
        os.write(2, b"\nstopping after this step; Ctrl-C again stops at once\n")


def interrupted(folder: str, epochs: int, steps: int) -> None:
    """After an interrupted training: what is saved, and how to go on."""
    _aside(
        f"interrupted after {epochs} epochs and {steps} steps; go on: {command('train', '--out', folder, '--resume')}"
    )


def measuring(what: str | None) -> None:
    """On a terminal, what is measured now, in a line that the next one, or None, replaces."""
    if sys.stderr.isatty():
        sys.stderr.write(ERASE_LINE + ("" if what is None else f"measuring: {what} …"))
        sys.stderr.flush()


def command(*words: str) -> str:
    """A command to copy into a shell."""
    return shlex.join(["numbacnn", *words])


def percent(share: float) -> str:
    """0.9871 as 98.71 %."""
    return f"{100 * share:.2f} %"


def size(count: int) -> str:
    """Bytes as MiB."""
    return f"{count / 2**20:.1f} MiB"


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def measured(result: dict[str, Any]) -> tuple[str, str]:
    """What an evaluation measured: the name of the task's own score, and what it and the others came to."""
    loss = f"loss {result['loss']:.4f}"
    if "mean_iou" in result:
        return "mean IoU", f"{percent(result['mean_iou'])}, pixel accuracy {percent(result['accuracy'])}, {loss}"
    if "map_50" in result:
        return "mAP@0.5", f"{percent(result['map_50'])}, mAP@0.5:0.95 {percent(result['map'])}, {loss}"
    right = round(result["accuracy"] * result["images"])
    return "accuracy", f"{percent(result['accuracy'])} ({right:,} of {result['images']:,}), {loss}"


def _aside(line: str) -> None:
    sys.stderr.write(f"{line}\n")


class CompileLine:
    """Tells of kernels that compile: a line that is replaced in place on a terminal, one line elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._silent, self._terminal = quiet, sys.stderr.isatty()

    def __call__(self, kernel: str, done: bool) -> None:
        """Called before and after each compilation."""
        if self._silent:
            return
        if self._terminal:
            sys.stderr.write(
                ERASE_LINE + ("" if done else f"compiling kernels (first run only): {kernel.lstrip('_')} …")
            )
            sys.stderr.flush()
        else:
            _aside("compiling kernels (first run only) …")
            self._silent = True


def download_progress(quiet: bool = False) -> Progress:
    """Tells of downloads: a line that grows on a terminal, one line for each file elsewhere."""
    terminal, announced = sys.stderr.isatty(), set[str]()

    def progress(name: str, received: int, total: int | None) -> None:
        if terminal:
            whole = f" of {size(total)}" if total else ""
            end = "\n" if received == total else ""
            sys.stderr.write(f"{ERASE_LINE}downloading {name}: {size(received)}{whole}{end}")
            sys.stderr.flush()
        elif name not in announced:
            announced.add(name)
            _aside(f"downloading {name} …")

    return (lambda *_: None) if quiet else progress


class TrainingProgress:
    """Follows a training's events: a bar on a terminal, and a line for each epoch. Use it as a context manager."""

    def __init__(self, images: int, done: int, quiet: bool, score: str) -> None:
        """``images``: of one epoch; ``done``: seen before this start of the run; ``score``: the task's, by its name."""
        self._images, self._done, self._score = images, done, score
        self._quiet, self._terminal = quiet, sys.stderr.isatty()
        self._bar: Any = None

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def __call__(self, event: Event) -> None:
        """Called with each event."""
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

    def _make_bar(self, total: int) -> Any:
        from tqdm import tqdm

        tqdm.monitor_interval = 0  # no thread beside the loader's
        form = "{desc} {percentage:3.0f}%|{bar}| {rate_noinv_fmt}{postfix}, {remaining} left"
        return tqdm(
            total=total,
            initial=self._done,
            unit=" images",
            unit_scale=True,
            bar_format=form,
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
            parts.append(f"{r.skipped} batches left out for NaN or infinity")
        parts += [f"{r.images_per_second:,.0f} images/s", f"{duration(r.seconds * (event.epochs - r.epoch))} left"]
        line = f"epoch {r.epoch}/{event.epochs}: {', '.join(parts)}"
        if self._bar is None:
            _aside(line)
        else:
            self._bar.write(line, file=sys.stderr)


def trained(results: dict[str, Any], model: str, best_model: str) -> None:
    """The end of a training: how well it does on the test part, where the weights lie, and what to try next."""
    best, last = results["best"], len(results["epochs"])
    name, came_to = measured(results["test"])
    rows = [(f"test {name}", f"{came_to}: epoch {last}, the last", model)]
    if best and best["epoch"] != last:
        rows.append(("", f"{measured(best['test'])[1]}: epoch {best['epoch']}, the best by validation", best_model))
    table(rows)
    text(f"next: {command('predict', results['run'], 'IMAGE.png')}")


MOST_COLUMNS = 20  # of a confusion matrix that fits a terminal


def report(found: Report, whole: bool) -> None:
    """How often the class is among the k likeliest; and with ``whole``, each class and what it was taken for."""
    for k, share in found.top_k.items():
        text(f"among the {k} likeliest: {percent(share)}")
    if not whole:
        return
    rows = [
        [name, percent(precision), percent(recall), percent(f1), f"{support:,}"]
        for name, precision, recall, f1, support in zip(found.classes, *found.per_class, strict=True)
    ]
    rows.append(["mean of classes", *map(percent, found.mean), f"{found.confusion.sum():,}"])
    text("")
    numbers([["class", "precision", "recall", "F1", "images"], *rows])
    text("")
    if len(found.classes) <= MOST_COLUMNS:
        numbers(
            [
                ["true \\ predicted", *found.classes],
                *([name, *map(str, row)] for name, row in zip(found.classes, found.confusion.tolist(), strict=True)),
            ]
        )
        return
    mistakes = [[true, predicted, f"{count:,}"] for true, predicted, count in found.most_confused(MOST_COLUMNS)]
    text(f"the most frequent mistakes, up to {MOST_COLUMNS}; the whole matrix is in --json")
    table([["true", "predicted", "images"], *mistakes])


def class_rows(rows: Sequence[dict[str, Any]]) -> None:
    """A line for each class, from rows of its name, shares and counts; a share that there is not stays empty."""
    text("")
    numbers([list(rows[0]), *([_cell(value) for value in row.values()] for row in rows)])


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    return percent(value) if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def predictions(found: Sequence[dict[str, Any]]) -> None:
    """A line for each image: its classes, the most probable first; or the classes' shares; or a line for each box."""
    rows = []
    for each in found:
        cells = [f"{item['class']} {percent(item['probability'])}" for item in each.get("classes", ())]
        cells += [f"{item['class']} {percent(item['share'])}" for item in each.get("shares", ())]
        lines = [[f"{item['class']} {percent(item['score'])}", _edges(item["box"])] for item in each.get("boxes", ())]
        nothing = [["nothing found"]] if "boxes" in each else []
        rows += [[each["image"], *line] for line in (lines or nothing or [cells])]
    table(rows)
    for each in found:
        if "mask" in each:
            text(each["mask"])


def _edges(box: Sequence[float]) -> str:
    return ", ".join(f"{edge:.1f}" for edge in box)


def facts(value: dict[str, dict[str, Any]]) -> None:
    """What ``info`` found out."""
    versions, processor, threads, cache = value["versions"], value["processor"], value["threads"], value["cache"]
    fma = "with" if processor["fma"] else "without"
    rows = [(name, found) for name, found in versions.items()]
    rows += [
        ("processor", f"{processor['name']}, {processor['instruction_set']}"),
        ("vectors", f"{processor['vector_bits']} bits, {processor['vector_registers']} registers, {fma} fma"),
        ("features", " ".join(processor["features"])),
        ("threading layer", threads["layer"] + (f": {threads['advice']}" if threads["advice"] else "")),
        ("threads", f"{threads['count']} of {threads['limit']}"),
        ("kernel cache", f"{cache['folder']}, {size(cache['bytes'])}"),
    ]
    if "cleared_bytes" in cache:
        rows.append(("", f"{size(cache['cleared_bytes'])} cleared"))
    table(rows + _cuda_rows(value["cuda"]))


def _cuda_rows(cuda: dict[str, Any]) -> list[tuple[str, str]]:
    """What there is of CUDA, or what is missing."""
    if cuda["simulated"]:
        return [("cuda", "simulated (NUMBA_ENABLE_CUDASIM): kernels run as Python, for tests")]
    rows = [("cuda", cuda["reason"] or "available")]
    if cuda["driver"]:
        rows.append(("cuda driver", f"runs CUDA {cuda['driver']}; packages of CUDA {cuda['toolkit']}"))
    for gpu in cuda["gpus"]:
        capability = ".".join(map(str, gpu["capability"]))
        memory = f"{size(gpu['free'])} of {size(gpu['memory'])} free"
        rows.append(("gpu", f"{gpu['name']}, compute capability {capability}, {memory}"))
    return rows
