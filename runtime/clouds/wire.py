"""One HTTP request, with a limit on all of it.

Not httpx: this asks once a second for the life of a node, and httpx logs each request. No proxy and
no redirect is followed, since a metadata server's answers must not pass anybody.
"""

import socket
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from threading import Event, Timer
from urllib.parse import urlsplit

from runtime.errors import Unavailable
from runtime.limits import ANSWER_BYTES_MAX

GOOD = range(200, 300)


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """What is sent. Headers and body may hold secrets, so they are not shown."""

    method: str
    url: str
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply:
    """What came back. The body may be a secret, so it is not shown."""

    status: int
    headers: dict[str, str] = field(repr=False)  # names in lower case
    body: bytes = field(repr=False)

    @property
    def is_good(self) -> bool:
        """Whether the server did what it was asked."""
        return self.status in GOOD

    @property
    def at(self) -> datetime | None:
        """The server's own time; None if it tells none."""
        return http_time(self.headers.get("date", ""))

    def text(self) -> str:
        """The body as text, whatever it is."""
        return self.body.decode("utf-8", "replace")


def http_time(text: str) -> datetime | None:
    """A time as HTTP writes it; None if it is none."""
    try:
        told = parsedate_to_datetime(text)
        return told.astimezone(UTC) if told.tzinfo else told.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def send(request: Request, *, within_s: float) -> Reply:
    """The answer, whatever its status; raises Unavailable if there is none in time."""
    parts = urlsplit(request.url)
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.netloc, timeout=within_s)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    is_cut = Event()
    try:
        connection.connect()
        assert connection.sock is not None, "connected"
        # A time-out of the socket alone starts anew with each byte of a server that drips.
        limit = Timer(within_s, _cut, [connection.sock, is_cut])
        limit.daemon = True
        limit.start()
        try:
            connection.request(request.method, target, request.body or None, request.headers)
            answer = connection.getresponse()
            body = answer.read(ANSWER_BYTES_MAX + 1)
        finally:
            limit.cancel()
    except (OSError, HTTPException, ValueError) as fault:
        # A ValueError would show the header that can't be sent, which may be a token.
        why = (str(fault) if isinstance(fault, OSError) else "") or type(fault).__name__
        raise Unavailable(f"{request.method} {_shown(request.url)}: no answer: {why}") from None
    finally:
        connection.close()
    if len(body) > ANSWER_BYTES_MAX or answer.length or is_cut.is_set():
        raise Unavailable(f"{request.method} {_shown(request.url)}: answer too long or cut short")
    headers = {name.lower(): value for name, value in answer.getheaders()}
    return Reply(status=answer.status, headers=headers, body=body)


def _cut(connected: socket.socket, is_cut: Event) -> None:
    is_cut.set()
    with suppress(OSError):  # it has ended meanwhile
        # That of the plain socket: TLS would want to say goodbye first.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)


def _shown(url: str) -> str:
    return url.partition("?")[0]
