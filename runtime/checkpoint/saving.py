"""Writes a checkpoint: shards, each with its digest, and last the manifest."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

from runtime.checkpoint.manifest import Draft, Manifest, Shard, manifest_key, seal
from runtime.errors import AtollError, Conflict, Missing
from runtime.objects import Store


def save(
    store: Store,
    draft: Draft,
    shards: Iterable[bytes | Path],
    wrote: Callable[[Shard], None] = lambda _: None,
) -> Manifest:
    """Write the shards and commit them; `wrote` hears of each. The same draft may be saved again.

    Raises Unavailable if the store can't take them (a full disk too), Conflict if another
    process has committed this step of this epoch.
    """
    written: list[Shard] = []
    try:
        for number, content in enumerate(shards):
            key = f"{draft.attempt}/{number:05d}.safetensors"
            digest, size_bytes = _measure(content)
            written.append(Shard(key=key, sha256=digest, size_bytes=size_bytes))
            store.put(key, content)
            wrote(written[-1])
    except AtollError:
        delete_shards(store, written)  # a full disk needs the room
        raise
    manifest = Manifest(**dict(draft), shards=tuple(written))
    try:
        _commit(store, manifest)
    except Conflict:
        delete_shards(store, written)
        raise
    return manifest


def delete_shards(store: Store, shards: Iterable[Shard]) -> None:
    """Delete as many as can be; the rest is collected later."""
    for shard in shards:
        try:
            store.delete(shard.key)
        except AtollError:
            continue  # garbage costs space, not truth


def _commit(store: Store, manifest: Manifest) -> None:
    """Put the manifest. After a lost answer it may be there, so the shards stay on Unavailable."""
    key, content = manifest_key(manifest.run, manifest.commit), seal(manifest)
    if store.put_if_absent(key, content):
        return
    try:
        is_own = store.get(key) == content
    except Missing:
        is_own = False
    if not is_own:
        raise Conflict(
            f"{manifest.run}: commit {manifest.commit.name} was written by another process"
        )


def _measure(content: bytes | Path) -> tuple[str, int]:
    """SHA-256 and size; a file is not read at once."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest(), len(content)
    with content.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()
