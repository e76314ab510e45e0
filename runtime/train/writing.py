"""The process that writes checkpoints, as its worker holds it.

Started with the first task and kept; one that dies or hangs is started anew with the next task.
"""

import logging
import os
import select
import subprocess
import sys
from collections.abc import Sequence

from pydantic import ValidationError

from runtime.checkpoint.protocol import EVENTS, Event, NotSaved, Saved, Task, Wrote
from runtime.limits import CHILD_STOP_S, WRITER_HUNG_S

COMMAND = (sys.executable, "-P", "-m", "runtime.checkpoint.writer")
READ_BYTES = 1 << 16

log = logging.getLogger("worker")


class Writer:
    """One process, for one thread at a time."""

    def __init__(self, command: Sequence[str] = COMMAND, hung_s: float = WRITER_HUNG_S) -> None:
        self._command = command
        self._hung_s = hung_s
        self._process: subprocess.Popen[bytes] | None = None
        self._files: frozenset[int] = frozenset()  # that the process has inherited
        self._heard = b""

    @property
    def pid(self) -> int | None:
        """Of the process, if there is one."""
        return self._process.pid if self._process is not None else None

    def save(self, task: Task, files: frozenset[int]) -> Saved | NotSaved:
        """Have a checkpoint written. `files` are all descriptors that tasks may name."""
        try:
            self._start(files)
            self._send(task)
            return self._hear()
        except OSError as fault:
            self.stop()
            return NotSaved(why=f"writer process: {fault}", is_final=False)

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._process is None:
            return
        self._process.kill()  # the store is sound whenever that hits
        self._process.wait(CHILD_STOP_S)
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process = None

    def _start(self, files: frozenset[int]) -> None:
        if self._process is not None and self._process.poll() is None and self._files == files:
            return
        self.stop()
        self._heard, self._files = b"", files
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            pass_fds=sorted(files),
        )
        log.info("checkpoints are written by process %d", self._process.pid)

    def _send(self, task: Task) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(task.encode())

    def _hear(self) -> Saved | NotSaved:
        assert self._process is not None
        while True:
            try:
                event = self._next()
            except (EOFError, TimeoutError, ValidationError) as fault:
                self._process.kill()
                why = f"writer process: {fault}, status {self._process.wait()}"
                self.stop()
                return NotSaved(why=why, is_final=False)
            if not isinstance(event, Wrote):
                return event

    def _next(self) -> Event:
        """The next event; raises EOFError, TimeoutError or ValidationError."""
        assert self._process is not None
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        poll = select.poll()
        poll.register(out, select.POLLIN)
        while b"\n" not in self._heard:
            if not poll.poll(self._hung_s * 1000):
                raise TimeoutError(f"silent for {self._hung_s:.0f} s")
            piece = os.read(out, READ_BYTES)
            if not piece:
                raise EOFError("ended")
            self._heard += piece
        line, _, self._heard = self._heard.partition(b"\n")
        return EVENTS.validate_json(line)
