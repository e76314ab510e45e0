"""A token that is kept until it is nearly over, then fetched anew."""

import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from runtime.limits import TOKEN_MARGIN_S

Value = TypeVar("Value")


class Expiring(Generic[Value]):
    """Holds one value. Safe to share between threads."""

    def __init__(
        self, fetch: Callable[[], tuple[Value, datetime]], now: Callable[[], datetime]
    ) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = threading.Lock()
        self._held: tuple[Value, datetime] | None = None

    def get(self) -> Value:
        """The value; raises what `fetch` raises."""
        with self._lock:
            margin = timedelta(seconds=TOKEN_MARGIN_S)
            if self._held is None or self._now() > self._held[1] - margin:
                self._held = self._fetch()
            return self._held[0]

    def forget(self) -> None:
        """Fetch it anew next time: it was refused, whatever its end says."""
        with self._lock:
            self._held = None
