"""Checkpoints: shards under `<run>/<attempt>/`, then the manifest, which is the commit.

A commit `<run>/commits/<epoch>-<step>` counts only if no later epoch resumed before it: what a
fenced node writes afterwards forks nothing. No torch here: what a shard holds is training's affair,
and neither the agent, which decides where to resume, nor the process that writes has any.
"""

from runtime.checkpoint.manifest import (
    Commit,
    Draft,
    Manifest,
    Recipe,
    Shard,
    counting,
    refuse_mismatch,
)
from runtime.checkpoint.reading import (
    Damage,
    Sound,
    commits,
    find_sound,
    newest_sound,
    read,
    read_manifest,
    verify,
)
from runtime.checkpoint.retention import pin, prune
from runtime.checkpoint.saving import save

__all__ = [
    "Commit",
    "Damage",
    "Draft",
    "Manifest",
    "Recipe",
    "Shard",
    "Sound",
    "commits",
    "counting",
    "find_sound",
    "newest_sound",
    "pin",
    "prune",
    "read",
    "read_manifest",
    "refuse_mismatch",
    "save",
    "verify",
]
