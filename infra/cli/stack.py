"""A stack as the commands see it: its stores, its pools, its endpoint.

The one joint to how a cloud is reached. On one machine the marker in the home folder leads to
everything, so most commands need neither the engine nor the stack's state.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.checkout import StackMarker, markers, stack_folder
from infra.plan.names import Role
from runtime.clouds.local import LocalPool
from runtime.errors import Refused, Unavailable
from runtime.node_spec import NodeTemplate
from runtime.objects import Store, file_url, open_store


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolView:
    """A pool of a stack. `nodes` is its size when all of it runs."""

    pool: str
    role: Role
    nodes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class HeldNode:
    """A node as the keeper of its pool tells it."""

    node: str
    address: str
    pid: int | None
    state: str  # running, stopping or backing-off


@dataclass(frozen=True, kw_only=True, slots=True)
class StackView:
    """What there is of a stack, as far as its files tell."""

    stack: str
    stack_id: str
    folder: Path
    control: Store
    checkpoints: Store
    models: Store
    pools: tuple[PoolView, ...]
    endpoint_url: str | None  # None while there is no balancer

    def training(self) -> PoolView:
        """The pool that runs are claimed in; raises Refused if there is none."""
        for pool in self.pools:
            if pool.role == "training":
                return pool
        raise Refused(f"stack {self.stack}: found no training pool; run: make up")

    def held(self, pool: str) -> tuple[HeldNode, ...] | None:
        """The nodes that a pool holds now; None if nobody keeps it."""
        try:
            described = LocalPool(self.stack_id, pool).describe()
        except Unavailable:
            return None
        return tuple(
            HeldNode(node=n.node, address=n.address, pid=n.pid, state=n.state)
            for n in described.nodes
        )

    def set_size(self, pool: str, size: int) -> None:
        """Make a pool grow or shrink; raises Unavailable if nobody keeps it."""
        LocalPool(self.stack_id, pool).set_size(size)

    def reclaim(self, pool: str, node: str, after_s: float) -> None:
        """Give a node notice; raises Unavailable, or Refused if it does not run."""
        LocalPool(self.stack_id, pool).reclaim(node, after_s)

    def logs(self, pool: str) -> str:
        """Where to read what the nodes of a pool wrote."""
        return f"{self.folder}/nodes/{pool}-*/node.log"


def find_stack(home: Path, stack: str) -> StackView:
    """The stack of that name; raises Refused if there is none."""
    view = standing(home, stack)
    if view is None:
        others = sorted({marker.stack for marker in markers(home)} - {stack})
        there = f"allowed {', '.join(others)}; " if others else ""
        raise Refused(f"stack {stack}: found none in {home}; {there}make it with: make up")
    return view


def standing(home: Path, stack: str) -> StackView | None:
    """The stack of that name, or None. An id that only left kept stores behind is none."""
    for marker in markers(home):
        folder = stack_folder(home, marker.stack_id)
        if marker.stack == stack and (folder / "stores" / "control").is_dir():
            return _view(marker, folder)
    return None


def stack_ids(home: Path, stack: str) -> list[str]:
    """All ids that a stack of that name has left a marker of."""
    return [marker.stack_id for marker in markers(home) if marker.stack == stack]


def _view(marker: StackMarker, folder: Path) -> StackView:
    def store(role: str) -> Store:
        return open_store(file_url(folder / "stores" / role))

    return StackView(
        stack=marker.stack,
        stack_id=marker.stack_id,
        folder=folder,
        control=store("control"),
        checkpoints=store("checkpoints"),
        models=store("models"),
        pools=tuple(_pools(folder)),
        endpoint_url=_endpoint(folder),
    )


class _PoolFile(BaseModel):
    """The part of a keeper's file that the commands need."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    pool: str
    role: Role
    size_max: int
    template: NodeTemplate


class _BalancerFile(BaseModel):
    """The part of the balancer's file that the commands need."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    address: str
    port: int


def _pools(folder: Path) -> Iterator[PoolView]:
    """In the order of their names; a pool that is half made or half gone is left out."""
    for path in sorted(folder.glob("pools/*/pool.json")):
        try:
            file = _PoolFile.model_validate_json(path.read_bytes())
        except (OSError, ValidationError):
            continue
        train = file.template.train
        yield PoolView(
            pool=file.pool, role=file.role, nodes=train.nodes if train else file.size_max
        )


def _endpoint(folder: Path) -> str | None:
    try:
        text = (folder / "balancer" / "balancer.json").read_bytes()
        file = _BalancerFile.model_validate_json(text)
    except (OSError, ValidationError):
        return None
    return f"http://{file.address}:{file.port}"
