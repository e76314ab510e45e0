"""Nodes of a stack: what each says of itself, and what the keeper of its pool says of it.

A node that is silent for three beats is lost, by the store's own clock.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from infra.cli.shapes import GatewayShape, NodeShape, ReplicaShape
from infra.cli.stack import HeldNode, PoolView, StackView
from runtime.coordination.log import Presence, RunEntry, is_live, read_presence, store_now
from runtime.limits import ALIVE_S
from runtime.objects import Store

ASKER = "cli"  # one key for all commands: each reads the time of a write that is younger than it
LEFT = "stopped"
FALLEN = ("refused", "failed")  # states whose reason outlives their process


@dataclass(frozen=True, kw_only=True, slots=True)
class SeenNode:
    """A node's presence, and whether it is young enough to believe."""

    presence: Presence
    is_alive: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Seen:
    """All nodes that ever wrote a presence, in the order of their names, at one moment."""

    now: datetime  # by the store's clock
    nodes: tuple[SeenNode, ...]

    def is_live(self, run: RunEntry) -> bool:
        """Whether an open run has a living member, or is too young to have one."""
        living = [(node.presence, self.now) for node in self.nodes if node.is_alive]
        return is_live(run, living, self.now)

    def members_of(self, run: str) -> list[Presence]:
        """Those that live and say that they work on the run."""
        return [n.presence for n in self.nodes if n.is_alive and n.presence.run == run]


def look(control: Store) -> Seen:
    """Read all presence."""
    now = store_now(control, ASKER)
    nodes = [
        SeenNode(presence=presence, is_alive=now - written < timedelta(seconds=ALIVE_S))
        for presence, written in read_presence(control)
    ]
    return Seen(now=now, nodes=tuple(sorted(nodes, key=lambda node: node.presence.node)))


def node_shapes(view: StackView, seen: Seen) -> list[NodeShape]:
    """All nodes that there are or should be; those that left on purpose are not listed."""
    shapes: list[NodeShape] = []
    for pool in view.pools:
        held = view.held(pool.pool)
        own = [node for node in seen.nodes if node.presence.pool == pool.pool]
        if held is None:
            shapes += _unkept(own)
        else:
            by_name = {node.presence.node: node for node in own}
            shapes += [_held(pool, h, by_name.get(h.node)) for h in held]
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
    state, why = held.state, ""
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
