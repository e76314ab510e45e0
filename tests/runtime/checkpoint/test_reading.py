"""What is saved is read back; what is damaged is put aside, told, and costs one checkpoint."""

import itertools
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from runtime import checkpoint
from runtime.checkpoint import Commit, Manifest
from runtime.checkpoint.manifest import manifest_key, seal
from runtime.errors import Conflict, Corrupt, Missing, Unavailable
from runtime.objects import Store
from tests.doubles.store import HookedStore, Operation, pass_on, refuse
from tests.runtime.checkpoint.conftest import RUN, save

BOTH = (b"a" * 20, b"c" * 20)
GRACE_S = 0.2  # far less than a restore on a busy machine may take


def test_what_is_saved_is_read_back(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "shard"
    file.write_bytes(b"from a file")
    save(store, 0, 10, shards=[b"a" * 10, b"", file])

    found = checkpoint.find_sound(store, RUN, [0])

    assert found == checkpoint.Sound(commit=Commit(0, 10))
    manifest = checkpoint.read_manifest(store, RUN, Commit(0, 10))
    assert manifest.samples == 40
    assert list(checkpoint.read(store, manifest)) == [b"a" * 10, b"", b"from a file"]


def flip(store: Store, manifest: Manifest) -> None:
    key = manifest.shards[0].key
    content = bytearray(store.get(key))
    content[7] ^= 4
    store.put(key, bytes(content))


def cut(store: Store, manifest: Manifest) -> None:
    key = manifest.shards[1].key
    store.put(key, store.get(key)[:-1])


def lengthen(store: Store, manifest: Manifest) -> None:
    key = manifest.shards[1].key
    store.put(key, store.get(key) + b"\0")


def swap(store: Store, manifest: Manifest) -> None:
    one, other = (shard.key for shard in manifest.shards)
    first, second = store.get(one), store.get(other)
    assert len(first) == len(second)
    store.put(one, second)
    store.put(other, first)


def lose(store: Store, manifest: Manifest) -> None:
    store.delete(manifest.shards[1].key)


def garble(store: Store, manifest: Manifest) -> None:
    store.put(manifest_key(RUN, manifest.commit), b'{"manifest": {"run": "run-1", "epo')


def claim_more(store: Store, manifest: Manifest) -> None:
    changed = seal(manifest).replace(b'"samples": 80', b'"samples": 81')
    store.put(manifest_key(RUN, manifest.commit), changed)


def take_anothers(store: Store, manifest: Manifest) -> None:
    older = store.get(manifest_key(RUN, Commit(0, 10)))
    store.put(manifest_key(RUN, manifest.commit), older)


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (flip, "SHA-256 does not fit"),
        (cut, "found 19 bytes; the manifest says 20"),
        (lengthen, "found 21 bytes"),
        (swap, "SHA-256 does not fit"),
        (lose, "not there"),
        (garble, "no manifest"),
        (claim_more, "does not fit its own"),
        (take_anothers, "is that of run-1 0-00000010"),
    ],
)
def test_a_damaged_checkpoint_is_put_aside_and_the_one_before_is_taken(
    store: Store, spoil: Callable[[Store, Manifest], None], why: str
) -> None:
    save(store, 0, 10)
    spoil(store, save(store, 0, 20, shards=BOTH))
    before = {info.key: store.get(info.key) for info in store.list(RUN)}

    found = checkpoint.find_sound(store, RUN, [0])

    assert found.commit == Commit(0, 10)
    (damage,) = found.damaged
    assert damage.commit == Commit(0, 20)
    assert why in damage.why
    record = json.loads(store.get(f"{RUN}/quarantine/0-00000020"))
    assert why in record["why"]
    assert all(store.get(key) == content for key, content in before.items())  # evidence stays


@pytest.mark.parametrize("spoil", [flip, cut, swap])
def test_a_damaged_shard_is_not_given_out(
    store: Store, spoil: Callable[[Store, Manifest], None]
) -> None:
    manifest = save(store, 0, 20, shards=BOTH)
    spoil(store, manifest)

    with pytest.raises(Corrupt):
        list(checkpoint.read(store, manifest))


def test_a_damaged_checkpoint_never_counts_again_even_when_its_bytes_are_back(
    store: Store,
) -> None:
    save(store, 0, 10)
    manifest = save(store, 0, 20, shards=BOTH)
    lose(store, manifest)
    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 10)

    store.put(manifest.shards[1].key, BOTH[1])

    assert checkpoint.find_sound(store, RUN, [0]) == checkpoint.Sound(commit=Commit(0, 10))
    assert checkpoint.commits(store, RUN) == [Commit(0, 10)]


def test_if_all_are_damaged_all_are_told_and_the_run_begins_anew(store: Store) -> None:
    for step in (10, 20):
        flip(store, save(store, 0, step, shards=BOTH))

    found = checkpoint.find_sound(store, RUN, [0])

    assert found.commit is None
    assert [damage.commit.step for damage in found.damaged] == [20, 10]


def test_a_store_that_does_not_answer_puts_nothing_aside(store: HookedStore) -> None:
    save(store, 0, 10)

    store.before = refuse("head")
    with pytest.raises(Unavailable):
        checkpoint.find_sound(store, RUN, [0])

    store.before = pass_on
    assert checkpoint.find_sound(store, RUN, [0]) == checkpoint.Sound(commit=Commit(0, 10))


def test_a_checkpoint_pruned_while_it_is_read_is_no_damage(store: HookedStore) -> None:
    save(store, 0, 10)
    verified: set[Commit] = set()

    def overtake(operation: Operation, key: str) -> None:
        if operation == "head" and "0-00000010-n/00001" in key:
            store.before = pass_on
            save(store, 0, 20)
            save(store, 0, 30)
            checkpoint.prune(store, RUN, [0], 0.0, verified)

    store.before = overtake
    found = checkpoint.find_sound(store, RUN, [0])

    assert found == checkpoint.Sound(commit=Commit(0, 30))
    assert checkpoint.commits(store, RUN) == [Commit(0, 20), Commit(0, 30)]


def test_a_large_shard_is_verified_a_piece_at_a_time(
    store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("runtime.checkpoint.reading.VERIFY_CHUNK_BYTES", 1000)
    monkeypatch.setattr(Store, "get", lambda *_: pytest.fail("read whole"))
    file = tmp_path / "shard"
    for size in (999, 1000, 1001, 5500):
        file.write_bytes(bytes(range(256)) * (size // 256) + bytes(size % 256))
        checkpoint.verify(store, save(store, 0, size, shards=[file]))


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


def test_a_commit_whose_answer_was_lost_keeps_its_shards_and_can_be_saved_again(
    store: HookedStore,
) -> None:
    store.after = refuse("put_if_absent")  # done, but the answer is lost
    with pytest.raises(Unavailable):
        save(store, 0, 10)
    assert checkpoint.newest_sound(store, RUN, [0]) == Commit(0, 10)

    store.after = pass_on
    save(store, 0, 10)

    assert checkpoint.find_sound(store, RUN, [0]) == checkpoint.Sound(commit=Commit(0, 10))


def test_no_restore_fails_beside_garbage_collection(store: Store) -> None:
    # The writer commits and prunes as fast as it can; the reader reads the newest again and again.
    save(store, 0, 1)
    is_over = threading.Event()
    faults: list[BaseException] = []
    restores = 0

    def write() -> None:
        verified: set[Commit] = set()
        try:
            until_s = time.monotonic() + 10 * GRACE_S
            for step in itertools.count(2):
                if time.monotonic() > until_s:
                    break
                save(store, 0, step, shards=[bytes(1 << 14)] * 2)
                checkpoint.prune(store, RUN, [0], GRACE_S, verified)
        except BaseException as fault:
            faults.append(fault)
        finally:
            is_over.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not is_over.is_set():
        found = checkpoint.find_sound(store, RUN, [0])
        assert found.damaged == ()
        assert found.commit is not None
        restores += 1
    writer.join()

    assert faults == []
    assert restores > 3
    with pytest.raises(Missing):
        checkpoint.read_manifest(store, RUN, Commit(0, 1))
