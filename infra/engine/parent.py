"""Ending with the process that started us, also when it was killed and could tell nobody."""

import os
import select
import time
from collections.abc import Callable

LOOK_S = 1.0  # where the system has no pidfd


def wait_for_end(parent: int) -> None:
    """Return when the process `parent`, the caller's own parent, is gone."""
    if hasattr(os, "pidfd_open"):
        try:
            handle = os.pidfd_open(parent)
        except ProcessLookupError:
            return
        if os.getppid() == parent:  # else it died before the handle was open
            select.select([handle], [], [])
        return
    while os.getppid() == parent:
        time.sleep(LOOK_S)  # no event tells of it there


def end_with(parent: int, leave: Callable[[], None]) -> None:
    """Call `leave` once the parent is gone; the body of a daemon thread."""
    wait_for_end(parent)
    leave()
