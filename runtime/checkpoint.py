"""Checkpoints: shards under `<run>/<attempt>/`, then the manifest, which is the commit.

A commit `<run>/commits/<epoch>-<step>` counts only if no later epoch resumed before it: what a
fenced node writes afterwards forks nothing. No torch here: what a shard holds is training's affair,
and the agent, which decides where to resume, has none.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import BaseModel, ConfigDict, ValidationError

from runtime.errors import AtollError, Conflict, Corrupt, Missing
from runtime.objects import Store

KEPT = 2  # the newest that count; the second is there for the day the first is damaged


class Shard(BaseModel):
    """A safetensors file of a checkpoint."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    sha256: str
    size_bytes: int


class Manifest(BaseModel):
    """A commit."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    run: str
    epoch: int
    step: int  # applied
    samples: int  # consumed over all members: the whole state of the data
    data: str  # digest of the prepared data
    at: datetime
    shards: tuple[Shard, ...]


@dataclass(frozen=True, order=True, slots=True)
class Commit:
    """The name of a commit; a later one is larger."""

    epoch: int
    step: int

    @property
    def name(self) -> str:
        """As in the key."""
        return f"{self.epoch}-{self.step:08d}"


def counting(commits: Iterable[Commit], resume_steps: Sequence[int]) -> list[Commit]:
    """Those that count, newest first. `resume_steps` are the epochs' own, in order."""

    def counts(commit: Commit) -> bool:
        later = resume_steps[commit.epoch + 1 :]
        return commit.epoch < len(resume_steps) and all(commit.step <= step for step in later)

    return sorted(filter(counts, commits), reverse=True)


def save(
    store: Store,
    run: str,
    commit: Commit,
    *,
    samples: int,
    data: str,
    shards: Iterable[bytes],
    nonce: str,
    at: datetime,
) -> Manifest:
    """Write the shards and commit them.

    Raises Unavailable if the store can't take them (a full disk too), Conflict if another
    process has committed this step of this epoch.
    """
    attempt = f"{run}/{commit.name}-{nonce}"
    written: list[Shard] = []
    try:
        for number, content in enumerate(shards):
            key = f"{attempt}/{number:05d}.safetensors"
            digest = hashlib.sha256(content).hexdigest()
            written.append(Shard(key=key, sha256=digest, size_bytes=len(content)))
            store.put(key, content)
        manifest = Manifest(
            run=run,
            epoch=commit.epoch,
            step=commit.step,
            samples=samples,
            data=data,
            at=at,
            shards=tuple(written),
        )
        content = manifest.model_dump_json(indent=1).encode()
        if not store.put_if_absent(_key(run, commit), content) and content != store.get(
            _key(run, commit)
        ):
            raise Conflict(f"{run}: commit {commit.name} was written by another process")
    except AtollError:
        _delete(store, written)
        raise
    return manifest


def commits(store: Store, run: str) -> list[Commit]:
    """All commits of a run, whether or not they count, oldest first."""
    found = []
    for info in store.list(f"{run}/commits"):
        epoch, _, step = info.key.rpartition("/")[2].partition("-")
        if epoch.isdecimal() and step.isdecimal():
            found.append(Commit(int(epoch), int(step)))
    return sorted(found)


def newest_sound(store: Store, run: str, resume_steps: Sequence[int]) -> Commit | None:
    """The newest commit that counts and whose bytes are those that were written."""
    for commit in counting(commits(store, run), resume_steps):
        try:
            for _ in read(store, read_manifest(store, run, commit)):
                pass
        except (Corrupt, Missing):
            continue
        return commit
    return None


def read_manifest(store: Store, run: str, commit: Commit) -> Manifest:
    """The manifest of a commit; raises Missing or Corrupt."""
    try:
        return Manifest.model_validate_json(store.get(_key(run, commit)))
    except ValidationError as fault:
        raise Corrupt(f"{store.url}/{_key(run, commit)}: {fault}") from fault


def read(store: Store, manifest: Manifest) -> Iterator[bytes]:
    """The shards, each verified before it is given out; raises Missing or Corrupt."""
    for shard in manifest.shards:
        content = store.get(shard.key)
        if hashlib.sha256(content).hexdigest() != shard.sha256:
            raise Corrupt(f"{store.url}/{shard.key}: SHA-256 does not fit the manifest")
        yield content


def prune(store: Store, run: str, resume_steps: Sequence[int]) -> None:
    """Delete what is older than the last KEPT that count; by the first member only.

    Manifest before shards: a half-deleted checkpoint must not look like one.
    """
    found = commits(store, run)
    kept = counting(found, resume_steps)[:KEPT]
    if len(kept) < KEPT:
        return
    for commit in found:
        if commit >= min(kept):
            continue
        try:
            shards = read_manifest(store, run, commit).shards
        except (Corrupt, Missing):
            shards = ()
        store.delete(_key(run, commit))
        _delete(store, shards)


def _delete(store: Store, shards: Iterable[Shard]) -> None:
    for shard in shards:
        try:
            store.delete(shard.key)
        except AtollError:
            continue  # garbage costs space, not truth


def _key(run: str, commit: Commit) -> str:
    return f"{run}/commits/{commit.name}"
