"""Log lines that wait to be sent: so many and no more."""

import threading
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from runtime.limits import LOG_BYTES_MAX, LOG_LINE_BYTES_MAX, LOG_LINES_MAX

CUT = " … cut"


@dataclass(frozen=True, kw_only=True, slots=True)
class LogLine:
    """What a log has of one event; several lines of text where that is a traceback."""

    at_ms: int  # since 1970
    text: str  # never empty, and has no lone surrogates
    size_bytes: int  # of the text as UTF-8


def log_line(at_ms: int, text: str) -> LogLine:
    """Of any text; what is too long, or no text, is made to fit."""
    told = text.encode("utf-8", "replace") or b" "
    if len(told) > LOG_LINE_BYTES_MAX:
        end = CUT.encode()
        # A character that is cut in two goes whole.
        told = told[: LOG_LINE_BYTES_MAX - len(end)].decode("utf-8", "ignore").encode() + end
    return LogLine(at_ms=at_ms, text=told.decode(), size_bytes=len(told))


class Waiting:
    """Lines that are not sent yet. Of too many the oldest are dropped, and counted."""

    def __init__(self, lines_max: int = LOG_LINES_MAX, bytes_max: int = LOG_BYTES_MAX) -> None:
        self._lines_max, self._bytes_max = lines_max, bytes_max
        self._lines: deque[LogLine] = deque()
        self._size_bytes = 0
        self._dropped = 0
        # Reentrant: what the collector of garbage ends in here may have something to log.
        self._lock = threading.RLock()

    def put(self, line: LogLine) -> None:
        """As the newest."""
        with self._lock:
            self._lines.append(line)
            self._size_bytes += line.size_bytes
            self._drop()

    def give_back(self, lines: Iterable[LogLine]) -> None:
        """What was taken and not sent, as the oldest."""
        with self._lock:
            for line in reversed(list(lines)):
                self._lines.appendleft(line)
                self._size_bytes += line.size_bytes
            self._drop()

    def take(self) -> list[LogLine]:
        """All of them, the oldest first."""
        with self._lock:
            lines = list(self._lines)
            self._lines.clear()
            self._size_bytes = 0
            return lines

    def take_dropped(self) -> int:
        """How many were dropped since this was asked last."""
        with self._lock:
            dropped, self._dropped = self._dropped, 0
            return dropped

    def __len__(self) -> int:
        return len(self._lines)

    def _drop(self) -> None:
        while len(self._lines) > self._lines_max or self._size_bytes > self._bytes_max:
            self._size_bytes -= self._lines.popleft().size_bytes
            self._dropped += 1
