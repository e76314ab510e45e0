"""Identity and end of real processes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.clouds.local.processes import (
    ProcessId,
    end,
    end_marked,
    end_rest,
    environ,
    identify,
    is_alive,
    marked,
    open_handle,
    read_stat,
    reap,
    spawn_daemon,
    wait,
)

ENDS_S = 20.0  # for a process to end on a loaded machine
SAYS_PID = "import os, sys, time, subprocess, signal\n"
SLEEPS = SAYS_PID + "time.sleep(1000)"
DEAF = SAYS_PID + "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True)\n"
DEAF += "time.sleep(1000)"
# A child in the session without the token, and a grandchild that left the session with it.
FAMILY = SAYS_PID + (
    "a = subprocess.Popen(['sleep', '1000'], env={})\n"
    "b = subprocess.Popen(['sleep', '1000'], start_new_session=True)\n"
    "print(a.pid, b.pid, flush=True)\n"
    "time.sleep(1000)"
)


class Spawner:
    """Starts daemons and leaves none behind."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "log"
        self.token = f"test/{folder.name}/{os.getpid()}/"
        self._folder = folder
        self.spawned: list[ProcessId] = []

    def __call__(self, code: str, *, token: bool = True) -> ProcessId:
        env = {"PATH": os.environ["PATH"]}
        if token:
            env["ATOLL_TOKEN"] = f"{self.token}{len(self.spawned) + 1}"
        process = spawn_daemon([sys.executable, "-c", code], env, self._folder, self.log)
        self.spawned.append(process)
        return process

    def said(self, words: int = 1) -> list[str]:
        """What the daemons have printed; waits for it."""
        handle = subprocess.Popen(["tail", "-f", "-n", "+1", self.log], stdout=subprocess.PIPE)
        assert handle.stdout is not None
        with handle:
            found: list[str] = []
            while len(found) < words:
                found += handle.stdout.readline().decode().split()
            handle.kill()
        return found


@pytest.fixture
def spawn(tmp_path: Path) -> Iterator[Spawner]:
    spawner = Spawner(tmp_path)
    yield spawner
    for process in spawner.spawned:
        end(process, 0.0)
        reap(process.pid)
    end_marked(spawner.token)


def is_gone(pid: int) -> bool:
    """Whether no process of that pid runs."""
    stat = read_stat(pid)
    return stat is None or stat.state == "Z"


def test_a_daemon_is_identified_and_leads_its_own_session(spawn: Spawner) -> None:
    process = spawn(SLEEPS)

    assert identify(process.pid) == process
    assert ProcessId.model_validate_json(process.model_dump_json()) == process
    stat = read_stat(process.pid)
    assert stat is not None
    assert stat.session == process.pid


def test_a_daemon_inherits_no_files_and_only_its_environment(spawn: Spawner) -> None:
    reads, writes = os.pipe()
    os.set_inheritable(writes, True)

    process = spawn(
        "import os, sys; print(len(os.listdir('/proc/self/fd')), sys.stdin.read() == '')"
    )

    # 0, 1, 2 and the one that lists them.
    assert spawn.said(2) == ["4", "True"]
    assert set(environ(process.pid)) <= {"PATH", "ATOLL_TOKEN"}
    os.close(reads)
    os.close(writes)


def test_a_pid_that_was_reused_is_not_taken_for_the_old_process(spawn: Spawner) -> None:
    now = spawn(SLEEPS)
    earlier = now.model_copy(update={"start_ticks": now.start_ticks - 1})
    other_boot = now.model_copy(update={"token": "another"})

    for gone in (earlier, other_boot):
        assert not is_alive(gone)
        assert open_handle(gone) is None
        end(gone, 0.0)
    assert identify(now.pid, "another") is None
    assert is_alive(now)


def test_a_zombie_is_dead(spawn: Spawner) -> None:
    process = spawn("raise SystemExit(7)")
    handle = os.pidfd_open(process.pid)

    assert wait(handle, ENDS_S)

    assert not is_alive(process)
    assert identify(process.pid) is None
    assert reap(process.pid) == 7
    assert reap(process.pid) is None
    os.close(handle)


def test_ending_asks_first(spawn: Spawner) -> None:
    polite = SAYS_PID + "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))\n"
    process = spawn(polite + "print('up', flush=True)\ntime.sleep(1000)")
    spawn.said()

    end(process, ENDS_S)

    assert reap(process.pid) == 3


def test_what_does_not_leave_is_killed(spawn: Spawner) -> None:
    process = spawn(DEAF)
    spawn.said()

    end(process, 0.1)

    assert reap(process.pid) == -signal.SIGKILL


def test_what_a_process_leaves_behind_ends_with_it(spawn: Spawner) -> None:
    process = spawn(FAMILY)
    in_session, by_token = map(int, spawn.said(2))

    end(process, ENDS_S)

    assert is_gone(process.pid)
    assert is_gone(in_session)
    assert is_gone(by_token)


def test_the_children_of_one_killed_are_found_while_it_is_not_reaped(spawn: Spawner) -> None:
    process = spawn(FAMILY)
    in_session, by_token = map(int, spawn.said(2))
    handle = os.pidfd_open(process.pid)
    os.kill(process.pid, signal.SIGKILL)
    wait(handle, ENDS_S)
    os.close(handle)

    end_rest(process)

    assert is_gone(in_session)
    assert is_gone(by_token)


def test_the_session_of_one_that_is_no_leader_is_spared(spawn: Spawner) -> None:
    leader = spawn(FAMILY, token=False)
    in_session, other = map(int, spawn.said(2))
    child = identify(in_session)
    assert child is not None

    end(child, ENDS_S)

    assert is_gone(in_session)
    assert is_alive(leader)
    assert not is_gone(other)
    end(leader, 0.0)
    os.kill(other, signal.SIGKILL)


def test_processes_are_found_by_how_their_token_begins(spawn: Spawner) -> None:
    first, second = spawn(SLEEPS), spawn(SLEEPS)
    spawn(SLEEPS, token=False)

    assert marked(spawn.token) == [first, second]
    assert marked(f"{spawn.token}2") == [second]
    end_marked(f"{spawn.token}1")
    assert not is_alive(first)
    assert is_alive(second)
