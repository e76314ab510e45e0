"""Commits: which count, what a damaged one costs, what is kept."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import checkpoint
from runtime.checkpoint import Commit, counting
from runtime.errors import Conflict, Unavailable
from runtime.objects import Store, file_url, open_store

AT = datetime(2026, 1, 2, tzinfo=UTC)
RUN = "run-1"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(file_url(tmp_path / "checkpoints"))


def save(store: Store, epoch: int, step: int, nonce: str = "n") -> checkpoint.Manifest:
    """A checkpoint of two shards."""
    shards = [b"a" * step, b"b" * epoch]
    return checkpoint.save(
        store,
        RUN,
        Commit(epoch, step),
        samples=step * 4,
        data="d",
        shards=shards,
        nonce=nonce,
        at=AT,
    )


def test_what_is_saved_is_read_back(store: Store) -> None:
    save(store, 0, 10)

    commit = checkpoint.newest_sound(store, RUN, [0])

    assert commit == Commit(0, 10)
    manifest = checkpoint.read_manifest(store, RUN, commit)
    assert manifest.samples == 40
    assert list(checkpoint.read(store, manifest)) == [b"a" * 10, b""]


def test_a_fenced_nodes_commit_does_not_count() -> None:
    # Epoch 1 went on from step 10; epoch 0's first member did not know and committed step 20.
    found = [Commit(0, 10), Commit(0, 20), Commit(1, 15)]

    assert counting(found, [0, 10]) == [Commit(1, 15), Commit(0, 10)]


def test_a_commit_taken_back_by_a_later_epoch_does_not_count() -> None:
    # Epoch 2 found epoch 1's commit of step 30 damaged and went back to 10.
    found = [Commit(0, 10), Commit(1, 30), Commit(2, 12)]

    assert counting(found, [0, 10, 10]) == [Commit(2, 12), Commit(0, 10)]


@given(
    resume_steps=st.lists(st.integers(0, 50), min_size=1, max_size=6),
    commits=st.sets(st.tuples(st.integers(0, 7), st.integers(1, 60))),
)
def test_commits_that_count_form_one_history(
    resume_steps: list[int], commits: set[tuple[int, int]]
) -> None:
    found = counting([Commit(*pair) for pair in commits], resume_steps)

    assert found == sorted(found, reverse=True)
    for commit in found:
        assert all(commit.step <= later for later in resume_steps[commit.epoch + 1 :])


def test_a_damaged_checkpoint_falls_back_to_the_one_before(store: Store) -> None:
    save(store, 0, 10)
    newest = save(store, 0, 20)
    store.put(newest.shards[0].key, b"a" * 19 + b"!")

    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 10)


def test_a_checkpoint_without_its_shard_or_with_half_a_manifest_is_passed_over(
    store: Store,
) -> None:
    save(store, 0, 10)
    store.delete(save(store, 0, 20).shards[0].key)
    save(store, 0, 30)
    store.put(f"{RUN}/commits/0-00000030", b'{"run": "run-1", "epo')

    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 10)


def test_the_last_two_that_count_are_kept_and_all_older_bytes_go(store: Store) -> None:
    for step in (10, 20, 30):
        save(store, 0, step)
    save(store, 0, 40, nonce="fenced")
    save(store, 1, 35)

    checkpoint.prune(store, RUN, [0, 30])

    assert checkpoint.commits(store, RUN) == [Commit(0, 30), Commit(0, 40), Commit(1, 35)]
    names = {info.key.split("/")[1] for info in store.list(RUN)}
    assert names == {"commits", "0-00000030-n", "0-00000040-fenced", "1-00000035-n"}


def test_two_processes_can_not_commit_the_same_step(store: Store) -> None:
    save(store, 0, 10, nonce="one")

    with pytest.raises(Conflict):
        save(store, 0, 10, nonce="two")

    assert not any("0-00000010-two" in info.key for info in store.list(RUN))
    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 10)


def test_shards_that_can_not_all_be_written_leave_no_commit(store: Store, tmp_path: Path) -> None:
    blocked = tmp_path / "checkpoints" / RUN / "0-00000010-n"
    (blocked / "00001.safetensors").mkdir(parents=True)  # a folder where a file should be

    with pytest.raises(Unavailable):
        save(store, 0, 10)

    assert checkpoint.commits(store, RUN) == []
    assert not (blocked / "00000.safetensors").exists()
