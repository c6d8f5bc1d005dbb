"""HTTP requests with an overall deadline, also if servers send a byte now and then, or "100 Continue" forever.

The timeout of a socket is that of one read. Here a thread closes the connections of a request that as a whole is too
slow. Redirects lead only to http and https, and from https only to https.
"""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection, HTTPMessage, HTTPSConnection
from typing import IO, Any
from urllib.parse import urlsplit
from urllib.request import (
    HTTPDefaultErrorHandler,
    HTTPErrorProcessor,
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    UnknownHandler,
)

from numbacnn._checks import brief
from numbacnn.errors import DataError

_TICK = 0.1  # seconds between two looks


class Watch:
    """A context for one request, which may take ``grace`` seconds and those in which ``rate`` bytes each arrive.

    Attributes:
        received: the bytes so far, which the caller counts.
        expired: whether the time was over, and the connections were closed.
    """

    def __init__(self, grace: float, rate: float) -> None:
        self._grace, self._rate, self._start = grace, rate, time.monotonic()
        self._sockets: list[socket.socket] = []
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.received, self.expired = 0, False

    def __enter__(self) -> "Watch":
        try:
            self._thread.start()
        except BaseException:  # also an interrupt, while it waits for the start
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        if self._thread.is_alive():  # else it has not begun, and will find that it is done
            self._thread.join()
        for each in self._sockets:
            each.close()

    @property
    def seconds(self) -> float:
        """The time since the beginning."""
        return time.monotonic() - self._start

    def open(self, url: str, timeout: float) -> Any:
        """Open a URL as ``urllib.request.urlopen`` does, with its errors and the proxies of the environment.

        Raises DataError for a redirect to another protocol.
        """
        opener = OpenerDirector()
        plain, secure = self._noted(HTTPConnection), self._noted(HTTPSConnection)
        handlers = (ProxyHandler(), _Http(plain), _Https(secure), _Redirects(), HTTPDefaultErrorHandler())
        for handler in (*handlers, HTTPErrorProcessor(), UnknownHandler()):
            opener.add_handler(handler)
        return opener.open(url, timeout=timeout)

    def _noted(self, kind: type[HTTPConnection]) -> Callable[..., HTTPConnection]:
        """Return a function that makes connections whose sockets this context can close."""

        def connect(*arguments: Any, **options: Any) -> socket.socket:
            made = socket.create_connection(*arguments, **options)
            self._sockets.append(made.dup())  # TLS takes the original over
            return made

        def make(host: str, **options: Any) -> HTTPConnection:
            connection = kind(host, **options)
            connection._create_connection = connect  # type: ignore[attr-defined]
            return connection

        return make

    def _watch(self) -> None:
        while not self._done.wait(_TICK):
            if self.seconds > self._grace + self.received / self._rate:
                self.expired = True
                for each in list(self._sockets):
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)


class _Http(HTTPHandler):
    def __init__(self, make: Callable[..., HTTPConnection]) -> None:
        super().__init__()
        self._make = make

    def http_open(self, req: Request) -> Any:
        return self.do_open(self._make, req)


class _Https(HTTPSHandler):
    def __init__(self, make: Callable[..., HTTPConnection]) -> None:
        super().__init__()
        self._make = make

    def https_open(self, req: Request) -> Any:
        return self.do_open(self._make, req)


class _Redirects(HTTPRedirectHandler):
    def http_error_302(self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage) -> Any:
        target = headers.get("location") or headers.get("uri") or ""
        scheme = urlsplit(target).scheme or req.type
        if scheme != "https" and (scheme != "http" or req.type == "https"):
            fp.close()
            raise DataError(f"redirects from {req.type} to {brief(scheme, 20)}")
        return super().http_error_302(req, fp, code, msg, headers)

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302
