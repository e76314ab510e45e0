"""The lock files of Pulumi's file backend: who works on a stack, and whether he still lives.

A killed `pulumi up` leaves its lock behind, and Pulumi asks a person to remove it. Here it is
removed unasked, if and only if its owner is provably gone. Format: filestate/lock.go of 3.259.
"""

import os
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

# A process that began this much later than the lock was made is another one with the same number;
# the kernel's clock of process starts counts in 10 ms and its boot time in seconds.
START_SLACK_S = 2.0


class Lock(BaseModel):
    """One lock file."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pid: int
    hostname: str
    timestamp: datetime


def locks_of(backend: Path, project: str, stack: str) -> list[tuple[Path, Lock]]:
    """All locks on a stack with their files; an unreadable one counts as somebody else's."""
    folder = backend / ".pulumi" / "locks" / "organization" / project / stack.rpartition("/")[2]
    paths = sorted(folder.glob("*.json"))
    return [(path, lock) for path in paths if (lock := _read(path)) is not None]


def _read(path: Path) -> Lock | None:
    try:
        return Lock.model_validate_json(path.read_bytes())
    except OSError:  # it was removed meanwhile
        return None
    except ValidationError:
        return Lock(pid=0, hostname="", timestamp=datetime.fromtimestamp(0).astimezone())


def is_dead(lock: Lock, hostname: str, processes: Path = Path("/proc")) -> bool:
    """Whether the owner is provably gone: of this machine, and not running any more."""
    if lock.hostname != hostname or lock.pid <= 0:
        return False
    try:
        os.kill(lock.pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    started = _started(lock.pid, processes)
    return started is not None and (
        started == 0 or started > lock.timestamp.timestamp() + START_SLACK_S
    )


def _started(pid: int, processes: Path) -> float | None:
    """Unix time of a process's start; 0 for one that has ended, None where it can't be told."""
    try:
        # The second field is the program's name in brackets and may hold anything.
        fields = (processes / str(pid) / "stat").read_text().rpartition(")")[2].split()
        boot = (processes / "stat").read_text().partition("btime ")[2].split()[0]
    except (OSError, IndexError):
        return None
    if fields[0] in "ZX":
        return 0.0
    return float(boot) + int(fields[19]) / os.sysconf("SC_CLK_TCK")
