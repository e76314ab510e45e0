"""The next epoch of a run: who is in it, and when. Pure: a view in, a decision out.

Everybody who is ready sees alike, so it does not matter who proposes: the lowest rank does at once,
the others in turn, and put-if-absent takes one. The record names the holders of the state that it
resumes from; only without any is a checkpoint read.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from runtime.coordination.log import EpochRecord, Outcome
from runtime.limits import LAG_S, REJOIN_S, TURN_S

PREPARING = "preparing"  # the worker starts, or prepares the data
JOINING = "joining"  # ready for the next epoch: worker up, data at hand
TRAINING = "training"
LEAVING = "leaving"  # on its way out, for good: its cloud takes the machine
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
        return self.state in (PREPARING, JOINING, LEAVING)


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


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing yet, because; and too few have the state in memory: this one should save it."""

    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one ready node sees."""

    me: str
    epochs: Sequence[EpochRecord]  # all but an end
    peers: Mapping[str, Status]  # those it hears, itself too
    waited_s: float  # since this node has been ready
    at_work: frozenset[str] | None = None  # in the newest epoch, as the store told just now


def decide(view: View, rules: Rules) -> Wait | Keep | Propose | End:
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
    chosen = clique([], [*holders, *_ranked(before), *_ranked(others)], rules.nodes)
    if last and not any(peer.node in last for peer in chosen):  # from outside
        if view.at_work is None:
            return Wait("asks the store who is at work")
        if unheard := [node for node in last if node in view.at_work and node not in peers]:
            return Wait(f"{unheard[0]} is at work and is not heard here")
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
    is_keeper = bool(holders) and holders[0].node == view.me
    return Keep(few) if is_keeper else Wait(few)


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


def clique(chosen: Iterable[Status], candidates: Iterable[Status], nodes: int) -> list[Status]:
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
