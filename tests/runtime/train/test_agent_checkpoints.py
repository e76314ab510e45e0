"""The process that writes checkpoints dies in the middle of a real run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from runtime import checkpoint

if TYPE_CHECKING:
    from tests.runtime.train.conftest import Rig

pytestmark = pytest.mark.slow


def children(parent: int) -> list[int]:
    """The processes that a process has started, whichever of its threads it was."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def test_a_killed_writer_is_replaced_and_its_worker_goes_on(rig: Rig) -> None:
    rig.spec = rig.spec.model_copy(update={"nodes": 1, "steps": 3000, "validate_every_steps": 3000})
    rig.claim()
    rig.start(0)
    killed: list[int] = []

    def kill_another() -> bool:
        found = writers(rig, killed)
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        killed.extend(found)
        return len(killed) >= 3

    rig.wait(kill_another, "three writers")
    entry = rig.wait_end()

    assert entry.outcome == "published", rig.logs()
    assert len(rig.epochs()) == 1
    assert "worker of training-0 ended" not in rig.logs()
    kept = checkpoint.commits(rig.store("checkpoints"), entry.run)
    assert kept[-1].step == rig.spec.steps
    assert checkpoint.newest_sound(rig.store("checkpoints"), entry.run, [0]) == kept[-1]


def writers(rig: Rig, killed: list[int]) -> list[int]:
    """Writing processes that are not among the killed."""
    try:
        worker = rig.nodes[0].worker_pid()
    except (OSError, IndexError):
        return []
    return [pid for pid in children(worker) if pid not in killed]
