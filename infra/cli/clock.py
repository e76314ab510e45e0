"""Time as the commands see it; handed in, so that tests have their own."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event


@dataclass(frozen=True, kw_only=True, slots=True)
class Clock:
    """Seconds that only go forward, the date, and waiting."""

    seconds: Callable[[], float]
    date: Callable[[], datetime]  # aware, UTC
    wait: Callable[[float], object]


def real_clock() -> Clock:
    """This machine's."""
    return Clock(
        seconds=time.monotonic, date=lambda: datetime.now(UTC), wait=lambda s: Event().wait(s)
    )
