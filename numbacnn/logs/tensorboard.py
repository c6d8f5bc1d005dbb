"""Event files for TensorBoard. The package tensorboardX is imported on first use."""

import io
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from numbacnn import plots
from numbacnn._checks import path_of
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import BOXES, CLASSES, MASKS
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.logs.log import Log
from numbacnn.model import Model
from numbacnn.plots.figures import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from tensorboardX.event_file_writer import EventsWriter
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary

INSTALL = "TensorBoard's logs need tensorboardX and matplotlib: pip install 'numbacnn[tensorboard]'"
METRICS = ("epoch/loss", "epoch/validation_accuracy", "epoch/validation_score", "test/loss", "test/accuracy")
DPI = 100


class TensorBoard(Log):
    """A log for TensorBoard, in event files in ``folder``: ``step/…`` by step, and everything else by epoch.

    ``hyperparameters`` fill the tab of that name, and ``results`` adds pictures: the filters of the first convolution,
    and the confusion matrix and the mistakes of a classifier, or examples of predicted masks or boxes.

    Every event is on disk when the callback returns. With ``resume=True`` the log in the folder is continued: what it
    holds beyond the point where the training resumes is removed.

    Raises:
        ArgumentError: the folder has a log already, and ``resume`` is False.
        NumbacnnError: tensorboardX or matplotlib is not installed.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        *,
        hyperparameters: Mapping[str, object] | None = None,
        every: int = 1,
        resume: bool = False,
    ) -> None:
        super().__init__(every)
        self.folder = path_of(folder, "TensorBoard")
        self.hyperparameters = dict(hyperparameters or {})
        self._writer: EventsWriter | None = None
        try:
            import tensorboardX  # noqa: F401

            new_figure(1, 1)
        except (ImportError, NumbacnnError):
            raise NumbacnnError(INSTALL) from None
        if self._files() and not resume:
            raise ArgumentError(f"{self.folder} has a log already; use another folder, or resume=True to continue it")

    def _files(self) -> list[Path]:
        return sorted(self.folder.glob("events.out.tfevents.*"))

    def start(self, epoch: float, step: float) -> tuple[float, float]:
        """Write what the old files hold up to an epoch and a step to a new file, which replaces them."""
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.summary import hparams

        old = self._files()
        kept: dict[str, dict[int, Event]] = {"step": {}, "epoch": {}}  # by kind and number, without repetitions
        for file in old:
            for event in _events(file):
                kind = event.summary.value[0].tag.partition("/")[0] if event.summary.value else ""
                if kind in kept and event.step <= (step if kind == "step" else epoch):
                    kept[kind][event.step] = event
        self.folder.mkdir(parents=True, exist_ok=True)
        self._writer = EventsWriter(str(self.folder / "events"), f".{_next_number(old)}")
        if self.hyperparameters:
            for summary in hparams(self.hyperparameters, dict.fromkeys(METRICS))[:2]:
                self._add(summary, 0)
        for events in kept.values():
            for _, event in sorted(events.items()):
                self._writer.write_event(event)
        self._writer.flush()
        for file in old:
            file.unlink()
        return max(kept["epoch"], default=0), max(kept["step"], default=0)

    def write(self, numbers: Mapping[str, float], epoch: int, step: int) -> None:
        """Write scalars."""
        from tensorboardX.proto.summary_pb2 import Summary

        values = [Summary.Value(tag=name, simple_value=value) for name, value in numbers.items()]
        self._add(Summary(value=values), step if next(iter(numbers)).startswith("step/") else epoch)

    def results(self, model: Model, test: Dataset, scores: Mapping[str, float] | None = None) -> None:
        """Log the scores as ``Log.results`` does, and the pictures."""
        from tensorboardX.proto.summary_pb2 import Summary
        from tensorboardX.summary import hparams

        super().results(model, test, scores)
        epoch, _ = self._begin(0, 0)
        for name, figure in _figures(model, test):
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=DPI)
            width, height = struct.unpack(">II", file.getvalue()[16:24])  # in the header of a PNG
            image = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=file.getvalue())
            self._add(Summary(value=[Summary.Value(tag=name, image=image)]), int(epoch))
        if self.hyperparameters:
            self._add(hparams(self.hyperparameters, {})[2], 0)

    def _add(self, summary: "Summary", number: int) -> None:
        from tensorboardX.proto.event_pb2 import Event

        assert self._writer is not None
        self._writer.write_event(Event(wall_time=time.time(), step=number, summary=summary))
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        if self._writer is not None:
            self._writer.close()
        self._writer = None


def _events(file: Path) -> "Iterator[Event]":
    """Read the events of a file up to the first incomplete record, which a killed process may leave at the end."""
    from google.protobuf.message import DecodeError
    from tensorboardX.proto.event_pb2 import Event

    content, start = file.read_bytes(), 0
    while start + 12 <= len(content):  # length, its checksum, the event, its checksum
        end = start + 12 + struct.unpack_from("<Q", content, start)[0]
        if end + 4 > len(content):
            return
        try:
            yield Event.FromString(content[start + 12 : end])
        except DecodeError:
            return
        start = end + 4


def _next_number(files: list[Path]) -> int:
    """Return a number that no file's name ends in, so that a new file in the same second has another name."""
    numbers = [int(file.suffix[1:]) for file in files if file.suffix[1:].isdecimal()]
    return max(numbers, default=-1) + 1


def _figures(model: Model, test: Dataset) -> "Iterator[tuple[str, Figure]]":
    """Draw the pictures that the model and the data set allow."""
    chosen: dict[str, Callable[[], Figure]] = {"filters": lambda: plots.filters(model)}
    if test.kind == CLASSES:
        chosen["confusion matrix"] = lambda: plots.confusion_matrix(model.report(test))
        chosen["mistakes"] = lambda: plots.mistakes(model, test)
    elif test.kind in (MASKS, BOXES):
        some = plots.evenly_chosen(test, 6)
        chosen["predictions"] = lambda: plots.predictions(model, some.images, some.labels)
    for name, draw in chosen.items():
        with suppress(ArgumentError):  # no convolution, no mistake, or several outputs
            yield name, draw()
