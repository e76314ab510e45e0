"""Checkpoints written beside training: as the tensors were, one at a time; a refusal is told."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
import torch
from torch import Tensor

from runtime import checkpoint
from runtime.checkpoint import Commit
from runtime.objects import Store
from runtime.train.committer import Committer
from runtime.train.state import copy_in
from tests.doubles.store import HookedStore, Operation, pass_on, refuse

pytestmark = pytest.mark.usefixtures("one_thread")

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
WAIT_S = 20.0


@dataclass(slots=True)
class Told:
    """What a committer says and does to the outside."""

    notes: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    nonces: int = 0

    def nonce(self) -> str:
        """Another one each time."""
        self.nonces += 1
        return f"n{self.nonces}"


@pytest.fixture
def store(tmp_path: Path) -> HookedStore:
    return HookedStore(tmp_path / "checkpoints")


@pytest.fixture
def told() -> Told:
    return Told()


def build(store: Store, told: Told, resume_steps: tuple[int, ...] = (0,)) -> Committer:
    return Committer(
        store,
        RUN,
        resume_steps,
        data="d",
        clock=lambda: AT,
        nonce=told.nonce,
        note=told.notes.append,
        before=lambda: told.before(),
    )


def tensors(value: float) -> dict[str, Tensor]:
    return {"weight.a": torch.full((3, 4), value), "exp_avg.a": torch.full((3, 4), value / 2)}


def value_of(store: Store, commit: Commit) -> float:
    """The one value that all weights of a commit have."""
    found = tensors(0.0)
    copy_in(found, checkpoint.read(store, checkpoint.read_manifest(store, RUN, commit)))
    assert torch.equal(found["exp_avg.a"] * 2, found["weight.a"])
    (value,) = set(found["weight.a"].flatten().tolist())
    return float(value)


class Gate:
    """Lets no shard be written until it is opened; knows when somebody waits."""

    def __init__(self) -> None:
        self.is_reached = threading.Event()
        self.is_open = threading.Event()

    def __call__(self, operation: Operation, key: str) -> None:
        if operation == "put":
            self.is_reached.set()
            assert self.is_open.wait(WAIT_S), f"{key}: never let through"


def test_a_commit_says_which_step_of_which_epoch_and_what_was_consumed(
    store: Store, told: Told
) -> None:
    committer = build(store, told, resume_steps=(0, 10, 20))

    committer.start(30, 120, tensors(1.0))
    committer.wait()

    assert checkpoint.commits(store, RUN) == [Commit(2, 30)]
    manifest = checkpoint.read_manifest(store, RUN, Commit(2, 30))
    assert (manifest.epoch, manifest.step, manifest.samples) == (2, 30, 120)
    assert (manifest.data, manifest.at) == ("d", AT)
    assert told.notes == []


def test_what_is_committed_is_what_the_tensors_were_and_not_what_they_became(
    store: Store, told: Told
) -> None:
    may_write = threading.Event()

    def hold_up() -> None:
        assert may_write.wait(WAIT_S), "held up for too long"

    told.before = hold_up
    committer = build(store, told)
    live = tensors(1.0)
    committer.start(10, 40, live)

    for tensor in live.values():
        tensor.mul_(3.0)
    may_write.set()
    committer.wait()
    committer.start(20, 80, live)
    committer.wait()

    assert [value_of(store, Commit(0, step)) for step in (10, 20)] == [1.0, 3.0]


def test_one_checkpoint_is_in_the_writing_and_the_next_waits_for_it(
    store: HookedStore, told: Told
) -> None:
    committer, gate = build(store, told), Gate()
    store.before = gate
    committer.start(10, 40, tensors(1.0))
    assert gate.is_reached.wait(WAIT_S)

    second = threading.Thread(target=committer.start, args=(20, 80, tensors(2.0)))
    second.start()
    writers = [thread for thread in threading.enumerate() if thread.name == "committer"]
    assert len(writers) == 1
    assert second.is_alive()
    gate.is_open.set()
    second.join(WAIT_S)
    committer.wait()

    assert [value_of(store, Commit(0, step)) for step in (10, 20)] == [1.0, 2.0]


def test_a_refusal_costs_its_checkpoint_and_is_told_until_it_is_mended(
    store: HookedStore, told: Told
) -> None:
    committer = build(store, told)
    store.before = refuse("put")
    for step in (10, 20):
        committer.start(step, step, tensors(1.0))
        committer.wait()

    store.before = pass_on
    for step in (30, 40):
        committer.start(step, step, tensors(2.0))
        committer.wait()

    assert [note.partition(":")[0] for note in told.notes] == [
        "checkpoint of step 10 not written",
        "checkpoint of step 20 not written",
        "",
    ]
    assert checkpoint.commits(store, RUN) == [Commit(0, 30), Commit(0, 40)]


def test_figures_come_before_the_commit_that_they_belong_to(store: HookedStore, told: Told) -> None:
    row: list[str] = []

    def note(operation: Operation, key: str) -> None:
        if operation.startswith("put"):
            row.append("commit" if "commits" in key else "shard")

    told.before = lambda: row.append("figures")
    store.before = note
    committer = build(store, told)

    for step in (10, 20):
        committer.start(step, step, tensors(1.0))
        committer.wait()

    assert row == ["figures", "shard", "commit"] * 2


def test_only_the_last_commits_that_count_are_kept(store: Store, told: Told) -> None:
    committer = build(store, told)

    for step in (10, 20, 30, 40):
        committer.start(step, step, tensors(float(step)))
        committer.wait()

    assert checkpoint.commits(store, RUN) == [Commit(0, 30), Commit(0, 40)]
    assert value_of(store, Commit(0, 30)) == 30.0
    assert {info.key.split("/")[1] for info in store.list(RUN)} == {
        "commits",
        "0-00000030-n3",
        "0-00000040-n4",
    }
