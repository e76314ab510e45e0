"""Store calls of a session, off its thread: a store that does not answer holds up nobody.

One thread reads what others have decided, another writes what this node decides. Each has clients
of its own, since a log's client is for one thread.
"""

import logging
import queue
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from runtime import checkpoint
from runtime.coordination.log import EpochRecord, Presence
from runtime.coordination.next_epoch import End, Propose, is_stuck
from runtime.coordination.phases import Phases
from runtime.coordination.rendezvous import Rendezvous
from runtime.errors import AtollError, Unavailable
from runtime.objects import Store

log = logging.getLogger("agent")


@dataclass(frozen=True, slots=True)
class Seen:
    """What the store says."""

    is_open: bool
    epochs: tuple[EpochRecord, ...]
    peers: tuple[Presence, ...] | None  # None: not asked for
    asked_s: float


@dataclass(frozen=True, slots=True)
class Proposed:
    """What came of a proposal; None if somebody else was first."""

    number: int
    record: EpochRecord | None


@dataclass(frozen=True, slots=True)
class Hopeless:
    """The run gets nowhere."""

    end: End


@dataclass(frozen=True, slots=True)
class Away:
    """The store did not answer."""

    why: str


class Desk:
    """One call of each kind at a time; answers go to the inbox."""

    def __init__(
        self,
        open_rendezvous: Callable[[], Rendezvous],
        checkpoints: Store,
        inbox: "queue.SimpleQueue[object]",
        clock: Callable[[], float],
    ) -> None:
        self._reader = open_rendezvous()
        self._writer = open_rendezvous()
        self._checkpoints = checkpoints
        self._inbox = inbox
        self._clock = clock
        self._reading = threading.Lock()
        self._writing = threading.Lock()
        self._noting = threading.Lock()

    def look(self, *, at_peers: bool) -> None:
        """Ask what others have decided, unless that is being asked."""
        self._start(self._reading, lambda: self._look(at_peers))

    def propose(self, proposal: Propose) -> None:
        """Try to write an epoch, unless one is being written."""
        self._start(self._writing, lambda: self._propose(proposal))

    def note(self, epoch: int, phases: Phases) -> None:
        """Keep what a change of membership cost; lost if the store is away, or busy with one."""
        self._start(self._noting, lambda: self._reader.note(epoch, phases))

    def _start(self, busy: threading.Lock, call: Callable[[], object]) -> None:
        if not busy.acquire(blocking=False):
            return

        def work() -> None:
            try:
                answer: object = call()
            except Unavailable as fault:
                answer = Away(str(fault))
            except AtollError as fault:
                log.exception("the store holds what can't be")
                answer = Hopeless(End("failed", str(fault)))
            finally:
                busy.release()
            if answer is not None:
                self._inbox.put(answer)

        threading.Thread(target=work, name="desk", daemon=True).start()

    def _look(self, at_peers: bool) -> Seen:
        asked_s = self._clock()
        is_open = self._reader.open_entry() is not None
        epochs = tuple(self._reader.epochs())
        peers = tuple(self._reader.peers()) if at_peers else None
        return Seen(is_open, epochs, peers, asked_s)

    def _propose(self, proposal: Propose) -> Proposed | Hopeless:
        self._writer.learn(self._reader)
        epochs = self._writer.known_epochs
        if len(epochs) < proposal.number:
            epochs = self._writer.epochs()
        step = proposal.resume_step
        if not proposal.holders:
            resume_steps = [epoch.resume_step for epoch in epochs]
            run = self._writer.run
            commit = checkpoint.newest_sound(self._checkpoints, run, resume_steps)
            step = commit.step if commit else 0
        if is_stuck(epochs, step):
            why = f"{len(epochs)} epochs, and the last ones all began at step {step}"
            return Hopeless(End("failed", why))
        record = self._writer.propose(proposal, step, datetime.now(UTC))
        return Proposed(proposal.number, record)
