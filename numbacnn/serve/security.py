"""Who may ask the server, how much, and the headers of every answer."""

import base64
import hashlib
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any, TypeAlias

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]

LOOPBACK = "127.0.0.1"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cache-Control": "no-store",
}
"""Of every answer. There are none for CORS: pages of other sites cannot read answers."""

_ENCODED = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
_ASKED = {b"host", b"origin", b"sec-fetch-site"}


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches an address or a host name."""
    name = host.lower().strip("[]")
    with suppress(ValueError):
        return ipaddress.ip_address(name).is_loopback
    return name == "localhost"


def content_security_policy(page: str) -> str:
    """Return a policy under which only the page's own scripts and styles run, and only its own server is asked."""

    def hashes(tag: str) -> str:
        blocks = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(block.encode()).digest()).decode() for block in blocks]
        return " ".join(f"'sha256-{digest}'" for digest in digests) or "'none'"

    return (
        f"default-src 'none'; script-src {hashes('script')}; style-src {hashes('style')}; img-src 'self' data: blob:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


class Guard:
    """Middleware that adds ``HEADERS`` and rejects requests that pages of other sites send.

    ``local``: only requests for a name of this machine are answered, so that a foreign name that resolves to it (DNS
    rebinding) reaches nothing.
    """

    def __init__(self, app: App, local: bool) -> None:
        self._app, self._local = app, local

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                present = {name.lower() for name, _ in message["headers"]}
                message["headers"] = [*message["headers"], *(each for each in _ENCODED if each[0] not in present)]
            await send(message)

        headers = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _ASKED}
        if reason := self._rejected(headers):
            await respond(guarded, 403, f'{{"error": "{reason}"}}'.encode())
        else:
            await self._app(scope, receive, guarded)

    def _rejected(self, headers: Mapping[str, str]) -> str | None:
        """Return why a request is not answered, or None."""
        host = headers.get("host", "")
        if self._local and not is_loopback(re.sub(r":\d+$", "", host)):
            return "this server answers only on this machine"
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != host:
            return "requests of other sites are not answered"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return "requests of other sites are not answered"
        return None


async def respond(send: Send, status: int, body: bytes) -> None:
    """Send an answer in JSON."""
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
