"""``POST /predict``, answered without the web framework: most of the time that a small network needs would be its."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from numbacnn.engine.locks import engine_lock
from numbacnn.model import Model
from numbacnn.serve import requests
from numbacnn.serve.batching import Batcher
from numbacnn.serve.pages import dumps
from numbacnn.serve.prediction import POLARITIES, Upload, predict
from numbacnn.serve.requests import NOT_FOUND, RequestError, declared_size, failure, read_body
from numbacnn.serve.security import App, Receive, Scope, Send, respond

PATH = "/predict"
MAX_BATCH = 64
SMALL_BODY = 256 << 10  # bytes; larger ones wait for their turn
MAX_BODIES = 16  # larger than that, in memory at the same time
TURN_SECONDS = 5.0  # that a request waits for its turn


class File(NamedTuple):
    """The content of an uploaded image file."""

    content: bytes
    polarity: str


class Bodies:
    """The memory for the bodies of requests: at most ``MAX_BODIES`` large ones at the same time."""

    def __init__(self) -> None:
        self._turns = asyncio.Semaphore(MAX_BODIES)

    @asynccontextmanager
    async def room(self, scope: Scope) -> AsyncIterator[None]:
        """Wait for memory for a body. Raises RequestError if it is too large, or there is none for long."""
        if _is_small(scope):
            yield
            return
        try:
            async with asyncio.timeout(TURN_SECONDS):
                await self._turns.acquire()
        except TimeoutError:
            raise RequestError(503, f"{MAX_BODIES} uploads are being read; try again") from None
        try:
            yield
        finally:
            self._turns.release()


def _is_small(scope: Scope) -> bool:
    """Return whether a body says in advance that it is small."""
    return 0 < declared_size(scope["headers"]) <= SMALL_BODY


class Predictions:
    """Middleware that answers ``POST /predict``; what arrives while a batch is computed is the next batch.

    The executor is made for ``MAX_BATCH`` images, less for large ones, so that no request makes a new one.
    """

    def __init__(self, app: App, model: Model, bodies: Bodies) -> None:
        self._app, self._model, self._bodies = app, model, bodies
        with engine_lock:
            size = model.reserve_outputs(MAX_BATCH, MAX_BATCH)
        self._batcher: Batcher[File, Upload, bytes] = Batcher(self._decode, self._answers, size=size)

    def close(self) -> None:
        """End the threads."""
        self._batcher.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or let the application answer it."""
        if scope["type"] != "http" or scope["path"] != PATH:
            await self._app(scope, receive, send)
            return
        try:
            if scope["method"] != "POST":
                raise RequestError(405, NOT_FOUND)
            async with asyncio.timeout(requests.ANSWER_SECONDS):
                status, body = 200, await self._predicted(scope, receive)
        except Exception as error:
            status, text = failure(error)
            body = dumps({"error": text}).encode()
        await respond(send, status, body)

    async def _predicted(self, scope: Scope, receive: Receive) -> bytes:
        polarity = _polarity(scope["query_string"])
        async with self._bodies.room(scope):
            content = await read_body(receive)
            future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self._batcher.submit(File(content, polarity), future)
            return await future

    # -- in threads ---------------------------------------------------------------------------------------------------

    def _decode(self, file: File) -> Upload:
        return Upload.of(self._model, *file)

    def _answers(self, uploads: Sequence[Upload]) -> list[bytes]:
        return [dumps(found).encode() for found in predict(self._model, uploads)]


def _polarity(query: bytes) -> str:
    """Return the parameter ``polarity``. Raises RequestError if it is none of ``POLARITIES``."""
    given: dict[str, list[Any]] = parse_qs(query.decode("latin-1")) if query else {}
    polarity = str(given.get("polarity", POLARITIES)[0])
    if polarity not in POLARITIES:
        raise RequestError(400, f"polarity: pass one of {', '.join(POLARITIES)}")
    return polarity
