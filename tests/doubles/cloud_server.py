"""What the doubles of clouds stand on: an HTTP server that can have bad weather, and a clock."""

import json
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from enum import Enum, auto
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from runtime.clouds.cloud import Surroundings

SLOW_S = 60.0  # longer than anybody waits; ends with the server


class Weather(Enum):
    """How a server is."""

    WELL = auto()
    AWAY = auto()  # takes the connection and hangs up
    SLOW = auto()
    BROKEN = auto()  # status 500, in HTML
    GARBLED = auto()  # status 200, and nonsense


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request as it came in."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]  # names in lower case
    body: bytes


@dataclass(frozen=True, kw_only=True)
class Answered:
    """What goes out."""

    status: int = 200
    body: object = ""  # text as it stands; anything else as JSON
    headers: dict[str, str] = field(default_factory=dict)


class Clock:
    """Stands still until it is moved; sleeping moves it."""

    def __init__(self) -> None:
        self.at = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
        self.slept: list[float] = []

    def now(self) -> datetime:
        """The time."""
        return self.at

    def sleep(self, seconds: float) -> None:
        """Move on."""
        self.slept.append(seconds)
        self.move(seconds)

    def move(self, seconds: float) -> None:
        """Move on, or back."""
        self.at += timedelta(seconds=seconds)

    @property
    def around(self) -> Surroundings:
        """For a cloud's client."""
        return Surroundings(now=self.now, sleep=self.sleep, chance=lambda: 0.5)


class CloudServer:
    """Answers by a function, unless its weather is bad; remembers what it was asked."""

    def __init__(self, answer: Callable[[Asked], Answered], now: Callable[[], datetime]) -> None:
        self.weather = Weather.WELL
        self.away_at: int | None = None  # number of the one request that gets no answer
        self.asked: list[Asked] = []
        self.answer = answer
        self._now = now
        self._closed = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def change(self, path_end: str, **fields: object) -> None:
        """From now on, other values in the answers of one path."""
        well = self.answer

        def answer(asked: Asked) -> Answered:
            answered = well(asked)
            if asked.path.endswith(path_end) and isinstance(answered.body, dict):
                return replace(answered, body={**answered.body, **fields})
            return answered

        self.answer = answer

    def close(self) -> None:
        """End it."""
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_any(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                url = urlsplit(self.path)
                asked = Asked(
                    method=self.command,
                    path=url.path,
                    query=dict(parse_qsl(url.query, keep_blank_values=True)),
                    headers={name.lower(): value for name, value in self.headers.items()},
                    body=self.rfile.read(length),
                )
                outer.asked.append(asked)
                answered = outer._weathered(asked)
                if answered is not None:
                    body = answered.body
                    text = body if isinstance(body, str) else json.dumps(body)
                    self.send_response(answered.status)
                    self.send_header("Content-Length", str(len(text.encode())))
                    for name, value in answered.headers.items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(text.encode())

            do_GET = do_POST = do_PUT = do_PATCH = do_any  # noqa: N815

            def date_time_string(self, timestamp: float | None = None) -> str:
                return format_datetime(outer._now(), usegmt=True)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _weathered(self, asked: Asked) -> Answered | None:
        if len(self.asked) - 1 == self.away_at:
            return None
        match self.weather:
            case Weather.AWAY:
                return None
            case Weather.SLOW:
                self._closed.wait(SLOW_S)
                return None
            case Weather.BROKEN:
                return Answered(status=500, body="<html>oops</html>")
            case Weather.GARBLED:
                return Answered(body='{"action": \x00', headers={"Metadata-Flavor": "Google"})
            case Weather.WELL:
                return self.answer(asked)


class FakeServices:
    """What the doubles of three clouds hold alike: a pool's size, secrets, and two servers."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.size = 2
        self.secrets: dict[str, object] = {}
        self.is_forbidden = False
        self.throttled = 0
        self.behind = 0  # metadata gives out a token that is this many too old
        self._number = 1  # of the newest token; only that is good
        self.metadata = CloudServer(self._metadata, self.clock.now)
        self.services = CloudServer(self._service, self.clock.now)

    def close(self) -> None:
        """End its servers."""
        self.metadata.close()
        self.services.close()

    def forbid(self) -> None:
        """Refuse orders."""
        self.is_forbidden = True

    def _metadata(self, asked: Asked) -> Answered:
        raise NotImplementedError

    def _service(self, asked: Asked) -> Answered:
        raise NotImplementedError
