"""What a gateway knows of replicas: where they are said to be, and how they answered.

No I/O: fed by watch.py and the proxy. Presence tells addresses, only an answer of `/readyz` makes
a replica ready, and a fault of a request takes it out at once, until it answers again.
"""

import asyncio
from collections.abc import Callable, Iterable, Set
from dataclasses import dataclass, field

from runtime.coordination.log import LAST_WORDS, Presence
from runtime.limits import READY_CHECKS_DOWN, REPLICA_HUNG_S


@dataclass(slots=True, eq=False)
class Replica:
    """One address of one replica node."""

    node: str
    address: str
    port: int
    heard_at: float  # by the clock of Replicas
    is_ready: bool = False
    missed: int = 0  # probes without an answer, in a row
    outstanding_tokens: int = 0
    scopes: set[asyncio.Timeout] = field(default_factory=set)  # awaits that end when it is given up

    @property
    def url(self) -> str:
        """Its root."""
        return f"http://{self.address}:{self.port}"

    @property
    def is_answering(self) -> bool:
        """Whether the last probe got any answer."""
        return self.missed == 0


class Replicas:
    """All replicas known, by node: a new address of a node replaces the old one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.on_change: Callable[[], None] = lambda: None
        self._known: dict[str, Replica] = {}
        self._became_ready = asyncio.Event()
        self.list_now = asyncio.Event()
        self.probe_now = asyncio.Event()

    @property
    def known(self) -> tuple[Replica, ...]:
        """Every replica that presence names."""
        return tuple(self._known.values())

    @property
    def answering(self) -> int:
        """How many answer probes, ready or not."""
        return sum(replica.is_answering for replica in self._known.values())

    def ready(self, without: Set[str] = frozenset()) -> list[Replica]:
        """Those that may get a request; nodes in `without` only if there is nobody else."""
        ready = [replica for replica in self._known.values() if replica.is_ready]
        return [replica for replica in ready if replica.node not in without] or ready

    async def wait_ready(self) -> None:
        """Return when one is ready."""
        while not self.ready():
            self._became_ready.clear()
            await self._became_ready.wait()

    def listed(self, presences: Iterable[Presence]) -> None:
        """Take over what presence says."""
        there: dict[str, Replica] = {}
        for presence in presences:
            if presence.role != "replica" or presence.port is None or presence.state in LAST_WORDS:
                continue
            known = self._known.get(presence.node)
            if known is None or (known.address, known.port) != (presence.address, presence.port):
                known = Replica(
                    node=presence.node,
                    address=presence.address,
                    port=presence.port,
                    heard_at=self._clock(),
                    missed=1,  # nothing heard yet
                )
                self.probe_now.set()
            there[presence.node] = known
        for replica in self._known.values():
            if there.get(replica.node) is not replica:
                replica.is_ready = False
        self._known = there
        self.on_change()

    def answered(self, replica: Replica, *, is_ready: bool) -> None:
        """A probe was answered."""
        replica.heard_at = self._clock()
        replica.missed = 0
        if replica.is_ready != is_ready and self._known.get(replica.node) is replica:
            replica.is_ready = is_ready
            if is_ready:
                self._became_ready.set()
            self.on_change()

    def missed(self, replica: Replica) -> None:
        """A probe got no answer in time; give up what the replica holds if that lasts."""
        replica.missed += 1
        if replica.missed >= READY_CHECKS_DOWN and replica.is_ready:
            replica.is_ready = False
            self.on_change()
        if self._clock() - replica.heard_at >= REPLICA_HUNG_S:
            for scope in tuple(replica.scopes):
                scope.reschedule(0)

    def failed(self, replica: Replica) -> None:
        """A request met a fault: no more of them until a probe is answered."""
        replica.is_ready = False
        self.list_now.set()
        self.probe_now.set()
        self.on_change()
