"""Finds the checkpoint to go on from, and reads it; a damaged one is put aside for good."""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from runtime.checkpoint.manifest import (
    Commit,
    Manifest,
    Shard,
    counting,
    manifest_key,
    quarantine_key,
    unseal,
)
from runtime.errors import Corrupt, Missing, Unavailable
from runtime.limits import COMMIT_LOOKS_MAX, VERIFY_CHUNK_BYTES
from runtime.objects import Store

log = logging.getLogger("checkpoint")


@dataclass(frozen=True, kw_only=True, slots=True)
class Damage:
    """A commit that is not what was written."""

    commit: Commit
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Sound:
    """What a search for a sound checkpoint found."""

    commit: Commit | None  # None: there is none, so step 0
    damaged: tuple[Damage, ...] = ()  # put aside just now: people should hear of them


def commits(store: Store, run: str) -> list[Commit]:
    """The commits of a run, whether or not they count, oldest first; none known to be damaged."""
    aside = {info.key.rpartition("/")[2] for info in store.list(f"{run}/quarantine")}
    names = {info.key.rpartition("/")[2] for info in store.list(f"{run}/commits")}
    return sorted(commit for name in names - aside if (commit := Commit.parse(name)) is not None)


def newest_sound(store: Store, run: str, resume_steps: Sequence[int]) -> Commit | None:
    """As `find_sound`, which see; damaged ones go to the log."""
    found = find_sound(store, run, resume_steps)
    for damage in found.damaged:
        log.error("%s: checkpoint %s put aside: %s", run, damage.commit.name, damage.why)
    return found.commit


def find_sound(store: Store, run: str, resume_steps: Sequence[int]) -> Sound:
    """The newest commit that counts and whose bytes are those that were written.

    Damaged ones on the way are put aside: they never count again and are never deleted by us.
    """
    damaged: list[Damage] = []
    for _ in range(COMMIT_LOOKS_MAX):
        for commit in counting(commits(store, run), resume_steps):
            try:
                verify(store, read_manifest(store, run, commit))
            except (Corrupt, Missing) as fault:
                if not is_there(store, manifest_key(run, commit)):
                    break  # pruned while it was read, so there are newer ones: look again
                quarantine(store, run, commit, str(fault))
                damaged.append(Damage(commit=commit, why=str(fault)))
            else:
                return Sound(commit=commit, damaged=tuple(damaged))
        else:
            return Sound(commit=None, damaged=tuple(damaged))
    raise Unavailable(f"{store.url}/{run}: commits are deleted faster than they can be read")


def read_manifest(store: Store, run: str, commit: Commit) -> Manifest:
    """The manifest of a commit; raises Missing or Corrupt."""
    key = manifest_key(run, commit)
    content = store.get(key)
    try:
        return unseal(content, run, commit)
    except Corrupt as fault:
        raise Corrupt(f"{store.url}/{key}: {fault}") from fault


def read(store: Store, manifest: Manifest) -> Iterator[bytes]:
    """The shards, each verified before it is given out; raises Missing or Corrupt."""
    for shard in manifest.shards:
        content = store.get(shard.key)
        _compare(store, shard, len(content), hashlib.sha256(content).hexdigest())
        yield content


def verify(store: Store, manifest: Manifest) -> None:
    """Read all shards, a piece at a time; raises Missing or Corrupt."""
    for shard in manifest.shards:
        size_bytes = store.head(shard.key).size_bytes
        digest = hashlib.sha256()
        if size_bytes == shard.size_bytes:  # else there is nothing to read for
            for start in range(0, size_bytes, VERIFY_CHUNK_BYTES):
                length = min(VERIFY_CHUNK_BYTES, size_bytes - start)
                digest.update(store.get_range(shard.key, start, length))
        _compare(store, shard, size_bytes, digest.hexdigest())


def quarantine(store: Store, run: str, commit: Commit, why: str) -> None:
    """Put a damaged commit aside, with all its bytes: they are evidence."""
    record = json.dumps({"commit": commit.name, "why": why}, indent=1)
    store.put_if_absent(quarantine_key(run, commit), record.encode())


def is_there(store: Store, key: str) -> bool:
    """Whether an object exists."""
    try:
        store.head(key)
    except Missing:
        return False
    return True


def _compare(store: Store, shard: Shard, size_bytes: int, sha256: str) -> None:
    if size_bytes != shard.size_bytes:
        raise Corrupt(
            f"{store.url}/{shard.key}: found {size_bytes} bytes; the manifest says "
            f"{shard.size_bytes}"
        )
    if sha256 != shard.sha256:
        raise Corrupt(f"{store.url}/{shard.key}: SHA-256 does not fit the manifest")
