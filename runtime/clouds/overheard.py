"""What a node's children write to standard error: passed on to the node's own, and told by lines.

Only children write into the pipe: what this process says as it dies must not wait for a thread.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from runtime.limits import LOG_LINE_BYTES_MAX

READ_BYTES = 1 << 16
STDERR = 2


class Overheard:
    """A pipe, and the thread that reads it. `told` may not block and may not raise."""

    def __init__(self, told: Callable[[str], None], out: int = STDERR) -> None:
        self._told = told
        self._out = out
        self._from, self.stderr = os.pipe()  # the second is for children
        self._thread = threading.Thread(target=self._run, name="children", daemon=True)
        self._thread.start()

    def close(self, within_s: float) -> None:
        """Read what is there; a child that lives on, or one of its own, is waited for so long."""
        os.close(self.stderr)
        self._thread.join(within_s)

    def _run(self) -> None:
        rest = b""
        while piece := os.read(self._from, READ_BYTES):
            self._pass_on(piece)
            *lines, rest = (rest + piece).split(b"\n")
            if len(rest) > LOG_LINE_BYTES_MAX:
                lines, rest = [*lines, rest], b""
            self._tell(lines)
        os.close(self._from)
        self._tell([rest])

    def _pass_on(self, piece: bytes) -> None:
        with suppress(OSError):  # nobody reads ours: children go on
            while piece:
                piece = piece[os.write(self._out, piece) :]

    def _tell(self, lines: list[bytes]) -> None:
        for line in lines:
            if line.strip():
                self._told(line.decode("utf-8", "replace"))
