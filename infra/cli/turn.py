"""One `up` or `down` of a stack at a time on this machine; the next one waits for its turn.

A lock of the kernel on an open file: it ends with the process that holds it, however that ends.
"""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from infra.cli.clock import Clock
from infra.cli.screen import Screen
from runtime.errors import Refused

TRY_S = 0.5
TURN_S = 900.0  # the longest that another `up` may take until we say so and give up


@contextmanager
def turn(home: Path, stack: str, screen: Screen, clock: Clock) -> Iterator[None]:
    """Hold the stack for ourselves; raises Refused if another holds it for TURN_S."""
    path = lock_path(home, stack)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as fault:
        raise Refused(
            f"{path}: found {fault.strerror}; allowed a folder that can be written to; "
            "change its rights or set ATOLL_HOME"
        ) from fault
    try:
        _take(handle, stack, screen, clock)
        os.ftruncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(handle)


def lock_path(home: Path, stack: str) -> Path:
    """The file that is locked; it stays, empty but for the last holder's number."""
    return home / "locks" / quote(stack, safe="")


def _take(handle: int, stack: str, screen: Screen, clock: Clock) -> None:
    for tries in range(int(TURN_S / TRY_S)):
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if tries == 0:
                holder = os.pread(handle, 32, 0).decode(errors="replace") or "unknown"
                screen.line(f"process {holder} works on stack {stack}; waiting for it")
            clock.wait(TRY_S)
        else:
            return
    raise Refused(f"stack {stack}: another `atoll` works on it since {TURN_S:.0f} s; let it finish")
