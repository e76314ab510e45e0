"""The process that writes checkpoints: without torch, started again, gone with its worker."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import checkpoint
from runtime.checkpoint import Commit
from runtime.checkpoint.protocol import NotSaved, Saved, Task
from runtime.objects import Store
from runtime.train.writing import COMMAND, Writer
from tests.conftest import ROOT
from tests.doubles.store import HookedStore
from tests.runtime.checkpoint.conftest import RUN, draft
from tests.runtime.train.conftest import eventually


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return HookedStore(tmp_path / "checkpoints")


@pytest.fixture
def writer() -> Iterator[Writer]:
    writer = Writer()
    yield writer
    writer.stop()


@pytest.fixture
def shards() -> Iterator[tuple[int, ...]]:
    files = tuple(os.memfd_create("test") for _ in range(2))
    for number, file in enumerate(files):
        os.write(file, bytes([number]) * 1000)
    yield files
    for file in files:
        os.close(file)


def task(store: Store, files: tuple[int, ...], step: int = 10) -> Task:
    return Task(store=store.url, draft=draft(0, step), files=files, resume_steps=(0,), grace_s=0.0)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_what_is_in_memory_is_committed_by_one_process_that_is_kept(
    writer: Writer, store: Store, shards: tuple[int, ...]
) -> None:
    assert writer.pid is None
    assert writer.save(task(store, shards), frozenset(shards)) == Saved()
    first = writer.pid
    os.pwrite(shards[0], b"\7" * 1000, 0)
    assert writer.save(task(store, shards, 20), frozenset(shards)) == Saved()

    assert writer.pid == first
    for step, byte in ((10, b"\0"), (20, b"\7")):
        manifest = checkpoint.read_manifest(store, RUN, Commit(0, step))
        assert list(checkpoint.read(store, manifest)) == [byte * 1000, b"\1" * 1000]


def test_it_is_nice_and_has_no_torch(writer: Writer, store: Store, shards: tuple[int, ...]) -> None:
    writer.save(task(store, shards), frozenset(shards))
    assert writer.pid is not None

    assert os.getpriority(os.PRIO_PROCESS, writer.pid) > os.getpriority(os.PRIO_PROCESS, 0)
    mapped = Path(f"/proc/{writer.pid}/maps").read_text()
    assert "obstore" in mapped
    assert "torch" not in mapped


def test_one_that_was_killed_is_told_and_the_next_try_has_another(
    writer: Writer, store: Store, shards: tuple[int, ...]
) -> None:
    assert writer.save(task(store, shards), frozenset(shards)) == Saved()
    assert writer.pid is not None
    first = writer.pid
    os.kill(first, signal.SIGSTOP)
    told: list[Saved | NotSaved] = []
    saving = threading.Thread(
        target=lambda: told.append(writer.save(task(store, shards, 20), frozenset(shards)))
    )
    saving.start()
    os.kill(first, signal.SIGKILL)
    saving.join()

    assert isinstance(told[0], NotSaved) or writer.pid != first
    assert writer.save(task(store, shards, 20), frozenset(shards)) == Saved()
    assert writer.pid != first
    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 20)


def test_one_that_hangs_is_killed(store: Store, shards: tuple[int, ...]) -> None:
    writer = Writer(command=(sys.executable, "-c", "import time; time.sleep(600)"), hung_s=0.2)

    told = writer.save(task(store, shards), frozenset(shards))

    assert isinstance(told, NotSaved)
    assert "silent" in told.why
    assert not told.is_final
    assert writer.pid is None


def test_one_that_talks_nonsense_is_killed(store: Store, shards: tuple[int, ...]) -> None:
    writer = Writer(command=("echo", "nonsense"))

    told = writer.save(task(store, shards), frozenset(shards))

    assert isinstance(told, NotSaved)
    assert writer.pid is None


def test_a_program_that_is_not_there_costs_the_checkpoint_alone(
    store: Store, shards: tuple[int, ...]
) -> None:
    told = Writer(command=("/nonexistent",)).save(task(store, shards), frozenset(shards))

    assert isinstance(told, NotSaved)


def test_a_store_that_refuses_is_told_by_the_process_that_stays(
    writer: Writer, store: Store, shards: tuple[int, ...], tmp_path: Path
) -> None:
    blocked = tmp_path / "checkpoints" / f"{draft(0, 10).attempt}" / "00000.safetensors"
    blocked.mkdir(parents=True)
    (blocked / "in-the-way").touch()

    told = writer.save(task(store, shards), frozenset(shards))

    assert isinstance(told, NotSaved)
    assert not told.is_final
    pid = writer.pid
    assert writer.save(task(store, shards, 20), frozenset(shards)) == Saved()
    assert writer.pid == pid


def test_a_disk_that_is_full_leaves_no_commit_and_no_shards(
    store: Store, shards: tuple[int, ...]
) -> None:
    # The kernel refuses this process files above 50 KiB, as a full disk would.
    limited = Writer(command=("bash", "-c", 'ulimit -f 50; exec "$0" "$@"', *COMMAND))
    os.pwrite(shards[1], bytes(100_000), 0)

    told = limited.save(task(store, shards), frozenset(shards))

    assert isinstance(told, NotSaved)
    assert "00001.safetensors" in told.why
    assert not told.is_final
    assert [info.key for info in store.list(RUN)] == []
    os.truncate(shards[1], 1000)
    assert limited.save(task(store, shards, 20), frozenset(shards)) == Saved()
    limited.stop()


@pytest.mark.parametrize("is_idle", [True, False])
def test_it_is_gone_when_its_worker_is_killed(store: Store, is_idle: bool) -> None:
    """Also in the middle of a save: its shard is a pipe that gives nothing."""
    parent = (
        "import os, subprocess, sys, time\n"
        "reader, writer = os.pipe()\n"
        "child = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE, pass_fds=[reader])\n"
        "child.stdin.write(sys.argv[1].replace('-7', str(reader)).encode())\n"
        "child.stdin.flush()\n"
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    line = "" if is_idle else task(store, (-7,)).encode().decode()
    process = subprocess.Popen(
        [sys.executable, "-c", parent, line, *COMMAND],
        stdout=subprocess.PIPE,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout is not None
    pid = int(process.stdout.readline())
    assert is_alive(pid)

    process.kill()
    process.wait()
    process.stdout.close()

    eventually(lambda: not is_alive(pid), lambda: f"the writer {pid} is gone")
