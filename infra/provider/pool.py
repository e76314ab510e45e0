"""Pool of the one-machine cloud: a keeper process that holds N node processes.

How many run now is the keeper's state, not an input: `size` is what the pool has at rest (0 for
training), and a timer, `atoll runs start` or the nodes themselves move it.
"""

import shutil
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from infra.checkout import stack_folder
from infra.plan.names import node_name
from infra.provider.guard import hold_pool
from infra.provider.keeper import PoolFile, keeper_alive, start_keeper, stop_keeper
from infra.provider.kind import Context, Incomplete, Inputs, Kind
from infra.provider.wire import Properties
from runtime.clouds.local import LocalPool
from runtime.coordination.log import PoolLog, Presence, read_presence
from runtime.errors import Unavailable
from runtime.node_spec import NodeTemplate, Schedule
from runtime.objects import open_store

READY_S = 90.0  # for all nodes of a pool to be up on a loaded machine
LOOK_S = 0.2  # presence is read this often meanwhile
SAY_S = 2.0  # and told this often


class PoolInputs(Inputs):
    """What the keeper shall keep."""

    home: str = Field(description="Folder of all stacks of this clone.")
    stack: str
    stack_id: str
    pool: str
    role: Literal["training", "replica", "gateway"]
    size: int = Field(ge=0, description="Nodes at rest.")
    size_max: int = Field(ge=1)
    template: NodeTemplate = Field(description="The node file, less what is each node's own.")
    schedule: Schedule | None = None


class PoolKind(Kind[PoolInputs]):
    """`atoll:index:Pool`."""

    token: ClassVar[str] = "atoll:index:Pool"  # noqa: S105
    replaces: ClassVar[frozenset[str]] = frozenset({"home", "stack", "stack_id", "pool", "role"})
    inputs = PoolInputs

    def create(self, inputs: PoolInputs, context: Context) -> tuple[str, Properties]:
        """Start a keeper, or take over the one that a killed `up` left."""
        resource_id = f"{inputs.stack_id}/{inputs.pool}"
        try:
            start_keeper(_pool_file(inputs))
        except Unavailable as fault:  # it may still come up
            raise Incomplete(resource_id, {}, str(fault)) from fault
        _wait_for_nodes(resource_id, inputs, context)
        return resource_id, {}

    def read(self, inputs: PoolInputs, computed: Properties) -> bool:
        """Whether its keeper lives."""
        return keeper_alive(Path(inputs.home), inputs.stack_id, inputs.pool)

    def update(self, inputs: PoolInputs, computed: Properties, context: Context) -> Properties:
        """Change the running keeper; it rolls nodes whose file changed. Never under a run."""
        control = open_store(inputs.template.stores.control)
        if inputs.role == "training":
            hold_pool(control, inputs.pool, inputs.stack, f"up of {inputs.stack}")
        start_keeper(_pool_file(inputs))
        if inputs.role == "training":
            PoolLog(control, inputs.pool, "provider").release(datetime.now(UTC))
        else:
            LocalPool(inputs.stack_id, inputs.pool).set_size(inputs.size)
        _wait_for_nodes(f"{inputs.stack_id}/{inputs.pool}", inputs, context)
        return computed

    def delete(self, inputs: PoolInputs, computed: Properties, context: Context) -> None:
        """Let open requests finish, end all processes, remove all folders of the pool."""
        context.say("stopping nodes")
        stop_keeper(Path(inputs.home), inputs.stack_id, inputs.pool)
        folder = stack_folder(Path(inputs.home), inputs.stack_id)
        shutil.rmtree(folder / "pools" / inputs.pool, ignore_errors=True)
        for index in range(inputs.size_max):
            shutil.rmtree(folder / "nodes" / node_name(inputs.pool, index), ignore_errors=True)
        context.say("stopped")


def _pool_file(inputs: PoolInputs) -> PoolFile:
    return PoolFile(
        stack=inputs.stack,
        stack_id=inputs.stack_id,
        home=inputs.home,
        pool=inputs.pool,
        role=inputs.role,
        size=inputs.size,
        size_max=inputs.size_max,
        template=inputs.template,
        schedule=inputs.schedule,
        python=sys.executable,
    )


def _wait_for_nodes(resource_id: str, inputs: PoolInputs, context: Context) -> None:
    """Until all nodes that the pool has at rest are up, as their presence tells."""
    control = open_store(inputs.template.stores.control)
    wanted = [node_name(inputs.pool, index) for index in range(inputs.size)]
    deadline, said = time.monotonic() + READY_S, 0.0
    while True:
        described = LocalPool(inputs.stack_id, inputs.pool).describe().nodes
        pids = {node.node: node.pid for node in described}
        seen = {p.node: p for p, _ in read_presence(control) if p.pool == inputs.pool}
        up = [name for name in wanted if _is_up(seen.get(name), pids)]
        if len(up) == len(wanted):
            context.say(f"{len(up)} nodes up" if wanted else "at rest: no nodes until a run starts")
            return
        refused = [p for p in seen.values() if p.state == "refused" and p.node in wanted]
        if refused:
            raise Incomplete(resource_id, {}, f"node {refused[0].node}: {refused[0].why}")
        if context.cancelled.wait(LOOK_S) or time.monotonic() > deadline:
            why = "cancelled" if context.cancelled.is_set() else f"not all up after {READY_S:.0f} s"
            logs = stack_folder(Path(inputs.home), inputs.stack_id) / "nodes"
            raise Incomplete(
                resource_id,
                {},
                f"pool {inputs.pool}: {why}; {len(up)} of {len(wanted)} nodes are "
                f"up; see {logs}/*/node.log",
            )
        if time.monotonic() - said > SAY_S:
            said = time.monotonic()
            context.say(f"{len(up)} of {len(wanted)} nodes up")


def _is_up(presence: Presence | None, pids: Mapping[str, int | None]) -> bool:
    """Whether the process that runs now, not an earlier one, says that its role is running."""
    if presence is None or presence.pid != pids.get(presence.node):
        return False
    return presence.state not in {"starting", "refused", "failed", "stopped"}
