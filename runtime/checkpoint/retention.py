"""Which checkpoints go, and how: never the last two verified, never a pinned or damaged one.

All ages are by the store's own clock: an object's against the newest object of the run.
"""

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from runtime.checkpoint.manifest import Commit, counting, manifest_key, pin_key, seal
from runtime.checkpoint.reading import Damage, is_there, quarantine, read_manifest, verify
from runtime.checkpoint.saving import delete_shards
from runtime.errors import Corrupt, Missing
from runtime.limits import ORPHAN_S
from runtime.objects import ObjectInfo, Store

KEPT = 2  # the newest that count; the second is there for the day the first is damaged
ATTEMPT = re.compile(r"(\d+-\d+)-.+")


@dataclass(frozen=True, kw_only=True, slots=True)
class Shelf:
    """The objects of a run, as one list request told them."""

    commits: Mapping[Commit, datetime]  # when they were written
    pinned: Collection[Commit]
    aside: Collection[Commit]  # known to be damaged
    attempts: Mapping[str, Sequence[ObjectInfo]]  # shards by the folder they are in
    now: datetime | None  # None: the run has no objects


def prune(
    store: Store,
    run: str,
    resume_steps: Sequence[int],
    grace_s: float,
    verified: set[Commit],
) -> tuple[Damage, ...]:
    """Delete what is no longer needed; by the first member only.

    Before anything goes, the commits that stay for it are read back, once each: `verified` is the
    caller's memory of that. One that is damaged is put aside and returned, and nothing goes.
    """
    shelf = _look(store, run)
    if shelf.now is None:
        return ()
    doomed = condemned(shelf, resume_steps, grace_s)
    for commit in counting(shelf.commits, resume_steps)[:KEPT] if doomed else ():
        if commit in verified:
            continue
        try:
            verify(store, read_manifest(store, run, commit))
        except (Corrupt, Missing) as fault:
            quarantine(store, run, commit, str(fault))
            return (Damage(commit=commit, why=str(fault)),)
        verified.add(commit)
    damaged = [damage for commit in doomed if (damage := _remove(store, run, commit)) is not None]
    for orphan in _orphans(store, run, shelf):
        store.delete(orphan.key)
    return tuple(damaged)


def condemned(shelf: Shelf, resume_steps: Sequence[int], grace_s: float) -> list[Commit]:
    """Those that KEPT newer ones that count have replaced, for at least the grace time.

    The grace is for who still reads it, and against a fenced node: in its eyes its own commits
    count, and without grace it would delete the one that the others resume from.
    """
    count = sorted(counting(shelf.commits, resume_steps))

    def is_due(commit: Commit) -> bool:
        newer = [later for later in count if later > commit][:KEPT]
        if len(newer) < KEPT or commit in shelf.pinned:
            return False
        replaced_at = max(shelf.commits[later] for later in newer)
        assert shelf.now is not None, "there are commits"
        return (shelf.now - replaced_at).total_seconds() >= grace_s

    return [commit for commit in sorted(shelf.commits) if is_due(commit)]


def pin(store: Store, run: str, commit: Commit, why: str) -> None:
    """Keep a commit until somebody deletes the pin; raises Missing if it is not there any more."""
    key = pin_key(run, commit)
    store.put_if_absent(key, why.encode())
    if not is_there(store, manifest_key(run, commit)):
        store.delete(key)
        raise Missing(f"{store.url}/{manifest_key(run, commit)}: not there, so not pinned")


def _look(store: Store, run: str) -> Shelf:
    commits: dict[Commit, datetime] = {}
    marked: dict[str, set[Commit]] = {"pins": set(), "quarantine": set()}
    attempts: dict[str, list[ObjectInfo]] = {}
    objects = list(store.list(run))
    for info in objects:
        room, _, name = info.key.removeprefix(f"{run}/").partition("/")
        commit = Commit.parse(name)
        if room == "commits" and commit is not None:
            commits[commit] = info.last_modified
        elif room in marked and commit is not None:
            marked[room].add(commit)
        elif ATTEMPT.fullmatch(room):
            attempts.setdefault(room, []).append(info)
    aside = marked["quarantine"]
    return Shelf(
        commits={commit: at for commit, at in commits.items() if commit not in aside},
        pinned=marked["pins"],
        aside=aside,
        attempts=attempts,
        now=max((info.last_modified for info in objects), default=None),
    )


def _remove(store: Store, run: str, commit: Commit) -> Damage | None:
    """Manifest before shards: a half-deleted checkpoint must not look like one."""
    try:
        manifest = read_manifest(store, run, commit)
    except Missing:
        return None
    except Corrupt as fault:
        quarantine(store, run, commit, str(fault))
        return Damage(commit=commit, why=str(fault))
    store.delete(manifest_key(run, commit))
    if is_there(store, pin_key(run, commit)):  # pinned meanwhile; who pins later finds no manifest
        store.put_if_absent(manifest_key(run, commit), seal(manifest))
        return None
    delete_shards(store, manifest.shards)
    return None


def _orphans(store: Store, run: str, shelf: Shelf) -> Iterator[ObjectInfo]:
    """Shards of attempts that died: in no manifest, and too old to be still in the writing."""
    assert shelf.now is not None, "there are objects"
    by_commit: dict[Commit, list[str]] = {}
    for attempt in shelf.attempts:
        match = ATTEMPT.fullmatch(attempt)
        if match and (commit := Commit.parse(match[1])) is not None:
            by_commit.setdefault(commit, []).append(attempt)
    for commit, attempts in by_commit.items():
        if commit in shelf.aside or (commit in shelf.commits and len(attempts) == 1):
            continue
        for attempt in set(attempts) - set(_owner(store, run, commit, shelf)):
            shards = shelf.attempts[attempt]
            youngest = max(info.last_modified for info in shards)
            if (shelf.now - youngest).total_seconds() >= ORPHAN_S:
                yield from shards


def _owner(store: Store, run: str, commit: Commit, shelf: Shelf) -> Iterator[str]:
    """Attempts that a commit's manifest lists; all, if it can't be told."""
    if commit not in shelf.commits:
        return
    try:
        yield read_manifest(store, run, commit).attempt.removeprefix(f"{run}/")
    except (Corrupt, Missing):
        yield from shelf.attempts
