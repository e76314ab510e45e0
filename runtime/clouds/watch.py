"""Watches for a notice, in a thread of its own, and tells of it once.

A metadata server that is away stops nobody: that is said once, and asked on. A notice of something
far off (a maintenance next week) is held back until it presses; the cloud may yet take it back.
"""

import logging
import threading
import time
from collections.abc import Callable

from runtime.clouds.cloud import Cloud, Notice
from runtime.errors import AtollError
from runtime.limits import METADATA_S, NOTICE_AHEAD_S, NOTICE_POLL_S

log = logging.getLogger(__name__)


class NoticeWatch:
    """Calls `told` with the notice, from its own thread, at most once."""

    def __init__(
        self,
        cloud: Cloud,
        told: Callable[[Notice], None],
        *,
        stop: threading.Event | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._cloud = cloud
        self._told = told
        self._stop = stop or threading.Event()
        self._seconds = seconds
        self._is_away = False
        self._thread = threading.Thread(target=self._run, name="notice", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def close(self) -> None:
        """Ask no more; returns when the thread has ended, or a question that hangs is given up."""
        self._stop.set()
        self._thread.join(NOTICE_POLL_S + METADATA_S)

    def _run(self) -> None:
        while not self._stop.is_set():
            asked = self._seconds()
            notice = self._ask()
            if self._stop.is_set():
                return
            if notice is not None and notice.left_s <= NOTICE_AHEAD_S:
                log.warning("notice: %s: %.0f s left", notice.why, notice.left_s)
                self._told(notice)
                return
            # Where the cloud has held the question, the time is over already.
            self._stop.wait(max(0.0, NOTICE_POLL_S - (self._seconds() - asked)))

    def _ask(self) -> Notice | None:
        try:
            notice = self._cloud.notice(NOTICE_POLL_S)
        except AtollError as fault:
            if not self._is_away:
                log.warning("no notice can be heard: %s", fault)
            self._is_away = True
            return None
        except Exception:  # a fault of ours must not end the watch
            log.exception("no notice can be heard")
            return None
        if self._is_away:
            log.info("notices can be heard again")
        self._is_away = False
        return notice
