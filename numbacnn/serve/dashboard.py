"""The page of a training, as a callback: curves, rates, gradient norms, filters and mistakes while it runs."""

import asyncio
import base64
import math
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import asdict
from typing import Any, Self, TypeVar

import numpy as np

from numbacnn._checks.names import ChecksArguments
from numbacnn.data.dataset import Dataset
from numbacnn.data.labels import CLASSES
from numbacnn.model import Model
from numbacnn.plots.values import confident_mistakes
from numbacnn.serve.app import make_training_app
from numbacnn.serve.pages import dumps
from numbacnn.serve.prediction import classes_of
from numbacnn.serve.security import is_loopback
from numbacnn.serve.server import Server
from numbacnn.serve.turns import Turns
from numbacnn.training.events import EpochEnd, Event, StepEnd

SECONDS = 1.0  # between two points of a curve, at least
SHARE = 0.01  # of the training's time, at most, for points, and as much for mistakes
MAX_POINTS = 2000  # then every other one is dropped, and the time between them doubles
POLL_SECONDS = 0.25  # between two looks for news to send
END_SECONDS = 1.5  # that pages have to learn of the end
LAST_SECONDS = 1.0  # that mistakes after the last epoch may take
SHOWN_MISTAKES = 24
SEARCHED_IMAGES = 1000  # of the validation set, for mistakes
SHOWN_FILTERS = 64

Json = dict[str, Any]
T = TypeVar("T")


class Dashboard(ChecksArguments):
    """A callback of ``fit`` that serves a page of the training until the ``with`` block ends; ``url`` is its address.

    The page has what ``numbacnn serve`` shows, of the weights as they are, and the training's numbers above. What the
    dashboard computes itself takes at most 2 % of the training's time: it computes more rarely what takes long.

    ::

        with nc.serve.Dashboard(model, validation) as dashboard:
            model.fit(train, validation=validation, callbacks=[dashboard])

    Args:
        model: the model that is trained.
        validation: images among which mistakes are looked for after every epoch; none are shown if it is None.
        host, port: where to listen; port 0 is any free one.
        learning_rate: returns the current learning rate; if None, it is shown after every epoch.
        name: the title of the page.

    Raises:
        ArgumentError: the address is taken, or the validation images do not fit the model.
        NumbacnnError: starlette or uvicorn is not installed.
    """

    def __init__(
        self,
        model: Model,
        validation: Dataset | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        learning_rate: Callable[[], float] | None = None,
        name: str = "training",
    ) -> None:
        self._model, self._learning_rate, self.name = model, learning_rate, name
        self._validation = None
        if validation is not None:
            model.check_inputs(validation)
        if validation is not None and validation.kind == CLASSES:
            self._validation = validation.subset(np.arange(min(len(validation), SEARCHED_IMAGES)))
        self._points: list[Json] = []
        self._epochs: list[Json] = []
        self._latest: Json = {}  # filters and mistakes
        self._version, self._ended = 0, False
        self._turns, self._seen = Turns(), _Sums()
        self._interval, self._point_budget, self._mistake_budget = SECONDS, Budget(SHARE), Budget(SHARE)
        self._last = time.monotonic()
        app = make_training_app(model, name, self._validation, self, is_loopback(host))
        self._server = Server(app, host, port)
        self.url = self._server.url

    def __enter__(self) -> Self:
        self._server.start()
        return self

    def __exit__(self, kind: type[BaseException] | None = None, *_: object) -> None:
        try:
            if kind is None:
                self._complete()
        finally:
            self._stop()

    def close(self) -> None:
        """Report to open pages that the training has ended, and stop serving."""
        self.__exit__()

    def _complete(self) -> None:
        """Look for mistakes after the last epoch, if they were left out and take little time."""
        found = self._latest.get("mistakes")
        if found and found["epoch"] != self._epochs[-1]["epoch"] and self._mistake_budget.last <= LAST_SECONDS:
            self._latest["mistakes"] = self._mistakes()

    def _stop(self) -> None:
        self._ended = True
        self._turns.end()
        self._version += 1
        try:
            time.sleep(min(END_SECONDS, 3 * POLL_SECONDS))
        finally:
            self._server.close()

    # -- called by the training ---------------------------------------------------------------------------------------

    def __call__(self, event: Event) -> None:
        """Take an event of a training. What takes time happens at both ends, each second at most, and each epoch."""
        self._turns.offer()
        if isinstance(event, EpochEnd):
            self._epochs.append(asdict(event.record))
            if self._mistake_budget.allows():
                with self._mistake_budget:
                    self._latest["mistakes"] = self._mistakes()
            self._version += 1
            return
        self._seen.add(event)
        now = time.monotonic()
        is_end = not self._points or (event.epoch, event.step) == (event.epochs, event.steps)
        if is_end or (now - self._last >= self._interval and self._point_budget.allows()):
            with self._point_budget:
                self._points.append(self._point(event, now - self._last))
                self._latest["filters"] = self._filters()
                self._thin_out()
            self._last = time.monotonic()
            self._version += 1

    def _point(self, event: StepEnd, seconds: float) -> Json:
        """Return the numbers since the last point."""
        loss, accuracy, images = self._seen.take()
        return {
            "step": (event.epoch - 1) * event.steps + event.step,
            "steps": event.epochs * event.steps,
            "epoch": event.epoch,
            "epochs": event.epochs,
            "loss": loss,
            "accuracy": accuracy,
            "images_per_second": images / seconds if seconds else 0.0,
            "learning_rate": None if self._learning_rate is None else self._learning_rate(),
            "norms": self._norms(),
        }

    def _thin_out(self) -> None:
        if len(self._points) > MAX_POINTS:
            del self._points[1::2]
            self._interval *= 2

    def _norms(self) -> dict[str, float]:
        """Return the L2 norm of the last gradient of each layer."""
        squares: dict[str, float] = {}
        for name, gradient in self._model.gradients.items():
            layer, flat = name.rpartition(".")[0], gradient.reshape(-1)
            squares[layer] = squares.get(layer, 0.0) + float(flat @ flat)
        return {layer: math.sqrt(total) for layer, total in squares.items()}

    def _filters(self) -> Json | None:
        """Return the filters of the first convolution, as bytes around 128, which is zero."""
        named = ((name, w) for name, w in self._model.parameters.items() if name.endswith(".weight") and w.ndim == 4)
        name, w = next(named, (None, None))
        if name is None or w is None:
            return None
        shown = w[..., :SHOWN_FILTERS] if w.shape[2] == 3 else w[:, :, :1, :SHOWN_FILTERS]
        largest = float(np.abs(shown).max()) or 1.0
        scaled = np.clip(128 + 127 * shown / largest, 0, 255) if math.isfinite(largest) else np.zeros(shown.shape)
        tiles = np.ascontiguousarray(scaled.transpose(3, 0, 1, 2).astype(np.uint8))
        return {"layer": name.rpartition(".")[0], "shape": list(tiles.shape), "tiles": _base64(tiles), "scale": largest}

    def _mistakes(self) -> Json:
        """Return the most confident mistakes among validation images, after the last epoch."""
        data = self._validation
        one_row = len(self._model.graph.outputs) == 1 and len(self._model.output_shape) == 1
        if data is None or data.images.dtype != np.uint8 or not one_row:
            return {"epoch": self._epochs[-1]["epoch"], "list": []}
        names, found = self._model.class_names, confident_mistakes(self._model, data, SHOWN_MISTAKES)
        shown = [
            {
                "pixels": _base64(data.images[index]),
                "shape": list(data.images.shape[1:]),
                "class": names[data.labels[index]] if 0 <= data.labels[index] < len(names) else "?",
                "predicted": names[predicted],
                "probability": float(probability),
            }
            for index, predicted, probability in zip(*found, strict=True)
        ]
        return {"epoch": self._epochs[-1]["epoch"], "list": shown}

    # -- called by the server's threads -------------------------------------------------------------------------------

    def between_steps(self, work: Callable[[], T]) -> T:
        """Return the result of work, which runs between two steps, or when the training has done nothing for long."""
        with self._turns:
            return work()

    async def events(self) -> AsyncIterator[str]:
        """Yield server-sent events: first everything so far, so that a page may be loaded again, then what is new."""
        version, points, epochs = -1, 0, 0
        classes: list[str] = []
        while not self._ended or version != self._version:
            if version == self._version:
                await asyncio.sleep(POLL_SECONDS)
                continue
            version = self._version
            if points > len(self._points):  # thinned out
                points = 0
            news = {
                "name": self.name,
                "from": points,
                "points": self._points[points:],
                "epochs": self._epochs[epochs:],
                **self._latest,
                "ended": self._ended,
            }
            if (names := classes_of(self._model)) != classes:  # a training names them
                news["classes"], classes = names, names
            points, epochs = points + len(news["points"]), epochs + len(news["epochs"])
            yield f"data: {dumps(news)}\n\n"


class Budget:
    """The time of a ``with`` block, which may take a share of all time on average.

    ``last`` is what the block took the last time. Its time is that of the processor, so that what other programs do
    does not make it rarer.
    """

    def __init__(self, share: float) -> None:
        self._share, self._start, self._spent, self.last = share, time.monotonic(), 0.0, 0.0

    def allows(self) -> bool:
        """Return whether the block may run now, if it takes as long as the last time."""
        return self._spent + self.last <= self._share * (time.monotonic() - self._start)

    def __enter__(self) -> None:
        self._began = time.thread_time()

    def __exit__(self, *_: object) -> None:
        self.last = time.thread_time() - self._began
        self._spent += self.last


class _Sums:
    """Loss and accuracy since the last point, from the means over the epoch that events hold."""

    def __init__(self) -> None:
        self._epoch = 0
        self._now = self._before = (0.0, 0.0, 0)  # sums of loss and accuracy over images, and these
        self._rest = (0.0, 0.0, 0)  # of earlier epochs

    def add(self, event: StepEnd) -> None:
        if event.epoch != self._epoch:
            self._rest = _difference(self._now, self._before, self._rest)
            self._epoch, self._now, self._before = event.epoch, (0.0, 0.0, 0), (0.0, 0.0, 0)
        images = self._now[2] + event.images
        self._now = event.loss * images, event.accuracy * images, images

    def take(self) -> tuple[float, float, int]:
        """Return mean loss, mean accuracy, and the number of images since the last call."""
        loss, accuracy, images = _difference(self._now, self._before, self._rest)
        self._before, self._rest = self._now, (0.0, 0.0, 0)
        return (loss / images, accuracy / images, images) if images else (math.nan, math.nan, 0)


def _difference(
    now: tuple[float, float, int], before: tuple[float, float, int], rest: tuple[float, float, int]
) -> tuple[float, float, int]:
    return now[0] - before[0] + rest[0], now[1] - before[1] + rest[1], now[2] - before[2] + rest[2]


def _base64(array: np.ndarray[Any, Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
