"""The connections of the server: uvicorn's, with limits that it lacks.

A request begins and ends in time, and a client receives what it asked for.
"""

import asyncio
from typing import Any

HEAD_SECONDS = 10.0  # for the head of a request, or the rest of a body that was answered before its end, to arrive
MAX_HEAD = 128 << 10  # bytes of a request before its body
SEND_SECONDS = 30.0  # in which a client that has not received what was sent receives some of it


class Watch:
    """Closes a connection on which a head is too long or takes too long, or whose client receives nothing."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._size = 0
        self._timer: asyncio.TimerHandle | None = None
        self._sending: asyncio.TimerHandle | None = None
        self.received(0, waiting=True, in_head=True)

    def received(self, size: int, waiting: bool, in_head: bool) -> None:
        """Count bytes that have arrived. ``waiting``: the server does nothing before more has arrived."""
        self._size = self._size + size if in_head else 0
        if self._size > MAX_HEAD:
            self._transport.abort()
        if not waiting:
            self.end()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(HEAD_SECONDS, self._transport.abort)

    def full(self) -> None:
        """Note that the buffer of what is to be sent is full: the client has to receive some of it."""
        waiting = self._transport.get_write_buffer_size()
        self._sending = asyncio.get_running_loop().call_later(SEND_SECONDS, self._require_less_than, waiting)

    def _require_less_than(self, waiting: int) -> None:
        """Close the connection unless the client has received some of the bytes that were waiting."""
        if self._transport.get_write_buffer_size() < waiting:
            self.full()
        else:
            self._transport.abort()

    def received_by_client(self) -> None:
        """Note that the buffer is no longer full."""
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None

    def end(self) -> None:
        """Stop waiting for a request."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop waiting for anything."""
        self.end()
        self.received_by_client()


class _Watched(asyncio.Protocol):
    """A protocol that keeps a watch informed. In the bases of a class, it comes before one of uvicorn's."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch = Watch(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._watch.close()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch.full()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._watch.received_by_client()


def protocol() -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with limits: with httptools, if it is installed, which takes a third of the time."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return _h11_protocol()

    class Limited(_Watched, HttpToolsProtocol):  # type: ignore[misc]
        _in_head = True

        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            answered = self.cycle is not None and self.cycle.response_complete
            # bytes after an answer have ended uvicorn's own time for a next request, whatever they are
            self._watch.received(len(data), self._in_head or answered, self._in_head)

        def on_message_begin(self) -> None:
            self._in_head = True
            super().on_message_begin()

        def on_headers_complete(self) -> None:
            self._in_head = False
            super().on_headers_complete()

    return Limited


def _h11_protocol() -> type[asyncio.Protocol]:
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Limited(_Watched, H11Protocol):  # type: ignore[misc]
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            state: Any = self.conn.their_state
            answered = self.cycle is not None and self.cycle.response_complete
            waiting = state is h11.IDLE or (answered and state is h11.SEND_BODY)
            self._watch.received(len(data), waiting, state is h11.IDLE)

    return Limited
