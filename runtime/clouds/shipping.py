"""A node's log lines on their way to its cloud; they hold up nobody who writes them.

A thread of its own sends them in batches. A cloud that does not take them is told of once, on this
machine, and asked again after pauses that grow; meanwhile lines wait, and of too many the oldest
are dropped.
"""

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from runtime.clouds.log_lines import LogLine, Waiting, log_line
from runtime.errors import AtollError, Corrupt
from runtime.limits import CONTROL_S, LOG_AGAIN_S, LOG_AGAIN_S_MAX, LOG_SHIP_S

DOUBLINGS_MAX = 10  # of a pause that has long been the longest

log = logging.getLogger(__name__)


class Sink(Protocol):
    """Where lines go; one per cloud, for one thread at a time."""

    def batches(self, lines: Sequence[LogLine]) -> list[list[LogLine]]:
        """Cut into what the cloud takes at once, in the order in which it must be sent."""
        ...

    def send(self, batch: Sequence[LogLine], within_s: float) -> None:
        """One batch; no request may take longer than this.

        Raises Corrupt if the cloud will never take it, else Unavailable or Refused.
        """
        ...


class Shipper(logging.Handler):
    """Takes log records, and lines that others have written; sends them from `start` to `end`."""

    def __init__(
        self,
        sink: Sink,
        waiting: Waiting | None = None,
        *,
        chance: Callable[[], float] = random.random,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self._sink = sink
        self._waiting = Waiting() if waiting is None else waiting
        self._chance = chance
        self._seconds = seconds
        self._failures = 0  # in a row
        self._wake = threading.Event()  # something waits
        self._stop = threading.Event()
        self._until = 0.0  # once it is to stop
        self._thread = threading.Thread(target=self._run, name="logs", daemon=True)

    def start(self) -> None:
        """Begin to send."""
        self._thread.start()

    def emit(self, record: logging.LogRecord) -> None:
        """Put a record among those that wait."""
        try:
            self._put(log_line(round(record.created * 1000), self.format(record)))
        except Exception:  # a record that can't be written must not break who logs it
            self.handleError(record)

    def hear(self, text: str) -> None:
        """The same with a line that another process wrote, just now."""
        self._put(log_line(round(time.time() * 1000), text))

    def ship(self, until: float | None = None) -> bool:
        """Send what waits, until then at the longest; whether all of it is done with."""
        batches = self._sink.batches(self._waiting.take())
        for number, batch in enumerate(batches):
            left_s = CONTROL_S if until is None else until - self._seconds()
            try:
                if left_s <= 0:
                    raise TimeoutError
                self._sink.send(batch, min(left_s, CONTROL_S))
            except Corrupt as fault:
                log.warning("%d log lines are not shipped: %s", len(batch), fault)
            except Exception as fault:  # one of ours must not end the shipping either
                self._waiting.give_back(line for rest in batches[number:] for line in rest)
                self._say_away(fault)
                return False
        self._say_back()
        return True

    @property
    def pause_s(self) -> float:
        """Before the next sending: to gather lines, or as long as the cloud does not take them."""
        if not self._failures:
            return LOG_SHIP_S
        grown_s = min(LOG_AGAIN_S * 2.0 ** min(self._failures - 1, DOUBLINGS_MAX), LOG_AGAIN_S_MAX)
        return grown_s * (0.5 + self._chance() / 2)

    def end(self, within_s: float) -> None:
        """Send the last lines for so long at the most, and no more afterwards."""
        self._until = self._seconds() + within_s
        self._stop.set()
        self._wake.set()
        self._thread.join(max(within_s, 0.0))
        if self._thread.is_alive() or len(self._waiting):
            log.warning("the last log lines are not shipped: no time was left")

    def _put(self, line: LogLine) -> None:
        self._waiting.put(line)
        self._wake.set()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._wake.wait()
            self._stop.wait(self.pause_s)
            self._wake.clear()
            if not self._stop.is_set() and not self.ship():
                self._wake.set()
        self.ship(self._until)

    def _say_away(self, fault: Exception) -> None:
        self._failures += 1
        if self._failures > 1 or self._stop.is_set():
            return
        if isinstance(fault, AtollError):
            log.warning("log lines wait until they can be shipped: %s", fault)
        else:
            log.warning("log lines wait until they can be shipped", exc_info=fault)

    def _say_back(self) -> None:
        if self._failures:
            self._failures = 0
            log.info("log lines are shipped again")
        dropped = self._waiting.take_dropped()
        if dropped:
            log.warning("%d log lines were dropped before they could be shipped", dropped)
