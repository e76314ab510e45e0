"""Processes of this machine, by an identity that pid reuse can't fool.

A pid alone may be somebody else's tomorrow. With its start time (clock ticks since boot, field 22
of /proc/PID/stat, proc(5)) it is one process of this boot; with a random token in its environment
it is one process. Signals go through a pidfd that was checked after it was opened, so they can't
reach a successor. Linux only.
"""

import asyncio
import os
import select
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

TOKEN = "ATOLL_TOKEN"  # noqa: S105  the name of a variable
KILLED_S = 5.0  # for the kernel to end a process after SIGKILL
ROUNDS_MAX = 20  # a dying process may still fork; each round kills what it sees
DEAD = frozenset("ZXx")
EXEC_S = 5.0  # for the kernel to map a program from a slow disk
EXEC_POLL_S = 0.001  # no event tells of it
LOG_BYTES_MAX = 64 << 20  # of a daemon; one earlier file is kept


class ProcessId(BaseModel):
    """One process, once and for all."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pid: int
    start_ticks: int
    token: str = ""  # "" of a process that was started without one


@dataclass(frozen=True, kw_only=True, slots=True)
class Stat:
    """The fields of /proc/PID/stat that matter here."""

    state: str
    parent: int
    session: int
    start_ticks: int


def identify(pid: int, token: str | None = None) -> ProcessId | None:
    """The process that has this pid now, with the token of its environment; None if it is dead.

    With `token`, None also if the process carries another one.
    """
    stat = read_stat(pid)
    found = environ(pid).get(TOKEN, "")
    if stat is None or stat.state in DEAD or (token is not None and token != found):
        return None
    return ProcessId(pid=pid, start_ticks=stat.start_ticks, token=found)


def is_alive(process: ProcessId) -> bool:
    """Whether exactly this process runs. A zombie does not."""
    return identify(process.pid, process.token) == process


def open_handle(process: ProcessId) -> int | None:
    """A pidfd of exactly this process, to be closed by the caller; None if it is gone.

    It turns readable when the process ends, also for one that is not a child.
    """
    try:
        handle = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return None
    if is_alive(process):
        return handle
    os.close(handle)
    return None


def wait(handle: int, timeout_s: float) -> bool:
    """Whether the process behind a pidfd ended in time."""
    poll = select.poll()
    poll.register(handle, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


async def ended(handle: int) -> None:
    """Return when the process behind a pidfd has ended; the handle must stay open meanwhile."""
    loop = asyncio.get_running_loop()
    turned = asyncio.Event()
    loop.add_reader(handle, turned.set)
    try:
        await turned.wait()
    finally:
        loop.remove_reader(handle)


def end(process: ProcessId, grace_s: float) -> None:
    """Ask a process to leave, kill it after `grace_s`, and kill all that it leaves behind.

    Only the process itself is asked: it knows in which order its children may go.
    """
    handle = open_handle(process)
    if handle is not None:
        try:
            send(handle, signal.SIGTERM)
            if not wait(handle, grace_s):
                end_rest(process)  # first, while it lives and its session is surely its own
                send(handle, signal.SIGKILL)
                wait(handle, KILLED_S)
        finally:
            os.close(handle)
    end_rest(process)


def end_rest(process: ProcessId) -> None:
    """Kill the other processes of its session and those that carry its token.

    The session counts only while the process is there, be it as a zombie: afterwards the number
    may be another session's.
    """
    stat = read_stat(process.pid)
    is_there = stat is not None and stat.start_ticks == process.start_ticks

    def belongs(pid: int) -> bool:
        other = read_stat(pid)
        if pid == process.pid or other is None or other.state in DEAD:
            return False
        if is_there and other.session == process.pid:
            return True
        return bool(process.token) and environ(pid).get(TOKEN) == process.token

    kill_all(belongs)


def marked(prefix: str) -> list[ProcessId]:
    """The processes whose token begins with `prefix` and that lead a session, oldest first."""
    assert prefix
    found = []
    for pid in pids():
        stat = read_stat(pid)
        if stat is not None and stat.session == pid:
            process = identify(pid)
            if process is not None and process.token.startswith(prefix):
                found.append(process)
    return sorted(found, key=lambda process: (process.start_ticks, process.pid))


def end_marked(prefix: str) -> None:
    """Kill all processes whose token begins with `prefix`."""
    assert prefix
    kill_all(lambda pid: environ(pid).get(TOKEN, "").startswith(prefix))


def kill_all(belongs: Callable[[int], bool]) -> None:
    """Kill all processes that a test holds for, but never the one who asks."""
    for _ in range(ROUNDS_MAX):
        handles = list(_handles(belongs))
        if not handles:
            return
        deadline = time.monotonic() + KILLED_S
        for handle in handles:
            send(handle, signal.SIGKILL)
        for handle in handles:
            wait(handle, deadline - time.monotonic())
            os.close(handle)


def send(handle: int, number: signal.Signals) -> None:
    """Send a signal by pidfd; no error if the process has ended."""
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, number)


def spawn_daemon(argv: Sequence[str], env: Mapping[str, str], cwd: Path, log: Path) -> ProcessId:
    """Start a process in a session of its own that outlives this one; raises OSError.

    It inherits no files: input is empty, output and errors are appended to `log`, after that was
    moved aside if it had grown too large. One process may still outgrow it.
    """
    _roll(log)
    with log.open("ab") as out:
        child = subprocess.Popen(
            list(argv),
            env=dict(env),
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            close_fds=True,
        )
    child.returncode = 0  # nobody waits through this object; `reap` does, or init
    _wait_for_environment(child.pid)
    stat = read_stat(child.pid)
    assert stat is not None, "a child stays, if only as a zombie, until it is reaped"
    return ProcessId(pid=child.pid, start_ticks=stat.start_ticks, token=env.get(TOKEN, ""))


def _wait_for_environment(pid: int) -> None:
    """Until a child's environment can be read: exec(2) has returned a little before that.

    The kernel maps the new program first; until then the child would pass for somebody else's.
    """
    deadline = time.monotonic() + EXEC_S
    while not environ(pid) and time.monotonic() < deadline:
        stat = read_stat(pid)
        if stat is None or stat.state in DEAD:
            return
        time.sleep(EXEC_POLL_S)


def reap(pid: int) -> int | None:
    """Exit status of a child that has ended (minus the signal's number if killed by one).

    None for a process that still runs or is no child.
    """
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None


def pids() -> list[int]:
    """All processes."""
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def read_stat(pid: int) -> Stat | None:
    """What matters of a process; None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    # The name, in parentheses, may hold anything; fields count from the state, the third, on.
    fields = text.rpartition(")")[2].split()
    return Stat(
        state=fields[0],
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def environ(pid: int) -> dict[str, str]:
    """The environment that a process was started with; empty if it may not be looked at."""
    try:
        raw = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return {}
    return dict(pair.partition("=")[::2] for pair in raw.split("\0") if "=" in pair)


def command(pid: int) -> str:
    """The command line of a process; empty if it may not be looked at."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()


def _roll(log: Path) -> None:
    with suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_name(f"{log.name}.1"))


def _handles(belongs: Callable[[int], bool]) -> Iterator[int]:
    for pid in pids():
        if pid == os.getpid() or not belongs(pid):
            continue
        with suppress(ProcessLookupError):
            handle = os.pidfd_open(pid)
            stat = read_stat(pid)
            if stat is not None and stat.state not in DEAD and belongs(pid):
                yield handle  # checked again: it is the one that was asked about
            else:
                os.close(handle)
