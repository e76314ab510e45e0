"""Append-only logs on a store, and what they say about pools, runs and model versions.

Every decision is "the next record of a log": `<log>/<n>`, put if absent. Who loses reads n and
thinks again. Readers probe n+1 by get, since listings may be stale.

`Log` does the reading and writing; the rules (`PoolState`, `is_live`, `LiveModel`) are pure.
"""

import secrets
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from runtime.errors import Conflict, Corrupt, Missing, Unavailable
from runtime.limits import ALIVE_S, JOIN_GRACE_S
from runtime.objects import Store

APPEND_TRIES = 50  # more losses in a row than a pool has nodes
RECORDS_MAX = 1_000_000

LAST_WORDS = frozenset({"stopped", "refused", "failed"})  # of a node: then its process ends
Outcome = Literal["published", "failed", "cancelled", "no-capacity", "skipped"]


class Record(BaseModel):
    """A line of a log: who wrote it, when (the writer's clock, for people only), and a nonce."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    writer: str
    at: datetime
    nonce: str = Field(default_factory=lambda: secrets.token_hex(8))


class PoolRecord(Record):
    """claim(run) · hold · release · end(run, outcome, why)."""

    kind: Literal["claim", "hold", "release", "end"]
    run: str | None = None  # of claim and end
    tick: datetime | None = None  # the due time that a claim or a skipped end stands for
    outcome: Outcome | None = None  # of end
    why: str = ""


class EpochRecord(Record):
    """A numbered membership of a run, or the end of the run."""

    kind: Literal["epoch", "end"]
    members: tuple[str, ...] = ()  # node names in rank order
    rendezvous: str = ""  # host:port of this epoch's store, on the first member
    resume_step: int = 0  # applied steps that count; commits beyond it do not
    holders: tuple[str, ...] = ()  # members with that state in memory; none: a checkpoint has it
    claim: int = 0  # of an end: number of the claim that it ends; a run may be claimed again
    why: str = ""


class LiveRecord(Record):
    """Which model version answers."""

    kind: Literal["auto", "promote", "rollback", "pin"]
    digest: str
    run: str
    run_number: int  # position of the run's claim in its pool's log


class Presence(BaseModel):
    """What a node says about itself; it alone writes `nodes/<node>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    pool: str
    role: Literal["training", "replica", "gateway"]
    address: str
    port: int | None = None  # where it serves, once it does
    boot_id: str
    pid: int
    state: str
    why: str = ""  # of a state that needs one
    link: str = ""  # HOST:PORT where its agent takes links of the run
    run: str | None = None
    epoch: int | None = None
    step: int = 0  # applied
    steps: int = 0
    loss: float | None = None
    tokens_per_s: float | None = None
    straggler: str = ""  # who is slow in its epoch, as the first member sees it
    model: str | None = None  # digest that a replica serves
    devices: int = 0
    boot_failures: int = 0
    beat: int = 0


RecordT = TypeVar("RecordT", bound=Record)


class Log(Generic[RecordT]):
    """One log of one kind of record. Keeps what it has read; not shared between threads."""

    def __init__(self, store: Store, prefix: str, kind: type[RecordT]) -> None:
        self._store = store
        self._prefix = prefix
        self._kind = kind
        self.records: list[RecordT] = []

    def read(self) -> list[RecordT]:
        """All records; asks only for those not yet seen. Raises Corrupt or Unavailable."""
        while len(self.records) < RECORDS_MAX:
            record = self._get(len(self.records))
            if record is None:
                break
            self.records.append(record)
        return self.records

    def learn(self, other: "Log[RecordT]") -> None:
        """Take over what another reader of the same log, in any thread, has read beyond this."""
        self.records += other.records[len(self.records) :]

    def append_at(self, n: int, record: RecordT) -> bool:
        """Write record n; False if another record stands there.

        After a doubtful answer the record is read back: "already there" may be one's own write.
        """
        try:
            won = self._store.put_if_absent(self._key(n), record.model_dump_json().encode())
        except Unavailable:
            won = False
        there = record if won else self._get(n)
        if there is None:
            raise Unavailable(f"{self._prefix}/{n}: neither written nor refused")
        if n == len(self.records):
            self.records.append(there)
        return there.nonce == record.nonce

    def _get(self, n: int) -> RecordT | None:
        try:
            return self._kind.model_validate_json(self._store.get(self._key(n)))
        except Missing:
            return None
        except ValidationError as fault:
            raise Corrupt(f"{self._store.url}/{self._key(n)}: {fault}") from fault

    def _key(self, n: int) -> str:
        return f"{self._prefix}/{n:08d}"


@dataclass(frozen=True, kw_only=True, slots=True)
class RunEntry:
    """A run as its pool's log tells it."""

    run: str
    number: int  # of its claim record: later runs have higher ones
    tick: datetime | None
    claimed_at: datetime
    outcome: Outcome | None = None  # None while it is open
    why: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolState:
    """What the log of one pool adds up to."""

    runs: tuple[RunEntry, ...] = ()  # oldest first
    open_run: RunEntry | None = None
    hold: PoolRecord | None = None
    ticks: frozenset[datetime] = frozenset()  # claimed or skipped

    @property
    def is_free(self) -> bool:
        """Whether a run may be claimed."""
        return self.open_run is None and self.hold is None


def pool_state(records: Iterable[PoolRecord]) -> PoolState:
    """Replay a pool's log. A record that breaks the order of things changes nothing."""
    runs: dict[str, RunEntry] = {}
    open_run: str | None = None
    hold: PoolRecord | None = None
    ticks: set[datetime] = set()
    for number, record in enumerate(records):
        is_new = record.tick not in ticks
        match record.kind:
            case "claim" if record.run and is_new and open_run is None and hold is None:
                open_run = record.run
                runs[record.run] = RunEntry(
                    run=record.run, number=number, tick=record.tick, claimed_at=record.at
                )
            case "end" if record.run and record.run == open_run:
                runs[record.run] = _ended(runs[record.run], record)
                open_run = None
            case "end" if record.outcome == "skipped" and record.run and is_new:
                skipped = RunEntry(
                    run=record.run, number=number, tick=record.tick, claimed_at=record.at
                )
                runs[record.run] = _ended(skipped, record)
            case "hold" if open_run is None:
                hold = (
                    record  # a later hold adopts an earlier one: Pulumi allows one `up` at a time
                )
            case "release":
                hold = None
            case _:
                continue
        if record.tick is not None:
            ticks.add(record.tick)
    return PoolState(
        runs=tuple(runs.values()),
        open_run=runs[open_run] if open_run else None,
        hold=hold,
        ticks=frozenset(ticks),
    )


def _ended(run: RunEntry, end: PoolRecord) -> RunEntry:
    return replace(run, outcome=end.outcome, why=end.why)


def is_live(
    run: RunEntry,
    presence: Iterable[tuple[Presence, datetime]],
    now: datetime,
    boot_s: float = 0.0,
) -> bool:
    """Whether an open run has a living member, or is too young to have one.

    `presence` comes with the store's time of its last write, `now` is the store's time too.
    `boot_s` is what a machine may take until its node speaks.
    """
    if now - run.claimed_at < timedelta(seconds=JOIN_GRACE_S + boot_s):
        return True
    return any(
        p.run == run.run and now - written < timedelta(seconds=ALIVE_S) for p, written in presence
    )


def next_live(
    log: Sequence[LiveRecord],
    digest: str,
    run: str,
    run_number: int,
    writer: str,
    at: datetime,
) -> LiveRecord | None:
    """The record by which a finished run takes over, or None: a pin or a newer run is there."""
    last = next(iter(reversed(log)), None)
    if last is not None and (last.kind == "pin" or last.run_number >= run_number):
        return None
    return LiveRecord(
        kind="auto", digest=digest, run=run, run_number=run_number, writer=writer, at=at
    )


class PoolLog:
    """The log of one pool with its rules: appends only what the state allows."""

    def __init__(self, control: Store, pool: str, writer: str) -> None:
        self._log = Log(control, f"pools/{pool}/log", PoolRecord)
        self._writer = writer
        self.pool = pool

    def state(self) -> PoolState:
        """Read to the end and add up."""
        return pool_state(self._log.read())

    def claim(self, run: str, at: datetime, tick: datetime | None = None) -> bool:
        """Claim the pool for a run; False if it is taken, held, or the tick is spoken for."""
        for _ in range(APPEND_TRIES):
            state = self.state()
            if not state.is_free or (tick is not None and tick in state.ticks):
                return False
            if self._append("claim", at, run=run, tick=tick):
                return True
        raise Conflict(f"pool {self.pool}: lost {APPEND_TRIES} appends in a row")

    def end(self, run: str, outcome: Outcome, why: str, at: datetime) -> bool:
        """Close an open run; False if somebody did already."""
        for _ in range(APPEND_TRIES):
            open_run = self.state().open_run
            if open_run is None or open_run.run != run:
                return False
            if self._append("end", at, run=run, outcome=outcome, why=why):
                return True
        raise Conflict(f"pool {self.pool}: lost {APPEND_TRIES} appends in a row")

    def skip(self, run: str, tick: datetime, why: str, at: datetime) -> bool:
        """Log a tick that fell into a run; False if it is spoken for."""
        for _ in range(APPEND_TRIES):
            if tick in self.state().ticks:
                return False
            if self._append("end", at, run=run, tick=tick, outcome="skipped", why=why):
                return True
        raise Conflict(f"pool {self.pool}: lost {APPEND_TRIES} appends in a row")

    def hold(self, why: str, at: datetime) -> bool:
        """Keep runs out; False while one is open. Adopts a hold that is there."""
        for _ in range(APPEND_TRIES):
            if self.state().open_run is not None:
                return False
            if self._append("hold", at, why=why):
                return True
        raise Conflict(f"pool {self.pool}: lost {APPEND_TRIES} appends in a row")

    def release(self, at: datetime) -> None:
        """Let runs in again."""
        for _ in range(APPEND_TRIES):
            if self.state().hold is None or self._append("release", at):
                return
        raise Conflict(f"pool {self.pool}: lost {APPEND_TRIES} appends in a row")

    def _append(
        self,
        kind: Literal["claim", "hold", "release", "end"],
        at: datetime,
        run: str | None = None,
        tick: datetime | None = None,
        outcome: Outcome | None = None,
        why: str = "",
    ) -> bool:
        record = PoolRecord(
            kind=kind, run=run, tick=tick, outcome=outcome, why=why, writer=self._writer, at=at
        )
        return self._log.append_at(len(self._log.records), record)


def epoch_log(control: Store, run: str) -> Log[EpochRecord]:
    """The epochs of a run."""
    return Log(control, f"runs/{run}/epochs", EpochRecord)


def live_log(control: Store, model_name: str) -> Log[LiveRecord]:
    """Which version of a model is live."""
    return Log(control, f"models/{model_name}/live", LiveRecord)


def read_presence(control: Store) -> Iterator[tuple[Presence, datetime]]:
    """All nodes with the store's time of their last beat."""
    for info in control.list("nodes"):
        try:
            yield Presence.model_validate_json(control.get(info.key)), info.last_modified
        except Missing:
            continue


def store_now(control: Store, asker: str) -> datetime:
    """The store's own time: of an object just written."""
    key = f"clock/{asker}"
    control.put(key, b"")
    return control.head(key).last_modified
