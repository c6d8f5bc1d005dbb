"""The contents of requests, within limits of size and time, and answers in JSON."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from numbacnn._checks import brief
from numbacnn.errors import ArgumentError, DataError
from numbacnn.serve.pages import dumps
from numbacnn.serve.security import Receive

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

MAX_BODY = 8 << 20  # bytes of an uploaded file
BODY_SECONDS = 10.0  # for an upload to arrive
ANSWER_SECONDS = 30.0
MAX_PARAMETER = 100_000  # characters of a parameter in JSON
NOT_FOUND = "there is no such address or method; docs/serve.md lists them"

Handler = Callable[["Request"], Awaitable["Response"]]


class RequestError(Exception):
    """A request that is answered with a status of 4xx or 5xx."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def failure(error: Exception) -> tuple[int, str]:
    """Return the status and the text that answer a request which raised an error; others are raised again."""
    if isinstance(error, RequestError):
        return error.status, str(error)
    if isinstance(error, DataError):
        return 415, str(error)
    if isinstance(error, ArgumentError):
        return 400, brief(error)
    if isinstance(error, BufferError):  # of a ``Batcher``
        return 503, f"{error}; try again"
    if isinstance(error, TimeoutError):
        return 503, f"no answer within {ANSWER_SECONDS:g} s"
    raise error


def answered(handler: Handler) -> Handler:
    """Turn errors of a handler into answers, and end it after ``ANSWER_SECONDS``."""

    async def answer(request: "Request") -> "Response":
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await handler(request)
        except Exception as error:
            status, text = failure(error)
            return as_json({"error": text}, status)

    return answer


def declared_size(headers: Iterable[tuple[bytes, bytes]]) -> int:
    """Return the size of a body as its headers have it, 0 without. Raises RequestError if it is too large."""
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if not declared.isdigit() or len(declared) > 15 or int(declared) > MAX_BODY:
        raise RequestError(413, f"the body has more than {MAX_BODY >> 20} MiB")
    return int(declared)


async def read_body(receive: Receive) -> bytes:
    """Return the body of a request. Raises RequestError if it is too large or takes too long."""
    end = asyncio.get_running_loop().time() + BODY_SECONDS
    message = await _received(receive, BODY_SECONDS)
    if not message.get("more_body"):
        return bytes(message.get("body", b""))
    parts, size = [message["body"]], len(message["body"])
    while message.get("more_body") and size <= MAX_BODY:
        message = await _received(receive, end - asyncio.get_running_loop().time())
        parts.append(message.get("body", b""))
        size += len(parts[-1])
    if size > MAX_BODY:
        raise RequestError(413, f"the body has more than {MAX_BODY >> 20} MiB")
    return b"".join(parts)


async def _received(receive: Receive, seconds: float) -> Mapping[str, Any]:
    try:
        async with asyncio.timeout(seconds):
            message = await receive()
    except TimeoutError:
        raise RequestError(408, f"the body did not arrive within {BODY_SECONDS:g} s") from None
    if message["type"] == "http.disconnect":
        raise RequestError(400, "the body ended early")
    return message


def parameter(request: "Request", name: str) -> object:
    """Return a parameter in JSON, or None."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        if len(text) > MAX_PARAMETER:
            raise ValueError
        found: object = json.loads(text)
        return found
    except (ValueError, RecursionError):
        raise RequestError(400, f"{name}: pass JSON") from None


def whole_parameter(request: "Request", name: str) -> int:
    """Return a parameter that is a whole number from 0."""
    text = request.query_params.get(name, "")
    if not (text.isascii() and text.isdecimal() and len(text) < 10):
        raise RequestError(400, f"{name}: pass a whole number")
    return int(text)


def as_json(value: Mapping[str, Any], status: int = 200) -> "Response":
    """Return an answer in JSON."""
    from starlette.responses import Response

    return Response(dumps(value), status, media_type="application/json")
