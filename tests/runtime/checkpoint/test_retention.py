"""What is deleted, and what never is."""

import json
import os
import time
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import checkpoint
from runtime.checkpoint import Commit
from runtime.checkpoint.manifest import manifest_key
from runtime.checkpoint.retention import KEPT, Shelf, condemned
from runtime.errors import Missing, Unavailable
from runtime.limits import COMMIT_GRACE_S, ORPHAN_S
from runtime.objects import Store
from tests.doubles.store import HookedStore, Operation, pass_on, refuse_call
from tests.runtime.checkpoint.conftest import AT, RUN, save

STEPS = (10, 20, 30, 40)


def attempts(store: Store) -> set[str]:
    """Folders of shards."""
    return {name for info in store.list(RUN) if "-n" in (name := info.key.split("/")[1])}


def prune(store: Store, resume_steps: tuple[int, ...] = (0,), grace_s: float = 0.0) -> list[Commit]:
    """The damaged ones that it met."""
    return [d.commit for d in checkpoint.prune(store, RUN, resume_steps, grace_s, set())]


def grow_old(folder: Path, seconds: float) -> None:
    """As if all had been written earlier."""
    then = time.time() - seconds
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def test_the_last_two_that_count_are_kept_and_all_older_bytes_go(store: Store) -> None:
    for step in (10, 20, 30):
        save(store, 0, step)
    save(store, 0, 40, nonce="n-fenced")
    save(store, 1, 35)

    assert prune(store, (0, 30)) == []

    assert checkpoint.commits(store, RUN) == [Commit(0, 30), Commit(0, 40), Commit(1, 35)]
    assert attempts(store) == {"0-00000030-n", "0-00000040-n-fenced", "1-00000035-n"}


def test_what_was_replaced_only_now_stays_for_who_reads_it(store: Store, tmp_path: Path) -> None:
    for step in STEPS:
        save(store, 0, step)

    prune(store, grace_s=COMMIT_GRACE_S)
    assert len(checkpoint.commits(store, RUN)) == len(STEPS)

    grow_old(tmp_path / "checkpoints", COMMIT_GRACE_S + 10)
    save(store, 0, 50)  # its time is the store's now
    prune(store, grace_s=COMMIT_GRACE_S)
    assert checkpoint.commits(store, RUN) == [Commit(0, 30), Commit(0, 40), Commit(0, 50)]


def test_a_fenced_node_does_not_delete_what_the_others_resume_from(store: Store) -> None:
    for step in (10, 20):
        save(store, 0, step)

    # Epoch 1 resumes from 20; epoch 0's first member wakes, commits twice and prunes as it knows.
    for step in (30, 40):
        save(store, 0, step)
        prune(store, grace_s=COMMIT_GRACE_S)

    assert checkpoint.newest_sound(store, RUN, [0, 20]) == Commit(0, 20)


def test_a_pinned_checkpoint_stays(store: Store) -> None:
    save(store, 0, 10)
    checkpoint.pin(store, RUN, Commit(0, 10), "the paper's")
    for step in (20, 30, 40):
        save(store, 0, step)

    prune(store)

    assert checkpoint.commits(store, RUN) == [Commit(0, 10), Commit(0, 30), Commit(0, 40)]
    checkpoint.verify(store, checkpoint.read_manifest(store, RUN, Commit(0, 10)))


def test_a_pin_on_what_is_gone_is_refused_and_leaves_nothing(store: Store) -> None:
    with pytest.raises(Missing):
        checkpoint.pin(store, RUN, Commit(0, 10), "")

    assert list(store.list(RUN)) == []


@pytest.mark.parametrize("call", range(1, 25))
def test_a_pin_at_any_moment_of_a_deletion_holds_or_is_refused(
    store: HookedStore, call: int
) -> None:
    for step in (10, 20, 30):
        save(store, 0, step)
    calls = 0
    is_pinned = False

    def pin(_operation: Operation, _key: str) -> None:
        nonlocal calls, is_pinned
        calls += 1
        if calls == call:
            store.before = pass_on
            try:
                checkpoint.pin(store, RUN, Commit(0, 10), "")
                is_pinned = True
            except Missing:
                pass

    store.before = pin
    prune(store)

    is_kept = Commit(0, 10) in checkpoint.commits(store, RUN)
    assert is_kept or not is_pinned
    if is_pinned:
        checkpoint.verify(store, checkpoint.read_manifest(store, RUN, Commit(0, 10)))


def test_nothing_goes_before_those_that_stay_for_it_are_verified(store: Store) -> None:
    for step in STEPS:
        manifest = save(store, 0, step)
    store.put(manifest.shards[0].key, b"?" * 40)

    assert prune(store) == [Commit(0, 40)]
    assert checkpoint.commits(store, RUN) == [Commit(0, 10), Commit(0, 20), Commit(0, 30)]
    assert prune(store) == []

    assert checkpoint.commits(store, RUN) == [Commit(0, 20), Commit(0, 30)]
    assert "0-00000040-n" in attempts(store)  # evidence


def test_a_commit_is_read_back_once(store: HookedStore) -> None:
    verified: set[Commit] = set()
    read: list[str] = []

    def note(operation: Operation, key: str) -> None:
        if operation == "head" and key.endswith("safetensors"):
            read.append(key.split("/")[1])

    for step in STEPS:
        save(store, 0, step)
        store.before = note
        checkpoint.prune(store, RUN, [0], 0.0, verified)
        store.before = pass_on

    assert sorted(set(read)) == ["0-00000020-n", "0-00000030-n", "0-00000040-n"]
    assert len(read) == 2 * len(set(read))  # two shards each


def test_a_garbled_manifest_of_an_old_commit_is_evidence_too(store: Store) -> None:
    for step in STEPS:
        save(store, 0, step)
    store.put(manifest_key(RUN, Commit(0, 10)), b"{")

    assert prune(store) == [Commit(0, 10)]

    assert checkpoint.commits(store, RUN) == [Commit(0, 30), Commit(0, 40)]
    assert "0-00000010-n" in attempts(store)
    assert "why" in json.loads(store.get(f"{RUN}/quarantine/0-00000010"))


def test_shards_of_dead_attempts_go_after_a_day_and_no_others(
    store: HookedStore, tmp_path: Path
) -> None:
    save(store, 0, 10, nonce="n-won")
    store.put(f"{RUN}/0-00000010-n-lost/00000.safetensors", b"dead")
    store.put(f"{RUN}/0-00000020-n-dead/00000.safetensors", b"dead")
    store.put(f"{RUN}/metrics/0.jsonl", b"figures")
    damaged = save(store, 0, 30, nonce="n-damaged")
    store.put(damaged.shards[0].key, b"?")
    checkpoint.find_sound(store, RUN, [0])
    grow_old(tmp_path / "checkpoints", ORPHAN_S + 10)
    store.put(f"{RUN}/0-00000040-n-young/00000.safetensors", b"in the writing")

    prune(store)

    assert attempts(store) == {"0-00000010-n-won", "0-00000030-n-damaged", "0-00000040-n-young"}
    assert store.get(f"{RUN}/metrics/0.jsonl") == b"figures"


def test_no_orphan_goes_within_a_day(store: Store, tmp_path: Path) -> None:
    store.put(f"{RUN}/0-00000020-n-dead/00000.safetensors", b"dead")
    grow_old(tmp_path / "checkpoints", ORPHAN_S - 60)
    save(store, 0, 10)

    prune(store)

    assert "0-00000020-n-dead" in attempts(store)


def test_a_store_gone_away_in_the_middle_leaves_sound_checkpoints(store: HookedStore) -> None:
    for number in range(1, 30):
        for step in (10 * number, 10 * number + 1, 10 * number + 2):
            save(store, 0, step)
        store.before = refuse_call(number)
        with suppress(Unavailable):
            prune(store)
        store.before = pass_on
        found = checkpoint.find_sound(store, RUN, [0])
        assert found == checkpoint.Sound(commit=Commit(0, 10 * number + 2))


@given(
    commits=st.sets(st.tuples(st.integers(0, 4), st.integers(1, 30)), min_size=1),
    resume_steps=st.lists(st.integers(0, 30), min_size=1, max_size=5),
    ages_s=st.lists(st.integers(0, 100), min_size=150, max_size=150),
    pins=st.sets(st.integers(0, 20)),
    grace_s=st.integers(0, 100),
)
def test_whatever_happened_the_last_two_that_count_and_pinned_ones_stay(
    commits: set[tuple[int, int]],
    resume_steps: list[int],
    ages_s: list[int],
    pins: set[int],
    grace_s: int,
) -> None:
    found = sorted(Commit(*pair) for pair in commits)
    pinned = {commit for number, commit in enumerate(found) if number in pins}
    shelf = Shelf(
        commits={c: AT - timedelta(seconds=s) for c, s in zip(found, ages_s, strict=False)},
        pinned=pinned,
        aside=(),
        attempts={},
        now=AT,
    )

    doomed = set(condemned(shelf, resume_steps, float(grace_s)))

    kept = checkpoint.counting(found, resume_steps)[:KEPT]
    assert not doomed & {*kept, *pinned}
    assert len(kept) == KEPT or not doomed
    for commit in doomed:
        newer = [c for c in checkpoint.counting(found, resume_steps) if c > commit]
        old = [c for c in newer if (AT - shelf.commits[c]).total_seconds() >= grace_s]
        assert len(old) >= KEPT
