"""Who is in the next epoch of a run, and when it may be decided. Pure: events in, actions out.

Peers detect, the log decides. A `Member` is one node's part in one run: its worker's events, its
peers' statuses and the epochs' log go in; what to do comes out. Any member that sees enough others
ready proposes the next record, the lowest rank first; put-if-absent takes one proposal, whoever
else makes one. Survivors keep their memory: the record names the holders of the state it resumes
from, and only without any is a checkpoint read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict

from runtime.coordination.log import EpochRecord, Outcome
from runtime.limits import LAG_S, REJOIN_S, TURN_S

PREPARING = "preparing"  # the worker starts, or prepares the data
JOINING = "joining"  # ready for the next epoch: worker up, data at hand
TRAINING = "training"
FINISHING = "finishing"  # the last step is applied; the first member publishes

PORT_FIRST = 20_000  # below the ports that kernels give out by themselves (Linux: 32,768 and up)
PORTS = 10_000
STUCK_EPOCHS = 8  # so many in a row that began at the same step: the run gets nowhere
NO_STATE = -1  # of a step: nothing in memory; of an epoch: none


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the spec says about membership."""

    nodes: int
    min_nodes: int
    join_s: float
    pause_s_max: float
    watchdog_s: float  # silence of a peer for this long means that it hangs

    @property
    def minority_s(self) -> float:
        """How long the smaller part waits: the larger one must have noticed by then."""
        return 2 * self.watchdog_s


class Status(BaseModel):
    """What a member tells its peers, on every change and with every heartbeat."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    node: str
    boot_id: str
    address: str
    state: str
    seen: int = 0  # epochs of the log that it has dealt with
    epoch: int = NO_STATE  # whose state it has in memory
    step: int = NO_STATE  # applied in that state
    linked: tuple[str, ...] = ()  # peers it hears

    @property
    def is_out(self) -> bool:
        """Whether no worker of it is in an epoch."""
        return self.state in (PREPARING, JOINING)


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
class Heard:
    """A peer told its status."""

    status: Status


@dataclass(frozen=True, slots=True)
class Lost:
    """The last link to this boot of a peer is gone."""

    node: str
    boot_id: str


@dataclass(frozen=True, slots=True)
class Read:
    """The run's epochs as the log has them, without an end."""

    epochs: tuple[EpochRecord, ...]


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed."""


Happening = Ready | Left | Died | Finished | Heard | Lost | Read | Tick


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


@dataclass(frozen=True, slots=True)
class Pause:
    """Ask all members, through the worker, to stop at the next step: somebody wants to join."""

    newcomers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Tell:
    """Tell all peers, and the store, the new status."""

    status: Status


@dataclass(frozen=True, slots=True)
class Propose:
    """Try to write the next record."""

    number: int
    members: tuple[str, ...]  # in rank order
    address: str  # of the first member
    holders: tuple[str, ...]  # have the state of `resume_step` in memory; empty: a checkpoint's
    resume_step: int
    why: str


@dataclass(frozen=True, slots=True)
class End:
    """The run can't go on."""

    outcome: Outcome
    why: str


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing yet, because."""

    why: str


Action = TakeUp | Abort | Pause | Tell | Propose | End | Wait


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
    epochs: tuple[EpochRecord, ...] = ()
    peers: dict[str, Status] = field(default_factory=dict)
    _heard_s: dict[str, float] = field(default_factory=dict)
    _told: Status | None = None
    _aborted: int = NO_STATE
    _paused: tuple[int, tuple[str, ...]] = (NO_STATE, ())
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
                self.seen = len(self.epochs)  # what was decided before can't mean this worker
                self._enter(JOINING, now_s)
            case Left(epoch=epoch, step=step) if self.epoch == epoch and self._is_in:
                self._enter(JOINING, now_s)
                self.step = step
                if step == NO_STATE:
                    self.epoch = NO_STATE
            case Died():
                self._enter(PREPARING, now_s)
                self.epoch = self.step = NO_STATE
            case Finished(epoch=epoch, step=step) if self.epoch == epoch and self._is_in:
                self._enter(FINISHING, now_s)
                self.step = step
            case Heard(status=status):
                self.peers[status.node] = status
                self._heard_s[status.node] = now_s
            case Lost(node=node, boot_id=boot_id):
                if node in self.peers and self.peers[node].boot_id == boot_id:
                    del self.peers[node]
            case Read(epochs=epochs) if len(epochs) > len(self.epochs):
                self.epochs = epochs
            case _:
                pass
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
            if now_s - self._heard_s[node] > self.rules.watchdog_s:
                del self.peers[node]

    def _follow(self, now_s: float) -> list[Action]:
        """What the state of things asks for."""
        match self.state:
            case "joining" if len(self.epochs) > self.seen:
                return self._take_up(now_s)
            case "joining":
                return self._decide(now_s)
            case "training" if len(self.epochs) - 1 > self.epoch:
                return self._abort()  # decided without this node, which was thought dead
            case "training" if any(self._has_left(node) for node in self._last):
                return self._abort()
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
        return peer.state == PREPARING or (peer.state == JOINING and peer.seen == len(self.epochs))

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

    def _abort(self) -> list[Action]:
        if self._aborted == self.epoch:
            return []
        self._aborted = self.epoch
        return [Abort(self.epoch)]

    def _pause(self) -> list[Action]:
        ready = {
            node: peer
            for node, peer in self.peers.items()
            if node not in self._last and self._is_ready(peer)
        }
        members = [self.status, *(self.peers[node] for node in self._last if node != self.node)]
        chosen = _clique(members, ready.values(), self.rules.nodes)
        newcomers = tuple(peer.node for peer in chosen if peer.node not in self._last)
        if not newcomers or self._paused == (self.epoch, newcomers):
            return []
        self._paused = (self.epoch, newcomers)
        return [Pause(newcomers)]

    def _is_ready(self, peer: Status) -> bool:
        return peer.state == JOINING and peer.seen == len(self.epochs)

    def _decide(self, now_s: float) -> list[Action]:
        everybody = {**self.peers, self.node: self.status}
        view = View(
            me=self.node, epochs=self.epochs, peers=everybody, waited_s=now_s - self.since_s
        )
        decision = decide(view, self.rules)
        if isinstance(decision, Propose):
            number, when_s = self._proposed
            if number == decision.number and now_s - when_s < TURN_S:
                return []  # on its way
            self._proposed = (decision.number, now_s)
        return [decision]


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one ready node sees."""

    me: str
    epochs: Sequence[EpochRecord]  # all but an end
    peers: Mapping[str, Status]  # those it hears, itself too
    waited_s: float  # since this node has been ready


def decide(view: View, rules: Rules) -> Wait | Propose | End:
    """What a node that is ready for another epoch does now."""
    epochs, peers = view.epochs, view.peers
    last = epochs[-1].members if epochs else ()
    there = [peers[node] for node in last if node in peers]
    if any(not peer.is_out for peer in there):
        return Wait("joins at a step boundary")
    ready = [peer for peer in peers.values() if _is_caught_up(peer, epochs)]
    lagging = [peer for peer in there if peer.state == JOINING and peer not in ready]
    if lagging and view.waited_s < LAG_S:
        return Wait(f"{lagging[0].node} has not read epoch {len(epochs) - 1} yet")
    holders = _holders(ready, len(epochs) - 1)
    before = [peer for peer in ready if peer.node in last and peer not in holders]
    others = [peer for peer in ready if peer.node not in last and peer not in holders]
    chosen = _clique([], [*holders, *_ranked(before), *_ranked(others)], rules.nodes)
    patience_s = _patience_s(last, chosen, holders, rules)
    if view.waited_s < patience_s:
        return Wait(f"{len(chosen)} of {rules.nodes} nodes are ready")
    if len(chosen) >= rules.min_nodes:
        return _propose(view, chosen, holders)
    few = f"found {len(chosen)} nodes ready; allowed at least {rules.min_nodes}"
    if not last:
        return End("no-capacity", f"{few} within {rules.join_s:.0f} s")
    if view.waited_s >= rules.pause_s_max:
        return End("failed", f"{few} within {rules.pause_s_max:.0f} s")
    return Wait(few)


def is_stuck(epochs: Sequence[EpochRecord], resume_step: int) -> bool:
    """Whether one more epoch from the same step would be one too many."""
    recent = epochs[-STUCK_EPOCHS:]
    return len(recent) == STUCK_EPOCHS and all(e.resume_step == resume_step for e in recent)


def rendezvous(address: str, epoch: int) -> str:
    """HOST:PORT of an epoch's store; no two epochs in a row share one."""
    return f"{address}:{PORT_FIRST + epoch % PORTS}"


def rank_key(node: str) -> tuple[str, int]:
    """Natural order: training-2 before training-10."""
    match = re.fullmatch(r"(.*?)(\d*)", node)
    assert match is not None
    return match[1], int(match[2] or 0)


def _is_caught_up(peer: Status, epochs: Sequence[EpochRecord]) -> bool:
    return peer.state == JOINING and peer.seen == len(epochs)


def _holders(ready: Iterable[Status], epoch: int) -> list[Status]:
    """Those of the last epoch that applied most: by one step, some may have and some not."""
    of_last = [peer for peer in ready if peer.epoch == epoch and peer.step != NO_STATE]
    step = max((peer.step for peer in of_last), default=NO_STATE)
    return _ranked(peer for peer in of_last if peer.step == step)


def _clique(chosen: Iterable[Status], candidates: Iterable[Status], nodes: int) -> list[Status]:
    """As many as hear each other, in the order given: a group needs all its links."""
    group = [*chosen]
    for peer in candidates:
        if len(group) < nodes and all(
            peer.node in other.linked and other.node in peer.linked for other in group
        ):
            group.append(peer)
    return group


def _patience_s(
    last: Sequence[str], chosen: Sequence[Status], holders: Sequence[Status], rules: Rules
) -> float:
    if len(chosen) >= rules.nodes:
        return 0.0
    if not last:
        return rules.join_s
    before = sum(peer.node in last for peer in chosen)
    # The part that is cut off must not decide before the rest can have.
    minority_s = rules.minority_s if 2 * before < len(last) else 0.0
    # Nobody holds anything: all were lost, and may be about to come back.
    return max(minority_s, 0.0 if holders else REJOIN_S)


def _propose(view: View, chosen: Sequence[Status], holders: Sequence[Status]) -> Wait | Propose:
    last = view.epochs[-1].members if view.epochs else ()
    held = tuple(peer.node for peer in holders if peer in chosen)
    names = [peer.node for peer in chosen]
    if view.me not in names:
        return Wait("the others don't hear this node")
    if view.waited_s < names.index(view.me) * TURN_S:
        return Wait(f"{chosen[0].node} decides")
    members = tuple(sorted((peer.node for peer in chosen), key=rank_key))
    return Propose(
        number=len(view.epochs),
        members=members,
        address=view.peers[members[0]].address,
        holders=held,
        resume_step=holders[0].step if held else NO_STATE,
        why=_why(last, members),
    )


def _ranked(peers: Iterable[Status]) -> list[Status]:
    return sorted(peers, key=lambda peer: rank_key(peer.node))


def _why(last: Sequence[str], members: Sequence[str]) -> str:
    if not last:
        return "first"
    gone = [node for node in last if node not in members]
    come = [node for node in members if node not in last]
    parts = [f"without {', '.join(gone)}"] if gone else []
    parts += [f"{', '.join(come)} joined"] if come else []
    return "; ".join(parts) or "a member was lost and is back"
