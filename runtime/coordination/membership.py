"""One node's part in one run. Pure: what happens goes in, what to do about it comes out.

Peers detect, the log decides. Happenings are its worker's events, its peers' statuses and what the
log of epochs says. A member that sees one of its epoch gone leaves the epoch, with what it has in
memory; when all that are left have done so, `next_epoch` decides, and the members take up what the
log then says.
"""

import math
from dataclasses import dataclass, field

from runtime.coordination.log import EpochRecord
from runtime.coordination.next_epoch import (
    FINISHING,
    JOINING,
    LEAVING,
    NO_STATE,
    PREPARING,
    TRAINING,
    End,
    Keep,
    Propose,
    Rules,
    Status,
    View,
    Wait,
    clique,
    decide,
)
from runtime.limits import TOLD_S, TURN_S


# What happens to a member.
@dataclass(frozen=True, slots=True)
class Ready:
    """The worker is up, with nothing in memory."""


@dataclass(frozen=True, slots=True)
class Left:
    """The worker has left an epoch: a peer was lost, or all paused. NO_STATE: it never had one."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Died:
    """The worker has ended, and its memory with it."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The worker has applied the last step."""

    epoch: int
    step: int


@dataclass(frozen=True, slots=True)
class Noticed:
    """The cloud will take this machine."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A peer told its status."""

    status: Status


@dataclass(frozen=True, slots=True)
class Lost:
    """The last link to this boot of a peer is gone."""

    node: str
    boot_id: str
    silent_s: float = 0.0  # it said nothing for so long; 0 if its end was told


@dataclass(frozen=True, slots=True)
class Read:
    """The run's epochs as the log has them, without an end."""

    epochs: tuple[EpochRecord, ...]


@dataclass(frozen=True, slots=True)
class AtWork:
    """Which living nodes are in the run's newest epoch, as the store tells."""

    nodes: frozenset[str]
    asked_s: float  # monotonic: a frozen node hears old answers


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Happening = Ready | Left | Died | Finished | Noticed | Heard | Lost | Read | AtWork | Tick


# What a member does about it.
@dataclass(frozen=True, slots=True)
class TakeUp:
    """Tell the worker to form this epoch's group."""

    number: int
    record: EpochRecord


@dataclass(frozen=True, slots=True)
class Abort:
    """Tell the worker that this epoch is over: it may hang in a collective."""

    epoch: int
    why: str
    silent_s: float  # of the peer that was lost, if it was silence that told


@dataclass(frozen=True, slots=True)
class Pause:
    """Ask all members, through the worker, to stop at the next step: to let in, or to leave."""

    newcomers: tuple[str, ...]
    is_saving: bool = False  # with a checkpoint first: too few stay to keep the state


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell all peers, and the store, the new status."""

    status: Status


Action = TakeUp | Abort | Pause | Tell | Propose | Keep | End | Wait


@dataclass(slots=True)
class Member:
    """One node in one run. Not shared between threads."""

    node: str
    boot_id: str
    address: str
    rules: Rules
    state: str = PREPARING
    since_s: float = 0.0  # when this state was entered
    seen: int = 0
    epoch: int = NO_STATE
    step: int = NO_STATE
    is_leaving: bool = False
    epochs: tuple[EpochRecord, ...] = ()
    peers: dict[str, Status] = field(default_factory=dict)
    _at_work: AtWork = AtWork(frozenset(), -math.inf)
    _heard_s: dict[str, float] = field(default_factory=dict)
    _silent_s: dict[str, float] = field(default_factory=dict)  # of peers that are lost
    _told: Status | None = None
    _aborted: int = NO_STATE
    _paused: tuple[int, tuple[str, ...]] = (NO_STATE, ())
    _kept: int = NO_STATE  # the epoch whose state was saved for want of members
    _proposed: tuple[int, float] = (NO_STATE, 0.0)

    @property
    def status(self) -> Status:
        """What peers should know."""
        return Status(
            node=self.node,
            boot_id=self.boot_id,
            address=self.address,
            state=self.state,
            seen=self.seen,
            epoch=self.epoch,
            step=self.step,
            linked=tuple(sorted(self.peers)),
        )

    def handle(self, happening: Happening, now_s: float) -> list[Action]:
        """What follows from it; `now_s` is monotonic."""
        actions: list[Action] = []
        match happening:
            case Ready() if self.state == PREPARING:
                self._enter(JOINING, now_s)
            case Left(epoch=epoch, step=step) if self.epoch == epoch and self._is_in:
                self._enter(LEAVING if self.is_leaving else JOINING, now_s)
                self.step = step
                if step == NO_STATE:
                    self.epoch = NO_STATE
            case Died():
                self._enter(LEAVING if self.is_leaving else PREPARING, now_s)
                self.epoch = self.step = NO_STATE
            case Finished(epoch=epoch, step=step) if self.epoch == epoch and self._is_in:
                self._enter(FINISHING, now_s)
                self.step = step
            case Noticed() if not self.is_leaving:
                self.is_leaving = True
                if self.state == TRAINING:
                    too_few = len(self._last) - 1 < self.rules.min_nodes
                    actions.append(Pause((), is_saving=too_few))
                else:
                    self._enter(LEAVING, now_s)
            case Heard(status=status):
                self.peers[status.node] = status
                self._silent_s.pop(status.node, None)
                self._heard_s[status.node] = now_s
            case Lost(node=node, boot_id=boot_id, silent_s=silent_s):
                if node in self.peers and self.peers[node].boot_id == boot_id:
                    self._drop(node, silent_s)
            case Read(epochs=epochs) if len(epochs) > len(self.epochs):
                self.epochs = epochs
            case AtWork():
                self._at_work = happening
            case _:
                pass
        if self.state == PREPARING:
            self.seen = len(self.epochs)  # what was decided by now can't mean this worker
        self._drop_silent(now_s)
        actions += self._follow(now_s)
        told = self.status
        if told != self._told:
            self._told = told
            actions.append(Tell(told))
        return actions

    @property
    def _is_in(self) -> bool:
        return self.state in (TRAINING, FINISHING)

    @property
    def _last(self) -> tuple[str, ...]:
        return self.epochs[-1].members if self.epochs else ()

    def _enter(self, state: str, now_s: float) -> None:
        self.state = state
        self.since_s = now_s

    def _drop_silent(self, now_s: float) -> None:
        for node in [*self.peers]:
            silent_s = now_s - self._heard_s[node]
            if silent_s > self.rules.watchdog_s:
                self._drop(node, silent_s)

    def _drop(self, node: str, silent_s: float) -> None:
        del self.peers[node]
        self._silent_s[node] = silent_s

    def _follow(self, now_s: float) -> list[Action]:
        """What the state of things asks for."""
        match self.state:
            case "joining" if len(self.epochs) > self.seen:
                return self._take_up(now_s)
            case "joining":
                return self._decide(now_s)
            case "training" if len(self.epochs) - 1 > self.epoch:
                return self._abort(f"epoch {len(self.epochs) - 1} was decided without this node")
            case "training" if gone := [node for node in self._last if self._has_left(node)]:
                return self._abort(f"{gone[0]} has left", self._silent_s.get(gone[0], 0.0))
            case "training" if self.node == self._last[0]:
                return self._pause()
            case "finishing" if len(self.epochs) > self.seen or self._has_left(self._last[0]):
                self._enter(JOINING, now_s)  # the first member was lost before all was published
                return self._follow(now_s)
            case _:
                return []

    def _has_left(self, node: str) -> bool:
        """Whether a member of the last epoch is lost or out of it."""
        if node == self.node:
            return False
        peer = self.peers.get(node)
        if peer is None:
            return True
        # What it told before it knew of that epoch says nothing about it.
        return peer.state == LEAVING or (
            peer.state in (PREPARING, JOINING) and peer.seen == len(self.epochs)
        )

    def _take_up(self, now_s: float) -> list[Action]:
        """The newest epoch, unless it is broken before it has begun."""
        self.seen = len(self.epochs)
        number, record = self.seen - 1, self.epochs[-1]
        if self.node not in record.members:
            return []
        is_named = self.node in record.holders
        # It may have held the state when that was written, and lost it since.
        is_holder = is_named and (self.epoch, self.step) == (number - 1, record.resume_step)
        if is_named != is_holder or any(self._has_left(node) for node in record.members):
            self.epoch = number if is_holder else NO_STATE
            self.step = self.step if is_holder else NO_STATE
            self.since_s = now_s
            return []
        self._enter(TRAINING, now_s)
        self.epoch = number
        self.step = record.resume_step
        return [TakeUp(number, record)]

    def _abort(self, why: str, silent_s: float = 0.0) -> list[Action]:
        if self._aborted == self.epoch:
            return []
        self._aborted = self.epoch
        return [Abort(self.epoch, why, silent_s)]

    def _pause(self) -> list[Action]:
        ready = {
            node: peer
            for node, peer in self.peers.items()
            if node not in self._last and self._is_ready(peer)
        }
        members = [self.status, *(self.peers[node] for node in self._last if node != self.node)]
        chosen = clique(members, ready.values(), self.rules.nodes)
        newcomers = tuple(peer.node for peer in chosen if peer.node not in self._last)
        if not newcomers or self._paused == (self.epoch, newcomers):
            return []
        self._paused = (self.epoch, newcomers)
        return [Pause(newcomers)]

    def _is_ready(self, peer: Status) -> bool:
        return peer.state == JOINING and peer.seen == len(self.epochs)

    def _decide(self, now_s: float) -> list[Action]:
        everybody = {**self.peers, self.node: self.status}
        is_fresh = now_s - self._at_work.asked_s < TOLD_S
        view = View(
            me=self.node,
            epochs=self.epochs,
            peers=everybody,
            waited_s=now_s - self.since_s,
            at_work=self._at_work.nodes if is_fresh else None,
        )
        decision = decide(view, self.rules)
        if isinstance(decision, Propose):
            number, when_s = self._proposed
            if number == decision.number and now_s - when_s < TURN_S:
                return []  # on its way
            self._proposed = (decision.number, now_s)
        if isinstance(decision, Keep):
            if self._kept == self.epoch:
                return [Wait(decision.why)]
            self._kept = self.epoch
        return [decision]
