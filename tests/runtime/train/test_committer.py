"""Checkpoints written beside training: as the tensors were; a store that is away is told of."""

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import Tensor

from runtime import checkpoint
from runtime.checkpoint import Commit, Recipe
from runtime.checkpoint.interval import Cadence
from runtime.checkpoint.protocol import NotSaved, Saved, Task
from runtime.errors import Unavailable
from runtime.limits import INTERVAL_S_MIN
from runtime.node_spec import ModelSpec
from runtime.objects import Store
from runtime.train.committer import Committer, Stages, Writes
from runtime.train.state import copy_in
from tests.doubles.store import HookedStore, Operation, pass_on, refuse
from tests.doubles.writer import WriterHere
from tests.runtime.train.conftest import eventually

pytestmark = pytest.mark.usefixtures("one_thread")

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"
WAIT_S = 20.0
UNSAVED_S = 600.0
RECIPE = Recipe(
    model=ModelSpec(), data="d", tokenizer="t", seed=0, global_batch=4, sequence_tokens=128
)


@dataclass(slots=True)
class Told:
    """What a committer says and does to the outside."""

    notes: list[str] = field(default_factory=list)
    before: Callable[[], None] = lambda: None
    nonces: int = 0
    seconds: Callable[[], float] = time.monotonic

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


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert "committer" not in {thread.name for thread in threading.enumerate()}


@pytest.fixture(autouse=True)
def _tries_follow_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runtime.train.committer.SPOOL_AGAIN_S", 0.01)


def build(
    store: Store,
    told: Told,
    resume_steps: tuple[int, ...] = (0,),
    writer: Writes | None = None,
    every_steps: int | None = 10,
    stages: Stages | None = None,
) -> Committer:
    return Committer(
        store,
        RUN,
        resume_steps,
        recipe=RECIPE,
        writer=writer or WriterHere(store),
        stages=stages or Stages(),
        clock=lambda: AT,
        seconds=lambda: told.seconds(),
        nonce=told.nonce,
        note=told.notes.append,
        before=lambda: told.before(),
        cadence=Cadence(every_steps=every_steps, nodes=2),
        unsaved_s_max=UNSAVED_S,
        grace_s=0.0,
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
    assert (manifest.data, manifest.tokenizer, manifest.at) == ("d", "t", AT)
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


def test_a_slow_store_holds_nobody_up_and_the_newest_is_written_after_the_one_in_the_writing(
    store: HookedStore, told: Told
) -> None:
    committer, gate = build(store, told), Gate()
    store.before = gate
    live = tensors(1.0)
    committer.start(10, 40, live)
    assert gate.is_reached.wait(WAIT_S)

    for step in (20, 30, 40):  # none of these calls waits: the gate is closed
        for tensor in live.values():
            tensor.add_(tensor)
        committer.start(step, 4 * step, live)
    writers = [thread for thread in threading.enumerate() if thread.name == "committer"]
    assert len(writers) == 1
    gate.is_open.set()
    committer.wait()

    assert checkpoint.commits(store, RUN) == [Commit(0, 10), Commit(0, 40)]
    assert [value_of(store, Commit(0, step)) for step in (10, 40)] == [1.0, 8.0]


def test_staging_takes_no_new_memory_after_the_first_time() -> None:
    stages = Stages()
    first = stages.free(tensors(1.0), None)
    files = stages.files

    assert stages.free(tensors(2.0), None) is first
    assert stages.free(tensors(2.0), first) is not first
    assert stages.files == files
    assert stages.free({"weight.b": torch.zeros(2)}, None) is not first


def test_memory_prepared_beforehand_is_what_the_first_save_uses(store: Store, told: Told) -> None:
    stages = Stages()
    stages.prepare(tensors(1.0))
    files = stages.files
    committer = build(store, told, stages=stages)

    committer.start(10, 40, tensors(3.0))
    committer.wait()

    assert stages.files == files
    assert value_of(store, Commit(0, 10)) == 3.0


def test_a_store_that_is_away_is_tried_again_until_it_is_back_and_both_are_told(
    store: HookedStore, told: Told
) -> None:
    committer = build(store, told)
    is_back = threading.Event()
    tries = 0

    def away(operation: Operation, key: str) -> None:
        nonlocal tries
        tries += operation == "put"
        if tries > 3:
            is_back.set()
        else:
            refuse("put")(operation, key)

    store.before = away
    committer.start(10, 10, tensors(1.0))
    assert is_back.wait(WAIT_S)
    committer.wait()

    assert [note.partition(":")[0] for note in told.notes] == [
        "checkpoint of step 10 not written",
        "",
    ]
    assert checkpoint.commits(store, RUN) == [Commit(0, 10)]


def test_a_newer_checkpoint_takes_the_place_of_one_that_the_store_refuses(
    store: HookedStore, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.train.committer.SPOOL_AGAIN_S", 1000.0)
    committer = build(store, told)
    is_refused = threading.Event()

    def refuse_old(_operation: Operation, key: str) -> None:
        if "00000010-" in key:
            is_refused.set()
            raise Unavailable("away")

    store.before = refuse_old
    committer.start(10, 10, tensors(1.0))
    assert is_refused.wait(WAIT_S)
    committer.start(20, 20, tensors(2.0))
    committer.wait()

    assert checkpoint.commits(store, RUN) == [Commit(0, 20)]
    assert told.notes[-1] == ""


def test_who_waits_waits_for_one_more_try_and_no_longer(store: HookedStore, told: Told) -> None:
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


def test_a_store_that_takes_none_for_too_long_asks_for_a_pause_until_it_does(
    store: HookedStore, told: Told
) -> None:
    now_s = 0.0
    told.seconds = lambda: now_s
    committer = build(store, told)
    store.before = refuse("put")

    committer.start(10, 10, tensors(1.0))
    eventually(lambda: told.notes != [], lambda: "a note")
    assert not committer.is_full
    now_s = UNSAVED_S
    assert committer.is_full
    eventually(lambda: "training is paused" in told.notes[-1], lambda: told.notes[-1])
    committer.wait_room(0.01)  # in vain, but it comes back

    store.before = pass_on
    committer.wait_room(WAIT_S)
    assert not committer.is_full
    committer.wait()
    assert checkpoint.commits(store, RUN) == [Commit(0, 10)]
    assert told.notes[-1] == ""


def test_what_another_process_has_committed_is_not_tried_again(
    store: HookedStore, told: Told
) -> None:
    other = build(store, Told())
    other.start(10, 10, tensors(1.0))
    other.wait()
    told.nonces = 7
    committer = build(store, told)

    committer.start(10, 10, tensors(2.0))
    while committer.is_writing:
        time.sleep(0.01)

    assert "written by another process" in told.notes[-1]
    assert value_of(store, Commit(0, 10)) == 1.0


def test_figures_come_before_the_commit_that_they_belong_to_at_each_try(
    store: HookedStore, told: Told
) -> None:
    row: list[str] = []
    refused = 0

    def note(operation: Operation, key: str) -> None:
        nonlocal refused
        if operation.startswith("put"):
            row.append("commit" if "commits" in key else "shard")
            if row[-1] == "commit" and "00000020" in key and refused < 2:
                refused += 1
                raise Unavailable("away")

    told.before = lambda: row.append("figures")
    store.before = note
    committer = build(store, told)

    committer.start(10, 10, tensors(1.0))
    committer.wait()
    committer.start(20, 20, tensors(1.0))
    while committer.is_writing:
        time.sleep(0.01)

    assert row == ["figures", "shard", "commit"] * 4


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_of_our_own_costs_one_checkpoint_and_not_the_others(
    store: Store, told: Told
) -> None:
    def fail() -> None:
        raise RuntimeError("a fault of our own")

    told.before = fail
    committer = build(store, told)
    committer.start(10, 10, tensors(1.0))
    for thread in threading.enumerate():
        if thread.name == "committer":
            thread.join()

    told.before = lambda: None
    committer.start(20, 20, tensors(2.0))
    committer.wait()

    assert checkpoint.commits(store, RUN) == [Commit(0, 20)]


def test_no_room_in_memory_costs_the_checkpoint_and_not_the_run(
    store: Store, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    committer = build(store, told)
    with monkeypatch.context() as patch:
        patch.setattr("os.truncate", fail)
        committer.start(10, 10, tensors(1.0))
        committer.wait()
    committer.start(20, 20, tensors(1.0))
    committer.wait()

    assert "step 10 not written: [Errno 12]" in told.notes[0]
    assert told.notes[1:] == [""]
    assert checkpoint.commits(store, RUN) == [Commit(0, 20)]


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


def test_a_damaged_checkpoint_met_on_the_way_is_told(store: Store, told: Told) -> None:
    committer = build(store, told)
    for step in (10, 20, 30):
        committer.start(step, step, tensors(float(step)))
        committer.wait()
    newest = checkpoint.read_manifest(store, RUN, Commit(0, 30))
    store.put(newest.shards[0].key, b"?")

    fresh = build(store, told)
    fresh.start(40, 40, tensors(40.0))
    fresh.wait()

    assert "checkpoint 0-00000030 put aside" in told.notes[-1]
    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 40)


def test_it_is_due_as_set_or_else_by_what_saves_and_failures_cost(store: Store, told: Told) -> None:
    now_s = 0.0
    told.seconds = lambda: now_s
    by_setting = build(store, told, every_steps=10)
    by_cost = build(store, told, every_steps=None)

    due: list[int] = []
    for step in range(1, 200):
        now_s += 1.0
        assert by_setting.is_due(step) == (step % 10 == 0)
        if by_cost.is_due(step):
            due.append(step)
            by_cost.start(step, step, tensors(1.0))
            by_cost.wait()

    # A save that costs nothing is worth as many as are allowed.
    assert due[0] == INTERVAL_S_MIN + 1  # the first call has no step before it
    assert {b - a for a, b in pairwise(due)} == {INTERVAL_S_MIN}


class Silent:
    """A writer that says what it is told to say."""

    def __init__(self, outcome: Saved | NotSaved) -> None:
        self.tasks: list[Task] = []
        self._outcome = outcome

    def save(self, task: Task, files: frozenset[int]) -> Saved | NotSaved:
        """As told."""
        self.tasks.append(task)
        return self._outcome


def test_a_retry_is_the_same_checkpoint(store: Store, told: Told) -> None:
    writer = Silent(NotSaved(why="away", is_final=False))
    committer = build(store, told, writer=writer)

    committer.start(10, 10, tensors(1.0))
    while len(writer.tasks) < 3:
        time.sleep(0.01)
    committer.wait()

    assert {task.draft.nonce for task in writer.tasks} == {"n1"}
    assert len(set(writer.tasks)) == 1
