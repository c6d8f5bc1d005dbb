"""A web server for an application, in this thread or in another one."""

import socket
import threading
import time
from typing import TYPE_CHECKING

from numbacnn._checks.names import checks_call
from numbacnn.errors import ArgumentError, NumbacnnError
from numbacnn.serve.connections import MAX_HEAD, protocol
from numbacnn.serve.security import App

if TYPE_CHECKING:
    import uvicorn

MAX_CONNECTIONS = 512
STOP_SECONDS = 2
START_SECONDS = 10.0


class Server:
    """A server that runs in a thread of its own, from ``with`` until the block ends; ``url`` is its address."""

    def __init__(self, app: App, host: str, port: int) -> None:
        self._server, self._socket = _server(app), bound_socket(host, port)
        self.url = address(self._socket)
        self._thread = threading.Thread(target=self._run, name="numbacnn-serve", daemon=True)

    def _run(self) -> None:
        self._server.run([self._socket])

    def __enter__(self) -> "Server":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start, and return when requests are answered."""
        self._thread.start()
        end = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > end:
                raise NumbacnnError(f"{self.url}: the server did not start")
            time.sleep(0.005)

    def close(self) -> None:
        """Stop, after the requests that are being answered."""
        self._server.should_exit = True
        if self._thread.is_alive():  # it is not before ``start``
            self._thread.join(STOP_SECONDS + 1)
        self._socket.close()


@checks_call
def run_server(app: App, listening: socket.socket) -> None:
    """Serve in this thread until Ctrl-C or SIGTERM."""
    _server(app).run([listening])


def bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; port 0 is any free one. Raises ArgumentError if it is taken."""
    try:
        family, kind, protocol, _, position = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ArgumentError(f"{host}: not an address of this machine ({error.strerror})") from None
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(position)
        listening.listen(MAX_CONNECTIONS)
    except OSError as error:
        listening.close()
        raise ArgumentError(f"{host}, port {port}: {error.strerror}; choose another port or address") from None
    return listening


def address(listening: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = listening.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _server(app: App) -> "uvicorn.Server":
    try:
        import uvicorn
    except ImportError:
        raise NumbacnnError("serving a model needs starlette and uvicorn: pip install 'numbacnn[serve]'") from None
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=protocol(),
            log_level="warning",
            access_log=False,
            server_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=STOP_SECONDS,
            h11_max_incomplete_event_size=MAX_HEAD,
            ws="none",
        )
    )
