"""A stack that stands, as the commands see it. What differs by cloud is behind `StackView`."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import datetime

from infra.plan.limits import boot_s
from infra.plan.names import Role
from runtime.errors import Refused
from runtime.objects import Store


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolView:
    """A pool of a stack. `nodes` is its size when all of it runs."""

    pool: str
    role: Role
    nodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldNode:
    """A node as whoever keeps its pool tells it."""

    node: str
    address: str
    pid: int | None  # of its process; None: none runs, or it is on a machine of its own
    state: str
    is_up: bool  # its process runs, or its machine
    why: str = ""  # of a state that needs a reason


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldPool:
    """What a pool holds now."""

    wanted: int
    nodes: tuple[HeldNode, ...]
    why: str = ""  # it holds fewer than wanted


@dataclass(frozen=True, kw_only=True, slots=True)
class StackView(ABC):
    """What there is of a stack."""

    stack: str
    stack_id: str
    control: Store
    checkpoints: Store
    models: Store
    pools: tuple[PoolView, ...]
    endpoint_url: str | None  # None while there is no balancer
    is_rented: bool = False  # nodes are machines, each with a name that no other ever has
    look_s: float = 0.0  # pause between two looks of a command that waits, at least

    @property
    def boot_s(self) -> float:
        """See `limits.boot_s`."""
        return boot_s(is_rented=self.is_rented)

    def training(self) -> PoolView:
        """The pool that runs are claimed in; raises Refused if there is none."""
        for pool in self.pools:
            if pool.role == "training":
                return pool
        raise Refused(f"stack {self.stack}: found no training pool; run: make up")

    @abstractmethod
    def held(self, pool: str) -> HeldPool | None:
        """What a pool holds now; None if nobody keeps it."""

    @abstractmethod
    def grow(self, pool: PoolView, run: str, now: datetime) -> None:
        """Have all of a pool's nodes for a run. Raises AtollError; the pool stays at rest then."""

    @abstractmethod
    def rest(self, pool: str) -> None:
        """Let a pool go to 0; raises AtollError."""

    @abstractmethod
    def reclaim(self, pool: str, node: str, after_s: float) -> None:
        """Give a node notice; raises Unavailable, or Refused where or when that can't be."""

    @abstractmethod
    def logs(self, pool: str) -> str:
        """Where to read what the nodes of a pool wrote."""
