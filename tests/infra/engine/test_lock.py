import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from infra.engine.lock import Lock, is_dead, locks_of

HOST = "here"
NOW = datetime.now(tz=UTC)

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="start times are read in /proc")


def _ended_pid() -> int:
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_an_owner_that_has_ended_is_dead() -> None:
    assert is_dead(Lock(pid=_ended_pid(), hostname=HOST, timestamp=NOW), HOST)


def test_an_owner_that_runs_is_not_dead() -> None:
    assert not is_dead(Lock(pid=os.getpid(), hostname=HOST, timestamp=NOW), HOST)


def test_an_owner_on_another_machine_is_never_called_dead() -> None:
    assert not is_dead(Lock(pid=_ended_pid(), hostname="there", timestamp=NOW), HOST)


@needs_proc
def test_a_process_that_began_after_the_lock_only_has_its_owners_number() -> None:
    long_ago = NOW - timedelta(days=400)

    assert is_dead(Lock(pid=os.getpid(), hostname=HOST, timestamp=long_ago), HOST)


@needs_proc
def test_an_ended_owner_that_nobody_has_buried_is_dead() -> None:
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it stays a zombie

        assert is_dead(Lock(pid=process.pid, hostname=HOST, timestamp=NOW), HOST)


def test_where_start_times_cannot_be_read_a_running_process_counts_as_the_owner(
    tmp_path: Path,
) -> None:
    lock = Lock(pid=os.getpid(), hostname=HOST, timestamp=NOW - timedelta(days=400))

    assert not is_dead(lock, HOST, processes=tmp_path)


def test_locks_are_found_per_stack_and_an_unreadable_one_is_nobodys_to_remove(
    tmp_path: Path,
) -> None:
    folder = tmp_path / ".pulumi" / "locks" / "organization" / "atoll" / "local"
    folder.mkdir(parents=True)
    written = {"pid": 12, "username": "kim", "hostname": HOST, "timestamp": NOW.isoformat()}
    (folder / "a.json").write_text(json.dumps(written))
    (folder / "b.json").write_text("{")

    locks = locks_of(tmp_path, "atoll", "organization/atoll/local")

    assert locks[0] == (folder / "a.json", Lock(pid=12, hostname=HOST, timestamp=NOW))
    assert not is_dead(locks[1][1], HOST)
    assert locks_of(tmp_path, "atoll", "other") == []
