"""What a keeper shall keep, and where it lies."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.checkout import replace_file, stack_folder
from infra.plan.limits import stop_s
from infra.plan.names import node_address, node_name
from infra.provider.keeping.environment import environment
from runtime.node_spec import NodeSpec, NodeTemplate, Schedule


class PoolFile(BaseModel):
    """`pool.json`: written by the provider, read by the keeper."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    stack: str
    stack_id: str
    home: str
    pool: str
    role: Literal["training", "replica", "gateway"]
    size: int = Field(ge=0)  # at rest
    size_max: int = Field(ge=1)
    template: NodeTemplate
    schedule: Schedule | None = None
    python: str  # interpreter of the keeper and its nodes

    @property
    def folder(self) -> Path:
        """Where the keeper's files lie."""
        return pool_folder(Path(self.home), self.stack_id, self.pool)

    @property
    def stop_s(self) -> float:
        """Longest wait for a node that was asked to leave."""
        parts = (self.template.serve, self.template.gateway)
        return stop_s(max((part.drain_s for part in parts if part is not None), default=0.0))

    def node_folder(self, index: int) -> Path:
        """Working folder of a node."""
        stack = stack_folder(Path(self.home), self.stack_id)
        return stack / "nodes" / node_name(self.pool, index)

    def node_spec(self, index: int) -> NodeSpec:
        """The node file of a node."""
        return NodeSpec(
            **self.template.model_dump(),
            node=node_name(self.pool, index),
            address=node_address(self.stack_id, self.role, index),
        )

    def environment(self, passed: Mapping[str, str], token: str) -> dict[str, str]:
        """Environment of a process of this pool; `passed` is that of the one who starts it."""
        return environment(
            passed, stack=self.stack, stack_id=self.stack_id, home=self.home, token=token
        )

    def write(self) -> None:
        """Write it, in whole or not at all; raises OSError."""
        self.folder.mkdir(parents=True, exist_ok=True)
        replace_file(self.folder / "pool.json", self.model_dump_json(indent=1))


def read_pool_file(folder: Path) -> PoolFile:
    """The pool file in a keeper's folder; raises OSError or ValueError."""
    return PoolFile.model_validate_json((folder / "pool.json").read_bytes())


def pool_folder(home: Path, stack_id: str, pool: str) -> Path:
    """Where the files of a pool's keeper lie."""
    return stack_folder(home, stack_id) / "pools" / pool


def read_size(file: PoolFile) -> int:
    """The size that was wanted last, so that a new keeper goes on with it."""
    try:
        size = json.loads((file.folder / "size.json").read_bytes())["size"]
    except (OSError, ValueError, KeyError, TypeError):
        return file.size
    return min(max(int(size), 0), file.size_max)


def write_size(file: PoolFile, size: int) -> None:
    """Remember the size that is wanted; raises OSError."""
    replace_file(file.folder / "size.json", json.dumps({"size": size}))
