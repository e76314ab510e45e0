"""Who is in the next epoch of a run, and when it may be decided. Pure: a view in, a decision out.

Peers detect, the log decides: a node that is ready for another epoch says "joining" in its
presence, and whoever sees enough of them proposes the next record. All see alike, so it does not
matter who proposes; put-if-absent takes one.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from runtime.coordination.log import EpochRecord, Outcome, Presence
from runtime.limits import COLLECTIVE_S, REJOIN_S

JOINING = "joining"  # ready for the next epoch: worker up, data at hand
TRAINING = "training"
FINISHING = "finishing"  # the last step is applied; the first member publishes

PORT_FIRST = 20_000  # below the ports that kernels give out by themselves (Linux: 32,768 and up)
PORTS = 10_000
STUCK_EPOCHS = 5  # so many in a row that began at the same step: the run gets nowhere
MINORITY_S = 2 * COLLECTIVE_S  # the larger part must have noticed by then


@dataclass(frozen=True, kw_only=True, slots=True)
class Rules:
    """What the spec says about membership."""

    nodes: int
    min_nodes: int
    join_s: float
    pause_s_max: float


@dataclass(frozen=True, kw_only=True, slots=True)
class View:
    """What one ready node sees."""

    me: str
    epochs: Sequence[EpochRecord]  # all but an end
    peers: Sequence[Presence]  # the living ones of this run, this node too
    waited_s: float  # since this node has been ready


@dataclass(frozen=True, kw_only=True, slots=True)
class Wait:
    """Not yet."""

    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Propose:
    """Try to decide the next epoch."""

    members: tuple[str, ...]  # in rank order
    address: str  # of the first member
    why: str


@dataclass(frozen=True, kw_only=True, slots=True)
class End:
    """The run can't go on."""

    outcome: Outcome
    why: str


Decision = Wait | Propose | End


def decide(view: View, rules: Rules) -> Decision:
    """What a node that is ready for another epoch does now."""
    last = view.epochs[-1].members if view.epochs else ()
    ready = {peer.node: peer for peer in view.peers if peer.state == JOINING}
    ready_before = [node for node in last if node in ready]
    busy = [p for p in view.peers if p.node in last and p.state in (TRAINING, FINISHING)]
    if busy and view.me not in last:
        return Wait(why="joins at a step boundary")
    if len(ready) >= rules.nodes or (last and len(ready_before) == len(last)):
        return _propose(ready, last, rules)
    patience_s = _patience_s(last, ready_before, rules)
    if view.waited_s < patience_s:
        return Wait(why=f"{len(ready)} of {rules.nodes} nodes are ready")
    if len(ready) >= rules.min_nodes:
        return _propose(ready, last, rules)
    few = f"found {len(ready)} nodes ready; allowed at least {rules.min_nodes}"
    if not last:
        return End(outcome="no-capacity", why=f"{few} within {rules.join_s:.0f} s")
    if view.waited_s >= rules.pause_s_max:
        return End(outcome="failed", why=f"{few} within {rules.pause_s_max:.0f} s")
    return Wait(why=f"{few}")


def newcomers(peers: Iterable[Presence], members: Sequence[str], rules: Rules) -> list[str]:
    """Nodes for which the members should stop at a step boundary, as far as there is room."""
    ready = [peer.node for peer in peers if peer.state == JOINING and peer.node not in members]
    return sorted(ready, key=rank_key)[: max(0, rules.nodes - len(members))]


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


def _patience_s(last: Sequence[str], ready_before: Sequence[str], rules: Rules) -> float:
    if not last:
        return rules.join_s
    # The part that is cut off must not decide before the rest can have.
    return MINORITY_S if 2 * len(ready_before) < len(last) else REJOIN_S


def _propose(ready: dict[str, Presence], last: Sequence[str], rules: Rules) -> Propose:
    """Those of the last epoch come first where there are more than the plan has nodes."""
    by_right = sorted(ready, key=lambda node: (node not in last, rank_key(node)))
    members = tuple(sorted(by_right[: rules.nodes], key=rank_key))
    return Propose(members=members, address=ready[members[0]].address, why=_why(last, members))


def _why(last: Sequence[str], members: Sequence[str]) -> str:
    if not last:
        return "first"
    gone = [node for node in last if node not in members]
    come = [node for node in members if node not in last]
    parts = [f"without {', '.join(gone)}"] if gone else []
    parts += [f"{', '.join(come)} joined"] if come else []
    return "; ".join(parts) or "a member was lost and is back"
