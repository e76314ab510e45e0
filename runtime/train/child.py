"""The worker process as its agent holds it."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from runtime.limits import CHILD_STOP_S
from runtime.train.protocol import EVENTS, OUT_OF_MEMORY, Command, Event

# Tensors of a few MiB come and go in every step; given back to the kernel each time, they cost
# page faults (measured: 10 % of a step).
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(4 << 30)}

# A lost peer must cost a process neither its life nor its memory: NCCL's watchdog would end it.
NCCL = {"TORCH_NCCL_ASYNC_ERROR_HANDLING": "0", "TORCH_NCCL_ENABLE_MONITORING": "0"}

log = logging.getLogger("agent")


@dataclass(frozen=True, kw_only=True, slots=True)
class Died:
    """The worker ended without being told to."""

    status: int
    why: str = ""  # if the kernel tells


@dataclass(frozen=True, slots=True)
class Said:
    """An event of one worker, which may not be the present one any more."""

    pid: int
    event: Event | Died


class Child:
    """One worker process. Its events come to `inbox`, in order, Died last."""

    def __init__(self, inbox: "queue.SimpleQueue[object]", stderr: int | None = None) -> None:
        self._inbox = inbox
        self._oom_kills = _oom_kills()
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "runtime.train.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            env=os.environ | MALLOC | NCCL,
        )
        threading.Thread(target=self._read, name="worker events", daemon=True).start()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def send(self, command: Command) -> None:
        """Tell it; a worker that is dead tells so itself by Died."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(command.encode())
            self._process.stdin.flush()
        except OSError as fault:
            log.warning("worker %d does not listen: %s", self.pid, fault)

    def kill(self) -> None:
        """End it at once, as a frozen one must be; it tells so by Died."""
        self._process.kill()

    def stop(self) -> None:
        """End it, by force if it must be."""
        self._process.terminate()
        try:
            self._process.wait(CHILD_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                self._put(EVENTS.validate_json(line))
            except ValidationError as fault:  # a line cut by its death
                log.warning("worker %d said what is no event: %s", self.pid, fault)
        status = self._process.wait()
        is_oom = status == -signal.SIGKILL and _oom_kills() > self._oom_kills
        self._put(Died(status=status, why=OUT_OF_MEMORY if is_oom else ""))

    def _put(self, event: Event | Died) -> None:
        self._inbox.put(Said(self.pid, event))


def _oom_kills() -> int:
    """Processes that the kernel has killed for want of memory since it booted, in any cgroup.

    Of the whole machine: another's death at the same time as a kill -9 of ours would mislead.
    """
    for line in Path("/proc/vmstat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name == "oom_kill":
            return int(value)
    return 0
