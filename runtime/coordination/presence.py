"""A node's own presence, written on every beat and at once when its state changes."""

import logging
import threading

from runtime.coordination.log import Presence
from runtime.errors import Unavailable
from runtime.limits import BEAT_S
from runtime.objects import Store

log = logging.getLogger(__name__)


class Heart:
    """Beats in a thread of its own until stopped. `say` may be called from any thread."""

    def __init__(self, control: Store, presence: Presence) -> None:
        self._control = control
        self._presence = presence
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._beat, name="heart", daemon=True)

    def start(self) -> None:
        """Write the first presence before anything else happens, then go on beating."""
        self._write()
        self._thread.start()

    def say(self, **changes: object) -> None:
        """Change fields of the presence. A new state is written at once, the rest on the beat."""
        with self._lock:
            before = self._presence
            self._presence = Presence.model_validate(before.model_dump() | changes)
            urgent = any(
                getattr(before, name) != getattr(self._presence, name)
                for name in ("state", "run", "epoch", "port", "model", "why", "link")
            )
        if urgent:
            self._wake.set()

    @property
    def presence(self) -> Presence:
        """What is said now."""
        with self._lock:
            return self._presence

    def stop(self) -> None:
        """Write the last state and end; idempotent."""
        self._stopped = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join()

    def _beat(self) -> None:
        is_last = False
        while not is_last:
            self._wake.wait(BEAT_S)
            self._wake.clear()
            # Before writing: a stop that comes meanwhile still has its last state to be written.
            is_last = self._stopped
            self._write()

    def _write(self) -> None:
        with self._lock:
            self._presence = self._presence.model_copy(update={"beat": self._presence.beat + 1})
            presence = self._presence
        try:
            self._control.put(f"nodes/{presence.node}", presence.model_dump_json().encode())
        except Unavailable as fault:
            log.warning("presence not written: %s", fault)
