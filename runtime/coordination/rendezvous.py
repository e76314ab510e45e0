"""The store side of membership: reads what `membership` decides on, writes what it decided."""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta

from runtime.coordination.log import (
    EpochRecord,
    PoolLog,
    Presence,
    RunEntry,
    epoch_log,
    read_presence,
    store_now,
)
from runtime.coordination.next_epoch import Propose, rendezvous
from runtime.coordination.phases import Phases, write_phases
from runtime.limits import ALIVE_S
from runtime.objects import Store

KEY_BYTES = 32


class Rendezvous:
    """One run as one node sees it. For one thread. All methods may raise Unavailable."""

    def __init__(self, control: Store, pool: str, run: str, node: str, claim: int) -> None:
        """`claim` is the number of the run's claim in its pool's log: a run may be resumed."""
        self._control = control
        self._pool_log = PoolLog(control, pool, node)
        self._log = epoch_log(control, run)
        self._pool = pool
        self._claim = claim
        self.run = run
        self.node = node

    def open_entry(self) -> RunEntry | None:
        """The run's entry in the pool log; None once it has ended, whoever ended it."""
        entry = self._pool_log.state().open_run
        is_ours = entry is not None and (entry.run, entry.number) == (self.run, self._claim)
        return entry if is_ours else None

    def epochs(self) -> list[EpochRecord]:
        """All epochs so far, without the end."""
        self._log.read()
        return self.known_epochs

    @property
    def known_epochs(self) -> list[EpochRecord]:
        """Those that have been read."""
        return [record for record in self._log.records if record.kind == "epoch"]

    def learn(self, other: "Rendezvous") -> None:
        """Take over the epochs that another view of the same run, in any thread, has read."""
        self._log.learn(other._log)

    def peers(self) -> list[Presence]:
        """The living nodes that work on this run."""
        now = self.now()
        return [
            presence
            for presence, written in read_presence(self._control)
            if presence.pool == self._pool
            and presence.run == self.run
            and now - written < timedelta(seconds=ALIVE_S)
        ]

    def key(self) -> bytes:
        """The run's key, drawn by whoever asks first: who reads the control store is a member."""
        name = f"runs/{self.run}/key"
        self._control.put_if_absent(name, secrets.token_hex(KEY_BYTES).encode())
        return bytes.fromhex(self._control.get(name).decode())

    def propose(self, decision: Propose, resume_step: int, at: datetime) -> EpochRecord | None:
        """Try to write the next epoch; None if somebody else did, or the run has ended."""
        if decision.number != len(self.known_epochs) or self._has_ended:
            return None
        record = EpochRecord(
            kind="epoch",
            members=decision.members,
            rendezvous=rendezvous(decision.address, decision.number),
            resume_step=resume_step,
            holders=decision.holders,
            why=decision.why,
            writer=self.node,
            at=at,
        )
        return record if self._log.append_at(len(self._log.records), record) else None

    def note(self, epoch: int, phases: Phases) -> None:
        """Keep what forming an epoch cost, by its first member; from any thread."""
        write_phases(self._control, self.run, epoch, phases)

    def close(self, why: str) -> None:
        """End the epochs of a run whose end the pool's log tells; a lost race is no matter."""
        records = self._log.read()
        if not self._has_ended:
            end = EpochRecord(
                kind="end", why=why, claim=self._claim, writer=self.node, at=self.now()
            )
            self._log.append_at(len(records), end)

    @property
    def _has_ended(self) -> bool:
        """Whether an end of this claim, or of a later one, is known."""
        return any(r.kind == "end" and r.claim >= self._claim for r in self._log.records)

    def end(self, write: Callable[[PoolLog, datetime], bool]) -> bool:
        """Let `write` end the run in the pool's log at the store's time."""
        return write(self._pool_log, self.now())

    def now(self) -> datetime:
        """The store's time."""
        return store_now(self._control, self.node)
