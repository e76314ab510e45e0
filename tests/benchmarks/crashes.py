"""Crash points: a save is killed at its n-th system call of a kind, or one bit is flipped.

Needs `strace` (a Debian package of that name), which kills at the entry of the call. Counters of
strace are per thread, so a drawn point may not be met; then another is drawn.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from runtime import checkpoint
from runtime.checkpoint import Commit, Draft, Recipe
from runtime.node_spec import ModelSpec
from runtime.objects import Store, file_url, open_store
from tests.benchmarks.crash_child import RESUME_STEPS, Order
from tests.conftest import ROOT
from tests.doubles.store import HookedStore, Operation, pass_on
from tests.runtime.checkpoint.conftest import AT

# Calls that change what is on the disk, or come right before one that does; and how many of them
# one thread makes in a save.
CALLS = {
    "write": 6, "rename": 3, "linkat": 1, "unlink": 6, "mkdir": 4,
    "openat": 25, "close": 25, "lseek": 12, "statx": 25,
}  # fmt: skip
SHARD_BYTES_MAX = 6 << 20  # above 5 MiB a shard goes in parts
ATTACH_S = 30.0
RUN = "run-torn"
RECIPE = Recipe(
    model=ModelSpec(), data="d", tokenizer="t", seed=0, global_batch=4, sequence_tokens=128
)


class Killed(BaseException):
    """Not caught by anybody, as a kill is not."""


@dataclass(frozen=True, slots=True)
class Point:
    """Where a save is killed."""

    call: str
    number: int


@dataclass(frozen=True, slots=True)
class Aftermath:
    """What was found after a kill."""

    is_readable: bool  # the newest commit that the store names is sound, and none was lost
    is_new: bool  # it is the one whose save was killed


class CrashChild:
    """The process whose children are killed."""

    def __init__(self, kind: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.crash_child", kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
        )

    def kill_at(self, order: Order, point: Point) -> bool:
        """Save with a kill at this point; False if the save ended before it was met."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(order.model_dump_json().encode() + b"\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        _until_stopped(pid)
        inject = f"inject={point.call}:signal=KILL:when={point.number}"
        strace = subprocess.Popen(
            ["strace", "-f", "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject,
             "-p", str(pid)],
            stderr=subprocess.PIPE,
        )  # fmt: skip
        assert strace.stderr is not None
        told = strace.stderr.readline()
        assert b"attached" in told, told
        os.kill(pid, signal.SIGCONT)
        status = int(self._process.stdout.readline())
        strace.wait()
        strace.stderr.close()
        return status == -signal.SIGKILL

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@contextmanager
def crash_child(kind: str) -> Iterator[CrashChild]:
    """One, ended afterwards."""
    child = CrashChild(kind)
    try:
        yield child
    finally:
        child.close()


def kill_a_save(child: CrashChild, folder: Path, draw: Random) -> Aftermath | None:
    """A drawn save killed at a drawn point, and the one before it; None if it was not met.

    Afterwards the same checkpoint is saved again, as a worker does, and must be there.
    """
    order = order_of(folder, draw)
    store, older = open_store(order.store), order.draft.step - 1
    call = draw.choice(list(CALLS))
    point = Point(call, draw.randint(1, CALLS[call]))
    if not child.kill_at(order, point):
        return None
    found = checkpoint.find_sound(store, RUN, RESUME_STEPS)
    before = Commit(0, older) if older else None
    is_readable = found.damaged == () and found.commit in (before, Commit(0, older + 1))
    is_new = found.commit == Commit(0, older + 1)
    checkpoint.save(store, order.draft, order.shards)
    checkpoint.prune(store, RUN, RESUME_STEPS, 0.0, set())
    again = checkpoint.find_sound(store, RUN, RESUME_STEPS)
    is_readable = is_readable and again == checkpoint.Sound(commit=Commit(0, older + 1))
    return Aftermath(is_readable, is_new)


def order_of(folder: Path, draw: Random) -> Order:
    """A drawn save after some others, in a fresh store."""
    store, older = _history(folder, draw)
    return Order(store=store.url, draft=_draft(older + 1), shards=_shards(folder, draw))


def kill_at_store_calls(folder: Path, side: str) -> list[bool]:
    """A save and its deletions, killed before or after each call of the store; is all readable?"""
    readable: list[bool] = []
    for number in range(1, 1000):
        store = HookedStore(folder / f"{side}-{number}")
        for step in (1, 2, 3):
            checkpoint.save(store, _draft(step), [bytes([step]) * 100] * 2)
        calls = 0

        def kill(_operation: Operation, _key: str, at: int = number) -> None:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed

        setattr(store, side, kill)
        try:
            checkpoint.save(store, _draft(4), [b"\4" * 100] * 2)
            checkpoint.prune(store, RUN, RESUME_STEPS, 0.0, set())
        except Killed:
            store.before = store.after = pass_on
            found = checkpoint.find_sound(store, RUN, RESUME_STEPS)
            readable.append(found.damaged == () and found.commit in (Commit(0, 3), Commit(0, 4)))
        else:
            return readable
    raise AssertionError("a save has no end")


def flip_bits(folder: Path, draw: Random, flips: int) -> int:
    """How many of so many single flipped bits, anywhere in a checkpoint, are found."""
    store, _ = _history(folder, draw, commits=1)
    checkpoint.save(store, _draft(2), _shards(folder, draw, bytes_max=20_000))
    root = folder / "store"
    names = [f"{RUN}/commits/0-00000002"]
    manifest = checkpoint.read_manifest(store, RUN, Commit(0, 2))
    names += [shard.key for shard in manifest.shards]
    found = 0
    for _ in range(flips):
        # Half of them in the manifest, which is small but says what all else is.
        path = root / (names[0] if draw.random() < 0.5 else draw.choice(names[1:]))
        content = path.read_bytes()
        path.write_bytes(flipped(content, draw))
        sound = checkpoint.find_sound(store, RUN, RESUME_STEPS)
        found += sound.commit == Commit(0, 1) and sound.damaged[0].commit == Commit(0, 2)
        path.write_bytes(content)
        shutil.rmtree(root / RUN / "quarantine", ignore_errors=True)
    assert checkpoint.newest_sound(store, RUN, RESUME_STEPS) == Commit(0, 2), "all is mended"
    return found


def flipped(content: bytes, draw: Random) -> bytes:
    """With one other bit."""
    at = draw.randrange(len(content) * 8)
    spoilt = bytearray(content)
    spoilt[at // 8] ^= 1 << at % 8
    return bytes(spoilt)


def has_strace() -> bool:
    """Whether it is on the path."""
    return shutil.which("strace") is not None


def strace_version() -> str:
    """As it says."""
    told = subprocess.run(["strace", "-V"], capture_output=True, text=True, check=True).stdout
    match = re.search(r"version (\S+)", told)
    return match[1] if match else ""


def _history(folder: Path, draw: Random, commits: int | None = None) -> tuple[Store, int]:
    """A store with some commits, and how many."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "shards").mkdir(parents=True)
    store = open_store(file_url(folder / "store"))
    count = draw.randint(0, 4) if commits is None else commits
    for step in range(1, count + 1):
        checkpoint.save(store, _draft(step), [draw.randbytes(100), draw.randbytes(10)])
    return store, count


def _draft(step: int) -> Draft:
    return Draft(**dict(RECIPE), run=RUN, epoch=0, step=step, samples=step * 4, at=AT, nonce="n")


def _shards(folder: Path, draw: Random, bytes_max: int | None = None) -> tuple[Path, ...]:
    """Some files, small ones and now and then a large one."""
    paths = []
    for number in range(draw.randint(1, 4)):
        large = bytes_max or draw.choice([1000, 1000, 1000, SHARD_BYTES_MAX])
        path = folder / "shards" / f"{number}.safetensors"
        path.write_bytes(draw.randbytes(draw.randint(1, large)))
        paths.append(path)
    return tuple(paths)


def _until_stopped(pid: int) -> None:
    deadline = time.monotonic() + ATTACH_S
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, f"the child {pid} has not stopped"
        time.sleep(0.0005)
