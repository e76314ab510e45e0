"""What a keeper shall keep, where it lies, and what its processes are told by environment."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from infra.checkout import stack_folder
from infra.plan.limits import stop_s
from infra.plan.names import node_address, node_name
from infra.provider.processes import TOKEN
from runtime.node_spec import NodeSpec, NodeTemplate, Schedule

# All that a process of a pool gets from whoever ran `up`; secrets of that shell must not stay.
PASSED_ON = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "TZ",
    "TMPDIR",
    "LD_LIBRARY_PATH",
    "CUDA_VISIBLE_DEVICES",
)


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
        kept = {name: passed[name] for name in PASSED_ON if name in passed}
        return {
            **kept,
            "ATOLL_STACK": self.stack,
            "ATOLL_STACK_ID": self.stack_id,
            "ATOLL_HOME": self.home,
            TOKEN: token,
        }

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


def mark(stack_id: str, pool: str, name: str = "") -> str:
    """How the tokens of a pool's processes begin; of one node or keeper with its name."""
    return f"{stack_id}/{pool}/{name}/" if name else f"{stack_id}/{pool}/"


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


def replace_file(path: Path, text: str) -> None:
    """Write a file, in whole or not at all; raises OSError."""
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)
