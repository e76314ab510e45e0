"""A cloud in a SQLite file: what it holds, who called, what is to go wrong.

The strict providers (strict_provider.py) write to it, one process per `up`; a test looks into it
and meddles with it:

    cloud = StrictCloud(tmp_path / "cloud.db")
    write_launchers(tmp_path / "bin", "aws")       # named in Pulumi.yaml: plugins.providers.path
    env = {**environ, **cloud.env}
    cloud.strike("fail", "create", "aws:ec2/*", nth=2)
    cloud.strike("kill", nth=5)                    # the engine, at the 5th change
    cloud.remove("vpc-0a1b...")                    # by hand
    assert cloud.resources() == []
"""

import json
import re
import sqlite3
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

from infra.provider.wire import Properties, Value
from tests.conftest import ROOT

ENV = "ATOLL_STRICT_CLOUD"  # where providers find the file
BUSY_S = 30.0
CHANGES = ("create", "update", "delete")
HANDLES = ("arn", "selfLink")  # outputs by which others refer to a resource, beside id and name
# Where names stand for themselves; a tag that says "atoll" refers to nothing.
SPOKEN = re.compile(r"^(tags|tagsAll|labels|description|name)\b|\btags\b")
TABLES = """
CREATE TABLE IF NOT EXISTS resource (
    n INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT, id TEXT, name TEXT, urn TEXT, seed TEXT,
    revision INTEGER, inputs TEXT, state TEXT, UNIQUE (type, id));
CREATE TABLE IF NOT EXISTS birth (urn TEXT PRIMARY KEY, times INTEGER);
CREATE TABLE IF NOT EXISTS call (
    n INTEGER PRIMARY KEY AUTOINCREMENT, op TEXT, type TEXT, name TEXT, id TEXT,
    is_preview INTEGER);
CREATE TABLE IF NOT EXISTS fault (
    n INTEGER PRIMARY KEY AUTOINCREMENT, deed TEXT, op TEXT, type TEXT, nth INTEGER, seen INTEGER,
    error TEXT, delay_s REAL);
"""

# `_after`: the effect is there, and nobody hears of it. A partial create is a `fail_after`.
Deed = Literal["nothing", "fail", "fail_after", "kill", "kill_after", "delay"]


class CloudError(Exception):
    """What the cloud answers instead of doing it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """A resource of the cloud."""

    type: str
    id: str
    name: str  # empty: it has none
    urn: str  # empty: a stranger's
    seed: str  # of its random-looking outputs
    inputs: Properties
    state: Properties  # inputs and outputs
    revision: int = 1

    @property
    def handles(self) -> set[str]:
        """All by which another resource may refer to it."""
        named = {self.id, self.name, *(str(self.state.get(key, "")) for key in HANDLES)}
        return named - {""}


@dataclass(frozen=True, slots=True)
class Call:
    """What a provider was asked."""

    op: str
    type: str
    name: str  # the resource's in the program
    id: str = ""
    is_preview: bool = False


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens at a call."""

    deed: Deed = "nothing"
    error: str = ""
    delay_s: float = 0.0


class StrictCloud:
    """One file; any number of processes and threads."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._open().executescript(TABLES)

    @property
    def env(self) -> dict[str, str]:
        """What an engine's environment needs for its providers to find this cloud."""
        return {ENV: str(self.path)}

    # What a test does.

    def resources(self, type_glob: str = "*") -> list[Stored]:
        """What there is, oldest first; strangers' too."""
        rows = self._open().execute("SELECT * FROM resource ORDER BY n")
        return [_stored(row) for row in rows if fnmatchcase(row["type"], type_glob)]

    def the(self, type_glob: str) -> Stored:
        """The only one of its type."""
        [found] = self.resources(type_glob)
        return found

    def calls(self, op: str = "*", type_glob: str = "*", is_preview: bool = False) -> list[Call]:
        """Who asked for what, in order; by default what was meant."""
        rows = self._open().execute("SELECT op, type, name, id, is_preview FROM call ORDER BY n")
        calls = [Call(*row) for row in rows]
        return [
            call
            for call in calls
            if fnmatchcase(call.op, op)
            and fnmatchcase(call.type, type_glob)
            and bool(call.is_preview) == is_preview
        ]

    def forget(self) -> None:
        """Calls so far, and faults that were to come."""
        self._open().executescript("DELETE FROM call; DELETE FROM fault;")

    def strike(
        self,
        deed: Deed,
        op: str = "*",
        type_glob: str = "*",
        *,
        nth: int = 1,
        error: str = "InternalError: the double was told to fail",
        delay_s: float = 0.0,
    ) -> None:
        """Once, at the nth call from now on that fits; `*` is any change, reads must be named."""
        self._open().execute(
            "INSERT INTO fault (deed, op, type, nth, seen, error, delay_s) VALUES (?,?,?,?,0,?,?)",
            (deed, op, type_glob, nth, error, delay_s),
        )

    def remove(self, resource_id: str) -> None:
        """By hand, in a console: nothing is checked."""
        gone = self._open().execute("DELETE FROM resource WHERE id = ?", (resource_id,))
        assert gone.rowcount > 0, f"there is no {resource_id}"

    def add_stranger(self, token: str, resource_id: str, /, **inputs: Value) -> None:
        """Somebody else's, e.g. a taken name (`resource_id`) or an object in our bucket."""
        stored = Stored(
            type=token,
            id=resource_id,
            name=resource_id,
            urn="",
            seed="",
            inputs=inputs,
            state=inputs,
        )
        self._insert(self._open(), stored)

    def change(self, resource_id: str, type_glob: str = "*", /, **properties: Value) -> None:
        """By hand: inputs that were given and outputs alike."""
        [old] = [r for r in self.resources(type_glob) if r.id == resource_id]
        given = {key: value for key, value in properties.items() if key in old.inputs}
        self.write(
            replace(old, inputs=old.inputs | given, state=old.state | properties), old.revision
        )

    # What a provider does.

    def begin(self, call: Call) -> Fault:
        """Note a call; what is to happen at it."""
        with self._alone() as db:
            db.execute(
                "INSERT INTO call (op, type, name, id, is_preview) VALUES (?,?,?,?,?)",
                (call.op, call.type, call.name, call.id, call.is_preview),
            )
            return Fault() if call.is_preview else self._fault_of(db, call)

    def _fault_of(self, db: sqlite3.Connection, call: Call) -> Fault:
        due = Fault()
        for row in db.execute("SELECT * FROM fault ORDER BY n").fetchall():
            fits = call.op in CHANGES if row["op"] == "*" else fnmatchcase(call.op, row["op"])
            if fits and fnmatchcase(call.type, row["type"]):
                db.execute("UPDATE fault SET seen = seen + 1 WHERE n = ?", (row["n"],))
                if row["seen"] + 1 == row["nth"]:
                    due = Fault(row["deed"], row["error"], row["delay_s"])
        return due

    def seed(self, urn: str) -> str:
        """Of one that is about to be made: the same in every test, another for a replacement."""
        with self._alone() as db:
            db.execute(
                "INSERT INTO birth VALUES (?, 1) ON CONFLICT DO UPDATE SET times = times + 1",
                (urn,),
            )
            [times] = db.execute("SELECT times FROM birth WHERE urn = ?", (urn,)).fetchone()
        return f"{urn} {times}"

    def find(self, token: str, resource_id: str) -> Stored | None:
        """One resource."""
        found = [r for r in self.resources(token) if r.id == resource_id]
        return found[0] if found else None

    def create(self, stored: Stored, unique: tuple[str, ...] = (), is_put: bool = False) -> None:
        """Raises CloudError if the id, the name or all of `unique` is taken; `is_put`: replaced."""
        with self._alone() as db:
            if is_put:
                self._put_over(db, stored, unique)
            if unique and any(
                _is_twin(stored, _stored(row), unique)
                for row in db.execute("SELECT * FROM resource WHERE type = ?", (stored.type,))
            ):
                raise CloudError(f"AlreadyExists: {stored.type} with the same {unique}")
            taken = db.execute(
                "SELECT 1 FROM resource WHERE type = ? AND (id = ? OR name = ? AND name != '')",
                (stored.type, stored.id, stored.name),
            ).fetchone()
            if taken:
                raise CloudError(f"AlreadyExists: {stored.type} {stored.name or stored.id}")
            self._insert(db, stored)

    def _put_over(self, db: sqlite3.Connection, stored: Stored, unique: tuple[str, ...]) -> None:
        rows = db.execute("SELECT * FROM resource WHERE type = ?", (stored.type,)).fetchall()
        for other in map(_stored, rows):
            if other.id == stored.id or (unique and _is_twin(stored, other, unique)):
                db.execute("DELETE FROM resource WHERE type = ? AND id = ?", (other.type, other.id))

    def write(self, stored: Stored, revision: int) -> None:
        """Another revision of it; raises CloudError if it is gone."""
        done = self._open().execute(
            "UPDATE resource SET inputs = ?, state = ?, revision = ? WHERE type = ? AND id = ?",
            (
                *(json.dumps(stored.inputs), json.dumps(stored.state), revision),
                *(stored.type, stored.id),
            ),
        )
        if done.rowcount == 0:
            raise CloudError(f"NotFound: {stored.type} {stored.id}")

    def delete(self, doomed: Stored, contents: frozenset[str], is_forced: bool) -> None:
        """Raises CloudError while others refer to it; `contents` are types of what fills it."""
        with self._alone() as db:
            everything = [_stored(row) for row in db.execute("SELECT * FROM resource")]
            users = list(_users(doomed, everything))
            inside = [user for user, _ in users if user.type in contents]
            if inside and not is_forced:
                raise CloudError(
                    f"BucketNotEmpty: {doomed.type} {doomed.id} holds {len(inside)} objects, "
                    f"such as {inside[0].id}"
                )
            outside = [f"{u.type} {u.id} ({at})" for u, at in users if u not in inside]
            if outside:
                raise CloudError(
                    f"DependencyViolation: {doomed.type} {doomed.id} is used by {outside}"
                )
            for one in (doomed, *inside):
                db.execute("DELETE FROM resource WHERE type = ? AND id = ?", (one.type, one.id))

    def _insert(self, db: sqlite3.Connection, stored: Stored) -> None:
        db.execute(
            "INSERT INTO resource (type, id, name, urn, seed, revision, inputs, state)"
            " VALUES (?,?,?,?,?,?,?,?)",
            (
                *(stored.type, stored.id, stored.name, stored.urn, stored.seed, stored.revision),
                *(json.dumps(stored.inputs), json.dumps(stored.state)),
            ),
        )

    def _open(self) -> sqlite3.Connection:
        db: sqlite3.Connection | None = getattr(self._local, "db", None)
        if db is None:
            db = sqlite3.connect(self.path, timeout=BUSY_S, isolation_level=None)
            db.row_factory = sqlite3.Row
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = OFF")  # a killed process loses nothing by it
            self._local.db = db
        return db

    @contextmanager
    def _alone(self) -> Iterator[sqlite3.Connection]:
        db = self._open()
        db.execute("BEGIN IMMEDIATE")
        try:
            yield db
        except BaseException:
            db.execute("ROLLBACK")
            raise
        db.execute("COMMIT")


def write_launchers(folder: Path, *packages: str) -> None:
    """Programs `pulumi-resource-aws` and so on, each the same double under another name."""
    folder.mkdir(parents=True, exist_ok=True)
    for package in packages:
        path = folder / f"pulumi-resource-{package}"
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            "from tests.doubles.strict_provider import main\nsys.exit(main())\n"
        )
        path.chmod(0o755)


def _is_twin(one: Stored, other: Stored, unique: tuple[str, ...]) -> bool:
    return all(one.inputs.get(key) == other.inputs.get(key) for key in unique)


def _stored(row: sqlite3.Row) -> Stored:
    return Stored(
        type=row["type"],
        id=row["id"],
        name=row["name"],
        urn=row["urn"],
        seed=row["seed"],
        inputs=json.loads(row["inputs"]),
        state=json.loads(row["state"]),
        revision=row["revision"],
    )


def _users(doomed: Stored, everything: list[Stored]) -> Iterator[tuple[Stored, str]]:
    """Who refers to it, and where.

    A name that several resources bear, as a role and a group may, means the one whose class the
    place speaks of. JSON texts don't count: no cloud keeps a thing because a policy names it.
    """
    others = [r for r in everything if (r.type, r.id) != (doomed.type, doomed.id)]
    shared = {handle for r in others for handle in r.handles}
    called = doomed.type.rsplit(":", 1)[-1].lower()
    for other in others:
        for at, text in _texts(other.inputs):
            if SPOKEN.search(at) or text not in doomed.handles:
                continue
            if text not in shared or called in at.lower():
                yield other, at
                break


def _texts(value: Value, at: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, str):
        yield at, value
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from _texts(item, f"{at}[{number}]")
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _texts(item, f"{at}.{key}" if at else key)
