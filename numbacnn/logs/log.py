"""The interface of logs: which numbers they get, and when."""

import math
from collections.abc import Mapping
from typing import Self

from numbacnn._checks import whole
from numbacnn._checks.names import ChecksArguments
from numbacnn.data.dataset import Dataset
from numbacnn.errors import ArgumentError
from numbacnn.model import Model
from numbacnn.training.events import EpochRecord, Event, History, Position, StepEnd


class Log(ChecksArguments):
    """A callback that logs the numbers of a training. A subclass defines ``start``, ``write`` and ``close``.

    After every step, or every ``every`` steps, these are ``step/loss`` and ``step/accuracy``, the means over the epoch
    so far; after every epoch, ``epoch/loss``, ``epoch/validation_accuracy`` and the other ``EpochRecord.numbers``.
    Steps count from 1 over the whole training. Use the log as a context manager, or call ``close`` at the end.
    """

    def __init__(self, every: int = 1) -> None:
        self.every = whole(every, "every")
        self._logged: tuple[float, float] | None = None  # the last epoch and step in the log

    def __call__(self, event: Event) -> None:
        """Log an event of a training."""
        if isinstance(event, StepEnd):
            number = (event.epoch - 1) * event.steps + event.step
            _, last = self._begin(event.epoch - 1, number - 1)
        else:
            number = event.record.epoch
            last, _ = self._begin(number - 1, math.inf)
        if number <= last:
            raise ArgumentError("this log belongs to a training that is further; make a log for each training")
        if isinstance(event, StepEnd):
            self._step(number, event.loss, event.accuracy)
        else:
            self._epoch(event.record)

    def resume(self, history: History, position: Position, steps: int) -> None:
        """Continue at a position of a training with ``steps`` in each epoch.

        Later events are removed, as far as the log can; earlier epochs, and the step of the position, are added if they
        are missing, because a training may be killed after its checkpoint is written and before the event is logged.
        """
        done = position.epoch * steps + position.step
        self._begin(position.epoch, done)
        for record in history.epochs:
            self._epoch(record)
        if position.step:
            self._step(done, position.loss, position.accuracy)

    def results(self, model: Model, test: Dataset, scores: Mapping[str, float] | None = None) -> None:
        """Log ``test/loss`` and other scores of the trained model, by default those of ``model.evaluate(test)``."""
        epoch, step = self._begin(math.inf, math.inf)
        found = model.evaluate(test) if scores is None else scores
        self.write({f"test/{name}": value for name, value in found.items()}, int(epoch), int(step))

    def _begin(self, epoch: float, step: float) -> tuple[float, float]:
        if self._logged is None:
            self._logged = self.start(epoch, step)
        return self._logged

    def _step(self, step: int, loss: float, accuracy: float) -> None:
        epoch, last = self._begin(0, 0)
        if step > last:
            self._logged = epoch, step
            if step % self.every == 0:
                self.write({"step/loss": loss, "step/accuracy": accuracy}, int(epoch) + 1, step)

    def _epoch(self, record: EpochRecord) -> None:
        last, step = self._begin(0, 0)
        if record.epoch > last:
            self._logged = record.epoch, step
            numbers = {f"epoch/{name}": value for name, value in record.numbers().items()}
            del numbers["epoch/epoch"]
            self.write(numbers, record.epoch, int(step))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- defined by each log ------------------------------------------------------------------------------------------

    def start(self, epoch: float, step: float) -> tuple[float, float]:
        """Begin with an epoch and a step that are done, infinite if unknown; return the last ones in the log."""
        raise NotImplementedError

    def write(self, numbers: Mapping[str, float], epoch: int, step: int) -> None:
        """Write numbers by name. ``epoch`` is the one of the step, counted from 1."""
        raise NotImplementedError

    def close(self) -> None:
        """End the log."""
        raise NotImplementedError
