"""Nodes of a stack: what each says of itself, and what the keeper of its pool says of it.

A node that is silent for three beats is lost, by the store's own clock. A rented machine that boots
says so once and is silent then; one that could not boot is gone, and only its last word stays.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.cli.shapes import GatewayShape, NodeShape, ReplicaShape
from infra.clouds.view import HeldNode, HeldPool, PoolView, StackView
from runtime.coordination.log import (
    LAST_WORDS,
    Presence,
    RunEntry,
    is_live,
    read_presence,
    store_now,
)
from runtime.limits import ALIVE_S

ASKER = "cli"  # one key for all commands: each reads the time of a write that is younger than it
LEFT = "stopped"
FALLEN = ("refused", "failed")  # states whose reason outlives their process
FALLEN_SHOWN_S = 24 * 3600.0  # of machines that are gone
FALLEN_SHOWN_MAX = 5  # of each pool, the newest: a pool tries again and again


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenNode:
    """A node's presence, and whether it is young enough to believe."""

    presence: Presence
    is_alive: bool
    written: datetime  # by the store's clock


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """All nodes that ever wrote a presence, in the order of their names, at one moment."""

    now: datetime  # by the store's clock
    nodes: tuple[SeenNode, ...]
    boot_s: float  # that a machine of the stack may take until its node speaks

    def is_live(self, run: RunEntry) -> bool:
        """Whether an open run has a living member, or is too young to have one."""
        return is_live(run, self._living(), self.now, self.boot_s)

    def is_worked_on(self, run: RunEntry) -> bool:
        """The same, but a machine that boots does not count before its node speaks."""
        return is_live(run, self._living(), self.now)

    def members_of(self, run: str) -> list[Presence]:
        """Those that live and say that they work on the run."""
        return [n.presence for n in self.nodes if n.is_alive and n.presence.run == run]

    def _living(self) -> list[tuple[Presence, datetime]]:
        return [(node.presence, self.now) for node in self.nodes if node.is_alive]


def look(view: StackView) -> Seen:
    """Read all presence."""
    now = store_now(view.control, ASKER)
    nodes = [
        SeenNode(
            presence=presence,
            is_alive=now - written < timedelta(seconds=ALIVE_S),
            written=written,
        )
        for presence, written in read_presence(view.control)
    ]
    in_order = tuple(sorted(nodes, key=lambda node: node.presence.node))
    return Seen(now=now, nodes=in_order, boot_s=view.boot_s)


def held_pools(view: StackView) -> dict[str, HeldPool | None]:
    """All pools as their keepers tell them, by name."""
    return {pool.pool: view.held(pool.pool) for pool in view.pools}


def node_shapes(
    view: StackView, seen: Seen, pools: Mapping[str, HeldPool | None] | None = None
) -> list[NodeShape]:
    """All nodes that there are or should be; those that left on purpose are not listed."""
    shapes: list[NodeShape] = []
    pools = held_pools(view) if pools is None else pools
    for pool in view.pools:
        held = pools[pool.pool]
        own = [node for node in seen.nodes if node.presence.pool == pool.pool]
        if held is None:
            shapes += _unkept(own)
        else:
            by_name = {node.presence.node: node for node in own}
            shape = _rented if view.is_rented else _held
            shapes += [shape(pool, h, by_name.get(h.node)) for h in held.nodes]
            if view.is_rented:
                shapes += _fallen(own, seen.now, {h.node for h in held.nodes})
    return shapes


def replica_shapes(seen: Seen, nodes: Sequence[NodeShape]) -> list[ReplicaShape]:
    """The nodes that serve, with the model version of each."""
    return [
        ReplicaShape(
            node=node.node,
            pid=node.pid,
            state=node.state,
            model=presence.model if presence and node.state != "lost" else None,
            address=_served_at(node, presence),
            why=node.why,
        )
        for node, presence in _of_role(seen, nodes, "replica")
    ]


def gateway_shapes(seen: Seen, nodes: Sequence[NodeShape]) -> list[GatewayShape]:
    """The nodes that take client requests."""
    return [
        GatewayShape(
            node=node.node,
            pid=node.pid,
            state=node.state,
            address=_served_at(node, presence),
            why=node.why,
        )
        for node, presence in _of_role(seen, nodes, "gateway")
    ]


def _held(pool: PoolView, held: HeldNode, seen: SeenNode | None) -> NodeShape:
    """A node that a keeper holds: its own word counts if it comes from the process that runs."""
    state, why = held.state, held.why
    if seen is not None and seen.presence.pid == held.pid:
        state = seen.presence.state if seen.is_alive else "lost"
        why = seen.presence.why
    elif held.state == "running":
        state = "starting"
    elif seen is not None and seen.presence.state in FALLEN:
        why = seen.presence.why
    return NodeShape(
        node=held.node, pool=pool.pool, address=held.address, pid=held.pid, state=state, why=why
    )


def _rented(pool: PoolView, held: HeldNode, seen: SeenNode | None) -> NodeShape:
    """A machine of a pool: what is said in its name is its own word."""
    state, why = _rented_state(held, seen)
    return NodeShape(
        node=held.node, pool=pool.pool, address=held.address, pid=None, state=state, why=why
    )


def _rented_state(held: HeldNode, seen: SeenNode | None) -> tuple[str, str]:
    if seen is None:
        return ("starting" if held.state == "running" else held.state), held.why
    said = seen.presence
    if seen.is_alive or said.state in LAST_WORDS:
        return said.state, said.why
    if held.state != "running":
        return held.state, held.why
    # Of a machine that boots: who beats has said more than one word.
    return ("starting" if said.beat == 0 else "lost"), said.why


def _fallen(own: Sequence[SeenNode], now: datetime, held: Set[str]) -> list[NodeShape]:
    """Machines that are gone, and have said what was wrong."""
    oldest = now - timedelta(seconds=FALLEN_SHOWN_S)
    fallen = [
        node
        for node in own
        if node.presence.state in FALLEN
        and node.presence.node not in held
        and node.written > oldest
    ]
    newest = sorted(fallen, key=lambda node: node.written)[-FALLEN_SHOWN_MAX:]
    return [
        NodeShape(
            node=node.presence.node,
            pool=node.presence.pool,
            address=node.presence.address,
            pid=None,
            state=node.presence.state,
            why=node.presence.why,
        )
        for node in newest
    ]


def _unkept(seen: Sequence[SeenNode]) -> Iterator[NodeShape]:
    for node in seen:
        presence = node.presence
        if presence.state == LEFT:
            continue
        yield NodeShape(
            node=presence.node,
            pool=presence.pool,
            address=presence.address,
            pid=presence.pid if node.is_alive else None,
            state=presence.state if node.is_alive else "lost",
            why=presence.why,
        )


def _of_role(
    seen: Seen, nodes: Sequence[NodeShape], role: str
) -> Iterator[tuple[NodeShape, Presence | None]]:
    presences = {node.presence.node: node.presence for node in seen.nodes}
    for node in nodes:
        presence = presences.get(node.node)
        if node.pool == role or (presence is not None and presence.role == role):
            yield node, presence


def _served_at(node: NodeShape, presence: Presence | None) -> str:
    port = presence.port if presence else None
    return f"{node.address}:{port}" if port else node.address
