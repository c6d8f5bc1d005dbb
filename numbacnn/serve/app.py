"""The web application of a model: the page, and a JSON API."""

import asyncio
import base64
import threading
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

import numpy as np

from numbacnn._checks.names import checks_call
from numbacnn._checks.version import __version__
from numbacnn.data.dataset import Dataset
from numbacnn.data.palette import mask_colors
from numbacnn.errors import NumbacnnError
from numbacnn.model import Model
from numbacnn.serve.changes import Changes, Occlusion
from numbacnn.serve.explanation import Pixel
from numbacnn.serve.pages import dumps, page
from numbacnn.serve.prediction import Json, Upload, check_images, classes_of, takes_images
from numbacnn.serve.predictions import Bodies, Predictions
from numbacnn.serve.requests import (
    NOT_FOUND,
    RequestError,
    answered,
    as_json,
    parameter,
    read_body,
    whole_parameter,
)
from numbacnn.serve.security import App, Guard, content_security_policy
from numbacnn.serve.strokes import StrokeForm
from numbacnn.serve.workbench import Workbench, shown_count
from numbacnn.tasks import Classification, Segmentation

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_LOOKS = 8  # requests that use the workbench or wait for it

T = TypeVar("T")
PAGE_SCRIPTS = ("drawing.js", "panels.js", "training.js", "page.js")


class Training(Protocol):
    """A training that a page follows."""

    def events(self) -> AsyncIterator[str]:
        """Yield server-sent events."""

    def between_steps(self, work: Callable[[], T]) -> T:
        """Return the result of work while no step runs."""


class Served(NamedTuple):
    """A model under a name, with test images and the form of drawings if known."""

    model: Model
    name: str
    test: Dataset | None = None
    form: StrokeForm | None = None
    training: Training | None = None

    def describe(self) -> Json:
        """Return task, classes and layers as a JSON object."""
        model = self.model
        trained = model.normalization and model.normalization.images
        rows = [
            {
                "name": n.name,
                "op": n.layer.op,
                "shape": list(n.shape),
                "count": shown_count(n.shape, whole=False),
                "weights": bool(n.parameters),
            }
            for n in model.graph.inference.nodes
        ]
        return {
            "name": self.name,
            "numbacnn": __version__,
            "task": model.task or Classification.name,
            "classes": classes_of(model),
            "colors": _mask_colors(model) if model.task == Segmentation.name else None,
            "input_shape": list(model.graph.input_shapes[0]),
            "parameters": model.store.count,
            "layers": rows,
            "light_on_dark": trained.light_on_dark if trained else None,
            "fit": trained.fit if trained else "stretch",
            "form": self.form and self.form.as_dict(),
            "test_images": 0 if self.test is None else len(self.test),
            "training": self.training is not None,
            "drawable": takes_images(model),
        }


class Handlers:
    """Answers requests of the page. The workbench has a thread of its own, so that it does not delay predictions."""

    def __init__(self, served: Served, bodies: Bodies) -> None:
        self._served, self._bodies = served, bodies
        self._looker = ThreadPoolExecutor(1, "numbacnn-look")
        self._looks = threading.BoundedSemaphore(MAX_LOOKS)
        self._workbench: Workbench | None = None
        self._page = page("page.html", PAGE_SCRIPTS)

    def close(self) -> None:
        """End the thread."""
        self._looker.shutdown(cancel_futures=True)

    async def model(self, _: "Request") -> "Response":
        """GET /model: task, classes, shape of the input, layers."""
        return as_json(self._served.describe())

    async def health(self, _: "Request") -> "Response":
        """GET /health."""
        return as_json({"status": "ok"})

    # -- page ---------------------------------------------------------------------------------------------------------

    async def page(self, _: "Request") -> "Response":
        """GET /: the page."""
        from starlette.responses import HTMLResponse

        return HTMLResponse(self._page, headers={"Content-Security-Policy": content_security_policy(self._page)})

    async def look(self, request: "Request") -> "Response":
        """POST /look: pixels of the model's input → prediction, maps and Grad-CAM, as JSON followed by bytes."""
        from starlette.responses import Response

        chosen, whole = request.query_params.get("class"), request.query_params.get("layer")
        upload = await self._raw(request)

        def work() -> bytes:
            number = None if chosen is None else self._class_number(chosen)
            found = self._bench().look(upload, self._changes(request), number, whole, _names(request))
            header = dumps(found.header).encode()
            return len(header).to_bytes(4, "little") + header + found.content

        return Response(await self._with_bench(work), media_type="application/octet-stream")

    async def explain(self, request: "Request") -> "Response":
        """POST /explain: pixels, and the position of a number in a layer → how it is computed."""
        upload = await self._raw(request)

        def work() -> Json:
            pixel = Pixel(*(whole_parameter(request, name) for name in Pixel._fields))
            layer = request.query_params.get("layer", "")
            return self._bench().explain(upload, self._changes(request), layer, pixel)

        return as_json(await self._with_bench(work))

    async def measure(self, request: "Request") -> "Response":
        """POST /measure: the score of the changed model on test images."""

        def work() -> Json:
            occlusion = Occlusion.from_json(parameter(request, "occlusion"))
            return self._bench().measure(self._changes(request), occlusion)

        return as_json(await self._with_bench(work))

    async def events(self, _: "Request") -> "Response":
        """GET /events: the numbers of a training, as server-sent events."""
        from starlette.responses import StreamingResponse

        assert self._served.training is not None
        return StreamingResponse(self._served.training.events(), media_type="text/event-stream")

    async def example(self, request: "Request") -> "Response":
        """GET /example: a test image, with its class."""
        test, model = self._served.test, self._served.model
        if test is None:
            raise RequestError(404, "there are no test images; serve the folder of a run, or add --data")
        index = whole_parameter(request, "index")
        if index >= len(test):
            raise RequestError(404, f"there are {len(test)} test images; pass a number from 0")
        image = test.images[index]
        if image.dtype != np.uint8:
            raise RequestError(404, "test images of floats are not shown")
        label = int(test.labels[index]) if test.labels.ndim == 1 else None
        name = model.class_names[label] if label is not None and 0 <= label < len(model.class_names) else None
        return as_json({"pixels": base64.b64encode(image.tobytes()).decode(), "class": name})

    # -- helpers ------------------------------------------------------------------------------------------------------

    async def _raw(self, request: "Request") -> Upload:
        """Return the pixels of a request."""
        async with self._bodies.room(request.scope):
            return Upload.raw(self._served.model, await read_body(request.receive))

    async def _with_bench(self, work: Callable[[], T]) -> T:
        """Return the result of work with the workbench, in its thread."""
        if not self._looks.acquire(blocking=False):
            raise RequestError(503, f"{MAX_LOOKS} requests wait already; try again")
        training = self._served.training
        future = self._looker.submit(work) if training is None else self._looker.submit(training.between_steps, work)
        future.add_done_callback(lambda _: self._looks.release())  # also of one that was canceled before it began
        return await asyncio.wrap_future(future)

    def _bench(self) -> Workbench:
        """Return the workbench, which is made when the page is first used."""
        if self._workbench is None:
            check_images(self._served.model)
            self._workbench = Workbench(self._served.model, self._served.test)
        elif self._served.training is not None:
            self._workbench.refresh()
        return self._workbench

    def _changes(self, request: "Request") -> Changes:
        form = parameter(request, "changes")
        return Changes() if form is None else Changes.from_json(form, self._served.model.graph)

    def _class_number(self, text: str) -> int:
        names = self._served.model.class_names
        if text not in names:
            raise RequestError(400, "class: pass the name of a class of GET /model")
        return names.index(text)


@checks_call
def make_app(
    model: Model, name: str, test: Dataset | None = None, form: StrokeForm | None = None, local: bool = True
) -> App:
    """Return the ASGI application of a model.

    Args:
        model: one that takes images and classifies, segments or detects.
        name: the title of the page.
        test: images for examples, and to measure a damaged model on.
        form: the form of strokes to which the page normalizes drawings; measured on ``test`` if None.
        local: answer only requests for this machine's own names.

    Raises:
        ArgumentError: the model does not take images.
        NumbacnnError: starlette is not installed.
    """
    check_images(model)
    bodies = Bodies()
    handlers = Handlers(Served(model, name, test, form or _form_of(model, test)), bodies)

    def close() -> None:
        handlers.close()
        predictions.close()

    pages = _pages(handlers, close)
    predictions = Predictions(pages, model, bodies)
    return Guard(predictions, local)


def make_training_app(model: Model, name: str, test: Dataset | None, training: Training, local: bool) -> App:
    """Return the application of a model while it is trained: the same page, with the training's numbers above.

    The page looks into a copy of the model. There is no ``POST /predict``. Arguments and errors are those of
    ``make_app``, but a model may take anything: then only the training is shown.
    """
    drawable = takes_images(model)
    served = Served(model, name, test if drawable else None, _form_of(model, test) if drawable else None, training)
    handlers = Handlers(served, Bodies())
    return Guard(_pages(handlers, handlers.close, training=True), local)


def _form_of(model: Model, test: Dataset | None) -> StrokeForm | None:
    """Return the form of strokes in images that a model is tested on."""
    if test is None or test.images.dtype != np.uint8 or model.input_shape[2] != 1:
        return None
    trained = model.normalization and model.normalization.images
    return StrokeForm.of(test.images, not trained or trained.light_on_dark is not False)


def _pages(handlers: Handlers, close: Callable[[], None], training: bool = False) -> App:
    """Return the application of a page and what it asks; ``close`` is called at its end."""
    try:
        from starlette.applications import Starlette
        from starlette.routing import Route
    except ImportError:
        raise NumbacnnError("serving a model needs starlette and uvicorn: pip install 'numbacnn[serve]'") from None
    gets = {"/": handlers.page, "/model": handlers.model, "/health": handlers.health, "/example": handlers.example}
    posts = {"/look": handlers.look, "/explain": handlers.explain, "/measure": handlers.measure}
    routes = [Route(path, answered(handler), methods=["GET"]) for path, handler in gets.items()]
    routes += [Route(path, answered(handler), methods=["POST"]) for path, handler in posts.items()]
    if training:
        routes.append(Route("/events", handlers.events))

    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        close()

    application: App = Starlette(
        routes=routes, exception_handlers={404: _not_found, 405: _not_found}, lifespan=lifespan
    )
    return application


def _mask_colors(model: Model) -> list[str]:
    """Return the colors of the classes in a mask, as in CSS."""
    return [f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in mask_colors(len(model.class_names)).tolist()]


def _names(request: "Request") -> set[str] | None:
    """Return the parameter "layers", a list of names, or None."""
    names = parameter(request, "layers")
    if names is None:
        return None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RequestError(400, "layers: pass a list of names")
    return set(names)


async def _not_found(_: "Request", error: Exception) -> "Response":
    return as_json({"error": NOT_FOUND}, getattr(error, "status_code", 404))
