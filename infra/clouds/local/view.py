"""A stack on one machine, as its files and the keepers of its pools tell it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from infra.checkout import StackMarker, stack_folder
from infra.clouds.view import HeldNode, HeldPool, PoolView, StackView
from infra.plan.names import Role
from runtime.clouds.local import LocalPool
from runtime.errors import Refused, Unavailable
from runtime.node_spec import NodeTemplate
from runtime.objects import Store, file_url, open_store


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalView(StackView):
    """Needs neither the engine nor the stack's state."""

    folder: Path

    def held(self, pool: str) -> HeldPool | None:
        """As its keeper tells it."""
        try:
            described = LocalPool(self.stack_id, pool).describe()
        except Unavailable:
            return None
        nodes = tuple(
            HeldNode(
                node=n.node, address=n.address, pid=n.pid, state=n.state, is_up=n.pid is not None
            )
            for n in described.nodes
        )
        return HeldPool(wanted=described.target, nodes=nodes)

    def grow(self, pool: PoolView, run: str, now: datetime) -> None:
        """At once; raises Refused if nobody keeps the pool."""
        try:
            LocalPool(self.stack_id, pool.pool).set_size(pool.nodes)
        except Unavailable as fault:
            raise Refused(
                f"pool {pool.pool}: nobody keeps it ({fault}); heal it with: make up"
            ) from fault

    def rest(self, pool: str) -> None:
        """At once; raises Unavailable if nobody keeps the pool."""
        LocalPool(self.stack_id, pool).set_size(0)

    def reclaim(self, pool: str, node: str, after_s: float) -> None:
        """The keeper does both, notice and end."""
        LocalPool(self.stack_id, pool).reclaim(node, after_s)

    def logs(self, pool: str) -> str:
        """Files, one per node."""
        return f"{self.folder}/nodes/{pool}-*/node.log"


def open_view(marker: StackMarker) -> LocalView | None:
    """The stack of a marker; None if it has no control store."""
    folder = stack_folder(Path(marker.home), marker.stack_id)
    if not (folder / "stores" / "control").is_dir():
        return None

    def store(role: str) -> Store:
        return open_store(file_url(folder / "stores" / role))

    return LocalView(
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
